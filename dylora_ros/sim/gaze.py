"""The gaze world: a pan-tilt head, flying toys, one of them sounding, often out of view."""

from pathlib import Path

import mujoco
import numpy as np

from dylora_ros.sim import view
from dylora_ros.sim.screen import Screen
from dylora_ros.sim.sound import Source, Voice
from dylora_ros.sim.world import World

TOYS = ('red_ball', 'green_cube', 'blue_cylinder')
VOICES = {
    'red_ball': Voice(330.0, (1.0, 0.2, 0.5), 3.0),
    'green_cube': Voice(196.0, (0.7, 1.0, 0.3, 0.6), 1.3),
    'blue_cylinder': Voice(587.0, (1.0, 0.6), 5.0),
}
SCREEN_AT, SCREEN_SIZE = (1.5, 5.9, 1.6), (1.8, 1.2)     # m: middle, half width and height
_AWAY = 1.2                  # rad from a toy that is to be out of the view; half of that is 0.52
_PULL, _DRAG = 6.0, 2.5      # N/kg/m and N/kg/(m/s): how toys follow their paths


class Gaze(World):
    """See the module. The task: hold the named toy in the central third of the view.

    Args:
        path: the MJCF file.
        seed: of paths and of who sounds when.
        toy: the named toy.
        screen: put a noisy screen on the left wall (see ``screen.py``); all else stays the same.

    Attributes:
        pace: of the toys' paths.
        hand: whether a hand turns the head now and then (see ``nudged.py``).
    """

    pace, hand = 1.0, False

    def __init__(self, path: str | Path, seed: int = 0, toy: str = 'red_ball',
                 screen: bool = False, **kwargs):
        if toy not in TOYS:
            raise ValueError(f'toy {toy!r} is not one of {TOYS}')
        self.toy = toy
        self._screen = Screen(SCREEN_AT, SCREEN_SIZE) if screen else None
        super().__init__(path, seed, **kwargs)

    def _load(self, path):
        if self._screen is None:
            return super()._load(path)
        spec = mujoco.MjSpec.from_file(str(path))
        self._screen.add(spec)
        return spec.compile()

    def _before_frame(self):
        if self._screen is not None:
            self._screen.show(self.model, self.seed, self.time)

    def _on_reset(self):
        self._bodies = np.array([self.model.body(t).id for t in TOYS])
        joints = [self.model.joint(t) for t in TOYS]
        self._at = np.array([j.qposadr[0] + np.arange(3) for j in joints])     # (toys, 3) in qpos
        self._moves = np.array([j.dofadr[0] + np.arange(3) for j in joints])   # in qvel
        while True:
            # each toy swings on its own sums of sines: azimuth, elevation, distance from the head
            self._phase = np.array([self.rng.uniform(0, 2 * np.pi, 6) for _ in TOYS])
            self._speed = np.array([self.rng.uniform(0.03, 0.09, 6) for _ in TOYS])
            self.data.qpos[self._at] = self._paths()
            mujoco.mj_forward(self.model, self.data)
            if not self.data.ncon:      # toys inside each other would be thrown apart
                break
        self._next_voice = 0.0
        self.sounding = self._choose_voice()

    def _choose_voice(self) -> str:
        """Return the toy that sounds next."""
        return TOYS[self.rng.integers(len(TOYS))]

    def _paths(self) -> np.ndarray:
        """Return where the toys want to be now, world frame, (toys, 3), m."""
        s = np.sin(2 * np.pi * self._speed * self.pace * self.time + self._phase).T
        azimuth = 1.1 * s[0] + 0.7 * s[1] + 0.3 * s[2]
        elevation = 0.28 * s[3] + 0.15 * s[4]
        distance = 1.6 + 0.5 * s[5] + 0.25 * np.arange(len(TOYS))
        flat = np.cos(elevation)
        return np.stack([distance * np.cos(azimuth) * flat, distance * np.sin(azimuth) * flat,
                         0.95 + distance * np.sin(elevation)], 1)

    def _before_step(self):
        if self.time >= self._next_voice:
            self._next_voice = self.time + self.rng.uniform(8.0, 20.0)
            self.sounding = self._choose_voice()
        pull = _PULL * (self._paths() - self.data.qpos[self._at]) \
            - _DRAG * self.data.qvel[self._moves]
        self.data.xfrc_applied[self._bodies, :3] = \
            self.model.body_mass[self._bodies, None] * pull

    def _impact_now(self) -> float:
        hardest = 0.0
        force = np.zeros(6)
        for i in range(self.data.ncon):
            mujoco.mj_contactForce(self.model, self.data, i, force)
            hardest = max(hardest, abs(force[0]))
        return min(0.3, hardest / 60.0)

    def sources(self) -> list[Source]:
        """Return the sounding toy."""
        where = self.data.body(self.sounding).xpos
        return [self._source(VOICES[self.sounding], 0.25, where)]

    def direction(self, toy: str) -> tuple[float, float]:
        """Return (right, up) of a toy in half views, as ``view.direction`` does."""
        return view.direction(self, toy)

    def turn_away(self):
        """Turn the head so that the named toy is out of the view, as another's hand would."""
        bearing = self.bearing()
        self.turn_to(bearing + (_AWAY if bearing < 0 else -_AWAY))

    def bearing(self) -> float:
        """Return where the named toy is, rad to the left of straight ahead."""
        where = self.data.body(self.toy).xpos
        return float(np.arctan2(where[1], where[0]))

    def turn_to(self, pan: float):
        """Turn the head to this angle, rad to the left, as another's hand would."""
        joint = self.data.joint('pan')
        joint.qpos, joint.qvel = pan, 0.0
        mujoco.mj_forward(self.model, self.data)

    def success(self) -> bool:
        """Whether the named toy is within the central third of the view."""
        right, up = self.direction(self.toy)
        return view.in_the_middle(right, up)

    def captions(self) -> list[str]:
        """Say of each toy where it is in the view, and what sounds from where."""
        out = [view.seen(toy, *self.direction(toy)) for toy in TOYS]
        return [*out, view.heard(self.sounding, self.direction(self.sounding)[0])]
