"""Base of the nodes that wrap one modality: signal in, LR state and surprise out."""

from typing import TYPE_CHECKING

from dylora_ros.core.phases import Phase
from dylora_ros.modalities import registry
from dylora_ros.modalities.keyframes import Keyframes
from dylora_ros.paths import memory_dir
from dylora_ros.ros import messages
from dylora_ros.ros.node import AgentNode, Worker
from dylora_ros.ros.parameters import Param

if TYPE_CHECKING:          # its module needs torch, which listing the parameters does without
    from dylora_ros.modalities.base import Percept

MEMORY = Param('memory', '', 'Folder of the agent\'s memory; empty: the XDG data folder.')
WEIGHTS = Param('weights', '', 'Folder of low-rank weights; empty: the shipped ones.')


def weights_dir(value: str):
    """Return the folder of low-rank weights.

    Raises:
        FileNotFoundError: those of a modality are missing: it would be untrained, and an
            untrained body moves at random.

    """
    folder = registry.SHIPPED if not value else memory_dir(value)
    missing = [n for n in registry.ORDER if not (folder / f'{n}.safetensors').exists()]
    if missing:
        raise FileNotFoundError(f'weights: {folder} lacks {", ".join(missing)} (.safetensors); '
                                'give a folder made by "python -m dylora_ros pretrain --out DIR", '
                                'or nothing for the weights that ship')
    return folder


class SenseNode(AgentNode):
    """A modality in a node. The encoder runs in a worker thread; the newest signal wins."""

    MODALITY: str

    def modality_options(self) -> dict:
        """Return keyword arguments of the modality's class."""
        return {}

    def setup(self):
        """Load the frozen model."""
        import torch
        torch.set_num_threads(1)
        self.modality = registry.make(self.MODALITY, weights=weights_dir(self.values['weights']),
                                      **self.modality_options())
        self.keyframes = Keyframes()
        self._worker = None

    def start(self):
        """Start the worker; listen to the predicted LR state."""
        self.modality.forget_expectation()
        self._q = self._body = None
        self._worker = Worker(self._perceive, self._failed)
        self.follow_phase()
        self.listen(f'{self.MODALITY}/q', self._on_q)

    def stop(self):
        """End the worker and keep the remembered moments."""
        if getattr(self, '_worker', None) is None:
            return
        self._worker.stop()
        self._worker = None
        folder = memory_dir(self.values['memory']) / 'keyframes'
        self.keyframes.save(folder / f'{self.MODALITY}.safetensors')

    def release(self):
        """Drop the model."""
        self.modality = None

    def healthy(self) -> bool:
        """Whether the encoder is not stuck."""
        worker = getattr(self, '_worker', None)
        return worker is None or not worker.stuck

    def perceive(self, signal, stamp: int):
        """Hand a signal (acquired at ``stamp`` ns) to the encoder."""
        if self._worker is not None:
            self._worker.put((signal, stamp))

    def _on_q(self, message):
        self._q = messages.tensor(message)

    def feel(self, message):
        """Take the body's LR state: what the sense's own motion is."""
        self._body = messages.tensor(message)

    def _perceive(self, item):
        signal, stamp = item
        if self._q is not None:
            self.modality.bias(self._q, self._body)
        percept = self.sense(signal, stamp)
        name = self.MODALITY
        if percept.surprise is not None:
            self.publish(f'surprise/{name}', messages.scalar_msg(percept.surprise))
        self.publish(f'{name}/x', messages.tensor_msg(percept.x, stamp, name))
        self.perceived(stamp)

    def sense(self, signal, stamp: int) -> 'Percept':
        """Take in a signal; remember the moment if one is due (worker thread)."""
        percept = self.modality.observe(signal)
        if self.phase == Phase.AWAKE and self.keyframes.due(stamp):
            self.keyframes.put(stamp, self.modality.local_context())
        return percept

    def perceived(self, stamp: int):
        """Take note after each percept (worker thread)."""

    def _failed(self, error: Exception):
        self.complain('worker', f'{self.MODALITY} ignored a signal: {error}')
