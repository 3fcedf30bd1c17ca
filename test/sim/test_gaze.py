"""The gaze world: where things are, who sounds, and the moving head."""

import mujoco
import numpy as np
import pytest

from dylora_ros.sim import worlds
from dylora_ros.sim.gaze import Gaze, TOYS
from dylora_ros.sim.sound import SPEED

PERIOD = 0.04


@pytest.fixture
def world():
    made = worlds.make('gaze', 1)
    yield made
    made.close()


def place(world, toy, forward, left, up):
    """Put a toy relative to the eye of the head at rest, m."""
    eye = world.data.camera('eye').xpos
    world.data.joint(toy).qpos[:3] = eye + [forward, left, up]
    mujoco.mj_forward(world.model, world.data)


@pytest.fixture(scope='module')
def long_life():
    """Return 45 s of a life: toys' places, who sounded, captions, success."""
    made = worlds.make('gaze', 2)
    places, sounding, said, success = [], [], [], []
    for i in range(1125):
        made.apply(np.array([np.sin(i / 30), 0.5 * np.sin(i / 17)]))
        made.step(PERIOD)
        places.append([made.data.body(t).xpos.copy() for t in TOYS])
        sounding.append(made.sounding)
        said.append(made.captions())
        success.append(made.success())
    made.close()
    return np.array(places), sounding, said, success


@pytest.mark.parametrize(('left', 'up', 'signs'), [
    (-0.3, 0.0, (1, 0)), (0.3, 0.0, (-1, 0)), (0.0, 0.3, (0, 1)), (0.0, -0.3, (0, -1)),
    (0.0, 0.0, (0, 0))])
def test_direction_is_positive_to_the_right_and_up(world, left, up, signs):
    place(world, 'red_ball', 1.5, left, up)
    np.testing.assert_array_equal(np.sign(np.round(world.direction('red_ball'), 6)), signs)


def test_direction_is_one_at_the_edge_of_the_view(world):
    place(world, 'red_ball', 1.5, -1.5 * np.tan(np.radians(30)), 0)
    assert world.direction('red_ball')[0] == pytest.approx(1)


@pytest.mark.parametrize('left', [-0.5, 0.5])
def test_direction_of_what_is_behind_keeps_its_side(world, left):
    place(world, 'red_ball', -1.5, left, 0)
    right, _ = world.direction('red_ball')
    assert abs(right) >= 2
    assert np.sign(right) == -np.sign(left)


@pytest.mark.parametrize(('left', 'up', 'says'), [
    (0.0, 0.0, 'in the middle of my view.'),
    (-0.6, 0.0, 'on the right side of my view.'),
    (0.6, 0.0, 'on the left side of my view.'),
    (0.0, 0.5, 'at the top of my view.'),
    (0.0, -0.5, 'at the bottom of my view.'),
    (-2.5, 0.0, 'out of my view.')])
def test_caption_says_where_a_toy_is(world, left, up, says):
    place(world, 'red_ball', 1.5, left, up)
    assert world.captions()[0].endswith(says)


@pytest.mark.parametrize(('left', 'says'), [
    (2.5, 'from the left'), (-2.5, 'from the right'), (0.0, 'in front of me')])
def test_caption_says_where_the_sound_is(world, left, says):
    place(world, world.sounding, 1.5, left, 0)
    assert world.captions()[-1].endswith(f'{says}.')
    assert world.sounding.replace('_', ' ') in world.captions()[-1]


@pytest.mark.parametrize(('left', 'where'), [(0.5, slice(0, 64)), (-0.5, slice(64, 128))])
def test_a_toy_on_the_left_is_in_the_left_of_the_image(world, left, where):
    for toy in TOYS:
        place(world, toy, -2.0, 0, 0)
    place(world, 'red_ball', 1.5, left, 0)
    image = world.render(128, 128).astype(int)
    red = image[..., 0] - image[..., 1:].max(2) > 60
    assert red.sum() > 100
    assert red[:, where].sum() == red.sum()


def test_success_is_the_caption_of_the_middle(long_life):
    _, _, said, success = long_life
    middle = ['The red ball is in the middle of my view.' in s for s in said]
    assert middle == success
    assert any(success)
    assert not all(success)


@pytest.mark.parametrize('toy', TOYS)
def test_the_task_is_of_the_named_toy(toy):
    made = Gaze(worlds.scene_path('gaze'), 0, toy=toy)
    for other in TOYS:
        place(made, other, 1.5, 2.5, 0)
    assert not made.success()
    place(made, toy, 1.5, 0, 0)
    assert made.success()


