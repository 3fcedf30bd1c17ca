"""The agent in lockstep, with small hand-made senses."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dylora_ros.core.agent import act_on, Agent, split
from dylora_ros.core.context import FLAG_BOOT, GlobalContext
from dylora_ros.core.motor import CommandError, Exploration, Guard, Limits
from dylora_ros.core.phases import Phase
from dylora_ros.core.predictor import Predictor, QNetwork
from dylora_ros.core.search import PATIENCE, Search

PERIOD = 40_000_000     # ns


@dataclass
class Seen:
    x: np.ndarray
    surprise: float | None = 1.0


class SmallSense:
    """A linear sense; it keeps every bias it was given."""

    def __init__(self, shape, seed):
        self.weight = np.random.default_rng(seed).standard_normal((*shape, 3))
        self.biases, self.bodies, self.commands = [], [], []

    def bias(self, q, body=None):
        self.biases.append(q)
        self.bodies.append(body)

    def acted(self, command):
        self.commands.append(command)

    def observe(self, signal):
        return Seen((self.weight @ signal).astype(np.float32))

    def act(self, q):
        return np.tanh(q.reshape(2, 2).sum(1))


@pytest.fixture
def born(tmp_path, small_schema):
    """Return a function that makes an agent with its own log."""
    logs = []

    def make(seed=0, scale=0.5):
        torch.manual_seed(0)
        log = GlobalContext.open(tmp_path / f'{len(logs)}.gc', small_schema, 100)
        logs.append(log)
        network = QNetwork(small_schema)
        torch.nn.init.normal_(network.next.weight, std=0.1)      # a q that says something
        senses = {n: SmallSense(s, i) for i, (n, s) in enumerate(small_schema.modalities.items())}
        limits = Limits(np.array([-2.0, -1.0]), np.array([2.0, 1.0]), np.array([5.0, 5.0]))
        return Agent(senses, log, Predictor(network, log), Guard(limits, 0.04),
                     Exploration(4, scale, seed=seed))
    yield make
    for log in logs:
        log.close()


def live(agent, cycles=20):
    commands = []
    for i in range(cycles):
        t = 0.1 * i
        signals = {'body': np.array([np.sin(t), np.cos(t), 0.5])}
        if i % 4 == 0:
            signals['vision'] = np.array([np.cos(t), 0.2, np.sin(t)])
        commands.append(agent.step(PERIOD * (i + 1), signals, reward=0.1 * i))
    return np.array(commands), agent.log.rows(0, cycles)


def test_every_cycle_commits_one_row(born):
    agent = born()
    _, rows = live(agent)
    assert agent.log.committed == len(rows) == 20
    assert agent.log.verify() == []
    np.testing.assert_array_equal(rows['stamp'], PERIOD * (1 + np.arange(20)))


def test_rows_are_awake_and_carry_their_reward(born):
    _, rows = live(born())
    assert (rows['phase'] == Phase.AWAKE).all()
    np.testing.assert_allclose(rows['reward'], 0.1 * np.arange(20), rtol=1e-6)


def test_only_the_first_row_is_flagged_as_boot(born):
    _, rows = live(born())
    assert np.flatnonzero(rows['flags'] & FLAG_BOOT).tolist() == [0]


def test_the_action_is_the_applied_command_normalised(born):
    commands, rows = live(born())
    np.testing.assert_allclose(rows['action'], commands / [2.0, 1.0], atol=1e-3)
    assert np.abs(rows['action']).max() > 0.1


def test_commands_obey_the_slew(born):
    commands, _ = live(born(scale=4.0))
    assert np.abs(np.diff(commands, axis=0)).max() <= 5.0 * 0.04 + 1e-9


@pytest.mark.parametrize(('reward', 'searches'), [(-0.9, True), (0.0, False)])
def test_a_newborn_that_is_badly_off_searches_as_well(born, small_schema, reward, searches):
    agent = born()
    pose = SimpleNamespace(anywhere=lambda rng: 0.0, towards=lambda pose: np.ones(2),
                           reachable=lambda command: np.full((2, 2), 5.0))
    agent.search = Search(pose, small_schema)
    for i in range(PATIENCE + 5):
        agent.step(PERIOD * (i + 1), {'body': np.zeros(3)}, reward)
    q = agent.log.rows(0, PATIENCE + 5)['q'][:, small_schema.slices['body']]
    assert (q[-1] == 5.0).all() == searches
    assert not (q[:PATIENCE] == 5.0).any()


def test_the_stored_q_is_what_biased_the_senses(born, small_schema):
    agent = born()
    _, rows = live(agent)
    for name, sense in agent.senses.items():
        stored = rows['q'][:, small_schema.slices[name]].reshape(20, *sense.biases[0].shape)
        np.testing.assert_allclose(np.stack(sense.biases), stored, atol=5e-3)


def test_every_sense_is_told_the_state_of_the_body(born, small_schema):
    agent = born()
    _, rows = live(agent)
    stored = rows['x'][:, small_schema.slices['body']].reshape(20, 2, 2)
    for sense in agent.senses.values():
        np.testing.assert_allclose(np.stack(sense.bodies), stored, atol=2e-3)


def test_nobody_is_told_of_a_body_that_is_not_felt(born):
    agent = born()
    agent.step(PERIOD, {'vision': np.ones(3)})
    assert agent.senses['vision'].bodies == [None]


def test_the_body_is_told_the_command_really_applied(born):
    agent = born(scale=4.0)
    _, rows = live(agent)
    np.testing.assert_allclose(np.stack(agent.senses['body'].commands), rows['action'],
                               atol=1e-3)


def test_x_holds_the_newest_state_of_every_sense(born, small_schema):
    agent = born()
    _, rows = live(agent)
    vision = rows['x'][:, small_schema.slices['vision']]
    assert (vision[1:4] == vision[0]).all()
    assert (vision[4] != vision[3]).any()
    np.testing.assert_allclose(rows['age'][:5, 0], [0, 0.04, 0.08, 0.12, 0], atol=1e-3)


def test_same_seed_same_life(born):
    (first, rows), (second, again) = live(born(seed=4)), live(born(seed=4))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(rows, again)


def test_another_seed_is_another_life(born):
    first, _ = live(born(seed=4))
    second, _ = live(born(seed=5))
    assert not np.array_equal(first, second)


def test_without_exploration_q_alone_acts(born):
    first, _ = live(born(seed=4, scale=0.0))
    second, _ = live(born(seed=5, scale=0.0))
    np.testing.assert_array_equal(first, second)


def test_exploration_touches_the_body_alone(small_schema):
    q = np.zeros(small_schema.width, np.float32)
    out = act_on(q, small_schema, Exploration(4, 1.0, seed=0))
    assert not out[small_schema.slices['vision']].any()
    assert out[small_schema.slices['body']].all()


def test_the_action_is_bounded_and_the_prediction_untouched(small_schema):
    q = np.full(small_schema.width, 100, np.float32)
    assert np.abs(act_on(q, small_schema, Exploration(4, 1.0))).max() == 8
    assert (q == 100).all()


def test_split_gives_a_modality_its_matrix(small_schema):
    composite = np.arange(small_schema.width)
    np.testing.assert_array_equal(split(composite, small_schema, 'body'), [[6, 7], [8, 9]])


def test_an_impossible_command_commits_nothing(born):
    agent = born()
    live(agent, 3)
    agent.senses['body'].act = lambda q: np.array([np.nan, 0.0])
    with pytest.raises(CommandError):
        agent.step(4 * PERIOD, {})
    assert agent.log.committed == 3
