"""The continuous DQN."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dylora_ros.core.dqn import Actor, ContinuousQ, Critics, Settings
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.trajectory import Sampler, Trajectory

SMALL = Settings(width=32, actor_width=32, batch=64, discount=0.5, lr=3e-3, actor_lr=3e-3)


def bandit(rows: int = 600) -> Trajectory:
    """State s in -1 .. 1; the next reward is 1 - (action - 0.7 s)^2, the next state is random."""
    rng = np.random.default_rng(0)
    data = Trajectory(rows, 1, 1)
    states, actions = rng.uniform(-1, 1, (rows, 1)), rng.uniform(-1, 1, (rows, 1))
    rewards = np.zeros(rows)
    rewards[1:] = 1 - (actions - 0.7 * states)[:-1, 0] ** 2
    data.extend(states, actions, rewards, np.ones(rows, bool))
    return data


def teach(updates: int, settings: Settings = SMALL) -> tuple[ContinuousQ, Trajectory]:
    torch.manual_seed(0)
    q, data = ContinuousQ(1, 1, settings), bandit()
    q.normalise(data.states)
    q.learn(data, Sampler(data, SMALL.batch), updates)
    return q, data


@pytest.fixture(scope='module')
def taught():
    torch.set_num_threads(1)
    return teach(300)[0]


def test_it_learns_the_best_action_of_every_state(taught):
    q = taught
    states = np.linspace(-0.9, 0.9, 7, dtype=np.float32)[:, None]
    newborn = np.abs(ContinuousQ(1, 1, SMALL).act(states, explore=False) - 0.7 * states).max()
    wrong = np.abs(q.act(states, explore=False) - 0.7 * states).max()
    assert wrong < 0.2 < newborn


def test_happiness_is_the_mean_reward_to_expect(taught):
    value = taught.value(np.zeros((1, 1)))
    assert value[0] == pytest.approx(1.0, abs=0.15)    # every action right: 1 a row for ever


def test_stacked_critics_are_independent():
    torch.manual_seed(0)
    critics = Critics(3, 8)
    state, action = torch.randn(4, 2), torch.randn(4, 1)
    both = critics(state, action)
    with torch.no_grad():
        for weight in critics.weights:
            weight[1] += 1.0
    after = critics(state, action)
    assert torch.equal(both[0], after[0])
    assert not torch.allclose(both[1], after[1])


def test_frozen_critics_pass_gradient_to_the_action_only():
    critics, action = Critics(3, 8), torch.randn(4, 1, requires_grad=True)
    critics(torch.randn(4, 2), action, frozen=True).sum().backward()
    assert action.grad.abs().sum() > 0
    assert all(p.grad is None for p in critics.parameters())


def test_log_probability_is_that_of_the_squashed_gaussian():
    torch.manual_seed(0)
    actor, state = Actor(2, 1, 16), torch.randn(1, 2)
    mean, log_std = actor(state)
    torch.manual_seed(5)
    action, log = actor.sample(state)
    raw = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, log_std.exp()),
        torch.distributions.TanhTransform(cache_size=1))
    expected = float(raw.log_prob(action).sum().detach())
    assert float(log[0].detach()) == pytest.approx(expected, abs=1e-3)


def test_temperature_falls_while_actions_are_more_random_than_wanted():
    torch.manual_seed(0)
    data = bandit(200)
    cold = ContinuousQ(1, 1, Settings(**{**vars(SMALL), 'entropy': -3.0}))
    warm = ContinuousQ(1, 1, Settings(**{**vars(SMALL), 'entropy': 2.0}))
    for q in (cold, warm):
        q.learn(data, Sampler(data, SMALL.batch), 40)
    assert cold.log_temperature < np.log(0.1) < warm.log_temperature


def test_actions_stay_within_bounds_and_differ_when_it_explores():
    q = ContinuousQ(3, 2)
    states = np.full((50, 3), 1e6, np.float32)
    assert np.abs(q.act(states)).max() <= 1
    assert q.act(states).std(0).min() > 1e-3
    assert q.act(states, explore=False).std(0).max() < 1e-6
    assert q.act(states[0]).shape == (2,)


def first_errors(of_what_followed: float | None) -> np.ndarray:
    """Return the errors (b,) of a newborn's first update; what followed for longer is moved."""
    torch.manual_seed(0)
    q, data = ContinuousQ(1, 1, SMALL), bandit(100)
    index, longer = np.arange(64), None
    if of_what_followed is not None:
        longer = data.batch(index, 5, SMALL.discount)
        longer.reward += of_what_followed
    return q.update(data.batch(index, 1, SMALL.discount), longer)


def test_what_followed_raises_a_target():
    assert (first_errors(100.0) > first_errors(None) + 50).all()


def test_what_followed_lowers_no_target():
    assert np.array_equal(first_errors(-100.0), first_errors(None))


@pytest.mark.parametrize(('bound', 'bounded'), [(0, 40), (10, 40), (10, 0)])
def test_what_pays_late_is_known_soon_while_bounded(bound, bounded):
    data = Trajectory(1000, 1, 1)
    for _ in range(50):                        # a chain of rows, at whose end is a reward
        chain, rewards = np.arange(20)[:, None] / 10 - 1, np.zeros(20)
        rewards[10] = 10.0
        data.extend(chain, np.zeros((20, 1)), rewards, np.arange(20) < 19)
    torch.manual_seed(0)
    q = ContinuousQ(1, 1, replace(SMALL, discount=0.9, bound=bound, bounded=bounded))
    q.normalise(data.states, data.rewards)
    q.learn(data, Sampler(data, SMALL.batch), 40)
    known = q.foretell(data.states[:1], data.actions[:1])[0] > 0.5 * 0.9 ** 9
    assert known == bool(bound and bounded)


