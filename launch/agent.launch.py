"""Bring an agent to life: ros2 launch dylora_ros agent.launch.py.

In simulation (the default) a MuJoCo world gives it a body; with hardware:=true a robot's own
drivers do: camera/image_raw, microphone/audio and joint_states come in, commands go out. The agent
wakes by itself (autostart), sleeps when it is tired, and goes on with the memory of its last life.

    ros2 launch dylora_ros agent.launch.py rviz:=true
    ros2 launch dylora_ros agent.launch.py namespace:=robot1 memory:=~/robot1
    ros2 service call /lifecycle_manager/sleep std_srvs/srv/Trigger
    ros2 topic echo /reward

What is given here wins over the parameter file; what is not is left to it. The nodes and their
processes come from dylora_ros.graph, as in `python -m dylora_ros run`.
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from dylora_ros import graph
from dylora_ros.core.seal import Secret
from dylora_ros.ros.parameters import read_file
from dylora_ros.secret import HOLDERS, variable
from dylora_ros.wish import new_run
from launch import LaunchDescription

SHARE = FindPackageShare('dylora_ros')
# argument -> (node or nothing for all, parameter) that it sets where it is given
SETS = {'scene': ('simulator', 'scene'), 'headless': ('simulator', 'viewer'),
        'autostart': ('lifecycle_manager', 'autostart'),
        'hardware': ('lifecycle_manager', 'hardware'),
        'use_sim_time': ('', 'use_sim_time'), 'memory': ('', 'memory')}


def arguments() -> list[DeclareLaunchArgument]:
    """Return what the user can choose."""
    def yes_no(name, text, default=''):
        choices = ['true', 'false'] if default else ['', 'true', 'false']
        return DeclareLaunchArgument(name, default_value=default, choices=choices,
                                     description=text)
    return [
        DeclareLaunchArgument('namespace', default_value='', description='Of all nodes.'),
        DeclareLaunchArgument(
            'params_file', default_value=PathJoinSubstitution([SHARE, 'config', 'agent.yaml']),
            description='YAML of parameters; a misspelt key is an error.'),
        DeclareLaunchArgument('scene', default_value='', choices=['', *graph.SCENES],
                              description='World to live in (simulation); gaze if nothing says '
                              'otherwise.'),
        DeclareLaunchArgument('memory', default_value='',
                              description="Folder of the agent's memory; empty: the XDG data "
                              'folder. Every agent needs its own.'),
        yes_no('headless', "false opens MuJoCo's viewer window (needs a display)."),
        yes_no('rviz', 'Start rviz2 with config/agent.rviz.', 'false'),
        yes_no('use_sim_time', 'true runs on the /clock of the simulation.'),
        DeclareLaunchArgument('log_level', default_value='info',
                              choices=['debug', 'info', 'warn', 'error', 'fatal'],
                              description='Of all nodes.'),
        yes_no('autostart', 'false: do not wake as soon as the nodes are up; call '
               'lifecycle_manager/start.'),
        yes_no('hardware', 'true: the body is real, start no simulator.'),
        DeclareLaunchArgument('discovery_range', default_value='LOCALHOST',
                              choices=['LOCALHOST', 'SUBNET', 'SYSTEM_DEFAULT'],
                              description='LOCALHOST: the agent talks on this machine only.'),
    ]


def chosen(context, nodes: tuple[str, ...]) -> list[str]:
    """Return the ROS arguments of one process's nodes, from what was given."""
    out = []
    for argument, (node, parameter) in SETS.items():
        value = LaunchConfiguration(argument).perform(context)
        if value and (not node or node in nodes):
            if argument == 'headless':
                value = str(value != 'true').lower()
            elif argument == 'memory':
                value = f'"{value}"'         # a text, whatever it looks like
            out += ['-p', f'{node}:{parameter}:={value}' if node else f'{parameter}:={value}']
    return out


def is_real(context, path: Path) -> bool:
    """Tell whether the body is real: as given, or else as the parameter file says."""
    given = LaunchConfiguration('hardware').perform(context)
    if given:
        return given == 'true'
    return read_file(path, graph.tables()).get('lifecycle_manager', {}).get('hardware', False)


def processes(context, secret: Secret) -> list[Node]:
    """Return the actions of the graph's processes; a few know the secret of this life.

    Raises:
        FileNotFoundError: the parameter file is not there; the agent would live by defaults.

    """
    path = Path(LaunchConfiguration('params_file').perform(context)).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'params_file {path}: no such file')
    run = new_run()
    return [Node(
        package='dylora_ros', executable='agent_process',
        namespace=LaunchConfiguration('namespace'),
        arguments=['--nodes', ','.join(nodes), '--nice', str(graph.NICE.get(name, 0))],
        parameters=[str(path)],
        ros_arguments=['--log-level', LaunchConfiguration('log_level'), *chosen(context, nodes)],
        additional_env={**run, **(variable(secret) if HOLDERS & set(nodes) else {})},
        output='screen', respawn=True, respawn_delay=1.0, respawn_max_retries=5)
        for name, nodes in graph.processes(hardware=is_real(context, path)).items()]


def generate_launch_description() -> LaunchDescription:
    """Return the agent."""
    rviz = Node(
        package='rviz2', executable='rviz2', namespace=LaunchConfiguration('namespace'),
        arguments=['-d', PathJoinSubstitution([SHARE, 'config', 'agent.rviz'])],
        remappings=[('/tf', 'tf'), ('/tf_static', 'tf_static')],
        condition=IfCondition(LaunchConfiguration('rviz')))
    secret = Secret()
    return LaunchDescription([
        *arguments(),
        SetEnvironmentVariable('ROS_AUTOMATIC_DISCOVERY_RANGE',
                               LaunchConfiguration('discovery_range')),
        OpaqueFunction(function=processes, args=[secret]),
        rviz])
