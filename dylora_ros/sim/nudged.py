"""The gaze world in which memory pays: toys drift, and a hand turns the head away now and then."""

import numpy as np

from dylora_ros.sim.gaze import Gaze, TOYS

_PACE = 0.15                 # of the toys' paths, times that of gaze
_EVERY = 6.0, 10.0           # s between two times that the hand lets go
_HOLDS = 1.5                 # s; neither motion nor an older frame tells the side after that
_BESIDE = 0.9, 1.5           # rad between the named toy and where the head is turned to
_REACH = 2.4                 # rad to either side, of the hand
_SPEED = 6.0                 # rad/s


class Nudged(Gaze):
    """Gaze in which a hand takes the head every few seconds and turns it aside.

    It holds it there for 1.5 s, so that the named toy is out of the view, on either side. The
    toy is mute and hardly moves meanwhile: who remembers where it was finds it at once.
    """

    pace = _PACE

    def _on_reset(self):
        super()._on_reset()
        self._hand = self.rng.uniform(*_EVERY)         # when it takes the head next
        self._to: float | None = None                  # where it turns it to

    @property
    def held(self) -> bool:
        """Whether the hand holds the head now."""
        return self._to is not None

    def _choose_voice(self) -> str:
        others = [t for t in TOYS if t != self.toy]
        return others[self.rng.integers(len(others))]

    def _before_step(self):
        super()._before_step()
        if self.time < self._hand:
            return
        if self._to is None:
            self._to = self._aside()
        if self.time >= self._hand + _HOLDS:
            self._to, self._hand = None, self.time + self.rng.uniform(*_EVERY)
            return
        pan, step = float(self.data.joint('pan').qpos[0]), _SPEED * self.model.opt.timestep
        self.turn_to(pan + float(np.clip(self._to - pan, -step, step)))

    def _aside(self) -> float:
        """Return an angle of the head from which the named toy is not seen."""
        beside = self.rng.uniform(*_BESIDE) * self.rng.choice((-1.0, 1.0))
        there = self.bearing() + beside
        return there if abs(there) <= _REACH else self.bearing() - beside
