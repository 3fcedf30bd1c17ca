"""The one description of the agent's graph: which nodes, in which processes.

``make run``, ``python -m dylora_ros run`` and ``launch/agent.launch.py`` all start what this
module says, so they cannot drift. It imports no ROS, so that a launch file can use it.
"""

from importlib import import_module

# name -> (module, class), in the order the parameters are documented
NODES = {
    'simulator': ('simulator', 'SimulatorNode'),
    'camera': ('camera', 'CameraNode'),
    'microphone': ('microphone', 'MicrophoneNode'),
    'text': ('text', 'TextNode'),
    'actuator': ('actuator', 'ActuatorNode'),
    'global_context': ('global_context', 'GlobalContextNode'),
    'predictor': ('predictor', 'PredictorNode'),
    'reward': ('reward', 'RewardNode'),
    'lifecycle_manager': ('lifecycle_manager', 'LifecycleManagerNode'),
    'monitor': ('monitor', 'MonitorNode'),
}

SCENES = ('gaze', 'nudged')       # worlds that ship; dylora_ros.sim.worlds makes them

# Processes on two cores: the loop that must never wait is alone with the body; the slow encoders
# share one process; the reward is sealed in its own; the manager survives all of them.
PROCESSES: dict[str, tuple[str, ...]] = {
    'manager': ('lifecycle_manager', 'monitor'),
    'control': ('global_context', 'predictor', 'actuator'),
    'senses': ('camera', 'microphone', 'text'),
    'reward': ('reward',),
    'world': ('simulator',),
}
# The control loop and the world go first, where the system lets them (root, or RLIMIT_NICE).
NICE = {'control': -10, 'world': -5, 'senses': 2, 'reward': 5}


def processes(hardware: bool = False, composed: bool = False) -> dict[str, tuple[str, ...]]:
    """Return process name -> nodes in it.

    Args:
        hardware: no simulator; a robot's drivers provide the topics.
        composed: all nodes in one process.

    """
    out = {name: nodes for name, nodes in PROCESSES.items()
           if not (hardware and name == 'world')}
    if composed:
        return {'agent': tuple(n for nodes in out.values() for n in nodes)}
    return out


def node_class(name: str):
    """Return the class of a node by name.

    Raises:
        KeyError: unknown name.

    """
    module, cls = NODES[name]
    return getattr(import_module(f'dylora_ros.nodes.{module}'), cls)


def tables() -> dict:
    """Return every node's parameter table."""
    return {name: node_class(name).PARAMETERS for name in NODES}
