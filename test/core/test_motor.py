"""What may reach the joints, and how the body explores."""

import numpy as np
import pytest

from dylora_ros.core.motor import CommandError, Exploration, Guard, Limits


@pytest.fixture
def guard():
    """Return a guard of two joints: -1 .. 3 and -2 .. 2 units, at most 0.5 and 5 a command."""
    return Guard(Limits(np.array([-1.0, -2.0]), np.array([3.0, 2.0]), np.array([5.0, 50.0])), 0.1)


def settle(guard, value):
    for _ in range(50):
        out = guard.command(np.asarray(value, float))
    return out


def test_full_command_is_the_limit(guard):
    np.testing.assert_allclose(settle(guard, [1, 1]), [3, 2])
    np.testing.assert_allclose(settle(guard, [-1, -1]), [-1, -2])


def test_command_beyond_the_range_is_clipped(guard):
    np.testing.assert_allclose(settle(guard, [9, -9]), [3, -2])


def test_slew_bounds_every_change_from_the_last_command(guard):
    np.testing.assert_allclose(guard.command([1, 1]), [0.5, 2.0])
    np.testing.assert_allclose(guard.command([1, 1]), [1.0, 2.0])
    np.testing.assert_allclose(guard.command([-1, -1]), [0.5, -2.0])


@pytest.mark.parametrize('value', [[np.nan, 0], [np.inf, 0], [0], [0, 0, 0], [[0, 0]]])
def test_bad_command_is_refused_and_the_last_one_stays(guard, value):
    last = guard.command([0.5, 0.5])
    with pytest.raises(CommandError, match='NaN|shape'):
        guard.command(np.array(value, float))
    np.testing.assert_array_equal(guard.last, last)


def test_normalise_undoes_the_command(guard):
    value = np.array([0.3, -0.6])
    np.testing.assert_allclose(guard.normalise(settle(guard, value)), value, atol=1e-6)


def test_stop_is_zero_at_once_whatever_the_slew(guard):
    settle(guard, [1, 1])
    np.testing.assert_array_equal(guard.stop(), [0, 0])


def test_slew_starts_anew_from_the_stop(guard):
    settle(guard, [1, 1])
    guard.stop()
    assert guard.command([1, 1])[0] == pytest.approx(0.5)


def test_returned_command_is_the_callers_own(guard):
    guard.command([0.1, 0.1])[:] = 99
    assert np.abs(guard.last).max() < 3


def test_exploration_is_bounded():
    noise = Exploration(4, scale=0.3, time=0.01, seed=1)
    most = max(np.abs(noise()).max() for _ in range(500))
    assert most == pytest.approx(2.5 * 0.3, rel=1e-6)     # the bound is reached and kept


def test_exploration_repeats_by_seed():
    first, second, other = (Exploration(4, 0.3, seed=s) for s in (1, 1, 2))
    draws = [[e() for _ in range(5)] for e in (first, second, other)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_exploration_of_scale_zero_is_silent():
    noise = Exploration(4, 0.0)
    assert not any(noise().any() for _ in range(10))


def test_exploration_has_its_scale_and_is_smooth_in_time():
    noise = Exploration(20, 0.5, time=0.6, period=0.04, seed=0)
    life = np.array([noise() for _ in range(2000)])[200:]
    assert life.std() == pytest.approx(0.5, rel=0.1)
    correlation = (life[1:] * life[:-1]).mean() / life.var()
    assert correlation == pytest.approx(np.exp(-0.04 / 0.6), abs=0.02)
