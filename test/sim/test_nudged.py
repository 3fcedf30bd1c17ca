"""The nudged world: a hand turns the head away, and memory tells where the toy was."""

import numpy as np
import pytest

from dylora_ros.sim import view, worlds

PERIOD = 0.04
CYCLES = 1500


@pytest.fixture(scope='module')
def life():
    """Return, of a minute in which the agent follows the toy: where it looks, what it sees."""
    world = worlds.make('nudged', 3)
    told = {k: [] for k in ('pan', 'seen', 'held', 'sounding', 'azimuth')}
    for _ in range(CYCLES):
        here = float(world.data.joint('pan').qpos[0])
        up = world.direction(world.toy)[1]
        world.apply(np.array([np.clip(5 * (world.bearing() - here), -2, 2),
                              np.clip(-2 * up, -1, 1)]))
        world.step(PERIOD)
        told['pan'].append(float(world.data.joint('pan').qpos[0]))
        told['seen'].append(view.in_view(*world.direction(world.toy)))
        told['held'].append(world.held)
        told['sounding'].append(world.sounding)
        told['azimuth'].append(world.bearing())
    world.close()
    return {k: np.array(v) for k, v in told.items()}


def edges(held):
    """Return where the hand takes the head and where it lets go."""
    edge = np.diff(held.astype(int), prepend=0)
    return np.flatnonzero(edge == 1), np.flatnonzero(edge == -1)


def test_the_hand_comes_every_few_seconds_and_holds_for_a_while(life):
    takes, lets_go = edges(life['held'])
    assert 6 <= len(takes) <= 11
    held = (lets_go - takes[:len(lets_go)]) * PERIOD
    shown = np.array([not life['seen'][take - 1] for take in takes[:len(lets_go)]])
    assert np.allclose(held, np.where(shown, 0.5, 1.5), atol=0.1)
    free = (takes[1:] - lets_go[:len(takes) - 1]) * PERIOD
    assert ((free > 3.9) & (free < 7.1)).all()


def test_who_looks_at_the_toy_is_turned_away_and_who_does_not_is_shown_it(life):
    takes, lets_go = edges(life['held'])
    looked = life['seen'][takes[:len(lets_go)] - 1]
    assert looked.any()
    assert (life['seen'][lets_go - 1] != looked).all()
    assert life['seen'][lets_go[:-1] + 60].all(), 'the agent of this life finds it again'


def test_who_stands_still_is_shown_the_toy():
    world, seen = worlds.make('nudged', 5), []
    for _ in range(CYCLES):
        world.step(PERIOD)
        seen.append(view.in_view(*world.direction(world.toy)))
    world.close()
    assert 0.2 < np.mean(seen) < 0.8


def test_it_turns_to_either_side():
    world, sides = worlds.make('nudged', 0), set()
    for seed in range(8):
        world.reset(seed)
        while not world.held:
            world.turn_to(world.bearing())
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


def test_without_a_hand_nobody_takes_the_head():
    world, held = worlds.make('nudged', 3), []
    world.hand = False
    for _ in range(250):
        world.step(PERIOD)
        held.append(world.held)
    world.close()
    assert not any(held)
