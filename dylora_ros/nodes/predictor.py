"""Predictor node: q and the will close the loop awake; sleep has a process of its own."""

import json

import numpy as np

from dylora_ros.core.agent import act_on, split
from dylora_ros.core.context import GlobalContext
from dylora_ros.core.motor import EXPLORATION, Exploration
from dylora_ros.core.phases import Phase
from dylora_ros.core.seal import Sender
from dylora_ros.core.search import Search
from dylora_ros.modalities import registry
from dylora_ros.modalities.specs import body_signal
from dylora_ros.nodes.actuator import JOINTS, RATE
from dylora_ros.nodes.global_context import CAPACITY, WINDOW
from dylora_ros.nodes.sense import MEMORY, WEIGHTS, weights_dir
from dylora_ros.nodes.sleeper import Sleeper
from dylora_ros.paths import memory_dir
from dylora_ros.ros import messages
from dylora_ros.ros.interfaces import MODALITIES
from dylora_ros.ros.node import AgentNode
from dylora_ros.ros.parameters import Param
from dylora_ros.secret import life


class PredictorNode(AgentNode):
    """Read the global context, predict the next LR states, give every modality its bias."""

    NAME = 'predictor'
    DOC = 'q: predicts the next LR states; runs REM and NREM in a process of its own.'
    PARAMETERS = (
        RATE, JOINTS, CAPACITY, WINDOW,
        Param('exploration', EXPLORATION, 'Standard deviation of the noise on the body\'s '
              'predicted LR state (which has unit variance), before a first sleep has made a '
              'will; a will explores by half of its own learned spread. 0: neither explores, but '
              'both search when they have been badly off for a while.', 0.0, 3.0),
        Param('seed', 0, 'Seed of exploration, dreams and training.', 0, 2**31 - 1),
        Param('rem_seconds', 60.0, 'Budget of a REM phase, s.', 0.0, 36000.0),
        Param('nrem_seconds', 300.0, 'Budget of an NREM phase, s.', 0.0, 36000.0),
        Param('train_rows', 50_000, 'Newest rows that NREM learns from.', 100, 10_000_000),
        WEIGHTS, MEMORY)
    PUBLISHES = ('prediction', 'value', 'sleep/progress', 'sleep/time_left', 'sleep/report',
                 'dream/row', 'dream/image', *(f'{m}/q' for m in MODALITIES))
    SUBSCRIBES = ('context/now', 'phase', 'joint_states', 'body/applied')

    def setup(self):
        """Open the log for reading and load q."""
        import torch

        from dylora_ros.core.predictor import Predictor
        torch.set_num_threads(1)
        v = self.values
        self.folder = memory_dir(v['memory'])
        schema = registry.row_schema(len(v['joints']), weights_dir(v['weights']))
        path = self.folder / 'context.gc'
        if not path.exists():            # the writer may be a moment later than we are
            GlobalContext.open(path, schema, v['capacity'], v['window']).close()
        self.log = GlobalContext.read(path, v['window'])
        if self.log.schema.digest() != schema.digest():
            raise RuntimeError(f'{path} is of another body or other weights; configure '
                                'global_context first')
        self.predictor = Predictor(self._load_q(), self.log, self._indexed,
                                   self._load_imagination())
        body = schema.modalities['body']
        self.exploration = Exploration(body[0] * body[1], v['exploration'],
                                       period=1 / v['rate'], seed=v['seed'])
        # a twin of the actuator's body: which of its LR states can be reached from here
        self.body = registry.make('body', len(v['joints']), weights_dir(v['weights']))
        self.will = self._load_will()
        self.search = Search(self.body, schema, v['seed'])
        self._body_bit = 1 << list(schema.modalities).index('body')
        self._dreams = Sender(life().secret, 'dream')
        self.sleeper = None
        self._finished: dict | None = None       # report of a sleep phase, not told yet

    def _indexed(self, share: float):
        """Tell how much of a long log is in the index; it takes seconds at a start."""
        self.get_logger().info(f'remembering: {share:.0%} of the log indexed',
                               throttle_duration_sec=1.0)

    def _load_q(self):
        import torch

        from dylora_ros.core.lowrank import SchemaError
        from dylora_ros.core.predictor import QNetwork
        shipped = weights_dir(self.values['weights']) / 'q.safetensors'
        self._q_seen, self._q_path = self._q_learned(), None
        for path in (self.folder / 'q.safetensors', shipped):
            if path.exists():
                try:
                    network = QNetwork.load(path, self.log.schema)
                    self._q_path = path
                    self.get_logger().info(f'q from {path}')
                    return network
                except SchemaError as error:
                    self.get_logger().warning(str(error))
        self.get_logger().warning('q is newborn: no fitting weights found')
        torch.manual_seed(self.values['seed'])
        return QNetwork(self.log.schema).eval()

    def _load_will(self):
        """Return what earlier sleeps learned to wish for; None: q alone acts, with noise."""
        from dylora_ros.core.lowrank import SchemaError
        from dylora_ros.core.will_training import Chest
        chest = Chest(self.folder, self.log.schema)
        try:
            # another seed after every sleep: it does not try the same again
            will = chest.will(self.body, self.values['seed'] + self.log.committed)
        except SchemaError as error:
            self.get_logger().warning(f'no will: {error}')
            return None
        if will is None:
            return None
        self.get_logger().info(f'will from {chest.good}')
        will.explore = self.values['exploration'] > 0
        return will

    def _load_imagination(self):
        from dylora_ros.core.imagine import Imagination
        from dylora_ros.core.lowrank import SchemaError
        try:
            return Imagination.shipped(weights_dir(self.values['weights']), self.log)
        except SchemaError as error:
            self.get_logger().warning(f'senses that are off are not filled in: {error}')
            return None

    def start(self):
        """Answer every composed row; follow the phases."""
        self._joints = None              # (position, velocity), newest
        self._command = np.zeros(len(self.values['joints']), np.float32)
        self.follow_phase(self._on_phase)
        self.listen('context/now', self._on_row)
        self.listen('joint_states', lambda m: setattr(
            self, '_joints', messages.joints(m, tuple(self.values['joints']))))
        self.listen('body/applied', lambda m: setattr(
            self, '_command', messages.tensor(m)[0, :-1]))
        self.every(0.1, self._poll)

    def stop(self):
        """End a sleep that is under way."""
        if getattr(self, 'sleeper', None) is not None:
            self.sleeper.stop()
            self.sleeper = None

    def release(self):
        """Close the log."""
        if getattr(self, 'log', None) is not None:
            self.predictor = None
            self.log.close()
            self.log = None

    def _on_row(self, message):
        if self.phase != Phase.AWAKE:
            return
        row = messages.row(message, self.log.schema.dtype)
        stamp, schema = int(row['stamp']), self.log.schema
        prediction = self.predictor.observe(row)
        felt = self._joints is not None and row['mask'] & self._body_bit
        if felt:
            self.body.forget_expectation()           # surprise is the actuator's to tell
            self.body.observe(body_signal(*self._joints, self._command))
        if self.will is None or not felt:
            q = act_on(prediction.q, schema, self.exploration)
        else:
            q, prediction.value = self.will(row, prediction)
        if felt:
            q = self.search(q, prediction.rewarded)
        self.body.bias(split(q, schema, 'body'))
        # the body first: its command is what the cycle waits for
        for name in reversed(MODALITIES):
            self.publish(f'{name}/q', messages.tensor_msg(split(q, schema, name), stamp, name))
        values = np.concatenate([q, prediction.aux, [prediction.reward, prediction.value]])
        self.publish('prediction', messages.tensor_msg(values, stamp, 'q'))
        self.publish('value', messages.scalar_msg(prediction.value))

    def _on_phase(self, phase: Phase):
        if phase in (Phase.REM, Phase.NREM):
            if self.sleeper is None:
                self.sleeper = Sleeper(self._sleep_options())
            self._finished = None
            self.sleeper.begin(phase.name)
        else:
            slept = self.sleeper is not None
            self.stop()
            if slept:
                self._act_by_q_on_disk()

    def _q_learned(self) -> int | None:
        """Return when q was last learned (ns), None where it never was."""
        path = self.folder / 'q.safetensors'
        return path.stat().st_mtime_ns if path.exists() else None

    def _act_by_q_on_disk(self):
        """Take the q that a sleep left on disk, even one cut short after it had learned.

        Later nights read by that one, and the will acts on what its q reads.
        """
        if self._q_seen != self._q_learned():
            # the index of a long day takes seconds
            self.predictor.adopt(self._load_q(), background=True)

    def _sleep_options(self) -> dict:
        v = self.values
        return {'memory': str(self.folder), 'weights': str(weights_dir(v['weights'])),
                'joints': len(v['joints']), 'window': v['window'], 'period': 1 / v['rate'],
                'secret': life().secret.key.hex(),
                'REM': v['rem_seconds'], 'NREM': v['nrem_seconds'], 'seed': v['seed'],
                'train_rows': v['train_rows'],
                'q': None if self._q_path is None else str(self._q_path)}

    def _poll(self):
        """Pass on what the sleeping process tells."""
        if self.sleeper is None:
            return
        for kind, value in self.sleeper.events():
            if kind == 'progress':
                self.publish('sleep/progress', messages.scalar_msg(value[0]))
                self.publish('sleep/time_left', messages.scalar_msg(value[1]))
            elif kind == 'row':
                row = np.frombuffer(value, self.log.schema.dtype)[0]
                self.publish('dream/row', messages.row_msg(row, self._dreams.seal(value)))
            elif kind == 'image':
                self.publish('dream/image', messages.rgb_msg(value, self.now(), 'dream'))
            elif kind == 'done':
                self._act_by_q_on_disk()
                self._finished = value
        if self._finished is not None and not self.predictor.building:
            if self._finished.get('will', {}).get('kept'):
                self.will = self._load_will()
            self.get_logger().info(f'sleep: {self._finished}')
            self.publish('sleep/report', messages.text_msg(json.dumps(self._finished)))
            self._finished = None