def test_unknown_toy_is_refused_by_name():
    with pytest.raises(ValueError, match='teddy.*red_ball'):
        Gaze(worlds.scene_path('gaze'), 0, toy='teddy')


def test_the_sounding_toy_changes_every_8_to_20_seconds(long_life):
    _, sounding, _, _ = long_life
    assert set(sounding) <= set(TOYS)
    changes = np.flatnonzero([a != b for a, b in zip(sounding, sounding[1:], strict=False)])
    assert len(changes) >= 1
    assert (np.diff(changes) * PERIOD >= 8 - PERIOD).all()


def test_toys_stay_in_the_room_and_off_the_floor(long_life):
    places = long_life[0]
    assert np.abs(places[..., :2]).max() < 5.9
    assert places[..., 2].min() > 0
    assert places[..., 2].max() < 3


def test_toys_are_often_out_of_view_and_often_in_view(long_life):
    out = np.mean(['The red ball is out of my view.' in s for s in long_life[2]])
    assert 0.1 < out < 0.9


@pytest.mark.parametrize('seed', [11, 20, 24, 93, 383])
def test_toys_start_apart(seed):
    made = worlds.make('gaze', seed)
    assert made.data.ncon == 0


@pytest.mark.parametrize('joint', [0, 1])
@pytest.mark.parametrize('sign', [-1, 1])
def test_the_head_turns_as_commanded(world, joint, sign):
    command = np.zeros(2)
    command[joint] = sign
    world.apply(command)
    for _ in range(8):
        world.step(PERIOD)
    joints = world.joints()
    assert joints.velocity[joint] == pytest.approx(sign, abs=0.25)
    assert np.sign(joints.position[joint]) == sign
    assert abs(joints.velocity[1 - joint]) < 0.1


def test_turning_left_moves_the_view_to_the_right(world):
    place(world, 'red_ball', 1.5, 0, 0)
    world.data.joint('pan').qpos[0] = 0.3
    mujoco.mj_forward(world.model, world.data)
    assert world.direction('red_ball')[0] > 0.2


def test_the_head_stops_when_told(world):
    world.apply(np.array([1.0, 1.0]))
    world.step(0.3)
    world.apply(np.zeros(2))
    world.step(0.3)
    assert np.abs(world.joints().velocity).max() < 0.1


def test_the_head_stays_within_its_joint_limits(world):
    world.apply(np.array([2.0, 1.5]))
    world.step(4.0)
    pan, tilt = world.joints().position
    assert 2.4 < pan < 2.7
    assert 0.6 < tilt < 0.8


@pytest.mark.parametrize('left', [1.0, -1.0])
def test_the_ear_nearer_to_the_toy_hears_it_first_and_louder(world, left):
    place(world, world.sounding, 0.0, left, 0)
    ears = np.linalg.norm(world.sources()[0].ears, axis=1)
    near, far = (0, 1) if left > 0 else (1, 0)
    assert (ears[far] - ears[near]) / SPEED == pytest.approx(5e-4, rel=0.2)
    world.listen(640)
    loud = np.abs(world.listen(6400)).mean(1)
    assert loud[near] > 1.5 * loud[far]


def test_a_collision_is_heard(world, monkeypatch):
    monkeypatch.setattr(world, 'sources', lambda: [])
    place(world, 'red_ball', 1.5, 0, 0)
    place(world, 'green_cube', 1.5, 0.35, 0)
    before = np.abs(world.listen(640)).max()
    world.data.joint('green_cube').qvel[1] = -3
    world.step(0.2)
    assert before < 2e-3
    assert np.abs(world.listen(640)).max() > 0.03


@pytest.mark.parametrize('seed', range(6))
def test_a_hand_turns_the_head_away_from_the_toy(seed):
    world = worlds.make('gaze', seed)
    world.turn_away()
    assert abs(world.direction(world.toy)[0]) > 1
    low, high = world.model.joint('pan').range
    assert low < world.joints().position[0] < high
    world.close()


def test_a_hand_turns_the_head_to_where_the_toy_is():
    world = worlds.make('gaze', 3)
    world.turn_to(world.bearing())
    assert abs(world.direction(world.toy)[0]) < 0.05
    world.turn_to(world.bearing() + 1.0)
    assert abs(world.direction(world.toy)[0]) > 1, 'the twin'
    world.close()
