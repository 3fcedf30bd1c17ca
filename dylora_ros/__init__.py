"""A ROS 2 agent whose frozen models are steered by predicted low-rank states."""

__version__ = '0.1.0'
