"""A MuJoCo world with a body: joints, a camera, two ears, and a task's ground truth."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
import logging
from pathlib import Path

import mujoco
import numpy as np

from dylora_ros.sim.sound import Source, Synthesizer

# MuJoCo resets an unstable simulation by itself and merely counts these warnings
_UNSTABLE = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL,
             mujoco.mjtWarning.mjWARN_BADQACC)
# and writes MUJOCO_LOG.TXT into the current folder, unless somebody else takes its warnings
mujoco.set_mju_user_warning(logging.getLogger(__name__).warning)


class WorldError(RuntimeError):
    """The world cannot be made or stepped; says what is wrong."""


@dataclass(frozen=True)
class Joints:
    """State of the commanded joints."""

    names: tuple[str, ...]
    position: np.ndarray   # rad
    velocity: np.ndarray   # rad/s


class World(ABC):
    """Base of all worlds.

    Args:
        path: MJCF file.
        seed: of everything random in the world.
        camera: name of the agent's camera.
        audio_rate: samples a second.
    """

    def __init__(self, path: str | Path, seed: int = 0, camera: str = 'eye',
                 audio_rate: int = 16000):
        try:
            self.model = mujoco.MjModel.from_xml_path(str(path))
        except ValueError as error:
            raise WorldError(f'cannot load the scene {path}: {error}') from error
        self.data = mujoco.MjData(self.model)
        self.camera = camera
        self.actuators = tuple(self.model.actuator(i).name for i in range(self.model.nu))
        self.limits = self.model.actuator_ctrlrange.copy()     # (nu, 2)
        self._joints = [self.model.joint(self.model.actuator_trnid[i, 0])
                        for i in range(self.model.nu)]
        self._audio_rate = audio_rate
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}
        self.seed = seed
        self.reset()

    def reset(self):
        """Start anew, as seeded."""
        self.rng = np.random.default_rng(self.seed)
        self.synthesizer = Synthesizer(self._audio_rate, self.seed)
        self._impact = 0.0
        mujoco.mj_resetData(self.model, self.data)
        self._on_reset()
        mujoco.mj_forward(self.model, self.data)

    @property
    def time(self) -> float:
        """Simulated seconds."""
        return self.data.time

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the commanded joints."""
        return tuple(j.name for j in self._joints)

    def step(self, seconds: float):
        """Advance the physics by about this many seconds (whole time steps).

        Raises:
            WorldError: the state became NaN or huge (the world is reset first).

        """
        for _ in range(max(1, round(seconds / self.model.opt.timestep))):
            self._before_step()
            mujoco.mj_step(self.model, self.data)
            self._impact = max(self._impact, self._impact_now())
        if any(self.data.warning[kind].number for kind in _UNSTABLE):
            self.reset()
            raise WorldError('the physics became unstable (NaN or huge values) and was reset')

    def apply(self, command: np.ndarray):
        """Set the actuators (their own units); clipped to their limits.

        Raises:
            ValueError: wrong size or NaN; the last command stays.

        """
        command = np.asarray(command, float)
        if command.shape != (self.model.nu,) or not np.isfinite(command).all():
            raise ValueError(f'command {command} is not {self.model.nu} finite numbers '
                             f'({", ".join(self.actuators)})')
        self.data.ctrl[:] = command.clip(self.limits[:, 0], self.limits[:, 1])

    def joints(self) -> Joints:
        """Return the commanded joints' positions and velocities."""
        position = np.array([self.data.qpos[j.qposadr[0]] for j in self._joints])
        velocity = np.array([self.data.qvel[j.dofadr[0]] for j in self._joints])
        return Joints(self.names, position, velocity)

    def render(self, width: int = 128, height: int = 128,
               camera: str | None = None) -> np.ndarray:
        """Return the camera's image, (height, width, 3) uint8 RGB."""
        renderer = self._renderers.get((width, height))
        if renderer is None:
            try:
                renderer = mujoco.Renderer(self.model, height, width)
            except Exception as error:     # mujoco raises bare RuntimeErrors and GL errors here
                raise WorldError(
                    f'cannot render ({error}); install a GL library (Debian: libegl1 '
                    'libgl1-mesa-dri) or set MUJOCO_GL=osmesa') from error
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
            self._renderers[width, height] = renderer
        renderer.update_scene(self.data, camera or self.camera)
        return renderer.render().copy()

    def listen(self, samples: int) -> np.ndarray:
        """Return the next samples of both ears, (2, samples) float32."""
        impact, self._impact = self._impact, 0.0
        return self.synthesizer.chunk(samples, self.sources(), impact)

    def close(self):
        """Free the renderers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _impact_now(self) -> float:
        return 0.0

    def _on_reset(self):
        """Set the initial state from ``self.rng``."""

    def _before_step(self):
        """Apply what moves the world besides the agent."""

    @abstractmethod
    def sources(self) -> list[Source]:
        """Return what sounds now."""

    @abstractmethod
    def captions(self) -> list[str]:
        """Return true sentences about what the agent perceives now (for training only)."""

    @abstractmethod
    def success(self) -> bool:
        """Whether the task is fulfilled now."""
