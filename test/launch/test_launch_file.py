"""The launch file, where the launch system is installed (it is not on the package index)."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

launch = pytest.importorskip('launch', reason='launch is part of a ROS 2 installation')
pytest.importorskip('launch_ros', reason='launch_ros is part of a ROS 2 installation')

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = {'namespace', 'params_file', 'scene', 'headless', 'rviz', 'use_sim_time', 'log_level',
             'autostart', 'hardware'}


@pytest.fixture(scope='module')
def description():
    spec = spec_from_file_location('agent_launch', ROOT / 'launch' / 'agent.launch.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def test_every_argument_is_there_and_described(description):
    arguments = {a.name: a for a in description.get_launch_arguments()}
    assert set(arguments) >= ARGUMENTS
    assert all(a.description for a in arguments.values())


def test_it_starts_the_processes_of_the_graph(description):
    from launch_ros.actions import Node

    from dylora_ros import graph
    nodes = [e for e in description.entities if isinstance(e, Node)]
    assert len(nodes) == len(graph.processes()) + 1      # and rviz
