"""Multi-round angular locality-sensitive hashing (Kitaev et al. 2020) of context keys.

A key falls, in every round, into the bucket named by the nearest signed axes of a few random
rotations (cross-polytope hashing, Andoni et al. 2015). A query also looks into the buckets next
to its own: those where one rotation's second nearest axis is taken (multi-probe).

The streaming index keeps for every bucket its newest members in a small ring, and its newest
*remarkable* members, those that came as a surprise, in another ("surprise, encouraging the
memorization of unexpected experiences", paper, section 6). A read therefore touches a bounded
number of rows however long the day was, and everyday rows never push out a remarkable one.
:class:`SequenceIndex` gives training the very rows that the streaming index would have given at
each moment.
"""

import numpy as np

_PIECE = 2048     # keys hashed at a time: their projections fit the cache


class AngularHash:
    """Random rotations shared by the streaming index and by training.

    Args:
        dim: width of the keys.
        rounds: independent hash rounds.
        polytopes: rotations in a round; a bucket is a tuple of nearest signed axes.
        axes: dimensions of a rotation, each with two signs.
        seed: the rotations depend on nothing else.
    """

    def __init__(self, dim: int, rounds: int = 8, polytopes: int = 3, axes: int = 12,
                 seed: int = 0):
        rng = np.random.default_rng(seed)
        self.rounds, self.polytopes, self.axes = rounds, polytopes, axes
        self.planes = rng.standard_normal((dim, rounds * polytopes * axes)).astype(np.float32)
        self._place = (2 * axes) ** np.arange(polytopes - 1, -1, -1)

    @property
    def buckets(self) -> int:
        """Buckets of one round."""
        return (2 * self.axes) ** self.polytopes

    def _projected(self, keys: np.ndarray) -> np.ndarray:
        """Return the projections on all axes, (n, rounds, polytopes, axes)."""
        return (keys @ self.planes).reshape(len(keys), self.rounds, self.polytopes, self.axes)

    def __call__(self, keys: np.ndarray) -> np.ndarray:
        """Hash keys (n, dim) to bucket numbers (n, rounds), int64."""
        out = np.empty((len(keys), self.rounds), np.int64)
        for i in range(0, len(keys), _PIECE):
            projected = self._projected(keys[i:i + _PIECE])
            axis = np.abs(projected).argmax(-1)
            negative = np.take_along_axis(projected, axis[..., None], -1)[..., 0] < 0
            out[i:i + _PIECE] = (axis + self.axes * negative) @ self._place
        return out

    def probes(self, keys: np.ndarray) -> np.ndarray:
        """Return the buckets a query looks into, (n, rounds, 1 + polytopes), its own first."""
        projected = self._projected(keys)
        signed = np.concatenate([projected, -projected], -1)
        nearest = signed.argmax(-1)
        np.put_along_axis(signed, nearest[..., None], -np.inf, -1)
        own = nearest @ self._place
        step = (signed.argmax(-1) - nearest) * self._place       # (n, rounds, polytopes)
        return np.concatenate([own[..., None], own[..., None] + step], -1)


class _Table:
    """Newest ``depth`` row numbers of every bucket of every round."""

    def __init__(self, rounds: int, buckets: int, depth: int):
        self.depth = depth
        self.members = np.full((rounds, buckets, depth), -1, np.int64)
        self.count = np.zeros((rounds, buckets), np.int64)
        self._round = np.arange(rounds)

    def insert(self, bucket: np.ndarray, rows: np.ndarray):
        """Add rows (n,) to their buckets (n, rounds), oldest first."""
        if len(rows) == 1:
            at = self._round, bucket[0]
            self.members[(*at, self.count[at] % self.depth)] = rows[0]
            self.count[at] += 1
            return
        for r in self._round:
            order = np.argsort(bucket[:, r], kind='stable')       # time order within a bucket
            sorted_ = bucket[order, r]
            new, start, size = np.unique(sorted_, return_index=True, return_counts=True)
            rank = np.arange(len(rows)) - np.repeat(start, size)
            # of a repeated slot numpy keeps the last value assigned: the newest row
            slot = (self.count[r, sorted_] + rank) % self.depth
            self.members[r, sorted_, slot] = rows[order]
            self.count[r, new] += size


