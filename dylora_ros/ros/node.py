"""The one lifecycle node that all nodes of this package derive from."""

from collections.abc import Callable
import gc
import queue
import threading
import time
import traceback
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Empty

from dylora_ros.core.phases import Phase
from dylora_ros.ros import qos
from dylora_ros.ros.interfaces import HEARTBEAT, heartbeat_topic, TOPICS
from dylora_ros.ros.parameters import declare, Param

_STUCK = 3.0          # s that one piece of work may take before the node counts as hung


class Worker:
    """One thread with a mailbox of one: the newest item wins, the executor never waits.

    Args:
        work: called with each item taken from the mailbox.
        failed: called with an exception that ``work`` raised; the worker goes on.
    """

    def __init__(self, work: Callable[[Any], None], failed: Callable[[Exception], None]):
        self._work, self._failed = work, failed
        self._mail: queue.Queue = queue.Queue(1)
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, item: Any):
        """Leave an item, replacing one that was not taken yet."""
        while True:
            try:
                self._mail.put_nowait(item)
                return
            except queue.Full:
                try:
                    self._mail.get_nowait()
                except queue.Empty:
                    continue

    @property
    def stuck(self) -> bool:
        """Whether one item has taken too long."""
        since = self._busy_since
        return since is not None and time.monotonic() - since > _STUCK

    def stop(self, timeout: float = 2.0):
        """Let the thread end after its present item."""
        self.put(None)
        self._thread.join(timeout)

    def _run(self):
        while (item := self._mail.get()) is not None:
            self._busy_since = time.monotonic()
            try:
                self._work(item)
            except Exception as error:    # a bad item must not kill the sense
                self._failed(error)
            self._busy_since = None


