"""The launch file, where the launch system is installed (it is not on the package index)."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

pytest.importorskip('launch', reason='launch is part of a ROS 2 installation')
pytest.importorskip('launch_ros', reason='launch_ros is part of a ROS 2 installation')

from dylora_ros.core.seal import Secret  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = {'namespace', 'params_file', 'scene', 'headless', 'rviz', 'use_sim_time', 'log_level',
             'autostart', 'hardware'}


@pytest.fixture(scope='module')
def module():
    spec = spec_from_file_location('agent_launch', ROOT / 'launch' / 'agent.launch.py')
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def context(module):
    """Return a function that gives a context in which some arguments were given."""
    from launch import LaunchContext

    def make(**given):
        out = LaunchContext()
        out.launch_configurations.update(
            {a.name: '' for a in module.arguments()}, log_level='info',
            params_file=str(ROOT / 'config' / 'agent.yaml'))
        out.launch_configurations.update(given)
        return out
    return make


def test_every_argument_is_there_and_described(module):
    arguments = {a.name: a for a in module.generate_launch_description().get_launch_arguments()}
    assert set(arguments) >= ARGUMENTS
    assert all(a.description for a in arguments.values())


def test_it_starts_the_processes_of_the_graph(module, context):
    from launch.actions import OpaqueFunction

    from dylora_ros import graph
    entities = module.generate_launch_description().entities
    assert any(isinstance(e, OpaqueFunction) for e in entities)
    assert len(module.processes(context(), Secret())) == len(graph.processes())
    assert len(module.processes(context(hardware='true'), Secret())) == len(graph.processes()) - 1


def test_what_is_not_given_is_left_to_the_parameter_file(module, context):
    from dylora_ros import graph
    everything = tuple(graph.NODES)
    assert module.chosen(context(), everything) == []
    assert module.chosen(context(autostart='false', headless='false', memory='~/robot 1'),
                         everything) == [
        '-p', 'simulator:viewer:=true', '-p', 'lifecycle_manager:autostart:=false',
        '-p', 'memory:="~/robot 1"']
    assert module.chosen(context(autostart='false'), ('reward',)) == []


def test_a_parameter_file_that_is_not_there_is_an_error(module, context):
    with pytest.raises(FileNotFoundError, match='robot.yaml: no such file'):
        module.processes(context(params_file='robot.yaml'), Secret())


@pytest.mark.parametrize(('text', 'given', 'real'), [
    ('{hardware: true}', '', True), ('{hardware: true}', 'false', False),
    ('{hardware: false}', '', False), ('', '', False)])
def test_whether_the_body_is_real_stands_in_the_file_too(
        module, context, tmp_path, text, given, real):
    path = tmp_path / 'robot.yaml'
    path.write_text(f'/**/lifecycle_manager:\n  ros__parameters: {text}\n')
    assert module.is_real(context(hardware=given), path) == real