class StreamingIndex:
    """Newest and newest remarkable rows of every bucket; bounded memory, O(rounds) insert.

    Row numbers are the log's absolute sequence numbers, so a row that has left the window is
    told by its number and needs no deletion.

    Args:
        hasher: of the keys.
        depth: newest rows kept of a bucket.
        kept: newest remarkable rows kept of a bucket.
    """

    def __init__(self, hasher: AngularHash, depth: int = 8, kept: int = 4):
        self.hasher = hasher
        self._all = _Table(hasher.rounds, hasher.buckets, depth)
        self._remarkable = _Table(hasher.rounds, hasher.buckets, kept)
        self._round = np.arange(hasher.rounds)[:, None]

    def insert(self, keys: np.ndarray, rows: np.ndarray, remarkable: np.ndarray):
        """Add keys (n, dim) of absolute row numbers (n,), oldest first; remarkable (n,) bool."""
        if not len(rows):
            return
        bucket = self.hasher(keys)
        self._all.insert(bucket, rows)
        if remarkable.any():
            self._remarkable.insert(bucket[remarkable], rows[remarkable])

    def query(self, key: np.ndarray, oldest: int) -> np.ndarray:
        """Return the distinct rows (sorted) that share a probed bucket with ``key`` (dim,).

        Args:
            key: the query.
            oldest: rows below this number have left the window and are not returned.

        """
        at = self._round, self.hasher.probes(key[None])[0]
        found = np.unique(np.concatenate([self._all.members[at].ravel(),
                                          self._remarkable.members[at].ravel()]))
        return found[np.searchsorted(found, max(oldest, 0)):]

    @property
    def nbytes(self) -> int:
        """Bytes of the tables."""
        return sum(t.members.nbytes + t.count.nbytes for t in (self._all, self._remarkable))


class BucketHistory:
    """Members of every bucket in time order, for looking up the newest before a moment.

    Args:
        bucket: (m, rounds) of the members.
        positions: (m,) of the members in the sequence, ascending.
        length: of the sequence.
        depth: newest members that a lookup gives.
    """

    def __init__(self, bucket: np.ndarray, positions: np.ndarray, length: int, depth: int):
        self.length, self.depth = length, depth
        # bucket and position in one number: sorted, a bucket is a run in time order
        self.code = [np.sort(bucket[:, r] * length + positions) for r in range(bucket.shape[1])]

    def query(self, probes: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Return positions (b, rounds * probes * depth), -1 where a bucket held fewer.

        Args:
            probes: (b, rounds, probes) buckets looked into.
            before: (b,) moments.

        """
        out = []
        for r, code in enumerate(self.code):
            low = probes[:, r] * self.length                            # (b, probes)
            at = np.searchsorted(code, low + before[:, None])
            at = at[..., None] - np.arange(1, self.depth + 1)           # (b, probes, depth)
            if not len(code):
                out.append(np.full((len(probes), at[0].size), -1))
                continue
            found = code[np.maximum(at, 0)] - low[..., None]
            found = np.where((at >= 0) & (found >= 0), found, -1)
            out.append(found.reshape(len(probes), -1))
        return np.concatenate(out, 1)


class SequenceIndex:
    """What :class:`StreamingIndex` would have found at every moment of a recorded sequence.

    Args:
        hasher, depth, kept: as in the streaming index.
        keys: (n, dim), oldest first.
        member: (n,) bool, rows that enter the index; all when None.
        remarkable: (n,) bool, likewise; none when None.
    """

    def __init__(self, hasher: AngularHash, keys: np.ndarray, member: np.ndarray | None = None,
                 remarkable: np.ndarray | None = None, depth: int = 8, kept: int = 4):
        n = len(keys)
        self.hasher = hasher
        bucket = hasher(keys)
        lived = np.arange(n) if member is None else np.flatnonzero(member)
        marked = lived[:0] if remarkable is None else lived[remarkable[lived]]
        self._all = BucketHistory(bucket[lived], lived, n, depth)
        self._remarkable = BucketHistory(bucket[marked], marked, n, kept)

    def query(self, keys: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Return the rows before positions (b,) that share a probed bucket with keys (b, dim).

        Returns:
            (b, c) int64 positions in ascending order, every one once, -1 for padding.

        """
        probes = self.hasher.probes(keys)
        return distinct(np.concatenate([self._all.query(probes, before),
                                        self._remarkable.query(probes, before)], 1))


def distinct(found: np.ndarray) -> np.ndarray:
    """Sort positions (b, c) and put -1 in the place of repeated ones."""
    found = np.sort(found, 1)
    found[:, 1:][found[:, 1:] == found[:, :-1]] = -1
    return found


def strongest(found: np.ndarray, score: np.ndarray, most: int) -> np.ndarray:
    """Keep the ``most`` best of the rows found (b, c) by score (b, c); -1 stays padding.

    Returns:
        (b, min(most, c)) in ascending order.

    """
    if found.shape[1] > most:
        score = np.where(found >= 0, score, -np.inf)
        best = np.argpartition(-score, most - 1, 1)[:, :most]
        found = np.take_along_axis(found, best, 1)
    return np.sort(found, 1)
