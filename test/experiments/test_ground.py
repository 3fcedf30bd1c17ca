"""The standard ground and our learner on it."""

import json

import numpy as np
import pytest

pytest.importorskip('gymnasium', reason='needs gymnasium')
from dylora_ros.core.dqn import Settings  # noqa: E402
from dylora_ros.experiments import ground, ground_learn  # noqa: E402

SMALL = Settings(width=16, actor_width=16, batch=16)


@pytest.fixture
def short(monkeypatch):
    """Make runs tiny."""
    for module, name, value in ((ground, 'STEPS', 120), (ground, 'JUDGED_EVERY', 40),
                                (ground, 'EPISODES', 1), (ground, 'FINAL_EPISODES', 2),
                                (ground_learn, 'NEWBORN', 40), (ground_learn, 'BLOCK', 40)):
        monkeypatch.setattr(module, name, value)


def test_unknown_task_is_named():
    with pytest.raises(ValueError, match='Walker'):
        ground.make('Walker', 0)


def test_everybody_is_judged_on_the_same_episodes():
    def still(state):
        return np.zeros(2, np.float32)

    assert ground.judge('Reacher-v5', still, 2) == ground.judge('Reacher-v5', still, 2)


def test_a_row_holds_the_reward_of_its_own_state():
    life = ground_learn.Life('Reacher-v5', 0, SMALL)
    life.wake(3)
    env = ground.make('Reacher-v5', 0)
    env.reset(seed=0)
    _, reward, *_ = env.step(life.command(life.rows.actions[0]))
    assert life.rows.rewards[0] == 0
    assert life.rows.rewards[1] == pytest.approx(reward, abs=1e-5)


def test_episodes_end_in_a_row_without_a_future():
    life = ground_learn.Life('Reacher-v5', 0, SMALL)
    life.wake(60)                                  # an episode has 50 steps
    cut = np.flatnonzero(~life.rows.follows[:len(life.rows)])
    assert cut.tolist() == [50]
    assert len(life.rows) == 61


def test_a_killed_run_goes_on_and_is_published(short, tmp_path, monkeypatch):
    monkeypatch.setattr(ground, 'judge', lambda task, act, episodes: [0.0] * episodes)
    sleep, nights = ground_learn.Life.sleep, []

    def dies_in_the_second_night(self, updates):
        nights.append(self.steps)
        if len(nights) == 2:
            raise KeyboardInterrupt
        return sleep(self, updates)

    monkeypatch.setattr(ground_learn.Life, 'sleep', dies_in_the_second_night)
    arguments = ('Reacher-v5', 0, tmp_path, tmp_path, 'a command', SMALL, 1)
    with pytest.raises(KeyboardInterrupt):
        ground_learn.learn(*arguments)
    ground_learn.learn(*arguments)
    assert nights == [40, 80, 80, 120]             # the lost day is lived again, no other
    record = json.loads((tmp_path / 'Reacher-v5-ours-0.json').read_text())
    assert [p['steps'] for p in record['curve']] == [40, 80, 120]
    assert record['resumed'] == 1
    assert record['final']['episodes'] == 2
