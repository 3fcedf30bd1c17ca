"""A private ROS context a test, and a probe node to talk to the node under test."""

import gc
import time

import pytest

rclpy = pytest.importorskip('rclpy')

from rclpy.parameter import Parameter  # noqa: E402

from dylora_ros.ros.executor import make_executor  # noqa: E402


class Bench:
    """Nodes under test on one executor, spun by hand."""

    def __init__(self, memory):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.executor = make_executor(self.context)
        self.memory = memory
        self.nodes = []
        self.probe = rclpy.create_node('probe', context=self.context)
        self.executor.add_node(self.probe)
        self.seen = {}

    def make(self, cls, **parameters):
        """Return a node with these parameters, added to the executor."""
        if any(p.name == 'memory' for p in cls.PARAMETERS):
            parameters.setdefault('memory', str(self.memory))
        node = cls(context=self.context, parameter_overrides=[
            Parameter(k, value=v) for k, v in parameters.items()])
        self.executor.add_node(node)
        self.nodes.append(node)
        return node

    def up(self, cls, **parameters):
        """Return an active node."""
        from rclpy.lifecycle import TransitionCallbackReturn
        node = self.make(cls, **parameters)
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        return node

    @staticmethod
    def errors(node):
        """Return the growing list of the node's error messages."""
        told = []
        logger = node.get_logger()
        logger.error = lambda text, **_: told.append(text)
        node.get_logger = lambda: logger
        return told

    def hear(self, topic):
        """Collect what comes on a topic; returns the growing list."""
        from dylora_ros.ros.interfaces import TOPICS
        if topic not in self.seen:
            self.seen[topic] = []
            spec = TOPICS[topic]
            self.probe.create_subscription(spec.type, topic, self.seen[topic].append, spec.qos)
        return self.seen[topic]

    def voice(self, topic):
        """Return a publisher that has found its listener."""
        from dylora_ros.ros.interfaces import TOPICS
        spec = TOPICS[topic]
        publisher = self.probe.create_publisher(spec.type, topic, spec.qos)
        assert self.spin_until(lambda: publisher.get_subscription_count() > 0)
        return publisher

    def ask(self, name, kind, **values):
        """Call a service; what the middleware says of its presence is a hint, not a fact."""
        client = self.probe.create_client(kind, name)
        for _ in range(5):
            self.spin_until(client.service_is_ready, 1.0)
            future = client.call_async(kind.Request(**values))
            if self.spin_until(future.done, 2.0):
                return future.result()
        raise AssertionError(f'{name} does not answer')

    def spin_until(self, done, timeout=5.0):
        """Spin until ``done()``; returns whether it came true in time."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if done():
                return True
            self.executor.spin_once(timeout_sec=0.02)
        return bool(done())

    def spin(self, seconds):
        """Spin for a while."""
        self.spin_until(lambda: False, seconds)

    def close(self):
        """End all nodes."""
        for node in self.nodes:
            node.close()
        self.probe.destroy_node()
        self.executor.shutdown()
        rclpy.try_shutdown(context=self.context)
        gc.unfreeze()        # what was frozen at configure is to go: a node holds descriptors


@pytest.fixture
def bench(tmp_path):
    """Return a bench with a memory folder of its own."""
    out = Bench(tmp_path / 'memory')
    yield out
    out.close()
