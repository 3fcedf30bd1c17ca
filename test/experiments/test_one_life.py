"""One life: what its naps and nights leave behind, and that no day is lived twice."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from dylora_ros.core import reading
from dylora_ros.core.context import GlobalContext
from dylora_ros.core.rows import FLAG_FORGOTTEN
from dylora_ros.experiments import exams
from dylora_ros.experiments import one_life as module
from dylora_ros.experiments.days_figure import curves, draw, smoothed
from dylora_ros.experiments.one_life import Days, FIRST, QUIZ
from dylora_ros.modalities import registry

OPTIONS = SimpleNamespace(q_steps=1, updates=3, rem=0, day=300, young=300, scene='gaze',
                          weights=registry.SHIPPED)


def a_day(days: Days, cycles: int = 300):
    """Return a life of random rows, as it was before the night."""
    rng = np.random.default_rng(len(days.days))
    log = GlobalContext.open(days.folder / 'context.gc', days.schema, 1000)
    first = log.committed
    for i in range(cycles):
        row = np.zeros((), days.schema.dtype)
        row['stamp'] = (first + i + 1) * 40_000_000
        row['x'] = rng.standard_normal(days.schema.width)
        row['mask'] = 15
        row['action'] = rng.uniform(-1, 1, 2)
        log.append_row(row)
    success = [i % 10 == 0 for i in range(cycles)]
    return SimpleNamespace(agent=SimpleNamespace(log=log), success=success,
                           rewards=[float(s) for s in success])


@pytest.fixture
def born(tmp_path):
    """Return a function that makes (or finds again) a life."""
    reward = SimpleNamespace(rewards=lambda state: state[:, 0])
    return lambda arm='no_childhood', **options: Days(
        arm, 0, tmp_path, reward, SimpleNamespace(**{**vars(OPTIONS), **options}))


@pytest.fixture
def childhood(born, monkeypatch):
    """Let everybody have the same short childhood."""
    rows = np.zeros(200, born().schema.dtype)
    rows['stamp'] = (np.arange(200) + 1) * 40_000_000
    rows['x'] = np.random.default_rng(0).standard_normal(rows['x'].shape)
    monkeypatch.setattr(module.rehearsal, 'load', lambda path, schema: rows)
    return rows


def test_a_night_teaches_q_and_the_continuous_q(born):
    days = born()
    days.night(a_day(days), 11.0)
    told = days.days[0]
    assert told['success'] == 0.1
    assert told['auc_of_reward'] == 1.0
    assert told['cycle_cpu_ms'] == 11.0
    assert told['will']['updates'] == 3 * FIRST
    assert int(days.chest.load().updates) == 3 * FIRST


def test_q_learns_every_few_nights_and_only_then_are_old_rows_read_anew(born, monkeypatch):
    monkeypatch.setattr(module, 'Q_EVERY', 2)
    days, read = born(), []
    real = reading.read_all
    monkeypatch.setattr(reading, 'read_all', lambda network, data, context, going, first:
                        read.append(first) or real(network, data, context, going, first))
    for _ in range(3):
        days.night(a_day(days), 11.0)
    assert read == [0, 0, 600]
    assert ['q' in d for d in days.days] == [False, True, False]
    assert (days.folder / 'q.safetensors').exists()


def test_the_childhood_teaches_what_its_rewards_are_today(born, childhood, monkeypatch):
    seen = []
    real = module.Trajectory.joined
    monkeypatch.setattr(module.Trajectory, 'joined', lambda parts: seen.extend(parts)
                        or real(parts))
    days = born('full')
    days.night(a_day(days), 11.0)
    assert [len(part) for part in seen] == [300, 200]
    assert np.allclose(seen[1].rewards, childhood['x'][:, 0])


def test_a_newborn_is_what_its_seed_makes_it(born, childhood):
    wills = []
    for _ in range(2):
        torch.rand(7)                               # whatever was drawn in this process before
        days = born('full')
        days.birth()
        wills.append(days.chest.load().state_dict())
        days.chest.good.unlink()
    assert all(torch.equal(v, wills[1][k]) for k, v in wills[0].items())


@pytest.mark.parametrize(('arm', 'taught'), [('full', True), ('no_childhood', False),
                                             ('no_sleep', False), ('untrained', False)])
def test_a_newborn_that_sleeps_learns_from_its_childhood_before_it_lives(
        born, childhood, arm, taught):
    days = born(arm)
    days.birth()
    assert (days.chest.load() is not None) == taught
    days.birth()                                                  # it is born once
    if taught:
        assert int(days.chest.load().updates) == 3
        days.night(a_day(days), 11.0)
        assert int(days.chest.load().updates) == 6


def test_a_finished_day_is_known_after_a_restart_and_learning_goes_on(born):
    days = born()
    days.night(a_day(days), 11.0)
    again = born()
    assert again.days == days.days
    again.night(a_day(again), 11.0)
    assert int(again.chest.load().updates) == 3 * FIRST + 3
    assert [d['day'] for d in born().days] == [0, 1]


def test_a_day_that_was_cut_short_is_not_remembered_when_it_is_lived_again(born, monkeypatch):
    monkeypatch.setattr(Days, '_life', lambda *_: None)
    days = born()
    days.night(a_day(days), 11.0)
    a_day(days, 50).agent.log.close()
    born().morning()
    with GlobalContext.read(days.folder / 'context.gc') as log:
        gone = (log.rows(0, log.committed)['flags'] & FLAG_FORGOTTEN) != 0
    assert gone.tolist() == [False] * 300 + [True] * 50


@pytest.mark.parametrize('arm', ['untrained', 'no_nrem'])
def test_the_untrained_learn_nothing(born, arm):
    days = born(arm)
    days.night(a_day(days), 11.0)
    assert 'will' not in days.days[0]
    assert days.chest.load() is None


def napping(born, arm='no_childhood', **options):
    """Return a life of 300 rows that is tired after 100, and its agent's memory of the day."""
    days = born(arm, young=100, **options)
    days._childhood = None                      # too long to be read here
    life = a_day(days)
    told = SimpleNamespace(woken=[])
    life.agent.senses = {'body': SimpleNamespace(reachable=None, forget_expectation=lambda: None)}
    life.wake = told.woken.append
    for done in range(1, 301):
        days.awake(life, done)
    return days, life, told


