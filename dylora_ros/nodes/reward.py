"""Reward node: judges each committed row by the statements; sealed, in its own process."""

import hashlib
from pathlib import Path

import numpy as np

from dylora_ros.core.phases import Phase
from dylora_ros.modalities import registry
from dylora_ros.nodes.actuator import JOINTS
from dylora_ros.nodes.sense import WEIGHTS, weights_dir
from dylora_ros.paths import share_file
from dylora_ros.ros import messages
from dylora_ros.ros.node import AgentNode
from dylora_ros.ros.parameters import Param


class RewardNode(AgentNode):
    """Feel good or bad. Statements and projector are read once; digests are checked in sleep."""

    NAME = 'reward'
    DOC = 'Closeness of the inner state to the statements, plus curiosity.'
    PARAMETERS = (
        JOINTS,
        Param('statements', '', 'YAML of good and bad statements; empty: the installed '
              'config/statements.yaml.'),
        Param('curiosity', 0.02, 'Weight of positive surprise in the reward.', 0.0, 1.0),
        WEIGHTS)
    PUBLISHES = ('reward', 'reward/judged')
    SUBSCRIBES = ('context/row', 'phase')

    def setup(self):
        """Read and seal the statements."""
        import torch
        torch.set_num_threads(1)
        from safetensors.torch import load_file

        from dylora_ros.core.reward import Projector, StatementReward, Statements
        from dylora_ros.modalities.text import SentenceEncoder
        v = self.values
        folder = weights_dir(v['weights'])
        self.schema = registry.row_schema(len(v['joints']), folder)
        statements = Path(v['statements'] or share_file('config/statements.yaml'))
        read = Statements.load(statements)
        self._sealed = {statements: read.digest, folder / 'projector.safetensors': None}
        projector = Projector(self.schema.width, len(self.schema.modalities))
        path = folder / 'projector.safetensors'
        if not path.exists():
            raise FileNotFoundError(f'{path} is missing; make it with python -m dylora_ros '
                                    'pretrain, or leave weights empty for the shipped one')
        projector.load_state_dict(load_file(str(path)))
        self._sealed[path] = self._digest(path)
        sentences = SentenceEncoder()
        self.reward = StatementReward(projector, [sentences.embed(list(g)) for g in read.good],
                                      [sentences.embed(list(b)) for b in read.bad],
                                      v['curiosity'])
        self.get_logger().info(f'sealed {statements} {read.digest[:12]}')

    def start(self):
        """Judge every row."""
        self.follow_phase(self._on_phase)
        self.listen('context/row', self._on_row)

    def _digest(self, path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def _on_phase(self, phase: Phase):
        if phase == Phase.NREM:
            for path, digest in self._sealed.items():
                if not path.exists() or self._digest(path) != digest:
                    self.get_logger().error(f'{path} was changed while the agent runs; the '
                                            'sealed values stay in force until a restart')

    def _on_row(self, message):
        if self.phase != Phase.AWAKE:
            return
        row = messages.row(message, self.schema.dtype)
        mask = (int(row['mask']) >> np.arange(len(self.schema.modalities))) & 1
        value = self.reward(row['x'].astype(np.float32), mask,
                            row['surprise'].astype(np.float32))
        self.publish('reward', messages.scalar_msg(value))
        self.publish('reward/judged',
                     messages.tensor_msg(np.array([value]), int(row['stamp']), 'reward'))
