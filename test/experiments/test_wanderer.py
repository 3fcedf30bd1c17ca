"""A rover that is shown the room, and what of a body is felt."""

import numpy as np
import pytest

from dylora_ros.experiments.babble import babble, Babbler, babbler_for, felt, guard_for
from dylora_ros.experiments.wanderer import DRAWN, Wanderer
from dylora_ros.sim.forage import POSTS
from dylora_ros.sim.worlds import make as make_world


@pytest.fixture(scope='module')
def forage():
    world = make_world('forage', 1)
    yield world
    world.close()


def test_the_driver_takes_the_rover_to_the_posts(forage):
    near = []
    babble(forage, 1500, 0,
           witness=lambda w: near.append(min(map(w.distance, POSTS)) < 0.5) or np.zeros(1))
    assert np.mean(near) > 0.1
    assert 0 < sum(np.diff(near)) > 2, 'it leaves them again'


def test_a_rover_drawn_to_a_post_on_its_right_turns_right(forage):
    forage.reset()
    driver = Wanderer(forage, 0)
    driver._kind, driver._left, driver._speed = DRAWN, 100, 0.5
    driver._post = max(POSTS, key=lambda post: forage.direction(post)[0])
    assert forage.direction(driver._post)[0] > 0.5
    left, right = np.mean([driver() for _ in range(50)], 0)
    assert left > right + 0.3


def test_commands_repeat_by_seed_and_stay_in_range(forage):
    forage.reset()
    one, other = ([Wanderer(forage, seed)() for _ in range(1)] for seed in (3, 3))
    assert np.array_equal(one, other)
    driver = Wanderer(forage, 4)
    assert all(np.abs(driver()).max() <= 1 for _ in range(400))


def test_a_wheel_is_nowhere_it_only_moves(forage):
    forage.reset()
    forage.apply(np.array([5.0, 5.0]))
    forage.step(1.0)
    assert np.abs(forage.joints().position).min() > 1
    signal = felt(forage, guard_for(forage))
    assert signal[:2].tolist() == [0, 0]
    assert signal[2:4] == pytest.approx(forage.joints().velocity)


def test_joints_with_limits_are_where_they_are():
    """The negative twin."""
    world = make_world('gaze', 1)
    world.apply(np.array([1.0, 0.5]))
    world.step(0.5)
    assert felt(world, guard_for(world))[:2] == pytest.approx(world.joints().position)
    world.close()


@pytest.mark.parametrize(('scene', 'kind'), [('gaze', Babbler), ('reach', Babbler),
                                             ('forage', Wanderer)])
def test_every_body_babbles_in_its_way(scene, kind):
    world = make_world(scene, 1)
    babbler = babbler_for(world, 0)
    assert type(babbler) is kind
    assert babbler().shape == (len(world.names),)
    world.close()


def test_the_weights_that_ship_are_of_gaze_alone(capsys):
    from dylora_ros.experiments import days, pretrain
    for command, said in ((pretrain.main, '--out'), (days.main, '--weights')):
        with pytest.raises(SystemExit):
            command(['--scene', 'forage'])
        assert said in capsys.readouterr().err
