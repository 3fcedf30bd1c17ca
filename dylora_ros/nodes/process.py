"""Entry point of every process of the graph: one or more nodes on one executor.

``agent_process --nodes camera,microphone`` or, by its installed name, ``camera_node``.
"""

import argparse
import ctypes
import os
from pathlib import Path
import signal
import sys
import time

from dylora_ros import graph
from dylora_ros.secret import receive

_PR_SET_PDEATHSIG = 1
SAME_REQUEST = 1.0      # s; signals closer together ask for one end
WRONG_PARAMETER = 2     # exit code: starting again would not help


class Stop:
    """Signal handler: the first signal asks for an end, one a while later ends at once.

    One Ctrl-C comes twice, from the terminal and from ``ros2 launch``; the second must not cut
    short what the first began, or the stop command would not go out.

    Args:
        clock: seconds.
        end_now: called for the later one; what is still loading cannot end in order.
    """

    def __init__(self, clock=time.monotonic, end_now=lambda: os._exit(1)):
        self.asked: float | None = None
        self._clock, self._end_now = clock, end_now

    def __call__(self, *_):
        """Take a signal."""
        if self.asked is None:
            self.asked = self._clock()
        elif self._clock() - self.asked > SAME_REQUEST:
            self._end_now()


def prepare():
    """Set what must be set before torch and the middleware are loaded."""
    # one thread a process: more are many times slower on two busy cores
    for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
        os.environ.setdefault(name, '1')
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    os.environ.setdefault('HF_HUB_OFFLINE', '1')
    # agents talk on this machine only, unless told otherwise
    if 'ROS_DISCOVERY_SERVER' not in os.environ:
        os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')


def _options(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog='agent_process', description=__doc__)
    name = Path(argv[0]).name.removesuffix('_node')
    parser.add_argument('--nodes', default=name if name in graph.NODES else None,
                        help='comma-separated: ' + ','.join(graph.NODES))
    parser.add_argument('--nice', type=int, default=0, help='give way to the other processes')
    parser.add_argument('--die-with-parent', action='store_true',
                        help='end when the starting process ends')
    parser.add_argument('--seal-fd', type=int, help='inherited socket with the secret of this '
                        'life (dylora_ros.secret)')
    own, ros = argv[1:], []
    if '--ros-args' in own:
        at = own.index('--ros-args')
        own, ros = own[:at], own[at:]
    options = parser.parse_args(own)
    if not options.nodes:
        parser.error('name the nodes: --nodes ' + ','.join(graph.NODES))
    unknown = [n for n in options.nodes.split(',') if n not in graph.NODES]
    if unknown:
        parser.error(f'unknown nodes {unknown}; there are {", ".join(graph.NODES)}')
    return options, ros


def main(argv: list[str] | None = None) -> int:
    """Run the nodes until SIGINT or SIGTERM; exit code 2 on a wrong parameter."""
    argv = list(argv or sys.argv)
    options, ros = _options(argv)
    prepare()
    receive(options.seal_fd)
    if options.die_with_parent:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        os.nice(options.nice)
    except PermissionError:       # an ordinary user cannot go first; it works without, too
        pass
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)

    import rclpy
    from rclpy.parameter import Parameter
    from rclpy.signals import SignalHandlerOptions

    from dylora_ros.ros.executor import make_executor
    from dylora_ros.ros.parameters import overrides, ParameterError
    nodes = []
    try:
        ros, values = overrides(ros[1:], graph.tables())
        rclpy.init(args=[argv[0], '--ros-args', *ros],
                   signal_handler_options=SignalHandlerOptions.NO)
        executor = make_executor()
        for name in options.nodes.split(','):
            node = graph.node_class(name)(parameter_overrides=[
                Parameter(k, value=v) for k, v in values.get(name, {}).items()])
            nodes.append(node)
            executor.add_node(node)
        for node in nodes:
            if node.NAME == 'lifecycle_manager':     # the one that nobody else brings up
                node.trigger_configure()
                node.trigger_activate()
        while not stop.asked:
            executor.spin_once(timeout_sec=0.1)
    except ParameterError as error:
        print(f'{argv[0]}: {error}', file=sys.stderr)
        return WRONG_PARAMETER
    finally:
        for node in nodes:
            node.close()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
