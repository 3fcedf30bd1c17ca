"""Every topic: its type, its QoS and what it carries. Nodes name topics, nothing else."""

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Empty, Float32, Float64MultiArray, String
from visualization_msgs.msg import MarkerArray

from dylora_ros.ros import qos


@dataclass(frozen=True)
class Topic:
    """One topic (relative name)."""

    type: type
    qos: QoSProfile
    doc: str


MODALITIES = ('vision', 'audio', 'text', 'body')

TOPICS: dict[str, Topic] = {
    'camera/image_raw': Topic(Image, qos.SENSOR, 'Camera frames, rgb8 (or bgr8, mono8).'),
    'microphone/audio': Topic(Image, qos.STREAM,
                              'Sound, 32FC1: height = ears, width = samples at 16 kHz.'),
    'joint_states': Topic(JointState, qos.SENSOR, 'Positions (rad), velocities (rad/s).'),
    'commands': Topic(Float64MultiArray, qos.COMMAND,
                      'Joint velocities (or efforts), as a ros2_control forward controller takes '
                      'them; 0 stops a joint.'),
    'text/words': Topic(String, qos.STANDARD, 'Words said or typed to the agent.'),
    'phase': Topic(String, qos.LATCHED, 'AWAKE, REM, NREM or SAFE.'),
    'context/now': Topic(Image, qos.LATEST, 'The composed row of this cycle, 8UC1 bytes.'),
    'context/row': Topic(Image, qos.STREAM,
                         'Each committed row of the log, 8UC1 bytes; frame_id is its seal.'),
    'context/fill': Topic(Float32, qos.LATEST, 'How full the global context is, 0 .. 1.'),
    'context/tiredness': Topic(Float32, qos.LATEST, 'Sleep is due at 1.'),
    'context/heatmap': Topic(Image, qos.LATEST,
                             'LR states x of the last seconds, rgb8, time to the right.'),
    'prediction': Topic(Image, qos.LATEST,
                        '32FC1 row: next composite LR state, thoughts, reward, value.'),
    'body/applied': Topic(Image, qos.STREAM,
                          '32FC1 row: command applied (-1 .. 1), ms from cycle start to command.'),
    'reward': Topic(Float32, qos.LATEST, 'Closeness to the statements plus curiosity, to show.'),
    'reward/judged': Topic(Image, qos.STREAM,     # an imposter must not push ours out
                           '32FC1: the reward, stamped as the judged row; frame_id: its seal.'),
    'value': Topic(Float32, qos.LATEST, 'Expected mean discounted reward ("happiness").'),
    'sleep/progress': Topic(Float32, qos.LATEST, 'Share of this sleep phase done, 0 .. 1.'),
    'sleep/time_left': Topic(Float32, qos.LATEST, 'Seconds left of this sleep phase.'),
    'sleep/report': Topic(String, qos.LATCHED, 'What a sleep phase did, JSON.'),
    'dream/row': Topic(Image, qos.RECORD, 'Dreamt rows on their way to the log, 8UC1, sealed.'),
    'dream/image': Topic(Image, qos.LATEST, 'What the agent dreams to see, rgb8.'),
    'vision/expected': Topic(Image, qos.LATEST, 'The predicted next frame, rgb8.'),
    'audio/expected': Topic(Image, qos.LATEST,
                            'The predicted next sound, 32FC1 ears x samples at 16 kHz.'),
    'dashboard': Topic(Image, qos.LATEST, 'All gauges in one picture, rgb8.'),
    'markers': Topic(MarkerArray, qos.STANDARD, 'Phase, gauges and sparklines for rviz.'),
    'diagnostics': Topic(DiagnosticArray, qos.STANDARD, 'Health of the agent, 1 Hz (REP-107).'),
    '/clock': Topic(Clock, qos.STANDARD, 'Simulated time, when use_sim_time is set.'),
}
for _m in MODALITIES:
    TOPICS[f'{_m}/x'] = Topic(Image, qos.LATEST,
                              f'LR state of {_m}: encoded input A x, 32FC1 sites x rank.')
    TOPICS[f'{_m}/q'] = Topic(Image, qos.LATEST,
                              f'Predicted LR state of {_m}: the bias, 32FC1 sites x rank.')
    TOPICS[f'surprise/{_m}'] = Topic(Float32, qos.LATEST,
                                     f'Prediction error of {_m}; 1 is as usual.')

HEARTBEAT = Topic(Empty, qos.HEARTBEAT, 'Beats of a node; a missing beat stops the actuators.')


def heartbeat_topic(node: str) -> str:
    """Return the name of a node's heartbeat topic."""
    return f'heartbeat/{node}'
