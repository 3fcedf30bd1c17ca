"""What the continuous Q learns from."""

import numpy as np
import pytest

from dylora_ros.core.trajectory import Sampler, Trajectory


def made(follows, rewards=None, **more):
    n = len(follows)
    data = Trajectory(n + 5, 1, 1)
    data.extend(np.arange(n)[:, None], np.zeros((n, 1)),
                np.ones(n) if rewards is None else np.array(rewards), np.array(follows), **more)
    return data


def test_reward_of_an_action_is_that_of_the_rows_after_it():
    batch = made([True, True, True, False], [5, 1, 10, 100]).batch(np.array([0]), 2, 0.5)
    assert float(batch.reward[0]) == 1 + 0.5 * 10
    assert float(batch.discount[0]) == 0.25
    assert float(batch.after[0, 0]) == 2


def test_a_return_ends_where_time_does_not_go_on():
    batch = made([True, False, True, False]).batch(np.array([0]), 3, 0.5)
    assert float(batch.reward[0]) == 1
    assert float(batch.after[0, 0]) == 1
    assert float(batch.discount[0]) == 0.5


def test_the_newest_row_has_no_future_yet():
    batch = made([True, True, True]).batch(np.array([1]), 3, 0.5)
    assert float(batch.after[0, 0]) == 2


def test_cut_rows_are_never_drawn():
    data = made([True, False] * 20)
    drawn = np.concatenate([Sampler(data, 16, seed=i).draw() for i in range(20)])
    assert data.follows[drawn].all()


def test_surprising_rows_are_drawn_more_often():
    surprise = np.ones(41)
    surprise[7] = 5.0
    data = made([True] * 41, surprise=surprise)
    sampler = Sampler(data, 64, seed=0)
    drawn = np.concatenate([sampler.draw() for _ in range(60)])
    share = np.mean(drawn == 7) * 40
    assert 3.5 < share < 5.5                      # five times the others' share


def test_rows_with_a_large_error_are_drawn_more_often():
    data = made([True] * 41)
    sampler = Sampler(data, 64, alpha=1.0, seed=0)
    sampler.told(np.array([3]), np.array([9.0]))
    drawn = np.concatenate([sampler.draw() for _ in range(60)])
    assert 6 < np.mean(drawn == 3) * 40 < 9       # 9 / 48 of 40


@pytest.mark.parametrize(('good', 'share', 'drawn'), [
    (20, 0.5, 0.5), (80, 0.5, 0.8), (20, 0.0, 0.2), (5, 0.5, 0.2), (0, 0.5, 0.0)])
def test_good_moments_are_drawn_so_often_at_least_but_few_not_over_and_over(good, share, drawn):
    data = made([True] * 100, [1.0] * good + [-1.0] * (100 - good))
    data.favour(share)
    chances = data.priority[:100] / data.priority[:100].sum()
    assert chances[:good].sum() == pytest.approx(drawn)


def test_good_moments_that_surprise_more_are_drawn_more_than_others():
    data = made([True] * 10, [1.0, 1.0] + [-1.0] * 8, surprise=np.r_[4.0, [1.0] * 9])
    data.favour(0.5)
    assert data.priority[0] == pytest.approx(4 * data.priority[1])


def test_dreams_have_their_share():
    dream = np.arange(101) % 2 == 0
    sampler = Sampler(made([True] * 101, dream=dream), 40, dreams=0.25)
    for _ in range(10):
        sampler.draw()
    assert sampler.dreamt / sampler.rows == pytest.approx(0.25)


def test_without_a_share_no_dream_is_drawn():
    dream = np.arange(101) % 2 == 0
    data = made([True] * 101, dream=dream)
    sampler = Sampler(data, 40)
    assert not data.dream[sampler.draw()].any()


@pytest.mark.parametrize('share', [-0.1, 1.0])
def test_a_share_of_dreams_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match='share of dreams'):
        Sampler(made([True, True]), 4, dreams=share)


def test_nothing_to_learn_from_is_said():
    with pytest.raises(ValueError, match='no row is followed'):
        Sampler(made([False, False, False]), 4).draw()


def test_rows_that_are_not_finite_are_refused():
    data = Trajectory(5, 1, 1)
    with pytest.raises(ValueError, match='rewards'):
        data.extend(np.zeros((1, 1)), np.zeros((1, 1)), np.array([np.nan]), np.array([True]))
    assert len(data) == 0


def test_a_full_trajectory_says_so():
    with pytest.raises(ValueError, match='do not fit'):
        made([True] * 5).extend(np.zeros((6, 1)), np.zeros((6, 1)), np.zeros(6),
                                np.ones(6, bool))


def test_new_rows_get_the_greatest_priority():
    data = made([True] * 20)
    sampler = Sampler(data, 64, alpha=1.0, seed=0)
    sampler.told(np.arange(20), np.full(20, 8.0))
    data.extend(np.zeros((2, 1)), np.zeros((2, 1)), np.zeros(2), np.ones(2, bool))
    sampler.new_rows(20)
    drawn = np.concatenate([sampler.draw() for _ in range(60)])
    assert 0.5 < np.mean(drawn == 20) * 21 < 1.5       # as often as the others


def test_returns_are_what_followed_and_the_mean_beyond_a_cut():
    data = Trajectory(5, 1, 1)
    rewards = np.array([9.0, 1.0, 3.0, 0.0, 2.0])               # mean 3
    data.extend(np.zeros((5, 1)), np.zeros((5, 1)), rewards,
                np.array([True, True, False, True, False]))
    third = 0.5 * 3.0 + 0.5 * 3.0
    assert data.returns(0.5) == pytest.approx(
        [0.5 * 1.0 + 0.5 * third, third, 3.0, 0.5 * 2.0 + 0.5 * 3.0, 3.0])


def test_joined_lives_do_not_go_on_in_each_other():
    parts = []
    for n in (3, 4):
        part = Trajectory(n + 2, 1, 1)
        part.extend(np.full((n, 1), n), np.zeros((n, 1)), np.arange(n), np.ones(n, bool),
                    surprise=np.full(n, 2.0))
        parts.append(part)
    both = Trajectory.joined(parts)
    assert both.states[:, 0].tolist() == [3, 3, 3, 4, 4, 4, 4]
    assert both.follows.tolist() == [True, True, False, True, True, True, False]
    assert both.rewards.tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert (both.priority == 2.0).all()
