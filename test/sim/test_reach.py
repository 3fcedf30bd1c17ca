"""The reach world: an arm, a ball that jumps, touch."""

import mujoco
import numpy as np
import pytest

from dylora_ros.sim import worlds
from dylora_ros.sim.reach import BALL, REACH

UPPER, LOWER, SHOULDER = 0.34, 0.32, np.array([0, 0, 0.18])


@pytest.fixture
def world():
    made = worlds.make('reach', 1)
    yield made
    made.close()


def place(world, *at):
    """Put the ball somewhere, m."""
    world.data.mocap_pos[world._mocap] = at
    mujoco.mj_forward(world.model, world.data)


def angles(place):
    """Return joint angles that bring the fingertip to a place (inverse kinematics by hand)."""
    way = place - SHOULDER
    far = np.linalg.norm(way)
    bend = np.pi - np.arccos((UPPER**2 + LOWER**2 - far**2) / (2 * UPPER * LOWER))
    lean = np.arctan2(np.hypot(*way[:2]), way[2])
    inner = np.arccos((UPPER**2 + far**2 - LOWER**2) / (2 * UPPER * far))
    return np.array([np.arctan2(way[1], way[0]), lean - inner, bend])


def test_every_place_of_the_ball_can_be_reached(world):
    low, high = world.model.jnt_range.T
    for seed in range(40):
        world.reset(seed)
        wanted = angles(world.data.body(BALL).xpos)
        assert (low < wanted).all(), seed
        assert (wanted < high).all(), seed
        world.data.qpos[:] = wanted
        mujoco.mj_forward(world.model, world.data)
        assert world.distance() < 1e-6
        assert world.success()


@pytest.mark.parametrize('seed', range(5))
def test_the_ball_starts_off_the_arm_and_the_table(seed):
    made = worlds.make('reach', seed)
    assert made.data.ncon == 0
    assert made.distance() > REACH
    assert made.data.body(BALL).xpos[2] > 0.1


def test_the_ball_jumps_every_5_to_12_seconds_never_onto_the_arm(world):
    places, hits = [], 0
    for i in range(1000):
        world.apply(np.sin(i / 20 + np.arange(3)))
        before = world.data.body(BALL).xpos.copy()
        world.step(0.04)
        places.append(world.data.body(BALL).xpos.copy())
        jumped = not np.array_equal(before, places[-1])
        hits += jumped and world.data.ncon > 0
    moves = np.flatnonzero(np.abs(np.diff(places, axis=0)).max(1) > 0)
    assert len(moves) >= 3
    assert np.diff(moves).min() * 0.04 >= 4.9
    assert np.diff(moves).max() * 0.04 <= 12.1
    assert hits == 0


@pytest.mark.parametrize('joint', range(3))
@pytest.mark.parametrize('sign', [-1, 1])
def test_joints_turn_as_commanded(world, joint, sign):
    world.data.qpos[:] = 0, 0.5, 1.0
    place(world, 0.3, 0.9, 0.9)
    command = np.zeros(3)
    command[joint] = sign
    world.apply(command)
    world.step(0.4)
    velocity = world.joints().velocity
    assert velocity[joint] == pytest.approx(sign, abs=0.2)
    assert np.abs(np.delete(velocity, joint)).max() < 0.15


def test_the_arm_hangs_still_without_a_command(world):
    start = world.joints().position
    world.apply(np.zeros(3))
    world.step(2.0)
    np.testing.assert_allclose(world.joints().position, start, atol=0.02)


def test_success_is_touch_and_score_grows_on_the_way(world):
    tip = world.data.site('fingertip').xpos.copy()
    scores = []
    for away in (0.5, 0.3, REACH + 0.01, REACH - 0.005):
        place(world, *(tip + [0, 0, away]))
        scores.append(world.score())
        assert world.success() == (away < REACH)
    assert scores == sorted(scores)
    assert 0 < scores[0] < scores[2] <= 0.5 < scores[3] == 1


@pytest.mark.parametrize(('offset', 'says'), [
    ((0, 0.3, 0), 'The blue ball is to the left of my finger.'),
    ((0, -0.3, 0), 'The blue ball is to the right of my finger.'),
    ((0, 0, 0.3), 'The blue ball is above my finger.'),
    ((0, 0, -0.3), 'The blue ball is below my finger.'),
    ((0, 0, 0.2), 'My finger is near the blue ball.'),
    ((0, 0.4, 0), 'My finger is far from the blue ball.'),
    ((0, 0, 0.1), 'I touch the blue ball.')])
def test_captions_relate_ball_and_finger(world, offset, says):
    place(world, *(world.data.site('fingertip').xpos + offset))
    assert says in world.captions()


@pytest.mark.parametrize(('left', 'says'), [
    (0.5, 'from the left'), (-0.5, 'from the right'), (0.0, 'in front of me')])
def test_caption_says_where_the_sound_is_and_the_ears_agree(world, left, says):
    place(world, 0.4, left, 0.3)
    assert f'I hear the blue ball {says}.' in world.captions()
    world.listen(640)
    loud = np.abs(world.listen(6400)).mean(1)
    assert np.sign(np.round((loud[0] - loud[1]) / loud.mean(), 1)) == np.sign(left)


def test_the_eye_sees_the_ball_unless_the_arm_hides_it(world):
    world.data.qpos[:] = 0, 0, 0
    place(world, 0.5, 0.25, 0.2)
    blue = world.render().astype(int)
    assert (blue[..., 2] - blue[..., :2].max(2) > 40).sum() > 30
    assert 'The blue ball is hidden.' not in world.captions()
    eye = world.data.camera('eye').xpos
    elbow = world.data.geom('elbow').xpos
    place(world, *(eye + 1.6 * (elbow - eye)))
    assert 'The blue ball is hidden.' in world.captions()


def test_touching_is_heard(world, monkeypatch):
    monkeypatch.setattr(world, 'sources', lambda: [])
    world.data.qpos[:] = 0, 0.6, 1.0
    place(world, 0.3, 0.9, 0.9)
    tip = world.data.site('fingertip').xpos.copy()
    world.apply(np.array([1.5, 0, 0]))
    world.step(0.1)
    assert np.abs(world.listen(640)).max() < 2e-3
    place(world, tip[0] - 0.03, tip[1] + 0.3, tip[2])
    world.step(0.6)
    assert np.abs(world.listen(6400)).max() > 0.05
