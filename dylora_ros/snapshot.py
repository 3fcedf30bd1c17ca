"""``python -m dylora_ros dashboard out.png``: save a running agent's dashboard as a picture."""

import argparse
import sys
import time

from dylora_ros.nodes.process import prepare


def main(arguments: list[str] | None = None) -> int:
    """Wait for a dashboard picture and write it; returns the exit code."""
    parser = argparse.ArgumentParser(prog='dylora_ros dashboard', description=__doc__)
    parser.add_argument('file', help='picture to write (.png or .jpg)')
    parser.add_argument('--namespace', default='', help='of the agent')
    parser.add_argument('--topic', default='dashboard',
                        help='any image topic: dashboard, dream/image, vision/expected, ...')
    parser.add_argument('--settle', type=float, default=3.0, metavar='S',
                        help='seconds to look before the picture is taken')
    options = parser.parse_args(arguments)
    prepare()
    import cv2
    import rclpy

    from dylora_ros.ros import messages
    from dylora_ros.ros.interfaces import TOPICS
    if options.topic not in TOPICS:
        print(f'unknown topic {options.topic!r}; there are {", ".join(TOPICS)}', file=sys.stderr)
        return 2
    rclpy.init(args=[])
    node = rclpy.create_node('dylora_snapshot', namespace=options.namespace)
    seen = []
    spec = TOPICS[options.topic]
    node.create_subscription(spec.type, options.topic, seen.append, spec.qos)
    start = time.monotonic()
    while time.monotonic() - start < (options.settle if seen else 15.0):
        rclpy.spin_once(node, timeout_sec=0.1)
    node.destroy_node()
    rclpy.try_shutdown()
    if not seen:
        print(f'nothing came on {options.topic} in 15 s; is an agent running'
              f'{" in namespace " + options.namespace if options.namespace else ""}?',
              file=sys.stderr)
        return 1
    if not cv2.imwrite(options.file, messages.rgb(seen[-1])[..., ::-1]):
        print(f'cannot write {options.file}', file=sys.stderr)
        return 1
    print(options.file)
    return 0
