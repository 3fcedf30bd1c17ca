"""Reward node: judges each committed row by the statements; sealed, in its own process."""

import hashlib
from pathlib import Path

import numpy as np

from dylora_ros.core.phases import Phase
from dylora_ros.core.rows import FLAG_DREAM
from dylora_ros.core.seal import read_bundle, Receiver, Verdicts, write_bundle
from dylora_ros.core.watch import locked, Watch
from dylora_ros.modalities import registry
from dylora_ros.nodes.actuator import JOINTS
from dylora_ros.nodes.sense import MEMORY, WEIGHTS, weights_dir
from dylora_ros.paths import memory_dir, share_file
from dylora_ros.ros import messages
from dylora_ros.ros.parameters import Param
from dylora_ros.ros.sealed import SealedNode
from dylora_ros.secret import life


class RewardNode(SealedNode):
    """Feel good or bad, by what was sealed at the start of this life and by nothing else."""

    NAME = 'reward'
    DOC = 'Closeness of the inner state to the statements, plus curiosity; sealed.'
    PARAMETERS = (
        JOINTS,
        Param('statements', '', 'YAML of good and bad statements; empty: the installed '
              'config/statements.yaml.'),
        Param('curiosity', 0.02, 'Weight of positive surprise in the reward.', 0.0, 1.0),
        WEIGHTS, MEMORY)
    PUBLISHES = ('reward', 'reward/judged', 'diagnostics')
    SUBSCRIBES = ('context/row',)

    def setup(self):
        """Seal statements and projector; in a life that has a seal already, take that."""
        import torch
        torch.set_num_threads(1)

        from dylora_ros.core.reward import DIGESTS, StatementReward
        folder = weights_dir(self.values['weights'])
        self.schema = registry.row_schema(len(self.values['joints']), folder)
        self._statements = Path(self.values['statements']
                                or share_file('config/statements.yaml'))
        self._projector = folder / 'projector.safetensors'
        self._bundle = memory_dir(self.values['memory']) / 'seal' / 'reward.seal'
        self._logged = [self._bundle.parents[1] / name for name in ('context.gc', 'context.tags')]
        size = self.schema.width, len(self.schema.modalities)
        if getattr(self, '_sealed', None) is None:
            if life().again:
                self._sealed = read_bundle(self._bundle, life().secret)
                if self._digests() != self._sealed[:DIGESTS]:
                    self.attempt('file', 'statements or projector were changed while this node '
                                 'was down; what was sealed stays in force')
            else:
                self._sealed = self._digests() + self._read(*size).to_bytes()
                write_bundle(self._bundle, life().secret, self._sealed)
        self.reward = StatementReward.sealed(self._sealed, *size)

    def _digests(self) -> bytes:
        return b''.join(hashlib.sha256(p.read_bytes() if p.is_file() else b'').digest()
                        for p in (self._statements, self._projector))

    def _read(self, width: int, modalities: int):
        """Return the reward that the files are of; they are read once, here."""
        from safetensors.torch import load

        from dylora_ros.core.reward import Projector, StatementReward, Statements
        from dylora_ros.modalities.text import SentenceEncoder
        read = Statements.parse(self._statements.read_bytes(), self._statements)
        if not self._projector.exists():
            raise FileNotFoundError(f'{self._projector} is missing; make it with python -m '
                                    'dylora_ros pretrain, or leave weights empty for the '
                                    'shipped one')
        projector = Projector.of(load(self._projector.read_bytes()), width, modalities)
        self.get_logger().info(f'sealed {self._statements} {read.digest[:12]}')
        return StatementReward.of(projector, read, SentenceEncoder().embed,
                                  self.values['curiosity'])

    def start(self):
        """Judge every row of this agent's log; watch the files."""
        self._rows = Receiver(life().secret, 'context')
        self._verdicts = Verdicts(life().secret)
        self._watch = Watch(self._on_file)
        self._writer = None            # session of the log's writer, whose files are watched
        for path in (self._statements, self._projector, self._bundle):
            self._watch.add(path)
            self._watch.add(path.resolve())      # of an installation by symbolic links
        self.listen('context/row', self._on_row)
        self.guard_seal('reward')

    def stop(self):
        """End the watch."""
        watch = getattr(self, '_watch', None)
        if watch is not None:
            watch.close()
            self._watch = None

    def _on_file(self, path: Path, what: str):
        if path in self._logged:
            if self._writer is None:
                return
            if not locked(self._logged[0]):
                self._writer = None          # the writer itself has ended; the next one opens them
                return
        self.attempt('file', f'{path} was {what}; what was sealed stays in force')
        if path == self._bundle:
            self._watch.expect(path)
            try:
                write_bundle(path, life().secret, self._sealed)
                self._watch.add(path)        # its folder may be a new one
            except OSError as error:
                self._watch.expect(path, -1)
                self.attempt('file', f'{path} cannot be written again: {error}')

    def _on_row(self, message):
        try:
            row = messages.row(message, self.schema.dtype)
            ticket = self._rows.open(messages.frame(message), row.tobytes())
        except ValueError as error:
            self.attempt('row', f'a row on context/row: {error}')
            return
        if self._writer != ticket.session:   # it has opened its files; whoever does now is odd
            self._writer = ticket.session
            for path in self._logged:
                self._watch.add(path)
        if row['phase'] != Phase.AWAKE.value or row['flags'] & FLAG_DREAM:
            return
        mask = (int(row['mask']) >> np.arange(len(self.schema.modalities))) & 1
        value = np.float32(self.reward(row['x'].astype(np.float32), mask,
                                       row['surprise'].astype(np.float32)))
        stamp = int(row['stamp'])
        self.publish('reward', messages.scalar_msg(value))
        self.publish('reward/judged', messages.tensor_msg(
            np.array([value]), stamp, self._verdicts.seal(ticket, value, stamp)))
