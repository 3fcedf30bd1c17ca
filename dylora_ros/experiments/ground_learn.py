"""Our continuous Q on the standard ground: body only, no camera, 100 k simulator steps.

The agent lives in days of ``BLOCK`` steps; it learns in the sleeps between them, never while
awake. What it reads of its past are the newest rows alone: these tasks hide nothing. Runs are
saved after every judged sleep and go on from there; a finished one is a record in ``--out``.
"""

import argparse
from dataclasses import asdict, replace
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
import torch

from dylora_ros.core.dqn import ContinuousQ, Settings
from dylora_ros.core.files import whole
from dylora_ros.core.trajectory import Sampler, Trajectory
from dylora_ros.experiments import ground
from dylora_ros.provenance import write

BLOCK = 500                    # steps of a day
NEWBORN = 1000                 # steps of babble before the first sleep
UPDATES = 2                    # of the critics for each step lived
SETTINGS = Settings(width=128, actor_width=128, batch=128)


class Life:
    """One body in one task.

    Args:
        task: of the standard ground.
        seed: of everything.
        settings: of the continuous Q.
        updates: of the critics a step.
    """

    def __init__(self, task: str, seed: int, settings: Settings = SETTINGS,
                 updates: int = UPDATES):
        torch.manual_seed(seed)
        self.env = ground.make(task, seed)
        self.updates = updates
        box = self.env.action_space
        self._low, self._high = box.low, box.high
        state, action = self.env.observation_space.shape[0], box.shape[0]
        self.q = ContinuousQ(state, action, settings)
        # a row a step, and one more at the end of each episode
        self.rows = Trajectory(2 * ground.STEPS, state, action)
        self.sampler = Sampler(self.rows, settings.batch, alpha=settings.alpha, seed=seed)
        self._rng = np.random.default_rng(seed)
        self.steps = 0
        self._state, _ = self.env.reset(seed=seed)
        self._reward = 0.0

    def command(self, action: np.ndarray) -> np.ndarray:
        """Map -1 .. 1 to the actuators' units."""
        return (self._low + (action + 1) / 2 * (self._high - self._low)).astype(np.float32)

    def policy(self, state: np.ndarray) -> np.ndarray:
        """Act without exploration, in the actuators' units."""
        return self.command(self.q.act(state, explore=False))

    def wake(self, steps: int):
        """Live: act, and remember."""
        first, size = len(self.rows), len(self._low)
        for _ in range(steps):
            action = self._rng.uniform(-1, 1, size) if self.steps < NEWBORN \
                else self.q.act(self._state)
            after, reward, terminated, truncated, _ = self.env.step(self.command(action))
            self._remember(action, True)
            self._state, self._reward = after, float(reward)
            self.steps += 1
            if terminated or truncated:
                self._remember(np.zeros(size), False)
                self._state, _ = self.env.reset()
                self._reward = 0.0
        self.sampler.new_rows(first)

    def _remember(self, action: np.ndarray, follows: bool):
        self.rows.extend(self._state[None], action[None], np.array([self._reward]),
                         np.array([follows]))

    def sleep(self, updates: int):
        """Learn from all that was lived; returns the report."""
        self.q.normalise(self.rows.states[:len(self.rows)])
        return self.q.learn(self.rows, self.sampler, updates)

    def save(self, folder: Path):
        """Write what :meth:`resume` needs."""
        n = len(self.rows)
        with whole(folder / 'rows.safetensors') as part:
            save_file({name: getattr(self.rows, name)[:n] for name in (
                'states', 'actions', 'rewards', 'follows')}, str(part))
        self.q.save(folder / 'dqn.safetensors')

    def resume(self, folder: Path, steps: int, again: int):
        """Go on where :meth:`save` was called: with a new episode, and new randomness."""
        saved = load_file(str(folder / 'rows.safetensors'))
        saved['follows'][-1] = False
        self.rows.extend(**saved)
        self.sampler.new_rows(0)
        self.q = ContinuousQ.load(folder / 'dqn.safetensors', self.q.sizes)
        self.steps = steps
        self._rng = np.random.default_rng((again, steps))
        torch.manual_seed(again * 1000 + steps)
        self._state, _ = self.env.reset(seed=again * 1000 + steps)


def learn(task: str, seed: int, work: Path, out: Path, command: str,
          settings: Settings = SETTINGS, updates: int = UPDATES):
    """Run a life to its end, or go on with it."""
    folder = work / f'{task}-ours-{seed}'
    folder.mkdir(parents=True, exist_ok=True)
    life, saved = Life(task, seed, settings, updates), None
    if (folder / 'run.json').exists():
        saved = json.loads((folder / 'run.json').read_text())
        life.resume(folder, saved['curve'][-1]['steps'], saved['resumed'] + 1)
    run = ground.Run(task, 'ours', seed, saved)
    while life.steps < ground.STEPS:
        day = NEWBORN if life.steps < NEWBORN else BLOCK
        life.wake(day)
        report = life.sleep(day * updates)
        if life.steps % ground.JUDGED_EVERY == 0:
            episodes = ground.FINAL_EPISODES if life.steps >= ground.STEPS else ground.EPISODES
            print(run.judge(life.steps, life.policy, episodes), json.dumps(report.as_dict()),
                  flush=True)
            life.save(folder)
            write(folder / 'run.json', run.saved())
    run.publish(out, command, {**asdict(settings), 'block': BLOCK, 'newborn': NEWBORN,
                               'updates_per_step': updates}, ())


def main(arguments: list[str] | None = None):
    """Run; see the module."""
    parser = argparse.ArgumentParser(prog='dylora_ros experiment ground', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('ground'))
    parser.add_argument('--out', type=Path, default=Path('docs/results/standard_ground'))
    parser.add_argument('--tasks', nargs='*', default=ground.TASKS, choices=ground.TASKS)
    parser.add_argument('--seeds', nargs='*', type=int, default=[0, 1, 2])
    parser.add_argument('--updates', type=int, default=UPDATES, help='of the critics a step')
    for name in ('n_step', 'width', 'batch', 'discount', 'lr', 'actor_lr', 'tau', 'entropy',
                 'alpha', 'actor_width', 'actor_every'):
        default = getattr(SETTINGS, name)
        parser.add_argument(f'--{name.replace("_", "-")}', type=type(default), default=default)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    settings = replace(SETTINGS, **{k: v for k, v in vars(options).items()
                                    if k in asdict(SETTINGS)})
    for seed in options.seeds:
        for task in options.tasks:
            if not ground.record_path(options.out, task, 'ours', seed).exists():
                learn(task, seed, options.work, options.out,
                      f'python -m dylora_ros experiment ground --tasks {task} --seeds {seed}',
                      settings, options.updates)
