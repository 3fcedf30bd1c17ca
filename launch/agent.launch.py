"""Bring an agent to life: ros2 launch dylora_ros agent.launch.py.

In simulation (the default) a MuJoCo world gives it a body; with hardware:=true a robot's own
drivers do: camera/image_raw, microphone/audio and joint_states come in, commands go out. The agent
wakes by itself (autostart), sleeps when it is tired, and goes on with the memory of its last life.

    ros2 launch dylora_ros agent.launch.py rviz:=true
    ros2 launch dylora_ros agent.launch.py namespace:=robot1 memory:=~/robot1
    ros2 service call /lifecycle_manager/sleep std_srvs/srv/Trigger
    ros2 topic echo /reward

The nodes and their processes come from dylora_ros.graph, as in `python -m dylora_ros run`.
"""

from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition, UnlessCondition
from launch.substitutions import LaunchConfiguration, NotSubstitution, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from dylora_ros import graph
from dylora_ros.core.seal import Secret
from dylora_ros.secret import HOLDERS, variable
from launch import LaunchDescription

SHARE = FindPackageShare('dylora_ros')


def arguments() -> list[DeclareLaunchArgument]:
    """Return what the user can choose."""
    def yes_no(name, default, text):
        return DeclareLaunchArgument(name, default_value=default, choices=['true', 'false'],
                                     description=text)
    return [
        DeclareLaunchArgument('namespace', default_value='', description='Of all nodes.'),
        DeclareLaunchArgument(
            'params_file', default_value=PathJoinSubstitution([SHARE, 'config', 'agent.yaml']),
            description='YAML of parameters; a misspelt key is an error.'),
        DeclareLaunchArgument('scene', default_value='gaze', choices=list(graph.SCENES),
                              description='World to live in (simulation).'),
        DeclareLaunchArgument('memory', default_value='',
                              description="Folder of the agent's memory; empty: the XDG data "
                              'folder. Every agent needs its own.'),
        yes_no('headless', 'true', "false opens MuJoCo's viewer window (needs a display)."),
        yes_no('rviz', 'false', 'Start rviz2 with config/agent.rviz.'),
        yes_no('use_sim_time', 'false', 'Run on the /clock of the simulation.'),
        DeclareLaunchArgument('log_level', default_value='info',
                              choices=['debug', 'info', 'warn', 'error', 'fatal'],
                              description='Of all nodes.'),
        yes_no('autostart', 'true', 'Wake as soon as the nodes are up; otherwise call '
               'lifecycle_manager/start.'),
        yes_no('hardware', 'false', 'The body is real: start no simulator.'),
        DeclareLaunchArgument('discovery_range', default_value='LOCALHOST',
                              choices=['LOCALHOST', 'SUBNET', 'SYSTEM_DEFAULT'],
                              description='LOCALHOST: the agent talks on this machine only.'),
    ]


def process(name: str, nodes: tuple[str, ...], secret: Secret) -> Node:
    """Return the action of one process of the graph; a few know the secret of this life."""
    def choose(node, parameter, value):
        return ['-p', [f'{node}:{parameter}:=', value]] if node in nodes else []

    memory = LaunchConfiguration('memory')
    chosen = choose('simulator', 'scene', LaunchConfiguration('scene')) \
        + choose('simulator', 'viewer', NotSubstitution(LaunchConfiguration('headless'))) \
        + choose('lifecycle_manager', 'autostart', LaunchConfiguration('autostart')) \
        + choose('lifecycle_manager', 'hardware', LaunchConfiguration('hardware'))
    return Node(
        package='dylora_ros', executable='agent_process',
        namespace=LaunchConfiguration('namespace'),
        arguments=['--nodes', ','.join(nodes), '--nice', str(graph.NICE.get(name, 0))],
        parameters=[LaunchConfiguration('params_file')],
        ros_arguments=['--log-level', LaunchConfiguration('log_level'),
                       '-p', ['use_sim_time:=', LaunchConfiguration('use_sim_time')],
                       '-p', ['memory:="', memory, '"'], *chosen],
        additional_env=variable(secret) if HOLDERS & set(nodes) else {},
        output='screen', respawn=True, respawn_delay=1.0, respawn_max_retries=5,
        condition=UnlessCondition(LaunchConfiguration('hardware')) if name == 'world' else None)


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
        *(process(name, nodes, secret) for name, nodes in graph.processes().items()),
        rviz])
