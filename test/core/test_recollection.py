"""What is recollected: the best moment since waking, until it has faded."""

import numpy as np
import pytest

from dylora_ros.core.judging import BAD
from dylora_ros.core.predictor import Forgetful, Predictor, QNetwork
from dylora_ros.core.recollection import FADES, recollected, Recollecting, since, width
from dylora_ros.core.rows import FLAG_BOOT, FLAG_DREAM, FLAG_FORGOTTEN

PERIOD = 40_000_000


def judged(schema, rewards, late=1):
    """Return rows whose states are worth ``rewards``, told ``late`` rows later."""
    rows = np.zeros(len(rewards), schema.dtype)
    rows['stamp'] = (np.arange(len(rows)) + 1) * PERIOD
    rows['reward'][late:] = rewards[:-late]
    rows['reward_stamp'][late:] = rows['stamp'][:-late]
    rows['x'] = np.arange(len(rows))[:, None] / 8
    return rows


def test_the_best_is_recollected_once_it_is_told_that_now_is_bad(small_schema):
    at, worth = recollected(judged(small_schema, [0.2, 0.5, 0.1, -1.0, -1.0, -1.0, -1.0]))
    assert at.tolist() == [-1, -1, -1, -1, -1, 1, 1]
    assert worth.tolist() == pytest.approx(
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.5 - FADES * 0.16, 0.5 - FADES * 0.2])


@pytest.mark.parametrize(('now', 'which'), [(BAD - 0.01, 0), (BAD + 0.01, -1)])
def test_what_is_good_now_needs_no_recollection(small_schema, now, which):
    assert recollected(judged(small_schema, [0.5, now, now, now]))[0][-1] == which


def test_nothing_good_is_nothing_to_recollect(small_schema):
    at, worth = recollected(judged(small_schema, [-1.0, -0.1, -1.0, -1.0]))
    assert (at == -1).all()
    assert not worth.any()


def test_a_late_reward_is_of_the_state_it_judges(small_schema):
    at, _ = recollected(judged(small_schema, [0.1, 0.5, -1.0, -1.0, -1.0, -1.0], late=2))
    assert at.tolist() == [-1, -1, -1, -1, -1, 1]


@pytest.mark.parametrize(('pause', 'which'), [(0.9, 0), (1.1, 2)])
def test_a_second_is_worth_what_it_fades(small_schema, pause, which):
    rows = judged(small_schema, [0.5, -1.0, 0.5 - FADES, -1.0, -1.0, -1.0])
    rows['stamp'][2:] += round(pause * 1e9) - 2 * PERIOD
    rows['reward_stamp'][1:] = rows['stamp'][:-1]
    assert recollected(rows)[0][-1] == which


@pytest.mark.parametrize(('seconds', 'which'), [(1.5, 0), (2.5, -1)])
def test_what_has_faded_is_gone(small_schema, seconds, which):
    rows = judged(small_schema, [2.0 * FADES, -1.0, -1.0, -1.0])
    rows['stamp'][-1] += round(seconds * 1e9)
    assert recollected(rows)[0][-1] == which


def test_waking_forgets(small_schema):
    rows = judged(small_schema, [0.5, -1.0, -1.0, 0.2, -1.0, -1.0, -1.0])
    rows['flags'][3] = FLAG_BOOT
    assert recollected(rows)[0].tolist() == [-1, -1, -1, 0, -1, -1, 3]


@pytest.mark.parametrize('flag', [FLAG_DREAM, FLAG_FORGOTTEN])
def test_what_was_dreamt_or_erased_is_not_recollected(small_schema, flag):
    rows = judged(small_schema, [-0.9, 0.5, -1.0, -1.0, -1.0])
    assert recollected(rows)[0][-1] == 1, 'the twin: as it was'
    rows['flags'][1] = flag
    assert recollected(rows)[0][-1] == -1


def test_rows_that_nobody_judged_are_told_the_rewards_of_today(small_schema):
    rows = judged(small_schema, [-1.0, -1.0, -1.0, -1.0, -1.0])
    rows['reward'], rows['reward_stamp'] = 0.0, 0
    at, worth = recollected(rows, np.array([-1.0, 0.7, -1.0, -1.0, -1.0], np.float32))
    assert at.tolist() == [-1, -1, -1, -1, 1]
    assert worth[-1] == pytest.approx(0.7 - FADES * 0.12)


def test_an_agent_recollects_as_it_learned_to(log):
    rows = judged(log.schema, np.random.default_rng(0).uniform(-1, 1, 90))
    rows['flags'][[0, 50]] = FLAG_BOOT
    recollecting, found = Recollecting(log), []
    for row in rows:
        found.append(recollecting.at(int(row['stamp'])))
        log.append_row(row.copy())
    at, worth = recollected(rows)
    assert [None if f is None else int(f[0]['stamp'][0]) for f in found] == \
        [None if i < 0 else int(rows['stamp'][i]) for i in at]
    assert [0.0 if f is None else f[1] for f in found] == pytest.approx(worth.tolist())
    assert 10 < (at >= 0).sum() < 60


def test_what_was_erased_on_request_is_not_told_any_more(log):
    rows = judged(log.schema, [0.5, -1.0, -1.0, -1.0])
    recollecting, now = Recollecting(log), int(rows['stamp'][-1]) + PERIOD
    for row in rows:
        log.append_row(row.copy())
    assert recollecting.at(now) is not None
    log.forget(int(rows['stamp'][0]), int(rows['stamp'][0]) + 1)
    assert recollecting.at(now) is None


@pytest.mark.parametrize(('kind', 'knows'), [(Predictor, True), (Forgetful, False)])
def test_only_who_has_a_context_recollects(log, kind, knows):
    predictor = kind(QNetwork(log.schema), log)
    rows = judged(log.schema, [0.5, -1.0, -1.0, -1.0])
    for row in rows:
        prediction = predictor.observe(row)
        log.append_row(row.copy())
    assert (prediction.recollected is not None) == knows


def test_how_far_the_body_is_from_there_is_told(small_schema):
    rows = judged(small_schema, [-1.0] * 40)
    told = since(rows[20:22], rows[[10, 0]], np.array([0.5, 0.0]), small_schema)
    assert told.shape == (2, width(small_schema))
    assert told[0].tolist() == pytest.approx([10 / 8] * (width(small_schema) - 1) + [0.5])
    assert not told[1].any(), 'the twin: nothing is recollected'
