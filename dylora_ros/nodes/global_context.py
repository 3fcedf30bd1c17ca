"""Global context node: the heart. It beats the cycles and writes the log."""


import numpy as np

from dylora_ros.core.agent import finish
from dylora_ros.core.context import FLAG_BOOT, FLAG_DREAM, FLAG_LATE, GlobalContext
from dylora_ros.core.cycle import Composer, Prediction
from dylora_ros.core.phases import Phase, Tiredness
from dylora_ros.core.seal import Receiver, RowTags, Sender, Verdicts
from dylora_ros.milestone import Milestone, SLEPT
from dylora_ros.modalities import registry
from dylora_ros.nodes.actuator import JOINTS, RATE
from dylora_ros.nodes.sense import MEMORY, WEIGHTS, weights_dir
from dylora_ros.paths import memory_dir
from dylora_ros.ros import messages
from dylora_ros.ros.interfaces import MODALITIES
from dylora_ros.ros.parameters import Param
from dylora_ros.ros.sealed import SealedNode
from dylora_ros.secret import life

CAPACITY = Param('capacity', 1_080_000, 'Rows in the log file (GC window and replay buffer); '
                 '12 hours at 25 Hz by default.', 1000, 100_000_000)
WINDOW = Param('window', 540_000, 'Newest rows that q reads: the global context.',
               100, 100_000_000)
_SHOWN = 250          # cycles in the heat map


