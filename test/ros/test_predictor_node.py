"""The predictor node acts by the will that an earlier sleep left, and only then."""

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip('rclpy')

from dylora_ros import graph  # noqa: E402
from dylora_ros.core.dqn import ContinuousQ  # noqa: E402
from dylora_ros.core.phases import Phase  # noqa: E402
from dylora_ros.core.qnetwork import QNetwork  # noqa: E402
from dylora_ros.core.search import PATIENCE  # noqa: E402
from dylora_ros.core.will import state_width  # noqa: E402
from dylora_ros.core.will_training import Chest  # noqa: E402
from dylora_ros.modalities import registry  # noqa: E402
from dylora_ros.modalities.specs import body_signal  # noqa: E402
from dylora_ros.ros import messages  # noqa: E402

SMALL = {'capacity': 1000, 'window': 500}


class Mind:
    """An awake predictor and what it says of one moment."""

    def __init__(self, bench, **parameters):
        bench.up(graph.node_class('global_context'), **SMALL)
        self.bench = bench
        self.node = bench.up(graph.node_class('predictor'), **SMALL, **parameters)
        self.values, self.body = bench.hear('value'), bench.hear('body/q')
        bench.voice('phase').publish(messages.text_msg('AWAKE'))
        assert bench.spin_until(lambda: self.node.phase == Phase.AWAKE)
        self.now, self.joints = bench.voice('context/now'), bench.voice('joint_states')

    def feel(self):
        self.joints.publish(messages.joints_msg(
            ('pan', 'tilt'), np.array([0.3, -0.2]), np.array([0.5, 0.1]), 10**9))
        assert self.bench.spin_until(lambda: self.node._joints is not None)

    def say(self, mask=15):
        """Return happiness and the body's next LR state of one composed row."""
        row = np.zeros((), self.node.log.schema.dtype)
        row['stamp'], row['mask'] = 2 * 10**9, mask
        before = len(self.values)
        self.now.publish(messages.row_msg(row))
        assert self.bench.spin_until(
            lambda: len(self.values) > before and len(self.body) == len(self.values))
        return self.values[-1].data, messages.tensor(self.body[-1])


def wish(bench, command):
    """Leave a will in memory that always wants one command, and is 0.7 happy everywhere."""
    schema = registry.row_schema(2, registry.SHIPPED)
    bench.memory.mkdir(exist_ok=True)
    dqn = ContinuousQ(state_width(schema), schema.actions)
    dqn.expect(0.7)
    with torch.no_grad():
        dqn.actor.out.weight.zero_()
        dqn.actor.out.bias[:2] = torch.atanh(torch.tensor(command))
    Chest(bench.memory, schema).morning(dqn)


@pytest.mark.parametrize(('wanted', 'same'), [([0.6, -0.4], True), ([-0.6, 0.4], False)])
def test_it_acts_by_the_will_of_an_earlier_sleep(bench, wanted, same):
    """The negative twin: another wish is another state of the body."""
    wish(bench, wanted)
    mind = Mind(bench, exploration=0.0)
    mind.feel()
    value, q = mind.say()
    body = registry.make('body', 2)
    body.observe(body_signal(np.array([0.3, -0.2]), np.array([0.5, 0.1]), np.zeros(2)))
    assert value == pytest.approx(0.7, abs=1e-4)
    assert np.allclose(q, body.reachable(np.array([0.6, -0.4])), atol=1e-3) == same


@pytest.mark.parametrize('lacking', ['will', 'joints', 'feeling'])
def test_without_a_will_or_a_body_felt_q_acts_as_ever(bench, lacking):
    if lacking != 'will':
        wish(bench, [0.6, -0.4])
    mind = Mind(bench, exploration=0.0)
    if lacking != 'joints':
        mind.feel()
    row = np.zeros((), mind.node.log.schema.dtype)
    row['stamp'], row['mask'] = 2 * 10**9, 7 if lacking == 'feeling' else 15
    alone = mind.node.predictor.observe(row)
    value, q = mind.say(int(row['mask']))
    assert value == pytest.approx(alone.value, abs=1e-5)
    part = mind.node.log.schema.slices['body']
    np.testing.assert_allclose(q.ravel(), np.clip(alone.q[part], -8, 8), atol=1e-4)


@pytest.mark.parametrize(('reward', 'searches'), [(-0.9, True), (0.0, False), (None, False)])
@pytest.mark.parametrize('newborn', [True, False])
def test_who_is_badly_off_searches(bench, monkeypatch, newborn, reward, searches):
    if not newborn:
        wish(bench, [0.6, -0.4])
    mind = Mind(bench, exploration=0.0)
    mind.feel()
    monkeypatch.setattr(
        mind.node.predictor, 'observe',
        lambda row, old=mind.node.predictor.observe: replace(old(row), rewarded=reward))
    monkeypatch.setattr(mind.node.search, '_bad', PATIENCE - 1)
    wished = mind.say()[1]
    mind.node.body.bias(np.zeros_like(wished))       # as before the first moment
    assert np.allclose(mind.say()[1], wished, atol=1e-3) != searches


def test_a_damaged_will_is_told_and_q_acts(bench):
    bench.memory.mkdir()
    (bench.memory / 'will.safetensors').write_bytes(b'rubbish')
    mind = Mind(bench, exploration=0.0)
    assert mind.node.will is None


@pytest.mark.parametrize(('exploration', 'same'), [(0.0, True), (0.7, False)])
def test_it_explores_unless_it_is_told_not_to(bench, exploration, same):
    wish(bench, [0.1, 0.1])
    mind = Mind(bench, exploration=exploration)
    mind.feel()
    first = mind.say()[1]
    mind.node.body.bias(np.zeros_like(first))        # as before the first moment
    assert np.allclose(first, mind.say()[1], atol=1e-5) == same


@pytest.mark.parametrize(('lived', 'same'), [(0, True), (7, False)])
def test_after_every_sleep_it_tries_something_else(bench, monkeypatch, lived, same):
    wish(bench, [0.1, 0.1])
    mind = Mind(bench)
    first, log = mind.node._load_will(), mind.node.log
    monkeypatch.setattr(type(log), 'committed', log.committed + lived)
    tried = [will._noise.initial_seed() for will in (first, mind.node._load_will())]
    assert (tried[0] == tried[1]) == same


class Waking:
    """A sleep that ends as it is told, and never begins a process."""

    def stop(self):
        pass

    def events(self):
        return []


@pytest.mark.parametrize('learned', [True, False])
def test_q_of_a_sleep_that_was_cut_short_is_what_it_wakes_with(bench, learned):
    """The negative twin: where nothing was learned the old one stays, whole."""
    mind = Mind(bench)
    old = mind.node.predictor.network
    mind.node.sleeper = Waking()
    if learned:
        torch.manual_seed(1)
        QNetwork(mind.node.log.schema).save(bench.memory / 'q.safetensors')
    mind.node._on_phase(Phase.AWAKE)
    assert bench.spin_until(lambda: not mind.node.predictor.building)
    mind.node.predictor.catch_up()
    assert (mind.node.predictor.network is not old) == learned


def test_a_sleep_begins_with_the_q_that_acts_not_with_one_of_other_rows(bench):
    bench.memory.mkdir(exist_ok=True)
    QNetwork(registry.row_schema(3, registry.SHIPPED)).save(bench.memory / 'q.safetensors')
    mind = Mind(bench)
    assert mind.node._sleep_options()['q'] == str(registry.SHIPPED / 'q.safetensors')
