import numpy as np
import pytest

pytest.importorskip('rclpy')

from dylora_ros.ros import messages  # noqa: E402


def test_tensor_round_trip_keeps_values_shape_and_stamp():
    values = np.arange(12, dtype=np.float32).reshape(3, 4) / 7
    message = messages.tensor_msg(values, 1_234_567_890_123, 'vision')
    assert np.array_equal(messages.tensor(message), values)
    assert messages.stamp_ns(message) == 1_234_567_890_123
    assert (message.encoding, message.height, message.width) == ('32FC1', 3, 4)


def test_float64_and_strided_input_is_converted():
    values = np.arange(24.0).reshape(4, 6)[:, ::2]
    assert np.allclose(messages.tensor(messages.tensor_msg(values, 0, 'x')), values)


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_tensor_with_nan_is_refused(bad):
    message = messages.tensor_msg(np.array([[1.0, bad]]), 0, 'audio')
    with pytest.raises(messages.MessageError, match='audio'):
        messages.tensor(message)


def test_tensor_of_wrong_size_is_refused():
    message = messages.tensor_msg(np.zeros((2, 3)), 0, 'x')
    message.height = 3
    with pytest.raises(messages.MessageError, match='expected 3x3'):
        messages.tensor(message)


def test_tensor_of_other_encoding_is_refused():
    with pytest.raises(messages.MessageError, match='expected 32FC1'):
        messages.tensor(messages.rgb_msg(np.zeros((2, 2, 3), np.uint8), 0, 'x'))


def test_row_round_trip(small_schema):
    row = np.zeros((), small_schema.dtype)
    row['stamp'], row['reward'] = 77, 0.5
    back = messages.row(messages.row_msg(row), small_schema.dtype)
    assert back == row


def test_row_of_another_schema_is_refused(small_schema):
    row = np.zeros((), small_schema.dtype)
    with pytest.raises(messages.MessageError, match='same body'):
        messages.row(messages.row_msg(row), np.dtype('<f8'))


def test_bgr_and_mono_images_become_rgb():
    image = np.random.default_rng(0).integers(0, 255, (4, 5, 3), np.uint8)
    message = messages.rgb_msg(image[..., ::-1], 0, 'camera')
    message.encoding = 'bgr8'
    assert np.array_equal(messages.rgb(message), image)
    grey = messages._image(image[..., 0], 'mono8', 0, 'camera')
    assert messages.rgb(grey).shape == (4, 5, 3)


def test_image_with_row_padding_is_read():
    image = np.zeros((2, 8, 3), np.uint8)
    image[:, :3] = 9
    message = messages.rgb_msg(image, 0, 'camera')
    message.width = 3
    assert (messages.rgb(message) == 9).all()


def test_unknown_image_encoding_is_refused():
    message = messages.rgb_msg(np.zeros((2, 2, 3), np.uint8), 0, 'camera')
    message.encoding = 'yuv422'
    with pytest.raises(messages.MessageError, match='yuv422'):
        messages.rgb(message)


def test_joints_are_ordered_by_name():
    message = messages.joints_msg(['tilt', 'pan'], [1.0, 2.0], [3.0, 4.0], 0)
    position, velocity = messages.joints(message, ('pan', 'tilt'))
    assert position.tolist() == [2.0, 1.0]
    assert velocity.tolist() == [4.0, 3.0]


def test_missing_joint_is_named():
    message = messages.joints_msg(['pan'], [0.0], [0.0], 0)
    with pytest.raises(messages.MessageError, match='tilt'):
        messages.joints(message, ('pan', 'tilt'))


def test_scalars_of_numpy_reach_the_wire():
    assert messages.scalar_msg(np.float32(1.5)).data == 1.5
    assert messages.scalar_msg(2).data == 2.0


def test_diagnostics_levels_and_values():
    out = messages.diagnostics_msg([('a: b', messages.WARN, 'slow', {'hz': 12.5})], 0)
    status = out.status[0]
    assert status.level == messages.WARN
    assert (status.values[0].key, status.values[0].value) == ('hz', '12.5')


@pytest.mark.parametrize('text', ['[]', 'null', '{', '3', '"REM"'])
def test_a_report_is_an_object(text):
    with pytest.raises(messages.MessageError):
        messages.report(messages.text_msg(text))
    assert messages.report(messages.text_msg('{"phase": "REM"}')) == {'phase': 'REM'}
