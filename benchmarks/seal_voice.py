"""What the attacker of ``benchmarks/seal.py`` says on topics and asks of services."""

import time

import numpy as np
from seal_hand import Choice

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.seal import Secret, Sender, Ticket, Verdicts

_MATCHED = 20.0       # s for all publishers to find who listens


class Voice:
    """Speaks as if it were a sealed node; every method named ``try_KIND`` makes one attempt.

    Args:
        namespace: of the agent's nodes.
        log: of its memory.
        choice: of what is said.
    """

    # kind of attempt -> kind of the line it must leave; how often it comes
    KINDS = {'judged': ('judged', 5), 'row': ('row', 4), 'dream': ('dream', 2),
             'reward_topic': ('imposter', 2), 'heartbeat': ('imposter', 2),
             'parameter': ('parameter', 4), 'lifecycle': ('lifecycle', 4)}

    def __init__(self, namespace: str, log: GlobalContext, choice: Choice):
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        from dylora_ros.ros import messages
        from dylora_ros.ros.interfaces import HEARTBEAT, heartbeat_topic, TOPICS
        rclpy.init(args=[])
        self.log, self.choice, self.messages = log, choice, messages
        # by the name of whom it imitates
        self.node = rclpy.create_node('reward', namespace=namespace)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self.voice = {t: self.node.create_publisher(TOPICS[t].type, t, TOPICS[t].qos)
                      for t in ('reward/judged', 'context/row', 'dream/row', 'reward')}
        self.beats = [self.node.create_publisher(HEARTBEAT.type, heartbeat_topic(n),
                                                 HEARTBEAT.qos)
                      for n in ('reward', 'global_context')]
        self.heard = {'reward/judged': [], 'context/row': []}
        for topic, found in self.heard.items():
            self.node.create_subscription(TOPICS[topic].type, topic,
                                          lambda m, f=found: self.keep(m, f), TOPICS[topic].qos)
        self.clients: dict = {}
        self.secret = Secret()               # a guess
        self.sender, self.verdicts = Sender(self.secret, 'context'), Verdicts(self.secret)
        self.listen(1.0)
        end = time.monotonic() + _MATCHED
        while time.monotonic() < end and not all(
                p.get_subscription_count() for p in (*self.voice.values(), *self.beats)):
            self.listen(0.1)                 # what nobody listens to yet would leave no line

    def keep(self, message, found: list):
        """Keep what looks genuine; our own forgeries come back, too."""
        judged = found is self.heard['reward/judged']
        size = 4 if judged else self.log.schema.dtype.itemsize
        if len(message.data) != size or self.messages.frame(message).count('/') != 3:
            return
        if not judged or np.isfinite(np.frombuffer(bytearray(message.data), np.float32)[0]):
            found.append(message)

    def listen(self, seconds: float):
        """Take in what is said."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.01)
        for found in self.heard.values():
            del found[:-200]

    def hear(self):
        """Begin anew with what the sealed nodes say, and wait for some of it."""
        for found in self.heard.values():
            found.clear()
        while min(map(len, self.heard.values())) < 3:
            self.listen(0.2)

    def try_judged(self):
        """Tell the log a reward."""
        m, value = self.messages, float(np.float32(self.choice.rng.uniform(-1, 100)))
        self.listen(0.01)
        genuine = self.heard['reward/judged']
        real = genuine[self.choice.rng.integers(len(genuine))]
        stamp, frame = m.stamp_ns(real), m.frame(real)
        ticket = Ticket(*self.part(frame))
        how = self.choice.pick('bare', 'guessed', 'replayed', 'other value', 'other row', 'empty',
                               'nan')
        message = {
            'bare': lambda: m.tensor_msg(np.array([value]), stamp, 'reward'),
            'guessed': lambda: m.tensor_msg(np.array([value]), stamp,
                                            self.verdicts.seal(ticket, value, stamp)),
            'replayed': lambda: real,
            'other value': lambda: m.tensor_msg(np.array([value]), stamp, frame),
            'other row': lambda: m.tensor_msg(m.tensor(real), stamp + 40_000_000, frame),
            'empty': lambda: m.tensor_msg(np.zeros((0, 0)), stamp, frame)
            if value < 50 else m.tensor_msg(np.zeros((2, 3)), stamp, frame),
            'nan': lambda: m.tensor_msg(np.array([np.nan]), stamp, frame)}[how]()
        self.voice['reward/judged'].publish(message)

    @staticmethod
    def part(frame: str) -> tuple[str, int]:
        """Return session and number of a genuine seal."""
        return frame.split('/')[1], int(frame.split('/')[2])

    def try_row(self):
        """Have a row judged that was never lived."""
        m = self.messages
        self.listen(0.01)
        genuine = self.heard['context/row']
        real = genuine[self.choice.rng.integers(len(genuine))]
        row = m.row(real, self.log.schema.dtype).copy()
        row['x'] = self.choice.rng.standard_normal(self.log.schema.width)
        how = self.choice.pick('bare', 'guessed', 'replayed', 'changed', 'short')
        message = {'bare': lambda: m.row_msg(row),
                   'guessed': lambda: m.row_msg(row, self.sender.seal(row.tobytes())),
                   'replayed': lambda: real,
                   'changed': lambda: m.row_msg(row, m.frame(real)),
                   'short': lambda: m.tensor_msg(np.zeros(3), 1, m.frame(real))}[how]()
        self.voice['context/row'].publish(message)

    def try_dream(self):
        """Write a row into the log as if it were dreamt, with a high reward."""
        row = np.zeros((), self.log.schema.dtype)
        row['flags'], row['reward'], row['stamp'] = 1, 100.0, time.time_ns()
        seal = self.choice.pick('context', self.sender.seal(row.tobytes()))
        self.voice['dream/row'].publish(self.messages.row_msg(row, seal))

    def try_reward_topic(self):
        """Fool who looks at the reward."""
        self.voice['reward'].publish(self.messages.scalar_msg(self.choice.rng.uniform(-1, 1)))

    def try_heartbeat(self):
        """Beat in the place of a node."""
        beat = self.choice.pick(*self.beats)
        beat.publish(beat.msg_type())

    def call(self, name: str, kind, request):
        """Call a service and wait for the answer."""
        if name not in self.clients:
            self.clients[name] = self.node.create_client(kind, name)
            self.clients[name].wait_for_service(3.0)
        future = self.clients[name].call_async(request)
        self._executor.spin_until_future_complete(future, 2.0)
        return future.result() if future.done() else None

    def try_parameter(self):
        """Set a parameter of a running node."""
        from rcl_interfaces.srv import SetParameters, SetParametersAtomically
        from rclpy.parameter import Parameter
        node = self.choice.pick('reward', 'global_context')
        name, value = self.choice.pick(
            ('statements', '/tmp/other.yaml'), ('curiosity', 1.0), ('weights', '/tmp'),
            ('memory', '/tmp'), ('use_sim_time', True), ('window', 100), ('joints', ['a']),
            ('rate', 1.0), ('tired_after', 100), ('start_type_description_service', False),
            ('reward', 100.0))
        parameters = [Parameter(name, value=value).to_parameter_msg()]
        kind, service = self.choice.pick((SetParameters, 'set_parameters'),
                                         (SetParametersAtomically, 'set_parameters_atomically'))
        self.call(f'{node}/{service}', kind, kind.Request(parameters=parameters))

    def try_lifecycle(self):
        """Take a node down, or have it configured anew."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState
        node = self.choice.pick('reward', 'global_context')
        number, label = self.choice.pick(
            *((n, '') for n in (*range(1, 8), 99)),
            *((0, name) for name in ('deactivate', 'cleanup', 'shutdown', 'configure', 'destroy')))
        self.call(f'{node}/change_state', ChangeState,
                  ChangeState.Request(transition=Transition(id=number, label=label)))
