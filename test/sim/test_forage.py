"""The forage world: the rover drives, posts sound in turns, the touched sounding post feeds."""

import mujoco
import numpy as np
import pytest

from dylora_ros.sim import worlds
from dylora_ros.sim.forage import COST, FOOD, POSTS, RATION, REACH

PERIOD = 0.04


@pytest.fixture
def world():
    made = worlds.make('forage', 1)
    yield made
    made.close()


def put(world, post, ahead, left):
    """Put a post relative to the rover, in its own axes, m."""
    rover = world.data.body('base_link')
    place = rover.xpos + rover.xmat.reshape(3, 3) @ [ahead, left, 0]
    world.data.mocap_pos[world.model.body(post).mocapid[0], :2] = place[:2]
    mujoco.mj_forward(world.model, world.data)


def clear(world):
    """Put all posts behind the rover, out of its way."""
    for i, post in enumerate(POSTS):
        put(world, post, -1.5, i - 1.5)


def drive(world, left, right, seconds=1.0):
    """Return (ahead, left, yaw) that the rover moved."""
    rover = world.data.body('base_link')
    start, axes = rover.xpos.copy(), rover.xmat.reshape(3, 3).copy()
    world.apply(np.array([left, right]))
    world.step(seconds)
    turned = axes.T @ rover.xmat.reshape(3, 3)
    ahead, aside, _ = axes.T @ (rover.xpos - start)
    return ahead, aside, np.arctan2(turned[1, 0], turned[0, 0])


@pytest.mark.parametrize('speed', [-4, 4])
def test_equal_wheels_drive_straight(world, speed):
    clear(world)
    ahead, aside, yaw = drive(world, speed, speed)
    assert ahead == pytest.approx(0.08 * speed, rel=0.15)
    assert abs(aside) < 0.02
    assert abs(yaw) < 0.03


@pytest.mark.parametrize(('left', 'right', 'sign'), [(2, 6, 1), (6, 2, -1), (-3, 3, 1)])
def test_the_faster_wheel_turns_the_rover_to_the_other_side(world, left, right, sign):
    clear(world)
    _, _, yaw = drive(world, left, right)
    assert np.sign(yaw) == sign
    assert abs(yaw) == pytest.approx(0.08 * abs(right - left) / 0.34, rel=0.3)


def test_the_rover_stops_when_told_and_stays_upright(world):
    clear(world)
    drive(world, 8, 8)
    drive(world, 0, 0, 0.5)
    assert np.abs(world.joints().velocity).max() < 0.1
    assert world.data.body('base_link').xmat[8] > 0.999


def test_walls_hold_the_rover(world):
    for post in POSTS:
        world.data.mocap_pos[world.model.body(post).mocapid[0], :2] = 10, 10
    drive(world, 8, 8, 12.0)
    assert np.abs(world.data.body('base_link').xpos[:2]).max() < 2.95


@pytest.mark.parametrize('seed', range(5))
def test_posts_start_apart_from_walls_each_other_and_the_rover(seed):
    made = worlds.make('forage', seed)
    places = np.array([made.data.body(p).xpos[:2] for p in POSTS])
    assert np.abs(places).max() < 2.95 - 0.16
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(4, 1)]
    assert gaps.min() > 4 * 0.22            # the rover fits between them
    assert min(made.distance(p) for p in POSTS) > REACH


def test_the_touched_sounding_post_feeds(world):
    clear(world)
    put(world, world.sounding, REACH - 0.01, 0)
    before = world.energy
    assert world.success()
    assert world.score() == 1
    world.step(1.0)
    assert world.energy - before == pytest.approx(FOOD - COST, rel=0.05)
    assert f'I touch the {world.sounding.replace("_", " ")} and it feeds me.' in world.captions()


def test_a_silent_post_feeds_nobody(world):
    clear(world)
    silent = next(p for p in POSTS if p != world.sounding)
    put(world, silent, REACH - 0.01, 0)
    before = world.energy
    assert not world.success()
    world.step(1.0)
    assert world.energy - before == pytest.approx(-COST, rel=0.05)
    assert f'I touch the {silent.replace("_", " ")} but it is silent.' in world.captions()


