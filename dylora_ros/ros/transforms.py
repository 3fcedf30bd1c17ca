"""Frames of the camera and the ears from the world, where tf2_msgs is installed."""

import numpy as np

from dylora_ros.ros.messages import header

try:       # not among the wheels on PyPI; part of every ROS installation
    from geometry_msgs.msg import TransformStamped
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None

_OPTICAL = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])    # MuJoCo camera -> z forward, y down


class TransformSender:
    """Send base_link -> camera_optical_frame, ear_left, ear_right; silent without tf2_msgs."""

    def __init__(self, node, world):
        self._world = world
        # relative, so that two agents in namespaces keep their frames apart
        self._publisher = node.create_publisher(TFMessage, 'tf', 50) if TFMessage else None

    def send(self, stamp: int):
        """Publish the frames of this moment."""
        if self._publisher is None:
            return
        data = self._world.data
        camera = data.camera(self._world.camera)
        frames = [('camera_optical_frame', camera.xpos, camera.xmat.reshape(3, 3) @ _OPTICAL)]
        for name in ('ear_left', 'ear_right'):
            site = data.site(name)
            frames.append((name, site.xpos, site.xmat.reshape(3, 3)))
        out = TFMessage()
        for name, place, turn in frames:
            message = TransformStamped(header=header(stamp, 'base_link'), child_frame_id=name)
            t, r = message.transform.translation, message.transform.rotation
            t.x, t.y, t.z = (float(v) for v in place)
            r.w, r.x, r.y, r.z = quaternion(turn)
            out.transforms.append(message)
        self._publisher.publish(out)


def quaternion(matrix: np.ndarray) -> tuple[float, float, float, float]:
    """Return (w, x, y, z) of a rotation matrix."""
    import mujoco
    out = np.zeros(4)
    mujoco.mju_mat2Quat(out, np.ascontiguousarray(matrix).ravel())
    return tuple(float(v) for v in out)
