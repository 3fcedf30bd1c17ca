import json
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from std_srvs.srv import SetBool, Trigger  # noqa: E402

from dylora_ros.nodes.simulator import SimulatorNode  # noqa: E402
from dylora_ros.ros import messages  # noqa: E402


@pytest.fixture
def node(bench):
    return bench.up(SimulatorNode, words_every=0.2)


def test_world_gives_all_senses_their_signals(bench, node):
    frames, sound = bench.hear('camera/image_raw'), bench.hear('microphone/audio')
    joints, words = bench.hear('joint_states'), bench.hear('text/words')
    assert bench.spin_until(lambda: frames and len(sound) > 3 and len(joints) > 3 and words)
    assert messages.rgb(frames[0]).shape == (128, 128, 3)
    assert messages.tensor(sound[0]).shape == (2, 640)
    position, _ = messages.joints(joints[0], ('pan', 'tilt'))
    assert position.shape == (2,)
    assert words[0].data.endswith('.')


def test_joints_stop_by_themselves_without_commands(bench, node):
    commands, joints = bench.voice('commands'), bench.hear('joint_states')
    start = time.monotonic()
    while time.monotonic() - start < 0.5:
        commands.publish(messages.commands_msg(np.array([1.0, 0.0])))
        bench.spin(0.03)
    assert abs(joints[-1].velocity[0]) > 0.3, 'the twin: it turns while commands come'
    assert bench.spin_until(lambda: abs(joints[-1].velocity[0]) < 0.05, 1.0)


def test_nan_command_is_refused(bench, node):
    commands = bench.voice('commands')
    commands.publish(messages.commands_msg(np.array([np.nan, 0.0])))
    bench.spin(0.2)
    assert not node.world.data.ctrl.any()


def test_pause_stops_time_and_step_advances_one_cycle(bench, node):
    assert bench.ask('simulator/pause', SetBool, data=True).success
    before = node.world.time
    bench.spin(0.1)
    assert node.world.time == before
    assert bench.ask('simulator/step', Trigger).success
    assert node.world.time == pytest.approx(before + 0.04)
    assert bench.ask('simulator/pause', SetBool, data=False).success
    assert bench.spin_until(lambda: node.world.time > before + 0.1)


def test_step_without_pause_is_refused(bench, node):
    assert not bench.ask('simulator/step', Trigger).success


def test_real_time_is_kept(bench, node):
    bench.spin(1.0)
    report = json.loads(bench.ask('simulator/report', Trigger).message)
    assert 0.5 < report['real_time_factor'] < 1.1


def test_report_before_the_first_activation(bench):
    node = bench.make(SimulatorNode)
    node.trigger_configure()
    report = json.loads(bench.ask('simulator/report', Trigger).message)
    assert report['counted'] == 0
    assert report['real_time_factor'] == 0.0


def test_unstable_physics_is_told_and_the_world_goes_on(bench, node):
    told = []
    node.complain = lambda key, text, **_: told.append(text)
    node.world.data.qvel[:] = np.nan
    assert bench.spin_until(lambda: told)
    assert 'unstable' in told[0]
    after = node.world.time
    assert bench.spin_until(lambda: node.world.time > after)
    assert np.isfinite(node.world.data.qpos).all()


@pytest.mark.parametrize('rates', [{'camera_rate': 60.0}, {'rate': 5.0}, {'camera_rate': 0.9}])
def test_frames_come_at_every_permitted_rate(bench, rates):
    frames = bench.hear('camera/image_raw')
    bench.up(SimulatorNode, **rates)
    assert bench.spin_until(lambda: frames)
