"""The terminal view of `make run`."""

import pytest
from rich.console import Console

from dylora_ros import graph
from dylora_ros.run import parser, render, ros_arguments

REPORT = {'phase': 'NREM', 'cycles': 10, 'hz_now': 25.0, 'deadline_miss_fraction': 0.001,
          'cycle_ms': {'p50': 3.0, 'p99': 9.0}, 'sensor_to_command_ms': {'p50': 12.0, 'p99': 30.0},
          'rows': 1234, 'context_fill': 0.25, 'tiredness': 0.5, 'reward_now': 0.125,
          'value_now': None, 'surprise_now': {'vision': 1.5, 'audio': None},
          'sleep': {'progress': 0.5, 'time_left': 42.0},
          'sleep_reports': [{'phase': 'NREM', 'before': 0.2, 'after': 0.1, 'steps': 9,
                             'rows': 500}]}


def shown(report, events=()):
    console = Console(width=120, record=True, file=open('/dev/null', 'w'))  # noqa: SIM115
    console.print(render(report, list(events), 61.0, 'hints [not markup]'))
    return console.export_text()


def test_every_figure_is_on_the_screen():
    text = shown(REPORT)
    for part in ('NREM', '25.0 Hz', '0.10 %', '1234 rows', '25.00 % full', '+0.125', 'vision 1.50',
                 'audio -', '42 s left', '0.2000 -> 0.1000', '[not markup]'):
        assert part in text


def test_a_night_in_which_q_did_not_learn_is_told_as_one():
    done = {'phase': 'NREM', 'before': 0.2, 'after': 0.2, 'steps': 0, 'rows': 500}
    assert '0.2000 (q rests until more was lived)' in shown({**REPORT, 'sleep_reports': [done]})


def test_progress_of_sleep_is_a_bar():
    assert shown(REPORT).count('█') == 12


def test_an_agent_that_is_not_there_yet_shows_as_starting():
    assert 'starting' in shown({})


def test_events_are_told():
    assert 'control ended with code -9' in shown(REPORT, ['control ended with code -9'])


def asked(*words):
    """Return what the nodes are told: node -> {parameter: value}."""
    pytest.importorskip('rclpy')
    from dylora_ros.ros.parameters import overrides
    return overrides(ros_arguments(parser().parse_args(words)), graph.tables())[1]


def test_what_is_not_asked_for_is_left_to_the_parameter_file(tmp_path):
    path = tmp_path / 'robot.yaml'
    path.write_text('/**:\n  ros__parameters: {memory: /data/robot1}\n'
                    '/**/simulator:\n  ros__parameters: {seed: 7}\n'
                    '/**/lifecycle_manager:\n  ros__parameters: {autostart: false}\n')
    found = asked('--params-file', str(path))
    assert found['simulator'] == {'seed': 7}
    assert found['global_context']['memory'] == found['reward']['memory'] == '/data/robot1'
    assert found['lifecycle_manager'] == {'autostart': False, 'memory': '/data/robot1'}
    assert asked() == {}


def test_what_is_asked_for_wins_over_the_parameter_file(tmp_path):
    """The negative twin."""
    path = tmp_path / 'robot.yaml'
    path.write_text('/**:\n  ros__parameters: {memory: /data/robot1}\n'
                    '/**/simulator:\n  ros__parameters: {seed: 7}\n')
    found = asked('--params-file', str(path), '--memory', '/tmp/other', '--seed', '3')
    assert found['simulator']['seed'] == found['predictor']['seed'] == 3
    assert found['global_context']['memory'] == '/tmp/other'


@pytest.mark.parametrize(('namespace', 'mixed'), [('', True), ('/robot2', False)])
def test_a_second_agent_in_a_namespace_is_seen(namespace, mixed):
    rclpy = pytest.importorskip('rclpy')
    from dylora_ros.run import Observer
    context = rclpy.Context()
    rclpy.init(context=context)
    first = rclpy.create_node('lifecycle_manager', context=context)
    observer = Observer(namespace)
    try:
        assert observer.neighbour() == mixed
    finally:
        observer.close()
        first.destroy_node()
        rclpy.try_shutdown(context=context)