class AgentNode(LifecycleNode):
    """Base of all nodes.

    Subclasses set the class attributes and override the hooks :meth:`setup` (load, may be
    slow), :meth:`start`, :meth:`stop` and :meth:`release`. Data topics are lifecycle publishers:
    an inactive node is silent. Subscriptions exist only while the node is active.
    """

    NAME: str
    PARAMETERS: tuple[Param, ...] = ()
    PUBLISHES: tuple[str, ...] = ()
    SUBSCRIBES: tuple[str, ...] = ()
    SERVICES: dict[str, str] = {}
    DOC: str = ''

    def __init__(self, **kwargs):
        super().__init__(self.NAME, **kwargs)
        self.values = declare(self, self.PARAMETERS)
        self.reentrant = ReentrantCallbackGroup()
        self.phase = Phase.SAFE
        self._data: dict[str, Any] = {}
        self._living: list = []            # subscriptions and timers of the active node
        self._warned: dict[str, float] = {}
        self._beat = self.create_publisher(Empty, heartbeat_topic(self.NAME), HEARTBEAT.qos)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(qos.BEAT, self._on_beat, clock=self._steady)
        self._watched: dict[str, Any] = {}

    # -- hooks ---------------------------------------------------------------------------------
    def setup(self):
        """Load what the node needs. An exception here means: cannot be configured."""

    def start(self):
        """Subscribe and start timers."""

    def stop(self):
        """Stop what :meth:`start` started, beyond subscriptions and timers."""

    def release(self):
        """Drop what :meth:`setup` loaded; called any number of times."""

    def healthy(self) -> bool:
        """Whether the work loop lives; no beat goes out otherwise."""
        return True

    # -- help for subclasses -------------------------------------------------------------------
    def now(self) -> int:
        """Return ROS time in nanoseconds (simulated when use_sim_time is set)."""
        return self.get_clock().now().nanoseconds

    def publish(self, topic: str, message):
        """Publish on a declared topic; silent while the node is inactive."""
        self._data[topic].publish(message)

    def wanted(self, topic: str) -> bool:
        """Whether anybody listens to a topic."""
        return self._data[topic].get_subscription_count() > 0

    def listen(self, topic: str, callback: Callable):
        """Subscribe to a declared topic while active; bad messages are told, not fatal."""
        if topic not in self.SUBSCRIBES:
            raise KeyError(f'{self.NAME} does not declare that it subscribes to {topic}')
        spec = TOPICS[topic]

        def safely(message):
            try:
                callback(message)
            except (ValueError, LookupError, TypeError) as error:     # MessageError is the first
                self.complain(topic, f'ignored a message on {topic}: {error}')

        self._living.append(self.create_subscription(spec.type, topic, safely, spec.qos))

    def every(self, period: float, callback: Callable, steady: bool = True):
        """Call back every ``period`` seconds while active.

        Not ``steady``: of simulated time, where there is one. The system's own clock may be set
        back, and a timer on it would wait until it is as late again.
        """
        simulated = self.get_parameter('use_sim_time').value
        clock = self.get_clock() if simulated and not steady else self._steady
        timer = self.create_timer(period, callback, clock=clock)
        self._living.append(timer)
        return timer

    def follow_phase(self, callback: Callable[[Phase], None] = lambda phase: None):
        """Keep :attr:`phase` current while active."""
        def on_phase(message):
            self.phase = Phase[message.data]
            callback(self.phase)
        self.listen('phase', on_phase)

    def watch(self, node: str, lost: Callable[[str], None], back: Callable[[str], None]):
        """Watch a node's heartbeat for as long as this node exists."""
        def on_change(event):
            (back if event.alive_count > 0 else lost)(node)
        if node not in self._watched:
            self._watched[node] = self.create_subscription(
                Empty, heartbeat_topic(node), lambda _: None, HEARTBEAT.qos,
                event_callbacks=SubscriptionEventCallbacks(liveliness=on_change))

    def complain(self, key: str, text: str, every: float = 5.0):
        """Warn, at most once every few seconds a key."""
        now = time.monotonic()
        if now - self._warned.get(key, -1e9) >= every:
            self._warned[key] = now
            self.get_logger().warning(text)

    # -- lifecycle -----------------------------------------------------------------------------
    def _guarded(self, name: str, call: Callable[[], None]) -> bool:
        try:
            call()
        except Exception as error:     # rclpy would swallow it without a word
            self.get_logger().error(f'{name} failed: {error}')
            self.get_logger().debug(traceback.format_exc())
            return False
        return True

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load; FAILURE leaves the node unconfigured."""
        def load():
            self.setup()
            for topic in self.PUBLISHES:
                spec = TOPICS[topic]
                self._data[topic] = self.create_lifecycle_publisher(spec.type, topic, spec.qos)
        if self._guarded('configure', load):
            gc.collect()
            gc.freeze()     # the collector would walk all that torch has made: 100 ms each time
            return TransitionCallbackReturn.SUCCESS
        self._drop()
        return TransitionCallbackReturn.FAILURE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start; FAILURE leaves the node inactive."""
        result = super().on_activate(state)
        if result == TransitionCallbackReturn.SUCCESS and self._guarded('activate', self.start):
            return TransitionCallbackReturn.SUCCESS
        self._end()
        super().on_deactivate(state)
        return TransitionCallbackReturn.FAILURE

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop; the last words (a stop command) go out before the publishers fall silent."""
        self._end()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Drop everything; the node can be configured again."""
        self._drop()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and drop everything."""
        self._end()
        self._drop()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and drop everything; the node is unconfigured then."""
        return self.on_shutdown(state)

    def close(self):
        """End the node from outside the lifecycle (process exit)."""
        self._end()
        self._drop()
        self.destroy_node()

    def _end(self):
        self._guarded('deactivate', self.stop)
        for entity in self._living:
            if hasattr(entity, 'cancel'):
                entity.cancel()
                self.destroy_timer(entity)
            else:
                self.destroy_subscription(entity)
        self._living.clear()

    def _drop(self):
        for publisher in self._data.values():
            self.destroy_lifecycle_publisher(publisher)
        self._data.clear()
        self._guarded('cleanup', self.release)

    def _on_beat(self):
        if self.healthy():
            self._beat.publish(Empty())
