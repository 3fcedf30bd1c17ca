"""The noisy screen of the gaze world: seen, unpredictable, and of no consequence."""

import mujoco
import numpy as np
import pytest

from dylora_ros.sim import worlds

TILES = 54


@pytest.fixture
def make():
    made = []

    def make_one(seed=0, **options):
        made.append(worlds.make('gaze', seed, **options))
        return made[-1]
    yield make_one
    for world in made:
        world.close()


def look_at_screen(world):
    world.data.joint('pan').qpos[0] = 1.2
    mujoco.mj_forward(world.model, world.data)
    return world.render(64, 64)


def colours(world):
    world.render(16, 16)
    first = world.model.geom('screen_0').id
    return world.model.geom_rgba[first:first + TILES, :3].copy()


def test_there_is_none_unless_asked_for(make):
    names = [make().model.geom(i).name for i in range(make().model.ngeom)]
    assert not [n for n in names if n.startswith('screen')]


def test_it_changes_nothing_but_the_picture(make):
    plain, noisy = make(3), make(3, screen=True)
    for _ in range(50):
        for world in (plain, noisy):
            world.apply(np.array([1.0, -0.2]))
            world.step(0.04)
            world.render(16, 16)
        np.testing.assert_array_equal(plain.data.qpos, noisy.data.qpos)
        np.testing.assert_array_equal(plain.listen(640), noisy.listen(640))
        assert plain.captions() == noisy.captions()
    assert not np.array_equal(look_at_screen(plain), look_at_screen(noisy))


def test_every_cycle_shows_other_colours(make):
    world = make(screen=True)
    seen = []
    for _ in range(10):
        seen.append(colours(world))
        world.step(0.04)
    changes = np.abs(np.diff(seen, axis=0)).mean((1, 2))
    assert changes.min() > 0.2                    # two independent uniform colours: 1/3


def test_looking_twice_shows_the_same_and_lives_repeat(make):
    world, other = make(5, screen=True), make(5, screen=True)
    world.step(0.2)
    other.step(0.2)
    colours(world)
    np.testing.assert_array_equal(colours(world), colours(other))
    first = colours(world)
    world.reset(6)
    world.step(0.2)
    assert not np.array_equal(colours(world), first)
