"""What days of lives add up to."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from dylora_ros.experiments.days_report import (
    beside,
    cycles_to,
    heldout,
    interpolated_to,
    last_quarter,
    quiz_speedup,
    speedup,
    summary,
)
from dylora_ros.modalities.registry import SHIPPED

OPTIONS = SimpleNamespace(day=1500, q_steps=40, updates=3000, rem=150, young=300,
                          seeds=[0], toy='red_ball', scene='gaze', weights=SHIPPED)


def arm(**lives):
    return {'seeds': {s: {'success_by_day': days} for s, days in lives.items()}}


def parts(**lives):
    return {'seeds': {s: {'success_by_part': of} for s, of in lives.items()}}


def test_a_level_is_reached_by_the_mean_of_lives_and_parts():
    one = [0.0] * 10 + [1.0] * 5
    assert cycles_to(0.5, np.array([one])) == 12 * 150
    assert cycles_to(0.5, np.array([one, [1.0] * 15])) == 4 * 150
    assert cycles_to(0.6, np.array([one, [0.0] * 15])) == math.inf
    assert cycles_to(0.1, np.array([[1.0] * 3])) == math.inf, 'too short lives'


def test_the_speedup_is_cycles_without_sleep_over_cycles_with_it():
    slow, slower, fast = [0.0] * 8 + [1.0] * 12, [0.0] * 12 + [1.0] * 8, [1.0] * 20
    told = speedup(parts(a=fast, b=fast, c=fast), parts(a=slow, b=slower, d=fast))
    assert told['seeds_compared'] == ['a', 'b']
    assert told['cycles_to_success']['0.5'] == {'full': 600, 'no_sleep': 1800}
    assert told['sleep_speedup'] == 3.0
    assert told['sleep_speedup_bands']['0.5'] == [2.5, 3.5]


def test_over_all_levels_the_ratios_are_meant_and_who_came_to_none_lived_too_shortly():
    fast, slow, never = [1.0] * 20, [0.45] * 8 + [1.0] * 12, [0.0] * 20
    told = speedup(parts(a=fast), parts(a=slow))
    assert told['sleep_speedup_by_level'] == {'0.3': 1, '0.4': 1, '0.5': 2.25, '0.6': 2.5,
                                              '0.7': 2.5}
    assert told['sleep_speedup_over_levels'] == pytest.approx((2.25 * 2.5 * 2.5) ** 0.2, abs=1e-3)
    assert told['sleep_speedup_over_levels_band'] == [told['sleep_speedup_over_levels']] * 2
    assert speedup(parts(a=fast), parts(a=never))['sleep_speedup_over_levels'] == 3000 / 600
    assert speedup(parts(a=never), parts(a=fast))['sleep_speedup_over_levels'] == 600 / 3000
    assert speedup(parts(a=never), parts(a=never))['sleep_speedup_over_levels'] == 1


def test_a_level_that_an_arm_did_not_reach_has_no_speedup():
    told = speedup(parts(a=[0.2] * 10), parts(a=[0.6] * 10))
    assert told['sleep_speedup'] is None
    assert told['cycles_to_success']['0.5'] == {'full': None, 'no_sleep': 600}
    assert told['sleep_speedup_bands']['0.5'] == [0.0, 0.0]
    assert told['sleep_speedup_by_level']['0.6'] is None


def asked(*days):
    return {'quiz': {str(n): {'cycles': 9, 'success': [s, s]} for n, s in enumerate(days)}}


def test_between_two_quizzes_success_grows_in_proportion():
    lives = np.array([[0.0, 0.2, 0.6], [0.2, 0.4, 0.6]])
    assert interpolated_to(0.45, lives, 100) == pytest.approx(150)
    assert interpolated_to(0.1, lives, 100) == 0, 'by newborns'
    assert interpolated_to(0.7, lives, 100) == math.inf


def test_quizzes_tell_the_speedup_of_lives_asked_in_both_arms():
    full = {'seeds': {'a': asked(0.35, 0.75), 'b': asked(0.35, 0.75), 'c': {}}}
    told = quiz_speedup(full, {'seeds': {'a': asked(0.0, 0.4, 0.8), 'b': asked(0.0, 0.8),
                                         'c': asked(0.9)}}, 1000)['quiz']
    assert told['seeds_compared'] == ['a', 'b']
    assert told['cycles_to_success']['0.3'] == {'full': 0, 'no_sleep': 500}
    assert told['sleep_speedup_by_level'] == {'0.3': None, '0.4': 5.3333, '0.5': 2.2222,
                                              '0.6': 1.6, '0.7': None}
    assert told['sleep_speedup_bands']['0.3'] == [None, None]
    assert told['sleep_speedup_bands']['0.5'] == [1.6667, None]


def test_lives_that_were_never_asked_have_no_speedup_by_quizzes():
    assert quiz_speedup(parts(a=[0.1]), parts(a=[0.1]), 1000) == {}


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
        day = {'cycles': 1500, 'success': success,
               'success_by_part': [success] * 10, 'reward': 0.0, 'cycle_cpu_ms': 9.0,
               'auc_of_reward': float('nan'), 'will': {'updates': 3}}
        (tmp_path / name / 'days.json').write_text(json.dumps([day]))
    (tmp_path / 'full-0' / 'exam.json').write_text('{"success": 0.7}')
    (tmp_path / 'full-0' / 'quiz.json').write_text('{"0": {"cycles": 9, "success": [0.7]}}')
    told = summary(tmp_path, OPTIONS)
    assert told['gaze']['full']['success'] == 0.4
    assert told['gaze']['full']['exam'] == 0.7
    assert told['reward_spearman_heldout'] >= 0.8
    assert told['gaze']['full']['seeds']['0']['quiz'] == {'0': {'cycles': 9, 'success': [0.7]}}
    assert told['gaze']['full']['seeds']['0']['last_night'] == {'will': {'updates': 3}}
    assert told['at_equal_cycles']['deaf'] == {
        'days': 1, 'seeds': ['0'], 'full': [0.6], 'arm': [0.1]}
    json.loads(json.dumps(told), parse_constant=pytest.fail)


def test_weights_that_tell_nothing_of_a_toy_have_no_correlation(tmp_path):
    assert heldout(tmp_path, 'red_ball') == {}
    (tmp_path / 'pretrain.json').write_text('{"projector": {"red ball, shown": {"n": 3}}}')
    assert heldout(tmp_path, 'red_ball') == {}
    (tmp_path / 'pretrain.json').write_text(
        '{"projector": {"red ball, shown": {"users_spearman": 0.5}}}')
    assert heldout(tmp_path, 'red_ball') == {'reward_spearman_heldout': 0.5}
    assert heldout(tmp_path, 'green_cube') == {}
