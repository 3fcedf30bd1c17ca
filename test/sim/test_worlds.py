"""What every world must be (after the list of the dm_control suite), for each that ships."""

import numpy as np
import pytest

from dylora_ros.sim import worlds
from dylora_ros.sim.world import WorldError

PERIOD = 0.04


@pytest.fixture(params=sorted(worlds.WORLDS))
def make(request):
    """Return a function that makes this world; all of them are closed."""
    made = []

    def make_one(seed=0):
        made.append(worlds.make(request.param, seed))
        return made[-1]
    yield make_one
    for world in made:
        world.close()


@pytest.fixture
def world(make):
    return make()


def live(world, cycles=25, seed=7):
    """Move at random; return positions of everything, and sound."""
    rng = np.random.default_rng(seed)
    states, sound = [], []
    for _ in range(cycles):
        world.apply(rng.uniform(*world.limits.T))
        world.step(PERIOD)
        states.append(world.data.qpos.copy())
        sound.append(world.listen(640))
    return np.array(states), np.concatenate(sound, 1)


@pytest.mark.parametrize('kind', ['body', 'jnt', 'actuator', 'cam'])
def test_everything_has_a_name(world, kind):
    kinds = {'body': (world.model.nbody, world.model.body),
             'jnt': (world.model.njnt, world.model.joint),
             'actuator': (world.model.nu, world.model.actuator),
             'cam': (world.model.ncam, world.model.camera)}
    count, get = kinds[kind]
    names = [get(i).name for i in range(count)]
    assert names
    assert all(names)


def test_there_are_two_cameras_and_one_is_the_agents_eye(world):
    names = [world.model.camera(i).name for i in range(world.model.ncam)]
    assert len(names) >= 2
    assert world.camera in names


def test_every_actuator_has_its_joint_and_a_finite_range(world):
    assert len(world.names) == len(world.actuators) == world.model.nu > 0
    assert np.isfinite(world.limits).all()
    assert (world.limits[:, 0] < world.limits[:, 1]).all()
    assert world.model.actuator_ctrllimited.all()


def test_joints_are_finite_and_named(world):
    joints = world.joints()
    assert joints.names == world.names
    assert joints.position.shape == joints.velocity.shape == (len(world.names),)
    assert np.isfinite([joints.position, joints.velocity]).all()


def test_same_seed_same_world(make):
    (first, sound), (second, echo) = live(make(3)), live(make(3))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(sound, echo)


def test_other_seed_other_world(make):
    (first, sound), (second, echo) = live(make(3)), live(make(4))
    assert not np.array_equal(first, second)
    assert not np.array_equal(sound, echo)


def test_reset_starts_the_same_life_anew(world):
    first, sound = live(world)
    world.reset()
    assert world.time == 0
    second, echo = live(world)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(sound, echo)


def test_time_advances_by_what_was_asked(world):
    for _ in range(10):
        world.step(PERIOD)
    assert world.time == pytest.approx(10 * PERIOD, abs=world.model.opt.timestep)


def test_command_beyond_the_range_is_clipped(world):
    low, high = world.limits.T
    world.apply(high + 100)
    np.testing.assert_array_equal(world.data.ctrl, high)
    world.apply(low - 100)
    np.testing.assert_array_equal(world.data.ctrl, low)


@pytest.mark.parametrize('fault', ['nan', 'infinite', 'short', 'long'])
def test_bad_command_is_refused_and_the_last_one_stays(world, fault):
    good = world.limits[:, 1] / 2
    bad = {'nan': good * np.nan, 'infinite': good + np.inf, 'short': good[:-1],
           'long': np.append(good, 0)}[fault]
    world.apply(good)
    with pytest.raises(ValueError, match=f'{world.model.nu} finite numbers'):
        world.apply(bad)
    np.testing.assert_array_equal(world.data.ctrl, good)


def test_the_image_has_the_asked_shape_and_shows_something(world):
    image = world.render(64, 48)
    assert image.shape == (48, 64, 3)
    assert image.dtype == np.uint8
    assert image.std() > 1


def test_every_camera_shows_something_else(world):
    views = [world.render(32, 32, world.model.camera(i).name) for i in range(world.model.ncam)]
    assert all(v.std() > 1 for v in views)
    assert not any(np.array_equal(a, b) for i, a in enumerate(views) for b in views[:i])


def test_what_is_seen_heard_and_felt_changes_with_time(world):
    world.apply(world.limits[:, 1])
    image, sound, joints = world.render(), world.listen(640), world.joints()
    for _ in range(10):
        world.step(PERIOD)
    assert not np.array_equal(world.render(), image)
    assert not np.array_equal(world.listen(640), sound)
    assert not np.array_equal(world.joints().position, joints.position)


def test_observations_share_no_memory_with_the_world(world):
    def observe():
        joints = world.joints()
        return world.render(), world.listen(640), joints.position, joints.velocity
    first = observe()
    kept = [a.copy() for a in first]
    world.apply(world.limits[:, 1])
    world.step(0.4)
    observe()
    for array, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(array, copy)
        array[:] = 0                                  # and they can be written to
    assert world.render().any()


def test_looking_and_listening_leave_the_physics_alone(make):
    quiet, watched = make(), make()
    for _ in range(5):
        quiet.step(PERIOD)
        watched.step(PERIOD)
        watched.render()
        watched.listen(640)
        watched.captions()
    np.testing.assert_array_equal(quiet.data.qpos, watched.data.qpos)


def test_sound_is_stereo_floats_within_one(world):
    world.step(PERIOD)
    sound = world.listen(640)
    assert sound.shape == (2, 640)
    assert sound.dtype == np.float32
    assert 0 < np.abs(sound).max() <= 1


def test_captions_are_sentences_and_success_is_a_truth_value(world):
    said = world.captions()
    assert said
    assert all(s.endswith('.') and s[0].isupper() for s in said)
    assert world.success() in (True, False)


@pytest.mark.parametrize('value', [np.nan, 1e12])
@pytest.mark.parametrize('state', ['qpos', 'qvel'])
def test_unstable_physics_is_an_error_and_a_fresh_start(world, state, value):
    world.step(1.0)
    getattr(world.data, state)[-1] = value
    with pytest.raises(WorldError, match='unstable'):
        world.step(PERIOD)
    assert world.time == 0
    world.step(PERIOD)
    assert np.isfinite(world.data.qpos).all()


def test_unstable_physics_starts_the_seeded_life_anew(world):
    first = live(world)[0]
    world.data.qvel[-1] = np.nan
    with pytest.raises(WorldError):
        world.step(PERIOD)
    np.testing.assert_array_equal(live(world)[0], first)


def test_mujoco_leaves_no_log_file_behind(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world.data.qvel[-1] = np.nan
    with pytest.raises(WorldError):
        world.step(PERIOD)
    assert not list(tmp_path.iterdir())


def test_unknown_world_names_the_known_ones():
    with pytest.raises(WorldError, match='atlantis.*' + sorted(worlds.WORLDS)[0]):
        worlds.make('atlantis')


def test_faulty_scene_is_named(tmp_path):
    path = tmp_path / 'broken.xml'
    path.write_text('<mujoco><worldbody><geom type="egg"/></worldbody></mujoco>')
    with pytest.raises(WorldError, match='broken.xml'):
        next(iter(worlds.WORLDS.values()))(path)
