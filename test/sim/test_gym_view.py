"""The worlds as Gymnasium environments."""

import sys
import warnings

import numpy as np
import pytest

gymnasium = pytest.importorskip('gymnasium')

from dylora_ros.sim import gym_view, worlds  # noqa: E402
from dylora_ros.sim.world import WorldError  # noqa: E402

IDS = ('dylora_ros/Gaze-v0', 'dylora_ros/Nudged-v0', 'dylora_ros/Forage-v0', 'dylora_ros/Reach-v0')


@pytest.fixture
def make():
    made = []

    def make_one(*args, **options):
        made.append(gym_view.WorldEnv(*args, **options))
        return made[-1]
    yield make_one
    for env in made:
        env.close()


@pytest.mark.parametrize('identity', IDS)
def test_gymnasiums_own_checker_is_content(identity):
    from gymnasium.utils.env_checker import check_env
    env = gymnasium.make(identity, render_mode='rgb_array', size=32)
    with warnings.catch_warnings():
        warnings.filterwarnings('error', module='gymnasium')
        # joints have no bounds: velocities may be anything
        warnings.filterwarnings('ignore', message='.*infinity.*')
        check_env(env.unwrapped)
    env.close()


def test_every_world_is_registered_once():
    gym_view.register()
    ours = {i for i in gymnasium.registry if i.startswith('dylora_ros/')}
    assert ours == set(IDS)
    assert len(ours) == len(worlds.WORLDS)


def test_without_gymnasium_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'gymnasium', None)
    monkeypatch.delitem(sys.modules, 'dylora_ros.sim.gym_view')
    with pytest.raises(ImportError, match='pip install gymnasium'):
        import dylora_ros.sim.gym_view  # noqa: F401


def test_observations_have_the_chosen_size_and_a_period_of_sound(make):
    env = make('reach', size=(48, 64), period=0.1)
    observation, info = env.reset(seed=0)
    assert observation['image'].shape == (48, 64, 3)
    assert observation['sound'].shape == (2, 1600)
    assert observation['joints'].shape == (6,)
    assert env.observation_space.contains(observation)
    assert set(info) == {'success', 'score'}


def test_a_seed_gives_the_life_of_that_world(make):
    env, world = make('gaze'), worlds.make('gaze', 5)
    observation, _ = env.reset(seed=5)
    np.testing.assert_array_equal(observation['image'], world.render(64, 64))
    world.close()


def test_episodes_after_a_seed_differ_but_repeat(make):
    def episodes(env):
        return [env.reset(seed=3 if i == 0 else None)[0]['image'] for i in range(3)]
    first, again = episodes(make('gaze')), episodes(make('gaze'))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[1], first[2])


def test_one_is_the_whole_range_of_an_actuator(make):
    env = make('gaze')
    env.reset(seed=0)
    for action, index in ((np.ones(2), 1), (-np.ones(2), 0)):
        env.step(action.astype(np.float32))
        np.testing.assert_array_equal(env.world.data.ctrl, env.world.limits[:, index])
    env.step(np.zeros(2, np.float32))
    np.testing.assert_array_equal(env.world.data.ctrl, 0)


def test_episodes_are_truncated_by_time_alone(make):
    env = make('gaze', seconds=0.2, size=16)
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]
    env.reset()
    assert env.step(env.action_space.sample())[3] is False


def test_reward_is_success_or_score(make, monkeypatch):
    for reward, expected in (('success', 0.0), ('score', 0.25)):
        env = make('reach', size=16, reward=reward)
        env.reset(seed=0)
        monkeypatch.setattr(env.world, 'score', lambda: 0.25)
        monkeypatch.setattr(env.world, 'success', lambda: False)
        assert env.step(np.zeros(3, np.float32))[1] == expected


def test_unstable_physics_terminates_the_episode(make):
    env = make('gaze', size=16)
    env.reset(seed=0)
    env.world.data.qvel[-1] = np.nan
    observation, reward, terminated, truncated, info = env.step(np.zeros(2, np.float32))
    assert (reward, terminated, truncated, info['unstable']) == (0.0, True, False, True)
    assert env.observation_space.contains(observation)


def test_render_shows_the_world_from_outside(make):
    env = make('forage', render_mode='rgb_array')
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (240, 320, 3)
    np.testing.assert_array_equal(picture, env.world.render(320, 240, 'overview'))
    assert make('forage').render() is None


def test_a_world_that_exists_is_used_as_it_is(make):
    world = worlds.make('gaze', toy='green_cube')
    assert make(world).world.toy == 'green_cube'
    assert make('gaze', toy='blue_cylinder').world.toy == 'blue_cylinder'
    with pytest.raises(ValueError, match='toy.*made already'):
        make(world, toy='red_ball')


@pytest.mark.parametrize(('options', 'words'), [
    ({'reward': 'money'}, 'success'), ({'render_mode': 'human'}, 'rgb_array'),
    ({'seconds': 0.01}, 'no step'), ({'period': 0.0}, 'no step')])
def test_nonsense_settings_are_refused(make, options, words):
    with pytest.raises(ValueError, match=words):
        make('gaze', **options)


def test_an_unknown_world_is_refused(make):
    with pytest.raises(WorldError, match='atlantis.*gaze'):
        make('atlantis')
