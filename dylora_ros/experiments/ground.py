"""The standard ground: small control tasks of gymnasium and dm_control, and how runs are judged.

Returns are of whole episodes with the deterministic policy on episodes of their own. A step is one
``env.step`` without action repeat. Time spent judging is kept out of the runs' clocks.
"""

from collections.abc import Callable
from pathlib import Path
import time

import gymnasium
import numpy as np

from dylora_ros.provenance import provenance, write

TASKS = ('Reacher-v5', 'Pusher-v5', 'reacher-easy')
STEPS = 100_000
JUDGED_EVERY = 10_000
EPISODES = 20                  # a point of the curve
FINAL_EPISODES = 100
_JUDGE_SEED = 10_000           # far from the seeds of runs


class Reacher(gymnasium.Env):
    """dm_control's reacher-easy: 1000 steps an episode, reward 1 within the target."""

    def __init__(self, seed: int):
        self._suite = _dm_control().load('reacher', 'easy', task_kwargs={'random': seed})
        spec = self._suite.action_spec()
        self.action_space = gymnasium.spaces.Box(spec.minimum.astype('f'),
                                                 spec.maximum.astype('f'))
        size = sum(int(np.prod(o.shape)) for o in self._suite.observation_spec().values())
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,))

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Start an episode (``seed`` is that of the constructor)."""
        super().reset(seed=seed)
        return self._flat(self._suite.reset()), {}

    def step(self, action: np.ndarray):
        """Live one step; an episode is cut at its end, never terminated."""
        moment = self._suite.step(action)
        return self._flat(moment), float(moment.reward), False, moment.last(), {}

    @staticmethod
    def _flat(moment) -> np.ndarray:
        return np.concatenate([np.ravel(o) for o in moment.observation.values()]).astype('f')


def make(task: str, seed: int) -> gymnasium.Env:
    """Return a task's environment.

    Raises:
        ValueError: for an unknown task.

    """
    if task not in TASKS:
        raise ValueError(f'unknown task {task!r}: one of {", ".join(TASKS)}')
    env = Reacher(seed) if task == 'reacher-easy' else gymnasium.make(task)
    env.reset(seed=seed)
    env.action_space.seed(seed)
    return env


def judge(task: str, act: Callable[[np.ndarray], np.ndarray], episodes: int) -> list[float]:
    """Return the returns of ``episodes`` (the same for everybody) under a policy."""
    env, returns = make(task, _JUDGE_SEED), []
    for i in range(episodes):
        state, _ = env.reset(seed=_JUDGE_SEED + i)
        total, done = 0.0, False
        while not done:
            state, reward, terminated, truncated, _ = env.step(act(state))
            total, done = total + float(reward), terminated or truncated
        returns.append(total)
    env.close()
    return returns


class Run:
    """A run's curve and clocks; goes on where a saved one ended.

    Attributes:
        curve: dicts of ``steps``, ``mean`` and ``std`` of the return, ``cpu_s`` and ``wall_s``
            spent learning until then.

    """

    def __init__(self, task: str, learner: str, seed: int, saved: dict | None = None):
        self.task, self.learner, self.seed = task, learner, seed
        self.curve: list[dict] = saved['curve'] if saved else []
        self._spent = np.array([self.curve[-1]['cpu_s'], self.curve[-1]['wall_s']]
                               if saved else [0.0, 0.0])
        self.resumed = saved['resumed'] + 1 if saved else 0
        self._start = self._clocks()

    def judge(self, steps: int, act: Callable[[np.ndarray], np.ndarray],
              episodes: int = EPISODES) -> str:
        """Add a point to the curve; returns a line about it."""
        self._spent += self._clocks() - self._start
        returns = judge(self.task, act, episodes)
        cpu, wall = map(float, self._spent.round(1))
        self.curve.append({'steps': steps, 'mean': round(float(np.mean(returns)), 3),
                           'std': round(float(np.std(returns)), 3), 'episodes': episodes,
                           'cpu_s': cpu, 'wall_s': wall})
        self._start = self._clocks()
        left = wall * (STEPS - steps) / max(steps, 1)
        return (f'{self.task} {self.learner} seed {self.seed}: {steps} steps, return '
                f'{np.mean(returns):.2f}, {cpu:.0f} s CPU, {wall:.0f} s, about {left:.0f} s left')

    def saved(self) -> dict:
        """Return what goes on later."""
        return {'curve': self.curve, 'resumed': self.resumed}

    def publish(self, folder: Path, command: str, settings: dict, packages: tuple[str, ...]):
        """Write the finished run's record."""
        last = self.curve[-1]
        write(record_path(folder, self.task, self.learner, self.seed), provenance(
            command, ('torch', 'numpy', 'gymnasium', 'mujoco', 'dm_control', *packages),
            task=self.task, learner=self.learner, seed=self.seed, steps=last['steps'],
            settings=settings, final={k: last[k] for k in ('mean', 'std', 'episodes')},
            cpu_s=last['cpu_s'], wall_s=last['wall_s'], resumed=self.resumed,
            curve=self.curve))

    @staticmethod
    def _clocks() -> np.ndarray:
        return np.array([time.process_time(), time.monotonic()])


def record_path(folder: Path, task: str, learner: str, seed: int) -> Path:
    """Return where a finished run's record lies."""
    return folder / f'{task}-{learner}-{seed}.json'


def _dm_control():
    """Return dm_control's suite, also beside a MuJoCo that has dropped fields it lists."""
    from dm_control.mujoco.wrapper.mjbindings import sizes
    import mujoco
    for name, struct in (('mjmodel', mujoco.MjModel), ('mjdata', mujoco.MjData)):
        for field in [f for f in sizes.array_sizes[name] if not hasattr(struct, f)]:
            del sizes.array_sizes[name][field]
    from dm_control import suite
    return suite
