"""The terminal view of `make run`."""

from rich.console import Console

from dylora_ros.run import render

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