def test_learning_can_be_cut_short():
    q, data = ContinuousQ(1, 1, SMALL), bandit(100)
    report = q.learn(data, Sampler(data, SMALL.batch), 100, going=lambda done: done < 7)
    assert report.updates == 7
    assert int(q.updates) == 7


def test_saved_and_loaded_it_goes_on_as_if_nothing_had_been(tmp_path):
    q, data = teach(30)
    q.save(tmp_path / 'dqn.safetensors')
    again = ContinuousQ.load(tmp_path / 'dqn.safetensors', (1, 1))
    index = np.arange(64)
    batch = data.batch(index, 1, SMALL.discount)
    errors = []
    for one in (q, again):
        torch.manual_seed(1)
        for _ in range(3):
            errors.append(one.update(batch))
    assert np.array_equal(errors[2], errors[5])
    assert again.settings == SMALL


def test_weights_of_another_body_are_refused(tmp_path):
    ContinuousQ(3, 2, SMALL).save(tmp_path / 'dqn.safetensors')
    with pytest.raises(SchemaError, match='3 state and 2 action'):
        ContinuousQ.load(tmp_path / 'dqn.safetensors', (3, 1))


def test_a_file_of_something_else_is_refused(tmp_path):
    from safetensors.torch import save_file
    save_file({'a': torch.zeros(1)}, str(tmp_path / 'x.safetensors'))
    with pytest.raises(SchemaError, match='expected dylora-dqn'):
        ContinuousQ.load(tmp_path / 'x.safetensors', (1, 1))


def test_a_new_unit_of_reward_changes_no_value():
    torch.manual_seed(0)
    dqn = ContinuousQ(3, 2)
    states = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    dqn.normalise(states)
    before = dqn.value(states)
    dqn.normalise(states, 0.1 * states[:, 0])
    np.testing.assert_allclose(dqn.value(states), before, rtol=1e-3, atol=1e-6)
    assert float(dqn.unit) == pytest.approx(0.1 * states[:, 0].std())


def lively(n=400, noise=0.0, seed=0):
    """Return a trajectory in which the first action number is the next reward."""
    rng = np.random.default_rng(seed)
    states, actions = rng.standard_normal((n, 3)), rng.uniform(-1, 1, (n, 2))
    rewards = 0.3 + 0.1 * np.roll(actions[:, 0], 1) + noise * rng.standard_normal(n)
    data = Trajectory(n, 3, 2)
    data.extend(states, actions, rewards, np.ones(n, bool))
    return data


def test_a_newborn_expects_the_mean_reward_for_ever():
    dqn, data = ContinuousQ(3, 2), lively()
    dqn.normalise(data.states, data.rewards)
    dqn.expect(0.3)
    np.testing.assert_allclose(dqn.value(data.states), 0.3, rtol=1e-4)


def test_a_newborn_foretells_the_mean_after_any_action():
    dqn, data = ContinuousQ(3, 2), lively()
    dqn.normalise(data.states, data.rewards)
    dqn.expect(0.3)
    np.testing.assert_allclose(dqn.foretell(data.states, data.actions), 0.3, rtol=1e-4)


def test_to_decide_is_to_act_and_to_value():
    torch.manual_seed(0)
    dqn = ContinuousQ(3, 2)
    state = np.array([0.3, -1.0, 2.0], np.float32)
    action, value = dqn.decide(state, vary=0.0)
    np.testing.assert_allclose(action, dqn.act(state, explore=False), rtol=1e-5)
    assert value == pytest.approx(float(dqn.value(state)[0]), rel=1e-5)
    torch.manual_seed(5)
    explored = dqn.decide(state)[0]
    torch.manual_seed(5)
    np.testing.assert_allclose(explored, dqn.act(state), rtol=1e-5)
    assert (np.abs(explored) <= 1).all()
    assert not np.allclose(explored, action)


def test_a_will_of_other_senses_is_refused(tmp_path):
    path = tmp_path / 'will.safetensors'
    ContinuousQ(3, 2).save(path, owner='these')
    assert ContinuousQ.load(path, (3, 2), 'these').sizes == (3, 2)
    with pytest.raises(SchemaError, match='these.*those'):
        ContinuousQ.load(path, (3, 2), 'those')


def test_the_mean_of_the_actor_acts(tmp_path):
    """It learns as well, and is not what the actor happens to be at the end."""
    q = teach(300, replace(SMALL, mean=0.99))[0]
    states = np.linspace(-0.9, 0.9, 7, dtype=np.float32)[:, None]
    acts = q.act(states, explore=False)
    assert np.abs(acts - 0.7 * states).max() < 0.2
    assert not np.array_equal(acts, teach(300)[0].act(states, explore=False)), 'of one actor'
    q.save(tmp_path / 'q.safetensors')
    again = ContinuousQ.load(tmp_path / 'q.safetensors', (1, 1))
    assert np.array_equal(again.act(states, explore=False), acts)


def test_the_mean_of_the_actor_follows_it():
    """At first closely, so that a newborn's first guesses leave no trace."""
    q, data = teach(0, replace(SMALL, mean=0.5, actor_every=1))
    newborn = q.actor.out.bias.detach().clone()
    q.learn(data, Sampler(data, SMALL.batch), 1)
    first = q.actor.out.bias.detach().clone()
    assert torch.allclose(q.mean_actor.out.bias, newborn.lerp(first, 0.9))
    q.learn(data, Sampler(data, SMALL.batch), 200)
    assert torch.allclose(q.mean_actor.out.bias, q.actor.out.bias, atol=0.05)
