"""Days of a life: what a night leaves behind, and that no day is lived twice."""

from types import SimpleNamespace

import numpy as np
import pytest

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.dqn import ContinuousQ
from dylora_ros.core.will import state_width
from dylora_ros.experiments.days import Days

OPTIONS = SimpleNamespace(q_steps=1, updates=3)


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
    return lambda arm='full': Days(arm, 0, tmp_path, None, OPTIONS)


def test_a_night_teaches_q_and_the_continuous_q(born):
    days = born()
    days.night(a_day(days), 11.0)
    told = days.days[0]
    assert told['success'] == 0.1
    assert told['auc_of_reward'] == 1.0
    assert told['cycle_cpu_ms'] == 11.0
    assert told['dqn']['updates'] == 3
    dqn = ContinuousQ.load(days.folder / 'dqn.safetensors', (state_width(days.schema), 2))
    assert int(dqn.updates) == 3
    assert (days.folder / 'q.safetensors').exists()


def test_a_finished_day_is_known_after_a_restart_and_learning_goes_on(born):
    days = born()
    days.night(a_day(days), 11.0)
    again = born()
    assert again.days == days.days
    again.night(a_day(again), 11.0)
    dqn = ContinuousQ.load(again.folder / 'dqn.safetensors', (state_width(again.schema), 2))
    assert int(dqn.updates) == 6
    assert [d['day'] for d in born().days] == [0, 1]


def test_the_untrained_learn_nothing(born):
    days = born('untrained')
    days.night(a_day(days), 11.0)
    assert 'dqn' not in days.days[0]
    assert not (days.folder / 'dqn.safetensors').exists()
