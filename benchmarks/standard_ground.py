"""The standard ground's peers: stable-baselines3 SAC (or its TQC) as it comes, 100 k steps.

    python benchmarks/standard_ground.py --work DIR [--tasks Reacher-v5 ...] [--seeds 0 1 2]
        [--peer tqc]

Goes on where it was interrupted: a run is saved every 10 k steps in ``--work``, a finished one is
``docs/results/standard_ground/TASK-LEARNER-SEED.json`` and not run again. Our learner's runs
(``python -m dylora_ros experiment ground``) lie beside. The last line is one JSON object: every
task's mean returns and costs, by learner.
"""

import argparse
import json
from pathlib import Path
import sys

import numpy as np
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dylora_ros.experiments import ground  # noqa: E402
from dylora_ros.provenance import write  # noqa: E402

RESULTS = ROOT / 'docs' / 'results' / 'standard_ground'


class Judge(BaseCallback):
    """Judges and saves every ``JUDGED_EVERY`` steps."""

    def __init__(self, run: ground.Run, folder: Path):
        super().__init__()
        self.run_, self._folder = run, folder

    def _on_step(self) -> bool:
        if self.num_timesteps % ground.JUDGED_EVERY == 0:
            final = self.num_timesteps == ground.STEPS
            print(self.run_.judge(self.num_timesteps, policy(self.model),
                                  ground.FINAL_EPISODES if final else ground.EPISODES), flush=True)
            self.model.save(self._folder / 'model.zip')
            self.model.save_replay_buffer(self._folder / 'buffer.pkl')
            write(self._folder / 'run.json', self.run_.saved())
        return True


def peer(name: str) -> type[OffPolicyAlgorithm]:
    """Return the class of a peer."""
    if name == 'tqc':
        from sb3_contrib import TQC
        return TQC
    return SAC


def policy(model: OffPolicyAlgorithm):
    """Return the deterministic policy."""
    return lambda state: model.predict(state, deterministic=True)[0]


def learn(task: str, learner: str, seed: int, work: Path):
    """Run a peer with its defaults, or go on with it."""
    folder, algorithm = work / f'{task}-{learner}-{seed}', peer(learner)
    folder.mkdir(parents=True, exist_ok=True)
    env = ground.make(task, seed)
    state = folder / 'run.json'
    if state.exists():
        model = algorithm.load(folder / 'model.zip', env=env)
        model.load_replay_buffer(folder / 'buffer.pkl')
        run = ground.Run(task, learner, seed, json.loads(state.read_text()))
        model.num_timesteps = run.curve[-1]['steps']
        env.reset(seed=seed + 1000 * run.resumed)      # not the first episodes again
    else:
        # the buffer holds the whole run, as the default of a million would
        model = algorithm('MlpPolicy', env, seed=seed, buffer_size=ground.STEPS)
        run = ground.Run(task, learner, seed)
    model.learn(ground.STEPS - model.num_timesteps, callback=Judge(run, folder),
                reset_num_timesteps=False)
    run.publish(RESULTS, f'python benchmarks/standard_ground.py --tasks {task} --seeds {seed} '
                f'--peer {learner}', {'everything': "stable-baselines3's defaults, one thread"},
                ('stable_baselines3', 'sb3_contrib'))


def summary() -> dict:
    """Return every task's returns and costs by learner, over the seeds that are finished."""
    groups: dict[str, dict[str, list[dict]]] = {}
    for path in sorted(RESULTS.glob('*.json')):
        record = json.loads(path.read_text())
        groups.setdefault(record['task'], {}).setdefault(record['learner'], []).append(record)
    return {task: {learner: {
        'seeds': [r['seed'] for r in records],
        'returns': [r['final']['mean'] for r in records],
        'mean': round(float(np.mean([r['final']['mean'] for r in records])), 3),
        'cpu_s': round(float(np.mean([r['cpu_s'] for r in records])), 1),
        'wall_s': round(float(np.mean([r['wall_s'] for r in records])), 1)}
        for learner, records in learners.items()} for task, learners in groups.items()}


def main():
    """Run; see the module."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, required=True)
    parser.add_argument('--tasks', nargs='*', default=ground.TASKS, choices=ground.TASKS)
    parser.add_argument('--seeds', nargs='*', type=int, default=[0, 1, 2])
    parser.add_argument('--peer', default='sac', choices=('sac', 'tqc'))
    options = parser.parse_args()
    torch.set_num_threads(1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for task in options.tasks:
            if not ground.record_path(RESULTS, task, options.peer, seed).exists():
                learn(task, options.peer, seed, options.work)
    print(json.dumps(summary()))


if __name__ == '__main__':
    main()
