"""The only place that knows ROS message types, QoS, parameters and markers."""