class GlobalContextNode(SealedNode):
    """Beat at the cycle rate: compose the LR states, ask q, commit the row."""

    NAME = 'global_context'
    DOC = 'The cycle and the log: composes LR states, asks q, commits rows.'
    PARAMETERS = (
        RATE, JOINTS, CAPACITY, WINDOW,
        Param('tired_after', 90_000, 'Waking rows after which sleep is due (one hour).',
              100, 100_000_000),
        Param('young_tired_after', 1500, 'The same for a newborn (a minute), which learns much '
              'from little; grows with its life to tired_after.', 100, 100_000_000),
        WEIGHTS, MEMORY)
    PUBLISHES = ('context/now', 'context/row', 'context/fill', 'context/tiredness',
                 'context/heatmap', 'diagnostics')
    SUBSCRIBES = ('phase', 'sleep/report', 'prediction', 'body/applied', 'reward/judged',
                  'dream/row', *(f'{m}/x' for m in MODALITIES),
                  *(f'surprise/{m}' for m in MODALITIES))

    def setup(self):
        """Open the log; the memory of earlier lives goes on."""
        v = self.values
        schema = registry.row_schema(len(v['joints']), weights_dir(v['weights']))
        path = memory_dir(v['memory']) / 'context.gc'
        self.log = GlobalContext.open(path, schema, v['capacity'], v['window'])
        self.get_logger().info(f'{path}: {self.log.committed} rows remembered, '
                               f'{schema.dtype.itemsize} bytes a row')
        if self.log.capacity != v['capacity']:
            self.get_logger().warning(
                f'{path} was made for {self.log.capacity} rows and stays so; for capacity '
                f'{v["capacity"]} give another memory, or move this one away')
        self.tags = RowTags.create(path.with_name('context.tags'), life().secret, self.log,
                                   life().again)
        self._sender = Sender(life().secret, 'context')
        self._dreams = Receiver(life().secret, 'dream')
        self._verdicts = Verdicts(life().secret)
        self._slept = Milestone(path.with_name(SLEPT))
        self.tired = Tiredness(v['tired_after'], self.log.capacity, v['young_tired_after'])
        self.tired.slept(self._slept.row(
            self.log.committed, lambda error: self.get_logger().warning(
                f'{self._slept.path} is damaged ({error}); when it last slept is not known, it '
                'may be tired early')))
        self.composer = Composer(schema)
        self._heat = np.zeros((schema.width, _SHOWN), np.float32)

    def start(self):
        """Start the heart."""
        self._open_row = None            # composed, not committed
        self._prediction = self._applied = None
        self._boot = True
        self._reward = (0.0, 0)
        self._was = None                 # the phase before
        self._slept_well = False         # NREM came to its end
        self._surprise: dict[str, float] = {}
        self.follow_phase(self._on_phase)
        self.listen('sleep/report', self._on_report)
        for name in MODALITIES:
            self.listen(f'{name}/x', lambda m, n=name: self.composer.put(
                n, messages.tensor(m), messages.stamp_ns(m)))
            self.listen(f'surprise/{name}',
                        lambda m, n=name: self._surprise.__setitem__(n, m.data))
        self.listen('prediction', self._on_prediction)
        self.listen('body/applied', self._on_applied)
        self.listen('reward/judged', self._on_judged)
        self.guard_seal()
        self.listen('dream/row', self._on_dream)
        self.every(1 / self.values['rate'], self._beat_cycle, steady=False)
        self.every(1.0, self._tell)

    def stop(self):
        """Commit what is open."""
        if getattr(self, '_open_row', None) is not None:
            self._commit()

    def release(self):
        """Close the log."""
        log = getattr(self, 'log', None)
        if log is not None:
            if getattr(self, 'tags', None) is not None:
                self.tags.close()
                self.tags = None
            log.close()
            self.log = None

    def _on_phase(self, phase: Phase):
        if phase == Phase.NREM:
            self._slept_well = False
        elif phase == Phase.AWAKE and (self._was == Phase.NREM or self._slept_well):
            self._wake_up()              # however long it took from the night's end
        self._was = phase
        if phase == Phase.AWAKE:
            self.composer.clear()
            self._surprise.clear()
            self._boot = True
        elif self._open_row is not None:
            self._commit()

    def _on_report(self, message):
        report = messages.report(message)
        if report.get('phase') == Phase.NREM.name:
            self._slept_well = 'error' not in report

    def _wake_up(self):
        """Rest, whatever the night brought; rows of a night in vain or cut short are new still."""
        self.tired.slept(self.log.committed)
        if self._slept_well:
            try:
                self._slept.set(self.log.committed)
            except OSError as error:     # a full disk: after a restart it is tired once more
                self.get_logger().error(f'what was slept on could not be written down: {error}')
        self._slept_well = False

    def _beat_cycle(self):
        """One cycle: what the last one left open is committed, the next is composed."""
        if self.phase != Phase.AWAKE:
            return
        if self._open_row is not None:
            self._commit()               # its command has not come within the period: late
        if self.composer.newest() is None:
            return
        self._open_row = self.composer.compose(self.now())
        for i, name in enumerate(MODALITIES):
            if name in self._surprise and int(self._open_row['mask']) >> i & 1:
                self._open_row['surprise'][i] = min(self._surprise[name], 1000.0)
        self._prediction = self._applied = None
        self.publish('context/now', messages.row_msg(self._open_row))

    def _on_prediction(self, message):
        if self._open_row is None or messages.stamp_ns(message) != int(self._open_row['stamp']):
            return
        schema = self.log.schema
        values = messages.tensor(message)[0]
        q, aux, rest = np.split(values, [schema.width, schema.width + schema.aux])
        self._prediction = (q, Prediction(q, float(rest[0]), float(rest[1]), aux))

    def _on_applied(self, message):
        if self._open_row is None or messages.stamp_ns(message) != int(self._open_row['stamp']):
            return
        self._applied = messages.tensor(message)[0]
        self._commit()

    def _commit(self):
        row, schema = self._open_row, self.log.schema
        nothing = Prediction(np.zeros(schema.width), 0.0, 0.0, np.zeros(schema.aux))
        q, prediction = self._prediction or (nothing.q, nothing)
        flags = FLAG_BOOT if self._boot else 0
        period_ms = 1e3 / self.values['rate']
        if self._applied is None or self._applied[-1] > period_ms:
            flags |= FLAG_LATE
        command = np.zeros(schema.actions) if self._applied is None else self._applied[:-1]
        finish(row, q, prediction, command, *self._reward, Phase.AWAKE, flags)
        self._open_row = None
        self._boot = False
        self._append(row)

    def _append(self, row: np.ndarray):
        self.tags.put(self.log.next, row)
        self.log.append_row(row)
        self.publish('context/row', messages.row_msg(row, self._sender.seal(row.tobytes())))
        self._heat = np.roll(self._heat, -1, 1)
        self._heat[:, -1] = row['x']

    def _on_dream(self, message):
        try:
            row = messages.row(message, self.log.schema.dtype).copy()
            self._dreams.open(messages.frame(message), row.tobytes())
        except ValueError as error:
            self.attempt('dream', f'a row on dream/row: {error}')
            return
        if self.phase == Phase.REM and row['flags'] & FLAG_DREAM:
            self._append(row)

    def _on_judged(self, message):
        try:
            value, stamp = messages.number(message), messages.stamp_ns(message)
            self._verdicts.open(messages.frame(message), value, stamp, self._sender)
        except ValueError as error:
            self.attempt('judged', f'a reward on reward/judged: {error}')
            return
        self._reward = (value, stamp)

    def _tell(self):
        if self.tags.confirm():
            self.attempt('tags', 'the head of context.tags was changed; written again')
        self.publish('context/fill', messages.scalar_msg(self.log.fill))
        self.publish('context/tiredness',
                     messages.scalar_msg(self.tired.level(self.log.committed)))
        if self.wanted('context/heatmap'):
            from dylora_ros.ros.dashboard import heatmap
            self.publish('context/heatmap', messages.rgb_msg(
                heatmap(self._heat), self.now(), 'context'))
