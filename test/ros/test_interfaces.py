import pytest

pytest.importorskip('rclpy')

from rclpy.qos import qos_check_compatible, QoSCompatibility  # noqa: E402

from dylora_ros import graph  # noqa: E402
from dylora_ros.ros.interfaces import HEARTBEAT, TOPICS  # noqa: E402

OUTSIDE = {'text/words', 'camera/image_raw', 'microphone/audio', 'joint_states'}


@pytest.mark.parametrize('topic', TOPICS)
def test_publisher_and_subscriber_connect(topic):
    profile = TOPICS[topic].qos
    assert qos_check_compatible(profile, profile)[0] == QoSCompatibility.OK


def test_heartbeat_connects_to_itself():
    assert qos_check_compatible(HEARTBEAT.qos, HEARTBEAT.qos)[0] == QoSCompatibility.OK


@pytest.mark.parametrize('node', graph.NODES)
def test_nodes_name_known_topics_only(node):
    cls = graph.node_class(node)
    assert set(cls.PUBLISHES) | set(cls.SUBSCRIBES) <= set(TOPICS)


def test_every_subscribed_topic_has_a_publisher():
    published = {t for n in graph.NODES for t in graph.node_class(n).PUBLISHES}
    for name in graph.NODES:
        for topic in graph.node_class(name).SUBSCRIBES:
            assert topic in published | OUTSIDE | {'surprise/text'}, f'{name} hears {topic}'


def test_topics_are_relative():
    assert [t for t in TOPICS if t.startswith('/')] == ['/clock']


def test_every_topic_is_published_or_comes_from_outside():
    published = {t for n in graph.NODES for t in graph.node_class(n).PUBLISHES}
    assert set(TOPICS) - published <= OUTSIDE


def test_processes_hold_every_node_once():
    names = [n for nodes in graph.processes().values() for n in nodes]
    assert sorted(names) == sorted(graph.NODES)
    assert sorted(graph.processes(composed=True)['agent']) == sorted(graph.NODES)
    hardware = [n for nodes in graph.processes(hardware=True).values() for n in nodes]
    assert 'simulator' not in hardware


def test_the_reward_is_alone_in_its_process():
    assert graph.processes()['reward'] == ('reward',)


def test_a_learner_never_shares_a_process_with_the_control_loop():
    # NREM and REM run in a process of their own, started by the predictor
    import inspect

    from dylora_ros.nodes import sleeper
    assert 'Process' in inspect.getsource(sleeper.Sleeper.begin)


def test_every_scene_of_the_graph_is_a_world():
    from dylora_ros.sim.worlds import WORLDS
    assert graph.SCENES
    assert set(graph.SCENES) <= set(WORLDS)