def test_the_young_nap_and_the_night_has_what_is_left_of_the_updates(born):
    days, life, told = napping(born, updates=30)
    assert told.woken == [310 * 40_000_000 + 9_600_000_000] * 2     # after 100 and 200 cycles
    assert int(days.chest.load().updates) == 20 * FIRST
    assert life.agent.will is not None
    days.night(life, 11.0)
    assert int(days.chest.load().updates) == 30 * FIRST
    assert days.days[0]['naps'] == 2


@pytest.mark.parametrize('arm', ['untrained', 'no_nrem', 'no_sleep'])
def test_who_does_not_learn_in_sleep_does_not_nap(born, arm):
    """The negative twin."""
    days, life, told = napping(born, arm, updates=30)
    assert told.woken == []
    days.night(life, 11.0)
    assert days.days[0]['naps'] == 0


def test_success_is_told_by_parts_of_the_day(born):
    days = born('untrained')
    life = a_day(days)
    life.success = [False] * 150 + [True] * 150
    days.night(life, 11.0)
    assert days.days[0]['success_by_part'] == [0.0, 1.0]


def test_the_figure_shows_every_arm_that_lived_long_enough(tmp_path):
    result = {'day': 500, 'scene': 'gaze', 'gaze': {
        'full': {'seeds': {'0': {'success_by_day': [0.1] * 8},
                           '1': {'success_by_day': [0.3] * 7}}},
        'deaf': {'seeds': {'0': {'success_by_day': [0.1] * 2}}}}}
    draw(result, tmp_path / 'life.png', tmp_path / 'learn.json')
    assert (tmp_path / 'life.png').stat().st_size > 10_000


