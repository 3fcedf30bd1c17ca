"""Quality of service by intent; every topic names one of these in ``ros/interfaces.py``."""

from rclpy.duration import Duration
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSProfile,
    ReliabilityPolicy,
)

LEASE = 0.8           # s without a beat after which a node counts as lost
BEAT = 0.15           # s between beats

_RELIABLE = ReliabilityPolicy.RELIABLE


def _profile(depth: int, **kwargs) -> QoSProfile:
    # every policy is named: a system default may differ from one middleware to the next
    return QoSProfile(**{
        'depth': depth, 'history': HistoryPolicy.KEEP_LAST, 'reliability': _RELIABLE,
        'durability': DurabilityPolicy.VOLATILE, 'liveliness': LivelinessPolicy.AUTOMATIC,
        **kwargs})


SENSOR = _profile(5, reliability=ReliabilityPolicy.BEST_EFFORT)   # frames, joints: newest wins
STREAM = _profile(50)                                             # sound: a lost chunk clicks
LATEST = _profile(1)                                              # LR states
COMMAND = _profile(1)                                             # to actuators
LATCHED = _profile(1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
STANDARD = _profile(10)
RECORD = _profile(500)                                            # dreamt rows: none is lost
HEARTBEAT = _profile(1, liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
                     liveliness_lease_duration=Duration(seconds=LEASE))
