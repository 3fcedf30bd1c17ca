"""The gaze world in which memory pays: toys drift, and a hand turns the head away now and then."""

import numpy as np

from dylora_ros.sim import view
from dylora_ros.sim.gaze import Gaze, TOYS

_FREE = 4.0, 7.0             # s between two times that the hand has the head
_AWAY, _SHOWN = 1.5, 0.5     # s for which it holds the head; no older frame tells then
_BESIDE = 0.9, 1.5           # rad between the named toy and where the head is turned away to
_ASIDE = 0.3                 # rad likewise when it is shown: in the view, not in the middle
_REACH = 2.4                 # rad to either side, of the hand
_SPEED = 6.0                 # rad/s


class Nudged(Gaze):
    """Gaze in which a hand takes the head every few seconds.

    If the named toy is in the view then, the hand turns the head until it is not, to either side,
    and holds it there for 1.5 s: neither motion nor an older frame tells the side any more, and
    who remembers where the toy was finds it at once. If it is not in the view, the hand shows it.
    The toy is mute and hardly moves meanwhile.
    """

    pace, hand = 0.15, True

    def _on_reset(self):
        super()._on_reset()
        self._let_go()

    def _let_go(self):
        self._to: float | None = None                  # where the head is held
        self._next = self.time + self.rng.uniform(*_FREE)

    @property
    def held(self) -> bool:
        """Whether the hand holds the head now."""
        return self._to is not None

    def _choose_voice(self) -> str:
        others = [t for t in TOYS if t != self.toy]
        return others[self.rng.integers(len(others))]

    def _before_step(self):
        super()._before_step()
        if not self.hand or self.time < self._next:
            return
        if self._to is None:
            seen = view.in_view(*self.direction(self.toy))
            self._to = self._beside(self.rng.uniform(*_BESIDE) if seen else _ASIDE)
            self._until = self.time + (_AWAY if seen else _SHOWN)
        if self.time >= self._until:
            self._let_go()
            return
        pan, step = float(self.data.joint('pan').qpos[0]), _SPEED * self.model.opt.timestep
        self.turn_to(pan + float(np.clip(self._to - pan, -step, step)))

    def _beside(self, angle: float) -> float:
        """Return where the head points so far from the named toy, to a side in reach."""
        angle *= self.rng.choice((-1.0, 1.0))
        there = self.bearing() + angle
        return there if abs(there) <= _REACH else self.bearing() - angle