def test_quizzes_are_drawn_beside_the_days(tmp_path):
    life = {'success_by_day': [0.1] * 8}
    asked = {**life, 'quiz': {str(n): {'success': [0.1, 0.2]} for n in range(3)}}
    wide = []
    for one in (life, asked):
        draw({'day': 500, 'scene': 'gaze', 'gaze': {'full': {'seeds': {'0': one}}}},
             tmp_path / 'life.png')
        wide.append(cv2.imread(str(tmp_path / 'life.png')).shape[1])
    assert wide[1] > wide[0]


def test_points_of_the_figure_are_means_of_days():
    assert smoothed([0, 0, 1, 1]).tolist() == pytest.approx([1 / 3, 2 / 3])


@pytest.mark.parametrize(('each', 'days'), [(1500, 4), (500, 12)])
def test_a_curve_ends_where_its_lives_end_however_long_their_days_are(each, days):
    cycles, table = curves([[0.5] * days, [0.7] * days, [0.9]], each, 4500)
    assert cycles[0] == 4500
    assert cycles[-1] == 6000
    assert table.shape == (2, len(cycles)), 'too short a life is left out'


def test_an_arm_that_lived_too_shortly_has_no_curve():
    cycles, table = curves([[0.5] * 2], 1500, 4500)
    assert len(cycles) == len(table) == 0


def test_a_day_without_success_leaves_json_that_anybody_reads(born):
    days = born('untrained')
    life = a_day(days)
    life.success = [False] * len(life.success)
    days.night(life, 11.0)
    read = json.loads(days.told.read_text(), parse_constant=pytest.fail)
    assert read[0]['auc_of_reward'] is None


@pytest.fixture
def imagined(monkeypatch):
    """Return a function that lets a life's exams and quizzes be of two cycles."""
    def let(days: Days, acted: list):
        def life(day, path, twin):
            acted.append(day)
            log = GlobalContext.open(path, days.schema, 1000)
            log.append_row(np.zeros((), days.schema.dtype))
            will = SimpleNamespace(explore=True)
            return SimpleNamespace(agent=SimpleNamespace(log=log, will=will),
                                   success=[True, False], rewards=[1.0, 0.0],
                                   world=SimpleNamespace(close=lambda: None))
        monkeypatch.setattr(days, '_life', life)
    return let


def test_an_exam_explores_nothing_and_leaves_no_memory(born, imagined):
    days = born()
    days.night(a_day(days), 11.0)
    before = (days.folder / 'context.gc').read_bytes()
    imagined(days, [])
    exam = days.exam()
    assert not exam.agent.will.explore
    assert not days.examined(2)
    days.graded(exam, {'times': 0})
    assert days.examined(2)
    assert not days.examined(3), 'the twin: an exam of another length'
    assert json.loads((days.folder / 'exam.json').read_text()) == {
        'after_days': 1, 'cycles': 2, 'success': 0.5, 'reward': 0.5, 'search': {'times': 0}}
    assert (days.folder / 'context.gc').read_bytes() == before
    assert not list(days.folder.glob('exam*.gc'))


def test_a_life_is_asked_once_after_every_day_in_new_worlds(born, imagined, monkeypatch):
    days, worlds, asked = born(), [], []
    imagined(days, worlds)
    monkeypatch.setattr(exams, 'live', lambda lives, vision, audio, cycles: asked.append(cycles))
    (days.folder / f'exam_{QUIZ}.gc').write_text('left by one that was cut short')
    for cycles in (0, 2, 2):
        exams.quiz([days], None, None, cycles)
    assert worlds == [QUIZ + k for k in range(exams.WORLDS)]
    assert asked == [2], 'without cycles there is none, and none is repeated'
    days.days.append({'cycles': 300})
    exams.quiz([days], None, None, 2)
    assert born().quizzes == {n: {'cycles': 2, 'success': [0.5] * exams.WORLDS} for n in '01'}
    assert not list(days.folder.glob('exam*.gc'))


def test_a_quiz_knows_nothing_of_a_day_that_was_cut_short(born, imagined):
    days = born()
    days.night(a_day(days), 11.0)
    a_day(days).agent.log.close()
    imagined(days, [])
    exam = days.exam()
    assert (exam.agent.log.rows(0, 600)['flags'] & FLAG_FORGOTTEN != 0).tolist() == \
        [False] * 300 + [True] * 300
    days.forgotten(exam)
