"""Thin nodes, one a file: parameters to core, core to messages."""
