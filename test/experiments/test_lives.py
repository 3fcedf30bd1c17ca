"""Several lives in lockstep, with small stand-ins for the big encoders."""

from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from dylora_ros.experiments import lives as module
from dylora_ros.experiments.lives import Life, live, Shared


class World:
    """Counts its cycles."""

    def __init__(self):
        self.steps = 0

    time = property(lambda self: 0.04 * self.steps)
    unlimited = np.array([False, False])

    def reset(self):
        self.steps = 0

    def joints(self):
        return SimpleNamespace(position=np.zeros(2), velocity=np.zeros(2))

    def success(self):
        return self.steps % 2 == 1

    def apply(self, command):
        self.command = command

    def step(self, seconds):
        self.steps += 1

    def render(self, width, height):
        return np.full((height, width, 3), self.steps, np.uint8)

    def listen(self, samples):
        return np.full((2, samples), float(self.steps), np.float32)


class Agent:
    """Remembers what it was given."""

    def __init__(self):
        self.senses = {'audio': Shared(8, 4)}
        self.guard = SimpleNamespace(last=np.zeros(2), normalise=lambda c: c)
        self.given = []
        self.log = SimpleNamespace(committed=1, take=lambda numbers: [self.given[-1][0]])

    def step(self, stamp, signals, reward, reward_stamp):
        self.given.append((stamp, signals, reward, reward_stamp))
        return np.zeros(2)


@pytest.fixture
def lived(monkeypatch):
    """Two lives of 12 cycles, the second one deaf."""
    monkeypatch.setattr(module, 'see', lambda vision, lives: np.zeros((len(lives), 8, 4)))
    monkeypatch.setattr(module, 'hear', lambda audio, lives: np.zeros((len(lives), 8, 4)))
    both = [Life(World(), Agent(), lambda stamp, world: float(world.steps), deaf=bool(i),
                 born=int(1e9)) for i in range(2)]
    live(both, SimpleNamespace(encoder=nn.Identity()),
         SimpleNamespace(encoder=nn.Identity(), samples=100), 12)
    return both


def given(life, name):
    return [name in signals for _, signals, _, _ in life.agent.given]


def test_every_sense_comes_at_its_own_rate(lived):
    assert np.flatnonzero(given(lived[0], 'vision')).tolist() == [0, 4, 8]
    assert np.flatnonzero(given(lived[0], 'audio')).tolist() == [4, 9]
    assert all(given(lived[0], 'body'))


def test_the_deaf_hear_nothing_and_see_all(lived):
    assert not any(given(lived[1], 'audio'))
    assert sum(given(lived[1], 'vision')) == 3


def test_a_reward_comes_a_cycle_later_with_the_stamp_of_its_state(lived):
    agent = lived[0].agent
    stamps = [stamp for stamp, *_ in agent.given]
    assert agent.given[0][2:] == (0.0, 0), 'nothing was judged yet, not the first state by 0'
    assert [r for *_, r, _ in agent.given[1:]] == [float(i) for i in range(11)]
    assert [s for *_, s in agent.given[1:]] == stamps[:-1]


def test_stamps_go_on_from_the_life_before(lived):
    assert lived[0].agent.given[0][0] == int(1e9)


def test_success_is_that_of_every_cycle(lived):
    assert lived[0].success == [i % 2 == 1 for i in range(12)]
