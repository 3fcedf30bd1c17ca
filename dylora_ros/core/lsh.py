"""Multi-round angular locality-sensitive hashing (Kitaev et al. 2020) of context keys.

A key falls, in every round, into the bucket of the signed axis nearest to it after a random
rotation. The streaming index keeps for every bucket its newest members in a small ring, so a
read touches a bounded number of rows however long the day was. :func:`past_neighbours` gives
training the very rows the streaming index would have given at each moment.
"""

import numpy as np


class AngularHash:
    """Random rotations shared by the streaming index and by training.

    Args:
        dim: width of the keys.
        rounds: independent hash rounds.
        axes: signed axes in one half of a round's bucket number; 2*axes^2 ... see ``buckets``.
        seed: the rotations depend on nothing else.
    """

    def __init__(self, dim: int, rounds: int = 4, axes: int = 8, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.rounds, self.axes = rounds, axes
        self.planes = rng.standard_normal((dim, rounds * 2 * axes)).astype(np.float32)

    @property
    def buckets(self) -> int:
        """Buckets of one round: two cross-polytopes of 2 * axes vertices each."""
        return (2 * self.axes) ** 2

    def __call__(self, keys: np.ndarray) -> np.ndarray:
        """Hash keys (n, dim) to bucket numbers (n, rounds), int32."""
        projected = (keys @ self.planes).reshape(len(keys), self.rounds, 2, self.axes)
        both = np.concatenate([projected, -projected], -1)   # signed axes
        vertex = both.argmax(-1)                             # (n, rounds, 2)
        return (vertex[..., 0] * 2 * self.axes + vertex[..., 1]).astype(np.int32)


class StreamingIndex:
    """Newest ``depth`` row numbers of every bucket; bounded memory, O(rounds) insert.

    Row numbers are the log's absolute sequence numbers, so a row that has left the window is
    told by its number and needs no deletion.
    """

    def __init__(self, hasher: AngularHash, depth: int = 8):
        self.hasher, self.depth = hasher, depth
        shape = (hasher.rounds, hasher.buckets)
        self._members = np.full((*shape, depth), -1, np.int64)
        self._count = np.zeros(shape, np.int64)
        self._round = np.arange(hasher.rounds)

    def insert(self, keys: np.ndarray, rows: np.ndarray):
        """Add keys (n, dim) of the given absolute row numbers (n,), oldest first."""
        for bucket, row in zip(self.hasher(keys), rows, strict=True):
            slot = self._count[self._round, bucket] % self.depth
            self._members[self._round, bucket, slot] = row
            self._count[self._round, bucket] += 1

    def query(self, key: np.ndarray, oldest: int) -> np.ndarray:
        """Return the distinct rows (sorted) that share a bucket with ``key`` (dim,).

        Args:
            key: the query.
            oldest: rows below this number have left the window and are not returned.

        """
        bucket = self.hasher(key[None])[0]
        found = np.unique(self._members[self._round, bucket])
        return found[found >= oldest]

    @property
    def nbytes(self) -> int:
        """Bytes of the tables."""
        return self._members.nbytes + self._count.nbytes


def past_neighbours(keys: np.ndarray, hasher: AngularHash, depth: int) -> np.ndarray:
    """For every key in time order, the rows :class:`StreamingIndex` would find before adding it.

    Args:
        keys: (n, dim), oldest first.
        hasher: as in the streaming index.
        depth: as in the streaming index.

    Returns:
        (n, rounds * depth) int64 positions into ``keys``, -1 where a bucket held fewer;
        duplicates between rounds are left in place (attention masks them).

    """
    n = len(keys)
    buckets = hasher(keys)
    out = np.full((n, hasher.rounds, depth), -1, np.int64)
    for r in range(hasher.rounds):
        order = np.argsort(buckets[:, r], kind='stable')   # time order within a bucket
        sorted_buckets = buckets[order, r]
        for back in range(1, depth + 1):
            same = sorted_buckets[back:] == sorted_buckets[:-back]
            out[order[back:][same], r, back - 1] = order[:-back][same]
    return out.reshape(n, -1)
