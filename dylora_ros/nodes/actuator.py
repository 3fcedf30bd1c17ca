"""Actuator node: the body. Joints to LR states, predicted LR states to guarded commands."""

import time

import numpy as np

from dylora_ros.core.motor import CommandError, Guard, Limits
from dylora_ros.core.phases import Phase
from dylora_ros.modalities import registry
from dylora_ros.modalities.keyframes import Keyframes
from dylora_ros.modalities.specs import body_signal
from dylora_ros.nodes.sense import MEMORY, WEIGHTS, weights_dir
from dylora_ros.paths import memory_dir
from dylora_ros.ros import messages
from dylora_ros.ros.node import AgentNode
from dylora_ros.ros.parameters import Param

RATE = Param('rate', 25.0, 'Cycles a second, Hz.', 1.0, 100.0)
JOINTS = Param('joints', ['pan', 'tilt'], 'Names of the commanded joints, in command order.')
STALE = 3             # cycles after which a prediction or a joint state is too old to act on


class ActuatorNode(AgentNode):
    """Feel and move. Stops on: not awake, stale q or joints, NaN, lost nodes, shutdown."""

    NAME = 'actuator'
    DOC = 'The body: joints to LR states; predicted LR states to guarded commands.'
    PARAMETERS = (
        JOINTS, RATE,
        Param('low', [-2.0, -1.5], 'Least command of each joint: a velocity (rad/s) or an effort, '
              'which 0 stops.'),
        Param('high', [2.0, 1.5], 'Greatest command of each joint.'),
        Param('slew', [12.0, 12.0], 'Greatest change of each command a second.'),
        WEIGHTS, MEMORY)
    PUBLISHES = ('commands', 'body/x', 'surprise/body', 'body/applied')
    SUBSCRIBES = ('joint_states', 'body/q', 'phase')
    VITAL = ('predictor', 'global_context', 'lifecycle_manager', 'simulator')

    def setup(self):
        """Build the body."""
        import torch
        torch.set_num_threads(1)
        v = self.values
        count = len(v['joints'])
        for key in ('low', 'high', 'slew'):
            if len(v[key]) != count:
                raise ValueError(f'{key} has {len(v[key])} numbers for {count} joints')
        if not np.all(np.array(v['low']) < np.array(v['high'])):
            raise ValueError('low must be below high for every joint')
        if not np.all((np.array(v['low']) <= 0) & (np.array(v['high']) >= 0)):
            raise ValueError(f'low {v["low"]} and high {v["high"]} leave 0 out, by which a joint '
                             'is stopped: commands are velocities or efforts, not positions')
        slew = np.array(v['slew'])
        if not np.all((slew > 0) & np.isfinite(slew)):
            raise ValueError(f'slew {v["slew"]} must be above 0 and finite for every joint')
        self.body = registry.make('body', count, weights_dir(v['weights']))
        self.keyframes = Keyframes()
        self.guard = Guard(Limits(*(np.array(v[k]) for k in ('low', 'high', 'slew'))),
                           1 / v['rate'])
        self._lost: set[str] = set()
        self._stopped = ''                        # why it stands still; empty: it moves

    def start(self):
        """Listen to joints and to the predicted LR state; stand still until then."""
        self.body.forget_expectation()
        self._felt = self._commanded = -1e9       # monotonic seconds
        self._halt('waiting')
        for node in self.VITAL:
            self.watch(node, self._on_lost, self._lost.discard)
        self.follow_phase(self._on_phase)
        self.listen('joint_states', self._on_joints)
        self.listen('body/q', self._on_q)
        self.every(1 / self.values['rate'], self._watchdog)

    def stop(self):
        """Send the stop command before the publishers fall silent."""
        if 'commands' in self._data:
            self._halt('inactive')
            folder = memory_dir(self.values['memory']) / 'keyframes'
            self.keyframes.save(folder / 'body.safetensors')

    def _on_lost(self, node: str):
        self._lost.add(node)
        self._halt(f'lost {node}')

    def _on_phase(self, phase: Phase):
        if phase != Phase.AWAKE:
            self._halt(f'phase {phase.name}')

    def _on_joints(self, message):
        stamp = messages.stamp_ns(message)
        position, velocity = messages.joints(message, tuple(self.values['joints']))
        self._felt = time.monotonic()
        signal = body_signal(position, velocity, self.guard.normalise(self.guard.last))
        percept = self.body.observe(signal)
        if percept.surprise is not None:
            self.publish('surprise/body', messages.scalar_msg(percept.surprise))
        self.publish('body/x', messages.tensor_msg(percept.x, stamp, 'body'))
        if self.phase == Phase.AWAKE and self.keyframes.due(stamp):
            self.keyframes.put(stamp, self.body.local_context())

    def _on_q(self, message):
        """Act on the predicted LR state; its stamp is the start of the cycle."""
        stamp = messages.stamp_ns(message)
        try:
            q = messages.tensor(message)
        except messages.MessageError as error:
            self._halt(str(error))
            return
        limit = STALE / self.values['rate']
        late = (self.now() - stamp) * 1e-9
        reason = self._reason_to_stand(late > limit)
        if reason:
            self._halt(reason)
            return
        self.body.bias(q)
        try:
            command = self.guard.command(self.body.act(q))
        except CommandError as error:
            self._halt(str(error))
            return
        self.body.acted(self.guard.normalise(command))
        self.publish('commands', messages.commands_msg(command))
        self._stopped = ''
        self._commanded = time.monotonic()
        spent = (self.now() - stamp) * 1e-6
        applied = np.append(self.guard.normalise(command), spent)
        self.publish('body/applied', messages.tensor_msg(applied, stamp, 'body'))

    def _reason_to_stand(self, stale_q: bool) -> str:
        if self.phase != Phase.AWAKE:
            return f'phase {self.phase.name}'
        if self._lost:
            return f'lost {", ".join(sorted(self._lost))}'
        if stale_q:
            return 'prediction too old'
        if time.monotonic() - self._felt > STALE / self.values['rate'] + 0.04:
            return 'joint states too old'
        return ''

    def _watchdog(self):
        """Stop when no fresh prediction came; repeat the stop command while standing."""
        if time.monotonic() - self._commanded > STALE / self.values['rate']:
            self._halt(self._stopped or 'no prediction')

    def _halt(self, reason: str):
        if reason != self._stopped:
            self.get_logger().info(f'standing still: {reason}')
            self._stopped = reason
        command = self.guard.stop()
        self.body.acted(self.guard.normalise(command))
        self.publish('commands', messages.commands_msg(command))
