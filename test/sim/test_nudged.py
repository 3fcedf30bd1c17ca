"""The nudged world: a hand turns the head away, and memory tells where the toy was."""

import numpy as np
import pytest

from dylora_ros.sim import view, worlds

PERIOD = 0.04
CYCLES = 1500


@pytest.fixture(scope='module')
def life():
    """Return, of a minute in which the agent follows the toy: pan, seen, held, sounding."""
    world = worlds.make('nudged', 3)
    pan, seen, held, side, sounding, azimuth = [], [], [], [], [], []
    for _ in range(CYCLES):
        here = float(world.data.joint('pan').qpos[0])
        world.apply(np.array([np.clip(5 * (world.bearing() - here), -2, 2), 0.0]))
        world.step(PERIOD)
        pan.append(float(world.data.joint('pan').qpos[0]))
        seen.append(abs(world.direction(world.toy)[0]) <= 1)
        held.append(world.held)
        side.append(np.sign(pan[-1] - world.bearing()))
        sounding.append(world.sounding)
        azimuth.append(world.bearing())
    assert view.in_view(0.0, 0.0)
    world.close()
    return {k: np.array(v) for k, v in locals().items()
            if k in ('pan', 'seen', 'held', 'side', 'sounding', 'azimuth')}


def edges(held):
    """Return where the hand takes the head and where it lets go."""
    edge = np.diff(held.astype(int), prepend=0)
    return np.flatnonzero(edge == 1), np.flatnonzero(edge == -1)


def test_the_hand_comes_every_few_seconds_and_holds_for_a_while(life):
    takes, lets_go = edges(life['held'])
    assert 5 <= len(takes) <= 8
    assert np.allclose((lets_go - takes[:len(lets_go)]) * PERIOD, 1.5, atol=0.1)
    free = (takes[1:] - lets_go[:len(takes) - 1]) * PERIOD
    assert ((free > 5.9) & (free < 10.1)).all()


def test_it_lets_go_where_the_toy_is_not_seen_and_the_agent_finds_it_again(life):
    _, lets_go = edges(life['held'])
    assert not life['seen'][lets_go - 1].any()
    assert life['seen'][lets_go[:-1] + 75].all(), 'three seconds later'


def test_it_turns_to_either_side():
    world, sides = worlds.make('nudged', 0), set()
    for seed in range(8):
        world.reset(seed)
        while not world.held:
            world.step(PERIOD)
        for _ in range(30):
            world.step(PERIOD)
        sides.add(np.sign(world.data.joint('pan').qpos[0] - world.bearing()))
    world.close()
    assert sides == {-1.0, 1.0}


def test_while_it_holds_commands_move_nothing(life):
    for end in edges(life['held'])[1]:
        still = life['pan'][end - 12:end - 1]
        assert np.ptp(still) < 0.02


def test_the_named_toy_is_mute_and_slow(life):
    assert set(life['sounding']) <= {'green_cube', 'blue_cylinder'}
    assert np.abs(np.diff(life['azimuth'])).max() / PERIOD < 0.15


def test_it_is_gaze_in_all_else():
    assert worlds.has_toys('nudged')
    assert worlds.has_toys('gaze')
    assert not worlds.has_toys('forage')
    assert worlds.scene_path('nudged') == worlds.scene_path('gaze')
