"""The world model, and practice in it."""

import numpy as np
import pytest
import torch

from dylora_ros.core.actor_critic import Actor, Critics
from dylora_ros.core.dqn import ContinuousQ, Settings
from dylora_ros.core.trajectory import Sampler, Trajectory
from dylora_ros.core.world_model import practised, WorldModel


def moving(rows=2000):
    """A point in -1 .. 1 that each action moves by a tenth of it; reward is being near 0."""
    rng = np.random.default_rng(0)
    data, state = Trajectory(rows, 1, 1), np.zeros((rows, 1))
    actions = rng.uniform(-1, 1, (rows, 1))
    for t in range(rows - 1):
        state[t + 1] = np.clip(state[t] + 0.1 * actions[t], -1, 1)
    data.extend(state, actions, -np.abs(state[:, 0]), np.ones(rows, bool))
    return data


def teach(practice, updates=400):
    torch.manual_seed(0)
    q, data = ContinuousQ(1, 1, Settings(width=32, actor_width=32, batch=64, discount=0.9,
                                         actor_lr=3e-3, practice=practice)), moving()
    q.normalise(data.states, data.rewards)
    return q, q.learn(data, Sampler(data, 64), updates), data


@pytest.fixture(scope='module')
def taught():
    torch.set_num_threads(1)
    return teach(5)


def test_it_foresees_what_an_action_brings(taught):
    q, report, data = taught
    state, action = q._read(torch.tensor([[0.2], [0.2]])), torch.tensor([[1.0], [-1.0]])
    with torch.inference_mode():
        after, reward = q.model(state, action)
    moved = after[:, 0] / q.scale + q.mean
    np.testing.assert_allclose(moved, [0.3, 0.1], atol=0.03)
    np.testing.assert_allclose(reward * q.unit, [-0.3, -0.1], atol=0.05)
    assert report.foresight < 0.5


def test_foresight_of_chance_is_no_better_than_nothing_changes():
    """The negative twin: there is nothing to foresee."""
    torch.manual_seed(0)
    data = moving()
    rng = np.random.default_rng(0)
    data.states[:] = np.where(rng.random((len(data), 1)) < 0.5, data.states, -data.states)
    q = ContinuousQ(1, 1, Settings(width=32, actor_width=32, batch=64, practice=5))
    q.normalise(data.states)
    assert q.learn(data, Sampler(data, 64), 200).foresight > 0.4


def test_without_practice_there_is_no_model():
    q, report, _ = teach(0, updates=3)
    assert q.model is None
    assert np.isnan(report.foresight)


def test_practice_needs_rewards_of_one_row():
    with pytest.raises(ValueError, match='n_step 1'):
        Settings(practice=5, n_step=3)


def test_practice_moves_the_actor_and_leaves_model_and_critics_as_they_are(taught):
    q, _, data = taught
    before = [p.clone() for p in (*q.model.parameters(), *q.critics.parameters())]
    actor = [p.clone() for p in q.actor.parameters()]
    q._improve(q._read(torch.from_numpy(data.states[:64])))
    after = [*q.model.parameters(), *q.critics.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in after)
    assert all(p.requires_grad for p in q.model.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(actor, q.actor.parameters(), strict=True))


def test_what_is_practised_is_worth_the_rewards_on_the_way_and_the_value_at_the_end():
    torch.manual_seed(0)
    model, actor, critics = WorldModel(2, 1), Actor(2, 1, 16), Critics(3, 8)
    with torch.no_grad():                  # nothing changes, every row pays 1
        for layer in (model.change, model.reward):
            layer.weight.zero_()
            layer.bias.zero_()
        model.reward.bias.fill_(1.0)
        critics.weights[-1].zero_()
        critics.biases[-1].fill_(10.0)
    worth, logs = practised(model, actor, critics, torch.randn(4, 2), 3, 0.5, torch.tensor(0.0),
                            8.0)
    np.testing.assert_allclose(worth.detach(), [1 + 0.5 + 0.25 + 0.125 * 10] * 4, rtol=1e-6)
    assert logs.shape == (4, 4)


def test_a_new_unit_of_reward_changes_no_promise(taught):
    q, _, data = taught
    state, action = torch.randn(5, 1), torch.randn(5, 1)
    with torch.no_grad():
        before = q.model(state, action)[1] * q.unit
        q.normalise(data.states, 0.1 * data.rewards)
        torch.testing.assert_close(q.model(state, action)[1] * q.unit, before)


def test_it_is_saved_with_the_will_and_goes_on_learning(tmp_path):
    q, _, data = teach(5, updates=310)
    q.save(tmp_path / 'dqn.safetensors')
    again = ContinuousQ.load(tmp_path / 'dqn.safetensors', (1, 1))
    batch = data.batch(np.arange(64), 1, 0.9)
    for one in (q, again):
        torch.manual_seed(1)
        for _ in range(3):
            one.update(batch)
    for a, b in zip(q.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
