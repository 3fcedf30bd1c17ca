"""Several worlds of one kind stepped in lockstep, each sense at its own rate."""

from dataclasses import dataclass

import numpy as np

from dylora_ros.sim import worlds
from dylora_ros.sim.world import World, WorldError


def body_state(world: World) -> np.ndarray:
    """Return joint positions, then velocities, (2 * joints,) float32.

    Joints without limits (wheels) turn on for ever; their positions are wrapped to -pi .. pi.
    """
    state = world.joints()
    turning = world.unlimited
    position = np.where(turning, (state.position + np.pi) % (2 * np.pi) - np.pi, state.position)
    return np.concatenate([position, state.velocity]).astype(np.float32)


@dataclass
class Senses:
    """What n worlds give after a cycle; frames and sound are the newest ones there are.

    Attributes:
        image: (n, size, size, 3) uint8.
        sound: (n, 2, samples) float32, samples of ``sound_every`` cycles.
        joints: (n, 2 * joints) float32, see ``body_state``.
        success: (n,) bool.
        score: (n,) float32, 0 .. 1.
        new_image: whether the frames are of this cycle.
        new_sound: whether the sound ends with this cycle.
        restarted: (n,) bool: physics became unstable, the life began anew.
    """

    image: np.ndarray
    sound: np.ndarray
    joints: np.ndarray
    success: np.ndarray
    score: np.ndarray
    new_image: bool
    new_sound: bool
    restarted: np.ndarray


class Batch:
    """Worlds that share one compiled model and one renderer, stepped together.

    Each has its own seed and lives the same life as it would alone.

    Args:
        name: of the world, or path of a YAML file (``worlds.make``).
        count: how many.
        seed: of the first; the others count up.
        period: seconds a cycle.
        size: height and width of the frames.
        frame_every: cycles between frames.
        sound_every: cycles between chunks of sound.
        rate: of the sound, samples a second.
        options: of the world.
    """

    def __init__(self, name: str, count: int, seed: int = 0, period: float = 0.04, size: int = 64,
                 frame_every: int = 4, sound_every: int = 5, rate: int = 16000, **options):
        if count < 1:
            raise ValueError(f'count is {count}; a batch needs at least one world')
        if frame_every < 1 or sound_every < 1:
            raise ValueError(f'frame_every is {frame_every} and sound_every {sound_every}; '
                             'both are cycles, at least 1')
        first = worlds.make(name, seed, audio_rate=rate, **options)
        self.worlds = [first, *(worlds.make(name, seed + i, audio_rate=rate, twin=first, **options)
                                for i in range(1, count))]
        self.period, self.size = period, size
        self._frame_every, self._sound_every = frame_every, sound_every
        self._samples = round(rate * period * sound_every)
        self._cycle = 0
        self._image = self._sound = None

    @property
    def actuators(self) -> tuple[str, ...]:
        """Names of each world's actuators."""
        return self.worlds[0].actuators

    def reset(self) -> Senses:
        """Start all lives anew; returns the first senses (with silence)."""
        for world in self.worlds:
            world.reset()
        self._cycle = 0
        self._image = self._look()
        self._sound = np.zeros((len(self.worlds), 2, self._samples), np.float32)
        return self._senses(True, True, np.zeros(len(self.worlds), bool))

    def step(self, actions: np.ndarray) -> Senses:
        """Live one cycle.

        Args:
            actions: (n, actuators) in -1 .. 1.

        Raises:
            ValueError: wrong shape or not finite; no world has moved.

        """
        actions = np.asarray(actions, float)
        shape = (len(self.worlds), len(self.actuators))
        if actions.shape != shape or not np.isfinite(actions).all():
            raise ValueError(f'actions have shape {actions.shape} (or are not finite), '
                             f'expected {shape}: worlds x {self.actuators}')
        if self._image is None:
            self.reset()
        self._cycle += 1
        restarted = np.zeros(len(self.worlds), bool)
        for i, (world, action) in enumerate(zip(self.worlds, actions, strict=True)):
            world.apply(world.from_unit(action))
            try:
                world.step(self.period)
            except WorldError:
                restarted[i] = True
        new_image = self._cycle % self._frame_every == 0
        new_sound = self._cycle % self._sound_every == 0
        if new_image:
            self._image = self._look()
        if new_sound:
            self._sound = np.stack([w.listen(self._samples) for w in self.worlds])
        return self._senses(new_image, new_sound, restarted)

    def close(self):
        """Free the renderers."""
        for world in self.worlds:
            world.close()

    def _look(self) -> np.ndarray:
        return np.stack([w.render(self.size, self.size) for w in self.worlds])

    def _senses(self, new_image: bool, new_sound: bool, restarted: np.ndarray) -> Senses:
        return Senses(self._image, self._sound, np.stack([body_state(w) for w in self.worlds]),
                      np.array([w.success() for w in self.worlds]),
                      np.array([w.score() for w in self.worlds], np.float32),
                      new_image, new_sound, restarted)
