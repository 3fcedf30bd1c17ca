"""Conversions between numpy and messages. No other module builds or reads message fields.

Field setters of rclpy do not check types unless ROS_PYTHON_CHECK_FIELDS is set, and a wrong
scalar goes out as zero; so everything is converted here, explicitly.
"""

import array
import json

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float32, Float64MultiArray, Header, String


class MessageError(ValueError):
    """A message that does not hold what its topic promises."""


def time_msg(ns: int) -> Time:
    """Nanoseconds to a Time."""
    return Time(sec=int(ns // 1_000_000_000), nanosec=int(ns % 1_000_000_000))


def stamp_ns(message) -> int:
    """Return the header stamp in nanoseconds."""
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def frame(message) -> str:
    """Return the header's frame; sealed messages carry their seal there."""
    return message.header.frame_id


def header(ns: int, frame: str) -> Header:
    """Return a Header."""
    return Header(stamp=time_msg(ns), frame_id=frame)


def _image(values: np.ndarray, encoding: str, ns: int, frame: str) -> Image:
    values = np.ascontiguousarray(values)
    return Image(header=header(ns, frame), height=int(values.shape[0]), width=int(values.shape[1]),
                 encoding=encoding, is_bigendian=0, step=int(values.strides[0]),
                 data=array.array('B', values.tobytes()))


def tensor_msg(values: np.ndarray, ns: int, frame: str) -> Image:
    """Wrap a matrix (rows, columns), or a vector as one row, as stamped 32FC1."""
    return _image(np.atleast_2d(np.asarray(values, np.float32)), '32FC1', ns, frame)


def tensor(message: Image) -> np.ndarray:
    """Unwrap :func:`tensor_msg`; (height, width) float32.

    Raises:
        MessageError: another encoding, size mismatch, or NaN.

    """
    if message.encoding != '32FC1':
        raise MessageError(f'encoding {message.encoding!r}, expected 32FC1')
    values = np.frombuffer(bytearray(message.data), np.float32)
    if values.size != message.height * message.width:
        raise MessageError(f'{values.size} numbers, expected {message.height}x{message.width}')
    if not np.isfinite(values).all():
        raise MessageError(f'{message.header.frame_id} holds NaN or infinity')
    return values.reshape(message.height, message.width)


def number(message: Image) -> float:
    """Unwrap the one number of a :func:`tensor_msg`.

    Raises:
        MessageError: it holds more, or none.

    """
    values = tensor(message)
    if values.size != 1:
        raise MessageError(f'{values.size} numbers, expected one')
    return float(values[0, 0])


def row_msg(row: np.ndarray, frame: str = 'context') -> Image:
    """Wrap a log row as bytes, stamped as the row."""
    return _image(np.frombuffer(row.tobytes(), 'u1')[None], '8UC1', int(row['stamp']), frame)


def row(message: Image, dtype: np.dtype) -> np.ndarray:
    """Unwrap :func:`row_msg`.

    Raises:
        MessageError: the bytes are no row of this schema.

    """
    data = bytes(message.data)
    if len(data) != dtype.itemsize:
        raise MessageError(f'a row of {len(data)} bytes, expected {dtype.itemsize}: do all nodes '
                           'have the same body and weights?')
    return np.frombuffer(data, dtype)[0]


def rgb_msg(image: np.ndarray, ns: int, frame: str) -> Image:
    """Wrap an (h, w, 3) uint8 RGB image."""
    return _image(image, 'rgb8', ns, frame)


def rgb(message: Image) -> np.ndarray:
    """Unwrap a camera image as (h, w, 3) uint8 RGB.

    Raises:
        MessageError: an encoding other than rgb8, bgr8 or mono8, or a wrong size.

    """
    channels = {'rgb8': 3, 'bgr8': 3, 'mono8': 1}.get(message.encoding)
    if channels is None:
        raise MessageError(f'image encoding {message.encoding!r}, expected rgb8, bgr8 or mono8')
    data = np.frombuffer(bytes(message.data), np.uint8)
    if len(data) != message.height * message.step or message.step < message.width * channels:
        raise MessageError(f'{len(data)} bytes, expected {message.height} rows of {message.step}')
    image = data.reshape(message.height, message.step)[:, :message.width * channels]
    image = image.reshape(message.height, message.width, channels)
    if message.encoding == 'bgr8':
        image = image[..., ::-1]
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def joints_msg(names, position, velocity, ns: int) -> JointState:
    """Joint states."""
    return JointState(header=header(ns, 'base_link'), name=[str(n) for n in names],
                      position=array.array('d', np.asarray(position, float).tolist()),
                      velocity=array.array('d', np.asarray(velocity, float).tolist()))


def joints(message: JointState, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and velocities of the named joints.

    Raises:
        MessageError: a joint is missing; names what is there.

    """
    index = {name: i for i, name in enumerate(message.name)}
    missing = [n for n in names if n not in index]
    if missing:
        raise MessageError(f'joint_states lacks {missing}; it has {list(message.name)}')
    order = [index[n] for n in names]
    position = np.asarray(message.position, np.float64)[order]
    velocity = np.asarray(message.velocity, np.float64)[order] if message.velocity \
        else np.zeros(len(names))
    if not (np.isfinite(position).all() and np.isfinite(velocity).all()):
        raise MessageError('joint_states holds NaN or infinity')
    return position, velocity


def commands_msg(values: np.ndarray) -> Float64MultiArray:
    """Joint commands."""
    return Float64MultiArray(data=array.array('d', np.asarray(values, float).tolist()))


def commands(message: Float64MultiArray) -> np.ndarray:
    """Unwrap joint commands."""
    return np.asarray(message.data, np.float64)


def scalar_msg(value: float) -> Float32:
    """One number."""
    return Float32(data=float(value))


def text_msg(value: str) -> String:
    """One text."""
    return String(data=str(value))


def report(message: String) -> dict:
    """Return the figures of a report.

    Raises:
        MessageError: it is not a JSON object.

    """
    try:
        found = json.loads(message.data)
    except ValueError as error:
        raise MessageError(f'not JSON: {error}') from error
    if not isinstance(found, dict):
        raise MessageError(f'a report is a JSON object, not {type(found).__name__}')
    return found


def clock_msg(ns: int) -> Clock:
    """Simulated time."""
    return Clock(clock=time_msg(ns))


OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def diagnostics_msg(entries, ns: int) -> DiagnosticArray:
    """Wrap (name, level, message, {key: value}) entries."""
    status = [DiagnosticStatus(level=level, name=name, message=message, hardware_id='none',
                               values=[KeyValue(key=str(k), value=str(v))
                                       for k, v in values.items()])
              for name, level, message, values in entries]
    return DiagnosticArray(header=header(ns, ''), status=status)
