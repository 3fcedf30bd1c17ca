"""Lockstep batches: each world lives as it would alone, senses come at their own rates."""

import numpy as np
import pytest

from dylora_ros.sim import worlds
from dylora_ros.sim.batch import Batch, body_state


@pytest.fixture
def make():
    made = []

    def make_one(name='gaze', count=3, **options):
        made.append(Batch(name, count, **options))
        return made[-1]
    yield make_one
    for batch in made:
        batch.close()


def act(batch, cycles, seed=0):
    """Return the senses of a random life, and the actions."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (cycles, len(batch.worlds), len(batch.actuators)))
    return [batch.step(a) for a in actions], actions


@pytest.mark.parametrize('name', sorted(worlds.WORLDS))
def test_each_world_lives_as_it_would_alone(make, name):
    batch = make(name, 3, seed=4)
    batch.reset()
    senses, actions = act(batch, 20)
    for i in range(3):
        alone = worlds.make(name, 4 + i)
        for action in actions[:, i]:
            alone.apply(alone.from_unit(action))
            alone.step(0.04)
        np.testing.assert_array_equal(senses[-1].joints[i], body_state(alone))
        np.testing.assert_array_equal(senses[-1].image[i], alone.render(64, 64))
        assert senses[-1].success[i] == alone.success()
        assert senses[-1].score[i] == np.float32(alone.score())
        alone.close()


def test_noisy_screens_of_a_shared_model_do_not_mix(make):
    batch = make('gaze', 2, screen=True)
    batch.reset()
    image = act(batch, 4)[0][-1].image
    for i in range(2):
        alone = worlds.make('gaze', i, screen=True)
        for action in act(make('gaze', 2), 4)[1][:, i]:
            alone.apply(alone.from_unit(action))
            alone.step(0.04)
        np.testing.assert_array_equal(image[i], alone.render(64, 64))
        alone.close()


def test_senses_come_at_their_own_rates(make):
    batch = make(frame_every=4, sound_every=5)
    batch.reset()
    senses, _ = act(batch, 20)
    assert [i + 1 for i, s in enumerate(senses) if s.new_image] == [4, 8, 12, 16, 20]
    assert [i + 1 for i, s in enumerate(senses) if s.new_sound] == [5, 10, 15, 20]
    np.testing.assert_array_equal(senses[4].image, senses[3].image)
    assert not np.array_equal(senses[7].image, senses[3].image)
    assert all(s.joints.any() for s in senses)


def test_shapes_and_kinds(make):
    batch = make(count=2, size=32, sound_every=5)
    senses = batch.reset()
    assert senses.image.shape == (2, 32, 32, 3)
    assert senses.image.dtype == np.uint8
    assert senses.sound.shape == (2, 2, 3200)
    assert senses.sound.dtype == senses.joints.dtype == senses.score.dtype == np.float32
    assert senses.joints.shape == (2, 4)
    assert senses.success.dtype == senses.restarted.dtype == bool


def test_sound_has_no_gaps(make):
    batch = make(count=1, sound_every=5)
    batch.reset()
    senses, actions = act(batch, 10)
    alone = worlds.make('gaze', 0)
    heard = []
    for i, action in enumerate(actions[:, 0]):
        alone.apply(alone.from_unit(action))
        alone.step(0.04)
        if i % 5 == 4:
            heard.append(alone.listen(3200))
    np.testing.assert_array_equal([s.sound[0] for s in senses if s.new_sound], heard)


def test_senses_kept_from_an_earlier_cycle_stay(make):
    batch = make()
    first = batch.reset()
    kept = first.image.copy(), first.sound.copy(), first.joints.copy()
    act(batch, 10)
    for array, copy in zip((first.image, first.sound, first.joints), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_reset_starts_all_lives_anew(make):
    batch = make()
    batch.reset()
    first = act(batch, 10)[0][-1]
    batch.reset()
    again = act(batch, 10)[0][-1]
    np.testing.assert_array_equal(first.joints, again.joints)
    np.testing.assert_array_equal(first.sound, again.sound)


def test_an_unstable_world_restarts_and_the_others_go_on(make):
    batch = make()
    batch.reset()
    act(batch, 5)
    batch.worlds[1].data.qvel[-1] = np.nan
    senses = batch.step(np.zeros((3, 2)))
    np.testing.assert_array_equal(senses.restarted, [False, True, False])
    assert [w.time == 0 for w in batch.worlds] == [False, True, False]
    assert not batch.step(np.zeros((3, 2))).restarted.any()


@pytest.mark.parametrize('actions', [np.zeros((2, 2)), np.zeros(2), np.full((3, 2), np.nan)])
def test_bad_actions_are_refused_and_nothing_moves(make, actions):
    batch = make()
    batch.reset()
    with pytest.raises(ValueError, match='expected .3, 2.'):
        batch.step(actions)
    assert [w.time for w in batch.worlds] == [0, 0, 0]


def test_nonsense_settings_are_refused(make):
    with pytest.raises(ValueError, match='count is 0'):
        make(count=0)
    with pytest.raises(ValueError, match='frame_every is 0'):
        make(frame_every=0)


def test_wheels_positions_are_wrapped_and_limited_joints_are_not():
    rover, head = worlds.make('forage'), worlds.make('gaze')
    rover.data.joint('wheel_left').qpos[0] = 7.0
    head.data.joint('pan').qpos[0] = 3.5
    assert body_state(rover)[0] == pytest.approx(7.0 - 2 * np.pi)
    assert body_state(head)[0] == pytest.approx(3.5)
