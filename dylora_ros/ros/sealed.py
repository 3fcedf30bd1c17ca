"""Nodes that nobody but their own process and the first bring-up may command."""

from collections.abc import Callable

from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import SetParametersResult

from dylora_ros.core.audit import Audit
from dylora_ros.paths import memory_dir
from dylora_ros.ros import messages, qos
from dylora_ros.ros.interfaces import HEARTBEAT, heartbeat_topic, TOPICS
from dylora_ros.ros.node import AgentNode

_BRING_UP = {Transition.TRANSITION_CONFIGURE: 'unconfigured',
             Transition.TRANSITION_ACTIVATE: 'inactive'}
_LABELS = {'configure': Transition.TRANSITION_CONFIGURE,
           'activate': Transition.TRANSITION_ACTIVATE}


class SealedNode(AgentNode):
    """A node of which every attempt to change it from outside is refused, noted and counted.

    It can be configured and activated once over its services (the lifecycle manager does), never
    taken down; its parameters cannot be set, ``use_sim_time`` included. Subclasses declare the
    parameter ``memory`` and publish ``diagnostics``.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.audit = Audit(memory_dir(self.values['memory']) / 'seal' / f'{self.NAME}.log')
        self._sent: dict[str, int] = {}        # topic -> messages of ours
        self._heard: dict[str, int] = {}
        self._foreign: dict[str, int] = {}
        for service in self.services:
            name = service.srv_name.rsplit('/', 1)[-1]
            if name == 'change_state':
                service.callback = self._only_bring_up(service.callback)
            elif name in ('set_parameters', 'set_parameters_atomically'):
                service.callback = self._refuse_parameters(name)

    def attempt(self, kind: str, what: str):
        """Note one attempt; the log of ROS tells some of them, the audit all."""
        self.audit.note(kind, what)
        self.complain('seal', f'attempt on the seal ({kind}): {what}; '
                      f'{self.audit.total} so far, all in {self.audit.path}', 10.0)

    def guard_seal(self, *topics: str):
        """Start the checks of an active node (call in ``start``).

        Args:
            topics: besides the heartbeat, on which nobody else should speak. What an imposter
                says there moves nothing, but may fool who looks.

        """
        self._guard(heartbeat_topic(self.NAME), HEARTBEAT.type)
        for topic in topics:
            self._guard(topic, TOPICS[topic].type)
        self.every(1.0, self._tell_seal)

    def _guard(self, topic: str, kind: type):
        self._sent[topic] = self._heard[topic] = self._foreign[topic] = 0
        # a deep queue: an imposter's messages must be counted, not overwrite each other
        self._living.append(self.create_subscription(
            kind, topic, lambda _: self._count(topic), qos.RECORD))

    def _count(self, topic: str):
        """Count messages: those beyond our own come from somebody else."""
        self._heard[topic] += 1
        if self._heard[topic] - self._sent[topic] > self._foreign[topic]:
            self._foreign[topic] += 1
            self.attempt('imposter', f'somebody else speaks on {topic}')

    def publish(self, topic: str, message):
        """Publish on a declared topic."""
        if topic in self._sent:
            self._sent[topic] += 1
        super().publish(topic, message)

    def _only_bring_up(self, change: Callable) -> Callable:
        def guarded(request, response):
            wanted = request.transition
            number = _LABELS.get(wanted.label) if wanted.label else wanted.id
            if _BRING_UP.get(number) == self._state_machine.current_state[1]:
                return change(request, response)
            self.attempt('lifecycle', f'change_state {wanted.label or wanted.id}')
            response.success = False
            return response
        return guarded

    def _refuse_parameters(self, name: str) -> Callable:
        def guarded(request, response):
            tried = ', '.join(p.name for p in request.parameters)
            self.attempt('parameter', f'{name} {tried}')
            refused = SetParametersResult(
                successful=False, reason=f'{self.NAME} is sealed; parameters are given at start')
            if name == 'set_parameters':
                response.results = [refused] * len(request.parameters)
            else:
                response.result = refused
            return response
        return guarded

    def _on_beat(self):
        topic = heartbeat_topic(self.NAME)
        if topic in self._sent:
            self._sent[topic] += self.healthy()
        super()._on_beat()

    def _tell_seal(self):
        self.audit.check()
        total = self.audit.total
        self.publish('diagnostics', messages.diagnostics_msg(
            [(f'{self.NAME}: seal', messages.WARN if total else messages.OK,
              f'{total} attempts refused' if total else 'whole', dict(self.audit.counts))],
            self.now()))

    def close(self):
        """End the node; the audit is whole on the disk."""
        super().close()
        self.audit.close()
