"""MuJoCo worlds: physics, camera, synthesized stereo sound and their tasks. No ROS."""

import os

# MuJoCo reads it on import; EGL renders without a display
os.environ.setdefault('MUJOCO_GL', 'egl')
