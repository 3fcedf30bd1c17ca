"""The second read of the global context: by reward, where q's attention reads by likeness.

q predicts the next LR states, and what these depend on is a second old at most: its attention
learns to forget (decision 082). What was good, and where the body was then, is worth keeping for
longer. When what is now is bad, that moment since waking is recollected whose reward, less
``FADES`` a second of its age, is the greatest, while that is more than nothing: hard attention
with reward and age as its logit. All fade alike, so that the order of two moments never changes,
and one row is all that must be kept. What is good now needs none: eyes tell more of it, but a
recollection is easier to follow (decision 085).
"""

from collections import OrderedDict

import numpy as np

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.features import encoded, lived
from dylora_ros.core.judging import BAD
from dylora_ros.core.rows import FLAG_BOOT, FLAG_DREAM, FLAG_FORGOTTEN, RowSchema

FADES = 0.1           # of reward a second (from -1 .. 1)
_LATE = 64            # rows after which a reward is no longer waited for


class Recollection:
    """Follows rows in order, and knows which one is recollected."""

    def __init__(self):
        self._stamps: OrderedDict[int, int] = OrderedDict()      # of the newest rows -> number
        self._wake()

    def _wake(self):
        self._stamps.clear()
        self._number, self._best, self._now = -1, -np.inf, 0.0

    def take(self, number: int, stamp: int, flags: int, reward: float, reward_stamp: int):
        """Take the next row, and the reward that had arrived with it of an earlier state."""
        if flags & FLAG_BOOT:
            self._wake()
        if flags & (FLAG_DREAM | FLAG_FORGOTTEN):
            return
        self._stamps[stamp] = number
        if len(self._stamps) > _LATE:
            self._stamps.popitem(last=False)
        judged = self._stamps.get(reward_stamp)
        if judged is None:
            return
        self._now = reward
        worth = reward + FADES * 1e-9 * reward_stamp
        if worth >= self._best:
            self._number, self._best = judged, worth

    def at(self, stamp: int) -> tuple[int, float]:
        """Return the number of the row that is recollected at ``stamp`` (ns), and its worth.

        (-1, 0.0) where there is none.
        """
        worth = self._best - FADES * 1e-9 * stamp
        return (self._number, worth) if self._now < BAD and worth > 0 else (-1, 0.0)


class Recollecting:
    """The recollection of an agent that is awake.

    Args:
        log: the global context (a reader will do); what was before this moment is not recollected.
    """

    def __init__(self, log: GlobalContext):
        self._log, self._recollection = log, Recollection()
        self._seen = log.committed

    def at(self, stamp: int) -> tuple[np.ndarray, float] | None:
        """Return the row (1,) that is recollected at ``stamp`` (ns), and its worth; or None."""
        end = self._log.committed
        rows = self._log.rows(self._seen, end)
        for number, row in enumerate(rows, end - len(rows)):
            self._recollection.take(number, int(row['stamp']), int(row['flags']),
                                    float(row['reward']), int(row['reward_stamp']))
        self._seen = end
        number, worth = self._recollection.at(stamp)
        if number < self._log.first:
            return None
        row = self._log.take(np.array([number]))
        # it may have been erased since, on request
        return (row, worth) if lived(row).all() else None


def recollected(rows: np.ndarray, rewards: np.ndarray | None = None,
                ) -> tuple[np.ndarray, np.ndarray]:
    """Return what each of consecutive rows recollects, as :class:`Recollecting` does.

    Args:
        rows: (n,).
        rewards: (n,) of their states, told one row later, of rows that nobody judged.

    Returns:
        Indices (n,) of rows, -1: of none; what they are worth then (n,).

    """
    told, of = rows['reward'], rows['reward_stamp']
    if rewards is not None:
        told, of = np.roll(rewards, 1), np.roll(rows['stamp'], 1)
    out, worth, memory = np.full(len(rows), -1), np.zeros(len(rows)), Recollection()
    for i, row in enumerate(zip(rows['stamp'].tolist(), rows['flags'].tolist(), told.tolist(),
                                of.tolist(), strict=True)):
        out[i], worth[i] = memory.at(row[0])
        memory.take(i, *row)
    return out, worth


def width(schema: RowSchema) -> int:
    """Return how many numbers :func:`since` has."""
    sites, rank = schema.modalities['body']
    return sites * rank + 1


def since(rows: np.ndarray, then: np.ndarray, worth: np.ndarray, schema: RowSchema) -> np.ndarray:
    """Return what rows (n,) are told of their recollections ``then`` (n,): (n, width) float32.

    How far the body's LR state is from where it was then, and what that moment is worth now (n,);
    zeros where there is none (worth 0).
    """
    moved = encoded(rows, schema, 'body') - encoded(then, schema, 'body')
    worth = worth[:, None]
    return np.where(worth > 0, np.concatenate([moved, worth], 1), 0.0).astype(np.float32)
