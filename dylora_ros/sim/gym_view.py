"""The worlds as Gymnasium environments (needs the optional package gymnasium).

Importing this module registers ``dylora_ros/Gaze-v0``, ``dylora_ros/Nudged-v0``,
``dylora_ros/Forage-v0`` and ``dylora_ros/Reach-v0``.
"""

import numpy as np

from dylora_ros.sim import worlds
from dylora_ros.sim.batch import body_state
from dylora_ros.sim.world import World, WorldError

try:
    import gymnasium
    from gymnasium import spaces
except ImportError as error:
    raise ImportError('the Gymnasium view of the worlds needs the package gymnasium: '
                      'pip install gymnasium') from error

REWARDS = ('success', 'score')


class WorldEnv(gymnasium.Env):
    """One world; an observation holds a frame, the sound since the last one, and the joints.

    There is no end but time: episodes are truncated after ``seconds``. Unstable physics ends an
    episode early (terminated, reward 0, ``info['unstable']``).

    Args:
        world: a name, a path of a YAML file (``worlds.make``), or a world, used as it is.
        size: (height, width) of the frames, or one number.
        seconds: of an episode.
        period: seconds a step.
        reward: ``success`` (0 or 1, every step) or ``score`` (0 .. 1, dense where the world has
            a dense score).
        render_mode: None or ``rgb_array``: the world seen from outside.
        options: of the world, if it is not made yet.
    """

    metadata = {'render_modes': ['rgb_array'], 'render_fps': 25}

    def __init__(self, world: str | World = 'gaze', size: int | tuple[int, int] = 64,
                 seconds: float = 20.0, period: float = 0.04, reward: str = 'success',
                 render_mode: str | None = None, **options):
        if reward not in REWARDS:
            raise ValueError(f'reward {reward!r} is not one of {REWARDS}')
        if render_mode not in (None, *self.metadata['render_modes']):
            raise ValueError(f'render_mode {render_mode!r} is not rgb_array (or None)')
        if seconds < period or period <= 0:
            raise ValueError(f'an episode of {seconds} s has no step of {period} s')
        if isinstance(world, World):
            if options:
                raise ValueError(f'{", ".join(options)}: the world is made already')
            self.world = world
        else:
            self.world = worlds.make(world, **options)
        self.render_mode = render_mode
        self.period = period
        self._size = (size, size) if isinstance(size, int) else tuple(size)
        self._reward = reward
        self._steps = round(seconds / period)
        self._done = 0
        samples = round(self.world.synthesizer.rate * period)
        self._samples = samples
        count = 2 * len(self.world.names)
        self.observation_space = spaces.Dict({
            'image': spaces.Box(0, 255, (*self._size, 3), np.uint8),
            'sound': spaces.Box(-1, 1, (2, samples), np.float32),
            'joints': spaces.Box(-np.inf, np.inf, (count,), np.float32)})
        self.action_space = spaces.Box(-1, 1, (len(self.world.actuators),), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Begin an episode: the life with this seed, or one drawn from the last seed's numbers."""
        super().reset(seed=seed)
        self.world.reset(int(self.np_random.integers(2 ** 31)) if seed is None else seed)
        self._done = 0
        return self._observe(), self._info()

    def step(self, action: np.ndarray):
        """Live one period; -1 .. 1 is each actuator's whole range."""
        self.world.apply(self.world.from_unit(action))
        self._done += 1
        try:
            self.world.step(self.period)
        except WorldError:
            return self._observe(), 0.0, True, False, {**self._info(), 'unstable': True}
        reward = self.world.score() if self._reward == 'score' else float(self.world.success())
        return self._observe(), reward, False, self._done >= self._steps, self._info()

    def render(self) -> np.ndarray | None:
        """Return the world from outside, (240, 320, 3) uint8, in render mode rgb_array."""
        if self.render_mode is None:
            return None
        return self.world.render(320, 240, self.world.overview)

    def close(self):
        """Free the renderers."""
        self.world.close()

    def _observe(self) -> dict[str, np.ndarray]:
        height, width = self._size
        return {'image': self.world.render(width, height),
                'sound': self.world.listen(self._samples), 'joints': body_state(self.world)}

    def _info(self) -> dict:
        return {'success': bool(self.world.success()), 'score': self.world.score()}


def register():
    """Make the shipped worlds known to ``gymnasium.make``; again does nothing."""
    for name in worlds.WORLDS:
        identity = f'dylora_ros/{name.capitalize()}-v0'
        if identity not in gymnasium.registry:
            gymnasium.register(identity, f'{__name__}:WorldEnv', kwargs={'world': name})


register()