def test_an_eaten_post_falls_silent_and_another_sounds(world):
    clear(world)
    eaten = world.sounding
    put(world, eaten, REACH - 0.01, 0)
    world.step(RATION / FOOD + 0.1)
    assert world.sounding != eaten
    assert not world.success()


def test_posts_sound_in_turns_without_anybody(world):
    heard = []
    for _ in range(80):
        world.step(1.0)
        heard.append(world.sounding)
    changes = np.flatnonzero([a != b for a, b in zip(heard, heard[1:], strict=False)])
    assert len(changes) >= 2
    assert np.diff(changes).min() >= 14
    assert np.diff(changes).max() <= 31


def test_energy_ends_at_nothing_and_hunger_is_said(world):
    clear(world)
    world.energy = 0.005
    world.step(1.0)
    assert world.energy == 0
    assert 'I am hungry.' in world.captions()


def test_score_grows_on_the_way_to_the_sounding_post(world):
    scores = []
    for ahead in (2.0, 1.0, 0.6, REACH - 0.01):
        put(world, world.sounding, ahead, 0)
        scores.append(world.score())
    assert scores == sorted(scores)
    assert scores[0] > 0
    assert scores[-2] < 0.31 < scores[-1] == 1


@pytest.mark.parametrize(('ahead', 'left', 'says'), [
    (1.5, 0.0, 'in the middle of my view.'), (1.5, 0.7, 'on the left side of my view.'),
    (1.5, -0.7, 'on the right side of my view.'), (-1.5, 0.1, 'out of my view.')])
def test_caption_says_where_a_post_is(world, ahead, left, says):
    clear(world)
    put(world, 'red_post', ahead, left)
    assert world.captions()[0] == f'The red post is {says}'


def test_a_post_behind_another_is_hidden(world):
    clear(world)
    put(world, 'red_post', 2.0, 0)
    put(world, 'blue_post', 1.0, 0)
    said = world.captions()
    assert 'The red post is hidden.' in said
    assert 'The blue post is in the middle of my view.' in said


@pytest.mark.parametrize(('left', 'where'), [(0.4, slice(0, 64)), (-0.4, slice(64, 128))])
def test_a_post_on_the_left_is_in_the_left_of_the_image(world, left, where):
    clear(world)
    put(world, 'red_post', 1.2, left)
    image = world.render(128, 128).astype(int)
    red = image[..., 0] - image[..., 1:].max(2) > 60
    assert red.sum() > 100
    assert red[:, where].sum() == red.sum()


@pytest.mark.parametrize(('left', 'near', 'side'), [(1.5, 0, 'left'), (-1.5, 1, 'right')])
def test_the_ear_nearer_to_the_sounding_post_hears_it_louder(world, left, near, side):
    clear(world)
    put(world, world.sounding, 0.2, left)
    world.listen(640)
    loud = np.abs(world.listen(6400)).mean(1)
    assert loud[near] > 1.3 * loud[1 - near]
    name = world.sounding.replace('_', ' ')
    assert f'I hear the {name} from the {side}.' in world.captions()


def test_driving_is_silent_a_bump_is_heard_and_pressing_is_not(world, monkeypatch):
    monkeypatch.setattr(world, 'sources', lambda: [])
    clear(world)
    drive(world, 8, 8, 0.5)
    assert np.abs(world.listen(640)).max() < 2e-3
    put(world, 'red_post', 0.5, 0)
    drive(world, 8, 8, 0.5)
    assert np.abs(world.listen(8000)).max() > 0.05
    drive(world, 8, 8, 0.5)
    assert np.abs(world.listen(640)).max() < 2e-3


def test_a_faster_bump_is_louder():
    peaks = []
    for speed in (2, 7):
        made = worlds.make('forage', 1)
        made.sources = list
        clear(made)
        drive(made, speed, speed, 0.5)
        put(made, 'red_post', 0.45, 0)
        drive(made, speed, speed, 1.0)
        peaks.append(np.abs(made.listen(6400)).max())
    assert peaks[1] > 1.5 * peaks[0]
