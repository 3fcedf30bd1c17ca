"""The index over the log's window: which old rows deserve attention now."""

from collections.abc import Callable

import numpy as np
import torch

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.features import features, lived, remarkable
from dylora_ros.core.lsh import AngularHash, SequenceIndex, StreamingIndex, strongest
from dylora_ros.core.qnetwork import QNetwork, WIDTH

RECENT = 32           # rows always attended: a bit more than a second
MOST = 64             # older rows attended
DEPTH = 8             # newest rows of each bucket
KEPT = 4              # newest remarkable rows of each bucket
_CHUNK = 8192


def new_hash() -> AngularHash:
    """Return the hash of the agent's keys, the same for streaming and training."""
    return AngularHash(WIDTH)


class Memory:
    """Streaming index and key cache of the rows in the log's window.

    Memory is bounded: the index does not grow, the cache is a ring of the window's size (192
    bytes a row). Building it reads the whole window once.

    Args:
        network: its keys are indexed; another network needs another Memory.
        log: the global context (a reader will do).
        progress: called with the share of the window done while it is built.
    """

    def __init__(self, network: QNetwork, log: GlobalContext,
                 progress: Callable[[float], None] = lambda share: None):
        self.network, self.log = network, log
        self._index = StreamingIndex(new_hash(), DEPTH, KEPT)
        self._score = network.scorer()
        self._ring = min(log.window, log.capacity) + _CHUNK
        self._keys = np.zeros((self._ring, WIDTH), np.float16)
        self._stamp = np.zeros(self._ring, np.int64)
        self._seen = log.window_first
        self._end = self._seen
        self.catch_up(progress)

    @torch.inference_mode()
    def catch_up(self, progress: Callable[[float], None] = lambda share: None):
        """Take in the rows that left the recent window since the last call."""
        start = self._seen
        while True:
            self._end = self.log.committed
            stop = min(self._seen + _CHUNK, self._end - RECENT)
            if self._seen >= stop:
                break
            rows = self.log.rows(self._seen, stop)
            numbers = np.arange(stop - len(rows), stop)
            member = lived(rows) & self.log.intact(rows, numbers)
            rows, numbers = rows[member], numbers[member]
            if len(rows):
                keys = self.network.keys(
                    torch.from_numpy(features(rows, self.log.schema))).numpy()
                self._keys[numbers % self._ring] = keys
                self._stamp[numbers % self._ring] = rows['stamp']
                self._index.insert(keys, numbers, remarkable(rows))
            self._seen = stop
            if stop - start >= _CHUNK:               # a long way: show it, and stay small
                progress((stop - start) / max(1, self._end - RECENT - start))
                self.log.release_pages()

    def find(self, key: np.ndarray, stamp: int) -> np.ndarray:
        """Return the rows to attend (ascending numbers): found ones, then the recent window.

        Args:
            key: (dim,) of the newest row.
            stamp: of it, ns.

        """
        end = self._end
        oldest = max(0, end - self.log.window)
        first_recent = max(oldest, end - RECENT)
        old = self._index.query(key, oldest)
        if len(old) > MOST:
            at = old % self._ring
            age = ((stamp - self._stamp[at]) * 1e-9).astype(np.float32)
            score = self._score(key[None], self._keys[at].astype(np.float32)[None], age[None],
                                np.ones((1, len(old)), bool))
            old = strongest(old[None], score, MOST)[0]
        return np.concatenate([old, np.arange(first_recent, end)])

    @property
    def nbytes(self) -> int:
        """Bytes of the index and the cache."""
        return self._index.nbytes + self._keys.nbytes + self._stamp.nbytes


class Past:
    """The same for training: which rows :class:`Memory` would have found at each recorded row.

    Args:
        network: whose keys are used.
        rows: (n,) consecutive log rows.
        feats: (n, f) their features.
    """

    @torch.inference_mode()
    def __init__(self, network: QNetwork, rows: np.ndarray, feats: torch.Tensor):
        self.keys = torch.cat([network.keys(p) for p in feats.split(_CHUNK)]).numpy()
        self._stamp = rows['stamp']
        self._score = network.scorer()
        self._lived = lived(rows)
        self._index = SequenceIndex(new_hash(), self.keys, self._lived, remarkable(rows),
                                    DEPTH, KEPT)
        self._found = np.zeros((len(rows), MOST + RECENT), np.int32)
        self._known = np.zeros(len(rows), bool)

    def find(self, index: np.ndarray) -> np.ndarray:
        """Return the rows (b, MOST + RECENT) attended at the rows ``index`` (b,).

        -1 is padding; rows are distinct.
        """
        new = np.unique(index[~self._known[index]])          # a row is asked for many times
        if len(new):
            self._found[new] = self._look(new)
            self._known[new] = True
        return self._found[index]

    def _look(self, index: np.ndarray) -> np.ndarray:
        first_recent = np.maximum(index - RECENT, 0)
        old = self._index.query(self.keys[index], first_recent)
        age = (self._stamp[index][:, None] - self._stamp[old]) * 1e-9
        score = self._score(self.keys[index], self.keys[old], age.astype(np.float32), old >= 0)
        old = strongest(old, score, MOST)
        recent = index[:, None] - np.arange(RECENT, 0, -1)
        recent = np.where((recent >= 0) & self._lived[recent], recent, -1)
        return np.concatenate([old, recent], 1)
