"""The executor of every process of the graph."""


def make_executor(context=None):
    """Return a single-threaded executor, the events-driven one where rclpy has it (Kilted on).

    The older one builds a wait set of all entities for every message; with three nodes in the
    control process that was half of its processor time and most of the lateness.
    """
    try:
        from rclpy.experimental.events_executor import EventsExecutor
        return EventsExecutor(context=context)
    except ImportError:
        from rclpy.executors import SingleThreadedExecutor
        return SingleThreadedExecutor(context=context)
