"""What learning costs on the standard ground: ours and stable-baselines3 SAC in turn.

    python benchmarks/standard_ground_cost.py [--tasks Reacher-v5 ...] [--rounds 5]

The runs of ``standard_ground.py`` take half an hour each, in which a shared machine is not the
same twice. Here both learn in one process, a block of steps each in turn (ours with the sleeps
that follow), after a first block that is not counted. Cost of a step hardly depends on how long
a run has gone on. The last line is one JSON object: by task, seconds for 1,000 steps and the ratio
ours / SAC (median, least, greatest of the rounds), of processor and of wall time.
"""

import argparse
from collections.abc import Callable
import json
from pathlib import Path
import sys
import time

import numpy as np
from stable_baselines3 import SAC
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dylora_ros.experiments import ground  # noqa: E402
from dylora_ros.experiments.ground_learn import BLOCK, Life, NEWBORN, UPDATES  # noqa: E402
from dylora_ros.provenance import provenance, write  # noqa: E402

CLOCKS = {'cpu': time.process_time, 'wall': time.monotonic}


def seconds(work: Callable[[], object]) -> list[float]:
    """Return how long some work took, by clock."""
    before = [clock() for clock in CLOCKS.values()]
    work()
    return [clock() - then for clock, then in zip(CLOCKS.values(), before, strict=True)]


def compared(spent: np.ndarray, unit: str) -> dict:
    """Return medians of what rounds cost ours and SAC (rounds, 2), and the ratio ours / SAC."""
    ratio = spent[:, 0] / spent[:, 1]
    ours, sac = (round(float(m), 2) for m in np.median(spent, 0))
    return {f'ours_{unit}': ours, f'sac_{unit}': sac, 'ratio': round(float(np.median(ratio)), 3),
            'ratios': [round(float(ratio.min()), 3), round(float(ratio.max()), 3)]}


def cost(task: str, rounds: int) -> dict[str, dict]:
    """Return by clock what 1,000 steps of each learner cost, and the ratios of the rounds."""
    life = Life(task, 0)
    model = SAC('MlpPolicy', ground.make(task, 0), seed=0, buffer_size=ground.STEPS)

    def ours():
        for _ in range(NEWBORN // BLOCK):
            life.wake(BLOCK)
            life.sleep(BLOCK * UPDATES)

    def sac():
        model.learn(NEWBORN, reset_num_timesteps=False)

    ours()
    sac()
    spent = np.array([[seconds(ours), seconds(sac)] for _ in range(rounds)])
    out = {}
    for i, clock in enumerate(CLOCKS):
        out[clock] = compared(spent[..., i], 's')
    print(f'{task}: {out}', flush=True)
    return out


def main():
    """Run; see the module."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tasks', nargs='*', default=ground.TASKS, choices=ground.TASKS)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--out', type=Path,
                        default=ROOT / 'docs/results/standard_ground_cost.json')
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = provenance('python benchmarks/standard_ground_cost.py',
                       ('torch', 'numpy', 'gymnasium', 'stable_baselines3'), steps=NEWBORN,
                       rounds=options.rounds,
                       tasks={task: cost(task, options.rounds) for task in options.tasks})
    write(options.out, found)
    print(json.dumps(found))


if __name__ == '__main__':
    main()
