"""Search: who has been badly off for a while looks elsewhere, from pose to pose.

What a will learns in a small part of a life says little of where to look when nothing of what it
wants is to be seen, and its critics go on to hope: it stands still, or stays in a corner, for
minutes (decision 087). So after ``PATIENCE`` cycles of bad reward the body goes to poses drawn
from all that it was ever seen in, until the reward is bad no more. It is a reflex: whoever acts
has it, a newborn without a will too (decision 090).
"""

from typing import Protocol

import numpy as np

from dylora_ros.core.judging import BAD
from dylora_ros.core.motor import commanded, Reachable
from dylora_ros.core.rows import RowSchema

PATIENCE = 50         # cycles, in which the will may find by itself what it misses
LONGEST = 75          # cycles on the way to one pose
_ARRIVED = 0.1        # of a command's range: so little is left to do


class Poser(Reachable, Protocol):
    """A body that can be sent to a pose (``modalities.body.Body``)."""

    def anywhere(self, rng: np.random.Generator) -> np.ndarray: ...
    def towards(self, pose: np.ndarray) -> np.ndarray: ...


class Search:
    """Follows the reward, cycle by cycle.

    Args:
        body: that searches.
        schema: of the rows.
        seed: of the poses.
    """

    def __init__(self, body: Poser, schema: RowSchema, seed: int = 0):
        self._body, self._part = body, schema.slices['body']
        self._rng = np.random.default_rng(seed)
        self._bad = 0                               # cycles
        self._pose: np.ndarray | None = None
        self._left = 0

    def __call__(self, q: np.ndarray, reward: float | None) -> np.ndarray:
        """Return the composite (w,) of this cycle: ``q``, with another body while it searches.

        Args:
            q: (w,) what is wished otherwise.
            reward: the newest, None where there is no new one.

        """
        command = self._command(reward)
        return q if command is None else commanded(q, command, self._body, self._part)

    def _command(self, reward: float | None) -> np.ndarray | None:
        self._bad = self._bad + 1 if reward is not None and reward < BAD else 0
        if self._bad <= PATIENCE:
            self._pose = None
            return None
        if self._pose is None or self._left <= 0:
            self._set_out()
        command = self._body.towards(self._pose)
        if np.abs(command).max() < _ARRIVED:
            self._set_out()
            command = self._body.towards(self._pose)
        self._left -= 1
        return command

    def _set_out(self):
        self._pose, self._left = self._body.anywhere(self._rng), LONGEST
