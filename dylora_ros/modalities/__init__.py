"""Frozen encoders and their decoders, one modality a file. No ROS."""
