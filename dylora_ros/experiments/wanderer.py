"""A rover that is shown the room: driven to posts, back from them, and at random.

Random commands alone take a rover into a wall and leave it there. In most stretches its driver,
who knows where the posts are, drives to one of them, as in ``shown`` a teacher turns the head to
toys.
"""

import numpy as np

from dylora_ros.sim.forage import POSTS

DRAWN, BACK, RANDOM = 'drawn', 'back', 'random'
SHARES = {DRAWN: 0.55, BACK: 0.2, RANDOM: 0.25}      # of the stretches
CYCLES = {DRAWN: 150, BACK: 45, RANDOM: 75}           # of a stretch of each kind
_SOUNDING = 0.5       # share of the wishes that are for the post that sounds
_TURN, _NOISE = 0.6, 0.15


class Wanderer:
    """Commands for the wheels of a forage world.

    Args:
        world: where the rover is.
        seed: of the commands.
    """

    def __init__(self, world, seed: int):
        self._world = world
        self._rng = np.random.default_rng(seed)
        self._left = 0
        self._wish = np.zeros(2)

    def __call__(self) -> np.ndarray:
        """Return the next commands (left, right) in -1 .. 1."""
        if not self._left:
            self._begin()
        self._left -= 1
        self._wish = 0.93 * self._wish + 0.25 * self._rng.standard_normal(2)
        if self._kind == RANDOM:
            return np.clip(self._wish, -1, 1)
        if self._kind == BACK:
            ahead, turn = -0.6, self._side
        else:
            right = np.clip(self._world.direction(self._post)[0], -2, 2)
            ahead, turn = self._speed * max(0.0, 1 - abs(right)), _TURN * right
        return np.clip([ahead + turn, ahead - turn] + _NOISE * self._wish, -1, 1)

    def _begin(self):
        self._kind = self._rng.choice(list(SHARES), p=list(SHARES.values()))
        self._left = CYCLES[self._kind]
        self._side = self._rng.uniform(-0.4, 0.4)
        self._speed = self._rng.uniform(0.4, 1.0)
        self._post = self._world.sounding if self._rng.random() < _SOUNDING \
            else POSTS[self._rng.integers(len(POSTS))]
