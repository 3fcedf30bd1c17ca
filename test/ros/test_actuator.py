"""What stops the joints, each with its negative twin: the same setup moves them."""

import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from std_msgs.msg import Empty  # noqa: E402

from dylora_ros.nodes.actuator import ActuatorNode  # noqa: E402
from dylora_ros.ros import messages  # noqa: E402
from dylora_ros.ros.interfaces import HEARTBEAT, heartbeat_topic  # noqa: E402

PUSH = np.full((4, 4), 2.0, np.float32)


class Driver:
    """Plays the agent around the actuator: phase, joints and predicted LR states."""

    def __init__(self, bench, **parameters):
        self.bench = bench
        self.node = bench.up(ActuatorNode, **parameters)
        self.commands = bench.hear('commands')
        self.phase = bench.voice('phase')
        self.joints = bench.voice('joint_states')
        self.q = bench.voice('body/q')
        assert bench.spin_until(lambda: self.node.count_publishers('phase') > 0)

    def say(self, phase):
        self.phase.publish(messages.text_msg(phase))
        assert self.bench.spin_until(lambda: self.node.phase.name == phase)

    def drive(self, q=PUSH, seconds=0.3, joints=True, late=0.0):
        """Send q at 25 Hz for a while; return the commands that came meanwhile."""
        before = len(self.commands)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            now = self.node.now()
            if joints:
                self.joints.publish(messages.joints_msg(
                    ['pan', 'tilt'], [0.1, 0.0], [0.0, 0.0], now))
            message = messages.tensor_msg(np.nan_to_num(q), now - int(late * 1e9), 'body')
            if not np.isfinite(q).all():
                message.data = messages.array.array('B', q.astype(np.float32).tobytes())
            self.q.publish(message)
            self.bench.spin(0.04)
        return [messages.commands(m) for m in self.commands[before:]]


def moves(commands):
    """Whether the newest commands are other than zero."""
    return len(commands) > 2 and bool(np.abs(commands[-2]).max() > 0)


@pytest.fixture
def driver(bench):
    """Return an actuator that is awake and moving."""
    out = Driver(bench)
    out.say('AWAKE')
    assert moves(out.drive(seconds=0.5)), 'the twin: with nothing wrong it moves'
    return out


def stopped(driver, **drive):
    """Whether the last commands are all zero after driving on."""
    commands = driver.drive(**drive)
    return len(commands) > 0 and not np.abs(commands[-3:]).any()


def test_it_acts_only_awake(driver):
    driver.say('REM')
    assert stopped(driver)


def test_it_stands_still_until_it_is_told_to_be_awake(bench):
    driver = Driver(bench)
    assert stopped(driver)


def test_old_predictions_stop_it(driver):
    assert stopped(driver, late=0.2)


def test_no_prediction_for_three_cycles_stops_it(driver):
    before = len(driver.commands)
    assert driver.bench.spin_until(
        lambda: len(driver.commands) > before + 6, 2.0), 'the stop command is repeated'
    assert not messages.commands(driver.commands[-1]).any()


def test_nan_stops_it(driver):
    bad = PUSH.copy()
    bad[1, 2] = np.nan
    assert stopped(driver, q=bad)


def test_wrong_size_is_refused_and_stops_it(driver):
    assert stopped(driver, q=np.ones((2, 4), np.float32))


def test_lost_joint_states_stop_it(driver):
    driver.bench.spin(0.3)
    assert stopped(driver, joints=False)


def test_lost_heartbeat_stops_it_and_its_return_frees_it(driver):
    bench = driver.bench
    topic = heartbeat_topic('predictor')
    beat = bench.probe.create_publisher(Empty, topic, HEARTBEAT.qos)
    beats = bench.probe.create_timer(0.1, lambda: beat.publish(Empty()))
    bench.spin(0.4)
    assert moves(driver.drive(seconds=0.4)), 'it moves while the heart beats'
    bench.probe.destroy_timer(beats)
    silent = time.monotonic()
    while not driver.node._lost and time.monotonic() - silent < 3.0:
        driver.drive(seconds=0.04)
    assert time.monotonic() - silent < 1.2
    assert stopped(driver, seconds=0.2)
    beats = bench.probe.create_timer(0.1, lambda: beat.publish(Empty()))
    assert bench.spin_until(lambda: not driver.node._lost)
    assert moves(driver.drive(seconds=0.5))


def test_deactivation_sends_the_stop_command_first(driver):
    before = len(driver.commands)
    driver.node.trigger_deactivate()
    assert driver.bench.spin_until(lambda: len(driver.commands) > before)
    assert not messages.commands(driver.commands[-1]).any()


def test_a_configured_actuator_that_never_woke_ends_without_complaint(bench):
    node = bench.make(ActuatorNode)
    node.trigger_configure()
    told = bench.errors(node)
    node.trigger_shutdown()
    assert told == []


def test_shutdown_sends_the_stop_command(driver):
    before = len(driver.commands)
    driver.node.trigger_shutdown()
    assert driver.bench.spin_until(lambda: len(driver.commands) > before)
    assert not messages.commands(driver.commands[-1]).any()


def test_commands_keep_limits_and_slew(bench):
    driver = Driver(bench, low=[-0.5, -0.5], high=[0.5, 0.5], slew=[2.0, 2.0])
    driver.say('AWAKE')
    commands = np.array(driver.drive(q=100 * PUSH, seconds=0.8))
    assert np.abs(commands).max() <= 0.5
    assert np.abs(np.diff(commands, axis=0)).max() <= 2.0 * 0.04 + 1e-6


@pytest.mark.parametrize('limits', [{'low': [-1.0]}, {'low': [0.2, -1.0]}, {'slew': [12.0, -12.0]},
                                    {'slew': [12.0, 0.0]}])
def test_limits_of_the_wrong_size_or_sign_are_refused(bench, limits):
    from rclpy.lifecycle import TransitionCallbackReturn
    node = bench.make(ActuatorNode, **limits)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE


def test_applied_commands_are_told_with_their_delay(driver):
    applied = driver.bench.hear('body/applied')
    driver.bench.spin(0.3)
    driver.drive()
    assert applied
    values = messages.tensor(applied[-1])[0]
    assert values.shape == (3,)
    assert np.abs(values[:2]).max() <= 1.0
    assert 0 <= values[2] < 1000


def test_the_body_expects_what_the_applied_command_does(driver):
    driver.drive(seconds=0.3)
    applied = driver.node.guard.normalise(driver.node.guard.last)
    assert np.abs(applied).max() > 0.1
    np.testing.assert_allclose(driver.node.body.expected[4:6], applied, atol=1e-6)


def test_the_body_expects_to_stand_when_it_is_stopped(driver):
    driver.say('REM')
    driver.bench.spin(0.1)
    np.testing.assert_array_equal(driver.node.body.expected[4:6], [0, 0])
