"""The body: its input, LR state, forward model and command. No packaged weights needed."""

import contextlib

import numpy as np
import pytest
import torch

from dylora_ros.core.search import LONGEST
from dylora_ros.modalities import registry
from dylora_ros.modalities.body import Body
from dylora_ros.modalities.specs import body_signal, body_spec, SignalError


@pytest.fixture
def body():
    torch.manual_seed(0)
    return Body(2)


@pytest.fixture(scope='module')
def grown():
    """Return the shipped body."""
    return registry.make('body', 2)


SIGNAL = body_signal(np.array([0.1, -0.2]), np.array([0.5, 0.3]), np.array([0.2, -0.4]), 1.0)


def test_signal_is_position_velocity_command_contact():
    np.testing.assert_allclose(SIGNAL, [0.1, -0.2, 0.5, 0.3, 0.2, -0.4, 1.0])
    assert SIGNAL.dtype == np.float32


@pytest.mark.parametrize('joints', [1, 2, 7])
def test_shapes_follow_the_number_of_joints(joints):
    made, spec = Body(joints), body_spec(joints)
    assert spec.signal == (3 * joints + 1,)
    x = made.observe(np.zeros(spec.signal, np.float32)).x
    assert x.shape == (spec.sites, spec.rank)
    assert made.act(x).shape == (joints,)


def test_expectation_is_in_the_space_of_the_signal(body):
    body.observe(SIGNAL)
    assert body.expected.shape == SIGNAL.shape


def test_x_tells_signals_apart(body):
    first = body.observe(SIGNAL).x
    assert not np.allclose(first, body.observe(2 * SIGNAL).x)


def test_same_signal_and_bias_give_the_same_x(body):
    np.testing.assert_array_equal(body.observe(SIGNAL).x, body.observe(SIGNAL).x)


def test_weights_are_frozen():
    body = Body(2)
    assert not any(p.requires_grad for n, p in body.encoder.named_parameters() if 'base' in n)
    assert not any(p.requires_grad for p in body.decoder.parameters())


def test_commands_stay_within_one_for_any_state(body):
    body.observe(SIGNAL)
    assert np.abs(body.act(np.full((4, 4), 1e3))).max() <= 1


def test_the_command_follows_the_predicted_state(grown):
    grown.observe(SIGNAL)
    assert np.abs(grown.act(np.full((4, 4), 1.0)) - grown.act(np.full((4, 4), -1.0))).max() > 0.1


def test_bad_signal_leaves_the_command_as_it_was(body):
    x = body.observe(SIGNAL).x
    before = body.act(x)
    for bad in (SIGNAL * np.nan, SIGNAL[:-1]):
        with pytest.raises(SignalError, match='body'):
            body.observe(bad)
    np.testing.assert_array_equal(body.act(x), before)


def test_dreaming_goes_on_without_joints(grown):
    grown.observe(SIGNAL)
    dreamt = [grown.dream().x for _ in range(20)]
    assert np.isfinite(dreamt).all()


def test_a_remembered_moment_starts_the_same_dream(grown):
    grown.bias(np.zeros((4, 4)))
    grown.observe(SIGNAL)
    context = grown.local_context()
    first = grown.dream().x
    grown.observe(-SIGNAL)
    grown.resume(context)
    np.testing.assert_array_equal(grown.dream().x, first)


def test_saving_keeps_the_learned_encoder(tmp_path, body):
    body.save(tmp_path / 'body.safetensors')
    torch.manual_seed(1)
    other = Body(2)
    assert not np.allclose(other.observe(SIGNAL).x, body.observe(SIGNAL).x)
    other.load(tmp_path / 'body.safetensors')
    np.testing.assert_array_equal(other.observe(SIGNAL).x, body.observe(SIGNAL).x)
    np.testing.assert_array_equal(other.expected, body.expected)


def babble(cycles=200, seed=5):
    """Return signals and applied commands of a smooth random life in the gaze world."""
    from dylora_ros.core.motor import Guard, Limits
    from dylora_ros.sim.worlds import make
    world, rng = make('gaze', seed), np.random.default_rng(seed)
    low, high = world.limits.T
    guard = Guard(Limits(low, high, np.full(2, 12.0)), 0.04)
    wish, signals, commands = np.zeros(2), [], []
    for _ in range(cycles):
        state = world.joints()
        signals.append(body_signal(state.position, state.velocity, guard.normalise(guard.last)))
        wish = 0.93 * wish + 0.25 * rng.standard_normal(2)
        applied = guard.command(np.clip(wish - 0.5 * state.position, -1, 1))
        commands.append(guard.normalise(applied))
        world.apply(applied)
        world.step(0.04)
    return np.array(signals), np.array(commands)


@pytest.fixture(scope='module')
def babbled():
    return babble()


