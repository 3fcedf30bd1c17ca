"""The gaze world: a pan-tilt head, flying toys, one of them sounding, often out of view."""

from pathlib import Path

import mujoco
import numpy as np

from dylora_ros.sim.sound import Source, Voice
from dylora_ros.sim.world import World

TOYS = ('red_ball', 'green_cube', 'blue_cylinder')
VOICES = {
    'red_ball': Voice(330.0, (1.0, 0.2, 0.5), 3.0),
    'green_cube': Voice(196.0, (0.7, 1.0, 0.3, 0.6), 1.3),
    'blue_cylinder': Voice(587.0, (1.0, 0.6), 5.0),
}
_PULL, _DRAG = 6.0, 2.5      # N/kg/m and N/kg/(m/s): how toys follow their paths


class Gaze(World):
    """See the module. The task: hold the named toy in the central third of the view.

    Args:
        path: the MJCF file.
        seed: of paths and of who sounds when.
        toy: the named toy.
    """

    def __init__(self, path: str | Path, seed: int = 0, toy: str = 'red_ball', **kwargs):
        if toy not in TOYS:
            raise ValueError(f'toy {toy!r} is not one of {TOYS}')
        self.toy = toy
        super().__init__(path, seed, **kwargs)

    def _on_reset(self):
        self._bodies = {t: self.model.body(t).id for t in TOYS}
        while True:
            # each toy swings on its own sums of sines: azimuth, elevation, distance from the head
            self._phase = {t: self.rng.uniform(0, 2 * np.pi, 6) for t in TOYS}
            self._speed = {t: self.rng.uniform(0.03, 0.09, 6) for t in TOYS}
            for toy in TOYS:
                self.data.joint(toy).qpos[:3] = self._path(toy)
            mujoco.mj_forward(self.model, self.data)
            if not self.data.ncon:      # toys inside each other would be thrown apart
                break
        self._next_voice = 0.0
        self.sounding = TOYS[self.rng.integers(len(TOYS))]

    def _path(self, toy: str) -> np.ndarray:
        """Return where a toy wants to be now, world frame, m."""
        s = np.sin(2 * np.pi * self._speed[toy] * self.time + self._phase[toy])
        azimuth = 1.1 * s[0] + 0.7 * s[1] + 0.3 * s[2]
        elevation = 0.28 * s[3] + 0.15 * s[4]
        distance = 1.6 + 0.5 * s[5] + 0.25 * TOYS.index(toy)
        return np.array([distance * np.cos(azimuth) * np.cos(elevation),
                         distance * np.sin(azimuth) * np.cos(elevation),
                         0.95 + distance * np.sin(elevation)])

    def _before_step(self):
        if self.time >= self._next_voice:
            self._next_voice = self.time + self.rng.uniform(8.0, 20.0)
            self.sounding = TOYS[self.rng.integers(len(TOYS))]
        for toy, body in self._bodies.items():
            joint = self.data.joint(toy)
            mass = self.model.body_mass[body]
            pull = _PULL * (self._path(toy) - joint.qpos[:3]) - _DRAG * joint.qvel[:3]
            self.data.xfrc_applied[body, :3] = mass * pull

    def _impact_now(self) -> float:
        hardest = 0.0
        force = np.zeros(6)
        for i in range(self.data.ncon):
            mujoco.mj_contactForce(self.model, self.data, i, force)
            hardest = max(hardest, abs(force[0]))
        return min(0.3, hardest / 60.0)

    def sources(self) -> list[Source]:
        """Return the sounding toy."""
        ears = np.stack([self.data.site('ear_left').xpos, self.data.site('ear_right').xpos])
        axis = (ears[0] - ears[1]) / np.linalg.norm(ears[0] - ears[1])
        where = self.data.body(self.sounding).xpos
        return [Source(VOICES[self.sounding], 0.25, where - ears, axis)]

    def direction(self, toy: str) -> tuple[float, float]:
        """Return (right, up) of a toy as the camera sees it, in half views; |.| <= 1 is inside.

        Behind the camera, the horizontal value is at least 2 in size, with the side's sign.
        """
        camera = self.data.camera(self.camera)
        local = camera.xmat.reshape(3, 3).T @ (self.data.body(toy).xpos - camera.xpos)
        half = np.tan(np.radians(self.model.camera(self.camera).fovy[0]) / 2)
        if local[2] > -0.05:
            return float(np.copysign(2.0 + local[2], local[0])), 0.0
        return float(local[0] / -local[2] / half), float(local[1] / -local[2] / half)

    def success(self) -> bool:
        """Whether the named toy is within the central third of the view."""
        right, up = self.direction(self.toy)
        return abs(right) <= 1 / 3 and abs(up) <= 1 / 3

    def captions(self) -> list[str]:
        """Say of each toy where it is in the view, and what sounds from where."""
        out = []
        for toy in TOYS:
            name = toy.replace('_', ' ')
            right, up = self.direction(toy)
            if abs(right) > 1 or abs(up) > 1:
                out.append(f'The {name} is out of my view.')
            elif abs(right) <= 1 / 3 and abs(up) <= 1 / 3:
                out.append(f'The {name} is in the middle of my view.')
            elif abs(right) > abs(up):
                out.append(f'The {name} is on the {"right" if right > 0 else "left"} side of my '
                           'view.')
            else:
                out.append(f'The {name} is at the {"top" if up > 0 else "bottom"} of my view.')
        right = self.direction(self.sounding)[0]
        side = 'in front of me'
        if abs(right) > 1:
            side = f'from the {"right" if right > 0 else "left"}'
        out.append(f'I hear the {self.sounding.replace("_", " ")} {side}.')
        return out
