"""A MuJoCo world with a body: joints, a camera, two ears, and a task's ground truth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
import logging
from pathlib import Path

import mujoco
import numpy as np

from dylora_ros.sim.sound import Source, Synthesizer, Voice

# MuJoCo resets an unstable simulation by itself and merely counts these warnings
_UNSTABLE = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL,
             mujoco.mjtWarning.mjWARN_BADQACC)
_APART = 0.25      # s: a contact that was lost for less goes on (things that press tremble)
# and writes MUJOCO_LOG.TXT into the current folder, unless somebody else takes its warnings
mujoco.set_mju_user_warning(logging.getLogger(__name__).warning)


class WorldError(RuntimeError):
    """The world cannot be made or stepped; says what is wrong."""


@dataclass(frozen=True)
class Joints:
    """State of the commanded joints (metres and metres a second where they slide)."""

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
        twin: a world of the same file and options that lends its compiled model and its
            renderers; many worlds in one process are then cheap. Close them all together.
    """

    ears = ('ear_left', 'ear_right')       # sites
    overview = 'overview'                   # camera that shows the world to people

    def __init__(self, path: str | Path, seed: int = 0, camera: str = 'eye',
                 audio_rate: int = 16000, twin: World | None = None):
        if twin is None:
            try:
                self.model = self._load(path)
            except (ValueError, OSError) as error:
                raise WorldError(f'cannot load the scene {path}: {error}') from error
        else:
            self.model = twin.model
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = (
            {} if twin is None else twin._renderers)
        self.data = mujoco.MjData(self.model)
        self.camera = camera
        self._commanded = self._choose_actuators()
        self.actuators = tuple(self.model.actuator(i).name for i in self._commanded)
        self.limits = self._choose_limits()     # (actuators, 2)
        self._joints = self._choose_joints()
        self._audio_rate = audio_rate
        self.seed = seed
        self.reset()

    def _load(self, path: str | Path) -> mujoco.MjModel:
        """Compile the scene."""
        return mujoco.MjModel.from_xml_path(str(path))

    def _choose_actuators(self) -> list[int]:
        """Return the ids of the actuators that the agent commands."""
        return list(range(self.model.nu))

    def _choose_limits(self) -> np.ndarray:
        """Return least and greatest command of each commanded actuator, (actuators, 2)."""
        return self.model.actuator_ctrlrange[self._commanded]

    def _choose_joints(self) -> list:
        """Return the model's joints that the agent feels."""
        return [self.model.joint(self.model.actuator_trnid[i, 0]) for i in self._commanded]

    def reset(self, seed: int | None = None):
        """Start anew, as seeded.

        Args:
            seed: another one from now on; None keeps it.

        """
        if seed is not None:
            self.seed = seed
        self.rng = np.random.default_rng(self.seed)
        self.synthesizer = Synthesizer(self._audio_rate, self.seed)
        self._impact = 0.0
        self._last_contact: dict[tuple[int, int], float] = {}
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

    @property
    def unlimited(self) -> np.ndarray:
        """Which of the commanded joints may turn on for ever, (joints,) bool."""
        return np.array([j.type[0] == int(mujoco.mjtJoint.mjJNT_HINGE)
                         and not self.model.jnt_limited[j.id] for j in self._joints])

    @property
    def ranges(self) -> np.ndarray:
        """Return least and greatest position of the commanded joints, (joints, 2), rad.

        Those of joints that may turn on for ever mean nothing.
        """
        return np.array([self.model.jnt_range[j.id] for j in self._joints])

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
        count = len(self.actuators)
        if command.shape != (count,) or not np.isfinite(command).all():
            raise ValueError(f'command {command} is not {count} finite numbers '
                             f'({", ".join(self.actuators)})')
        self.data.ctrl[self._commanded] = command.clip(self.limits[:, 0], self.limits[:, 1])

    def from_unit(self, action: np.ndarray) -> np.ndarray:
        """Return -1 .. 1 per actuator as a command in the actuators' own units."""
        low, high = self.limits.T
        return low + (np.asarray(action, float) + 1) / 2 * (high - low)

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
                    'libgl1-mesa-dri), set MUJOCO_GL=egl if mujoco was imported before '
                    'dylora_ros.sim, or set MUJOCO_GL=osmesa') from error
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
            self._renderers[width, height] = renderer
        self._before_frame()
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

    def score(self) -> float:
        """Return how well the task is fulfilled now, 0 .. 1; 1 is success."""
        return float(self.success())

    def _source(self, voice: Voice, loudness: float, where: np.ndarray) -> Source:
        """Return a sound at a place (world frame, m) as the ears hear it."""
        ears = np.stack([self.data.site(name).xpos for name in self.ears])
        axis = (ears[0] - ears[1]) / np.linalg.norm(ears[0] - ears[1])
        return Source(voice, loudness, where - ears, axis)

    def _knock(self, quiet: frozenset[int], full: float) -> float:
        """Return the strength 0 .. 0.3 of contacts that began in this time step.

        What rests, rolls or presses on another thing stays silent.

        Args:
            quiet: geoms (ids) whose contacts are never heard.
            full: force in N that would be as loud as 1.

        """
        hardest = 0.0
        for i, pair in enumerate(map(tuple, self.data.contact.geom.tolist())):
            if pair[0] in quiet or pair[1] in quiet:
                continue
            if self.time - self._last_contact.get(pair, -np.inf) > _APART:
                force = np.zeros(6)
                mujoco.mj_contactForce(self.model, self.data, i, force)
                hardest = max(hardest, abs(force[0]))
            self._last_contact[pair] = self.time
        return min(0.3, hardest / full)

    def _impact_now(self) -> float:
        return 0.0

    def _before_frame(self):
        """Change what only the camera sees."""

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
