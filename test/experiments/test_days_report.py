"""What days of lives add up to."""

import json
from types import SimpleNamespace

import pytest

from dylora_ros.experiments.days_report import beside, cycles_to, last_quarter, speedup, summary

OPTIONS = SimpleNamespace(day=1500, q_steps=40, updates=3000, rem=150, seeds=[0], toy='red_ball')


def arm(**lives):
    return {'seeds': {s: {'success_by_day': days} for s, days in lives.items()}}


def test_a_level_is_reached_by_the_mean_of_three_days():
    assert cycles_to(0.5, [0.9, 0.1, 0.2, 0.6, 0.7], 1500) == 7500
    assert cycles_to(0.5, [0.4, 0.5, 0.6], 1500) == 4500
    assert cycles_to(0.5, [0.4, 0.5, 0.59], 1500) is None
    assert cycles_to(0.1, [1.0, 1.0], 1500) is None, 'too few days'


def test_the_speedup_is_cycles_without_sleep_over_cycles_with_it():
    slow, fast = [0.1, 0.1, 0.1, 0.6, 0.6, 0.6], [0.6, 0.6, 0.6]
    told = speedup(arm(a=fast, b=fast), arm(a=slow, b=slow), 1500)
    assert told['cycles_to_success']['0.5'] == {'full': [4500, 4500], 'no_sleep': [9000, 9000]}
    assert told['sleep_speedup'] == 2.0


def test_a_level_that_one_seed_did_not_reach_has_no_speedup():
    told = speedup(arm(a=[0.6] * 3, b=[0.2] * 3), arm(a=[0.6] * 3, b=[0.6] * 3), 1500)
    assert told['sleep_speedup'] is None
    assert told['cycles_to_success']['0.5']['full'] == [4500, None]


def test_arms_are_compared_seed_by_seed_over_as_many_days():
    told = beside(arm(a=[0.2, 0.4, 1.0], b=[0.0, 0.0, 0.0]), arm(a=[0.1, 0.1], c=[1.0, 1.0]))
    assert told == {'days': 2, 'seeds': ['a'], 'full': [0.3], 'arm': [0.1]}
    assert beside(arm(a=[0.2]), arm(c=[1.0])) == {'days': 0, 'seeds': []}


def test_the_last_quarter_of_few_days_is_the_last_one():
    days = [{'success': s} for s in (0.0, 0.2, 0.4)]
    assert last_quarter(days) == pytest.approx(0.4)


def test_the_summary_finds_every_life_and_its_exam(tmp_path):
    for name, success in (('full-0', 0.6), ('full-1', 0.2), ('deaf-0', 0.1)):
        (tmp_path / name).mkdir()
        day = {'cycles': 1500, 'success': success, 'reward': 0.0, 'cycle_cpu_ms': 9.0,
               'auc_of_reward': float('nan'), 'will': {'updates': 3}}
        (tmp_path / name / 'days.json').write_text(json.dumps([day]))
    (tmp_path / 'full-0' / 'exam.json').write_text('{"success": 0.7}')
    told = summary(tmp_path, OPTIONS)
    assert told['gaze']['full']['success'] == 0.4
    assert told['gaze']['full']['exam'] == 0.7
    assert told['gaze']['full']['seeds']['0']['last_night'] == {'will': {'updates': 3}}
    assert told['at_equal_cycles']['deaf'] == {
        'days': 1, 'seeds': ['0'], 'full': [0.6], 'arm': [0.1]}
    json.loads(json.dumps(told), parse_constant=pytest.fail)
