"""The noisy screen: the head is turned to it, and what is told of the life."""

from types import SimpleNamespace

import numpy as np
import pytest

from dylora_ros.experiments.babble import guard_for, PERIOD
from dylora_ros.experiments.noisy_screen import HABIT, HELD, Held, spans, TARGETS
from dylora_ros.sim.view import direction_to
from dylora_ros.sim.worlds import make as make_world


@pytest.fixture
def world():
    out = make_world('gaze', 5, screen=True)
    yield out
    out.close()


@pytest.mark.parametrize('target', ['screen', 'wall'])
@pytest.mark.parametrize('away', [-1.0, 0.0, 1.0])
def test_the_head_is_turned_to_what_it_is_held_to_from_anywhere(world, target, away):
    body = SimpleNamespace(reachable=lambda command: command)
    held, guard = Held(world, body, slice(0, 2), TARGETS[target]), guard_for(world)
    for _ in range(75):          # to a limit of its range, or nowhere
        world.apply(guard.command(np.array([away, 0.0])))
        world.step(PERIOD)
    for _ in range(150):
        command, _ = held(None, SimpleNamespace(q=np.zeros(2)))
        world.apply(guard.command(command))
        world.step(PERIOD)
    assert np.abs(direction_to(world, TARGETS[target])).max() < 0.1


def test_a_life_is_told_by_the_time_since():
    news = np.zeros(HABIT + HELD)
    news[HABIT + 10:HABIT + 60] = 1.0
    told = spans({'news': news, 'wrong': np.full(HABIT + HELD, 2.0)})
    assert told['first 2 s'] == {'news': 1.0, 'error_of_sight': 2.0}
    assert told['before']['news'] == told['30 s to 2 min']['news'] == 0.0