def test_the_shipped_forward_model_knows_what_a_command_does(grown, babbled):
    """Against "nothing changes", position and velocity by themselves."""
    grown.forget_expectation()
    predicted, unchanged = [], []
    for now, command, after in zip(babbled[0], babbled[1], babbled[0][1:], strict=False):
        grown.observe(now)
        grown.acted(command)
        predicted.append(grown.expected - after)
        unchanged.append(now - after)
    ratio = np.square(predicted).mean(0) / np.maximum(np.square(unchanged).mean(0), 1e-12)
    assert (ratio[:4] < 0.3).all()
    assert np.square(predicted).mean() < 0.2 * np.square(unchanged).mean()


def test_the_expectation_follows_the_command(grown):
    grown.observe(np.zeros(7, np.float32))
    grown.acted(np.array([0.4, -0.4]))
    first = grown.expected
    grown.acted(np.array([-0.4, 0.4]))
    second = grown.expected
    assert first[2] > 0.1 > -0.1 > second[2]
    np.testing.assert_allclose(second[4:6], [-0.4, 0.4], atol=1e-6)


def test_a_bad_command_is_refused_and_the_expectation_stays(grown):
    grown.observe(SIGNAL)
    expected = grown.expected
    for bad in (np.zeros(3), np.array([np.nan, 0.0])):
        with pytest.raises(SignalError, match='body/command'):
            grown.acted(bad)
    np.testing.assert_array_equal(grown.expected, expected)


def test_no_dream_leaves_what_the_body_was_seen_to_do(grown):
    grown.observe(SIGNAL)
    for _ in range(100):
        grown.acted(np.ones(2))
        grown.dream()
    assert (np.abs(grown.present[:2]) < 3.2).all()
    assert (np.abs(grown.present[2:4]) < 4.0).all()


def test_the_shipped_inverse_model_finds_the_command(grown, babbled):
    """The state that was reached, put in as the wish, gives back the command that did it."""
    signals, commands = babbled
    found = []
    for now, after in zip(signals, signals[1:], strict=False):
        wish = grown.observe(after).x
        grown.observe(now)
        found.append(grown.act(wish))
    error = np.square(np.array(found) - commands[:-1]).mean()
    assert error < 0.2 * commands.var()


def test_a_command_and_the_state_it_leads_to_are_two_names_of_one_thing(grown):
    rng = np.random.default_rng(0)
    wanted, got, last = [], [], np.zeros(2)
    for _ in range(40):
        position = rng.uniform(-1, 1, 2) * [1.5, 0.4]
        grown.observe(body_signal(position, last * 1.5, last))
        command = np.clip(last + rng.uniform(-0.24, 0.24, 2), -1, 1)     # what the slew allows
        got.append(grown.act(grown.reachable(command)))
        wanted.append(command)
        last = command
    wanted, got = np.array(wanted), np.array(got)
    for joint in range(2):
        assert np.corrcoef(wanted[:, joint], got[:, joint])[0, 1] > 0.9


def test_reachable_states_leave_perception_as_it_is(grown):
    x = grown.observe(SIGNAL).x
    expected = grown.expected.copy()
    grown.reachable(np.array([0.5, -0.5]))
    grown.acted(SIGNAL[4:6])
    assert np.array_equal(grown.expected, expected)
    assert np.array_equal(grown.observe(SIGNAL).x, x)


def test_reachable_refuses_a_command_of_another_body(grown):
    grown.observe(SIGNAL)
    with pytest.raises(SignalError, match='body/command'):
        grown.reachable(np.zeros(3))


def test_it_gets_to_a_pose(grown):
    """Of the gaze head, whatever the pose, within the time that a search gives it."""
    from dylora_ros.experiments.babble import felt, guard_for, PERIOD
    from dylora_ros.sim.worlds import make
    rng = np.random.default_rng(0)
    with contextlib.closing(make('gaze', 0)) as world:
        world.reset()
        guard = guard_for(world)
        for _ in range(3):
            pose = grown.anywhere(rng)
            for _ in range(LONGEST):
                grown.observe(felt(world, guard))
                command = guard.command(grown.towards(pose))
                world.apply(command)
                world.step(PERIOD)
            assert np.abs(world.joints().position - pose).max() < 0.1


def test_poses_are_within_what_the_body_was_seen_in(grown):
    rng = np.random.default_rng(0)
    poses = np.array([grown.anywhere(rng) for _ in range(500)])
    assert np.abs(poses).max(0) == pytest.approx([2.6, 0.7], abs=0.05)


def test_a_wheel_has_a_speed_for_a_pose():
    body = Body(2)
    body.forward_model.low.copy_(torch.tensor([0., -1., -8., -3., -1., -1., 0.]))
    body.forward_model.high.copy_(torch.tensor([0., 1., 8., 3., 1., 1., 0.]))
    with torch.no_grad():
        body.forward_model.straight.weight[2, 7] = 8.0           # command 0 -> velocity 0
    body.observe(np.zeros(7, np.float32))
    assert body.towards(np.array([4.0, 0.0]))[0] == pytest.approx(0.5)
    assert abs(body.anywhere(np.random.default_rng(0))[0]) > 1.0, 'rad/s'


def test_a_pose_of_another_body_is_refused(grown):
    grown.observe(SIGNAL)
    with pytest.raises(SignalError, match='body/pose'):
        grown.towards(np.zeros(3))
