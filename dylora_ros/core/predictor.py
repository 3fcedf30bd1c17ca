"""q at work: predict the next LR states, reward and value from a row and its context.

Three kinds behind one interface, ``observe(row) -> Prediction``: :class:`Predictor` reads the
context by LSH attention, and recollects by reward; :class:`~dylora_ros.core.gru.GRUPredictor`
carries a GRU state; :class:`Forgetful` has no context at all (for ablation).
"""

from collections.abc import Callable
import threading

import numpy as np
import torch

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.cycle import Prediction
from dylora_ros.core.features import features, lived
from dylora_ros.core.imagine import Imagination
from dylora_ros.core.memory import Memory
from dylora_ros.core.qnetwork import Heads, QNetwork
from dylora_ros.core.recollection import Recollecting
from dylora_ros.core.rows import FLAG_DREAM

_NEW = 1e9            # ns


class Predictor:
    """LSH attention: an index over the log's window and one bounded read a tick.

    Args:
        network: trained or newborn.
        log: the global context (a reader will do).
        progress: called with the share done while the index is built.
        imagination: fills in what senses that are off would say.
    """

    def __init__(self, network: QNetwork, log: GlobalContext,
                 progress: Callable[[float], None] = lambda share: None,
                 imagination: Imagination | None = None):
        self.log = log
        self.imagination = imagination
        self.network = network.eval()
        self.memory = Memory(network, log, progress)
        self._recollecting = Recollecting(log)
        self._next: Memory | None = None
        self._builder: threading.Thread | None = None

    def adopt(self, network: QNetwork, background: bool = False):
        """Take new weights (after sleep); the index is rebuilt, since keys are learned.

        Args:
            network: the new weights.
            background: build in a thread; the old weights answer until it is done.

        """
        network.eval()
        if background:
            self._builder = threading.Thread(target=self._build, args=(network,), daemon=True)
            self._builder.start()
        else:
            self._builder = None
            self.network, self.memory = network, Memory(network, self.log)

    @property
    def building(self) -> bool:
        """Whether the index of adopted weights is not ready yet."""
        return self._builder is not None and self._builder.is_alive()

    def _build(self, network: QNetwork):
        memory = Memory(network, self.log)
        if self._builder is threading.current_thread():      # no newer weights came meanwhile
            self._next = memory

    def catch_up(self):
        """Index the rows committed since the last call."""
        if self._next is not None:
            self.memory, self._next = self._next, None
            self.network = self.memory.network
        self.memory.catch_up()

    @torch.inference_mode()
    def observe(self, row: np.ndarray) -> Prediction:
        """Predict from a composed row (not yet committed) and the context before it."""
        prediction, stamp = self._read(row), int(row['stamp'])
        prediction.rewarded = rewarded(self.log, stamp)
        prediction.recollected = self._recollecting.at(stamp)
        if self.imagination is not None:
            prediction.q = self.imagination.fill(row, prediction.q)
        return prediction

    def _read(self, row: np.ndarray) -> Prediction:
        self.catch_up()
        schema = self.log.schema
        now = torch.from_numpy(features(row.reshape(1), schema))
        key = self.network.keys(now)[0].numpy()
        numbers = self.memory.find(key, int(row['stamp']))
        past = self.log.take(numbers)
        past = past[lived(past) & self.log.intact(past, numbers)]
        if not len(past):
            return Prediction.of(nothing(self.network, now))
        age = np.maximum((int(row['stamp']) - past['stamp']) * 1e-9, 0.0)
        return Prediction.of(self.network(
            now, torch.from_numpy(features(past, schema))[None],
            torch.from_numpy(age.astype(np.float32))[None],
            torch.ones(1, len(past), dtype=torch.bool)))


class Forgetful:
    """No global context: q sees only the present row."""

    def __init__(self, network: QNetwork, log: GlobalContext):
        self.log = log
        self.adopt(network)

    def adopt(self, network: QNetwork):
        """Take new weights."""
        self.network = network.eval()

    @torch.inference_mode()
    def observe(self, row: np.ndarray) -> Prediction:
        """Predict from a composed row alone."""
        now = torch.from_numpy(features(row.reshape(1), self.log.schema))
        prediction = Prediction.of(nothing(self.network, now))
        prediction.rewarded = rewarded(self.log, int(row['stamp']))
        return prediction


def rewarded(log: GlobalContext, stamp: int) -> float | None:
    """Return the newest reward that a log knows; None if it is older than a second at ``stamp``.

    A dream has none: its rows are judged later.
    """
    row = log.rows(max(log.first, log.committed - 1), log.committed)
    new = len(row) and not row['flags'][0] & FLAG_DREAM \
        and 0 <= stamp - int(row['reward_stamp'][0]) < _NEW
    return float(row['reward'][0]) if new else None


def nothing(network: QNetwork, now: torch.Tensor) -> Heads:
    """Ask q about rows (b, f) with an empty context."""
    b = len(now)
    return network(now, now[:, None], torch.zeros(b, 1), torch.zeros(b, 1, dtype=torch.bool))
