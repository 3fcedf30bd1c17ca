"""What a day of ``gaze`` costs: ours (with its night) and stable-baselines3 SAC in turn.

    python benchmarks/learn_cost.py [--rounds 5] [--day 500]

Both live and learn in one process, a short day each in turn, in the same worlds, from the same
senses and with the same childhood; first days are not counted. ``learn.py`` and ``experiment
life`` tell what each has learned after so many cycles; with what a cycle costs that is said for
equal time. The last line is one JSON object: by clock, milliseconds a cycle of both and the ratio
ours / SAC (median, least, greatest of the rounds), and the seconds of the newborn's first sleep.
"""

import argparse
import json
from pathlib import Path
import sys
import tempfile
from types import SimpleNamespace

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks')]

from learn import newborn  # noqa: E402
from standard_ground_cost import CLOCKS, compared, seconds  # noqa: E402

from dylora_ros.core.will_training import A_NEW_ROW  # noqa: E402
from dylora_ros.experiments.exams import begun  # noqa: E402
from dylora_ros.experiments.lives import live  # noqa: E402
from dylora_ros.experiments.one_life import Days, stated  # noqa: E402
from dylora_ros.modalities import registry  # noqa: E402
from dylora_ros.provenance import provenance, write  # noqa: E402


def main():
    """Run; see the module."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--day', type=int, default=500, help='cycles')
    parser.add_argument('--statements', type=Path, default=ROOT / 'config' / 'statements.yaml')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs/results/learn_cost.json')
    options = parser.parse_args()
    torch.set_num_threads(1)
    vision, audio = (registry.make(n) for n in ('vision', 'audio'))
    reward = stated(options.statements)
    of = SimpleNamespace(scene='gaze', weights=registry.SHIPPED, toy='red_ball', day=options.day,
                         young=options.day, updates=A_NEW_ROW * options.day,
                         rem=options.day // 10, q_steps=40)
    with tempfile.TemporaryDirectory() as folder:
        days = Days('full', 0, Path(folder), reward, of)
        model = newborn(0, reward, options.day, options.day * (options.rounds + 1))

        def ours():
            life = begun([days.morning])[0]
            live([life], vision, audio, options.day)
            days.night(life, 0.0, vision, audio)
            life.world.close()

        def sac():
            model.learn(options.day, reset_num_timesteps=False)

        first_sleep = seconds(days.birth)
        ours()
        sac()
        spent = []
        for n in range(options.rounds):
            spent.append([seconds(ours), seconds(sac)])
            print(f'round {n + 1}: {spent[-1]}', flush=True)
        model.env.close()
    cost = 1e3 * np.array(spent) / options.day
    found = provenance('python benchmarks/learn_cost.py',
                       ('torch', 'numpy', 'mujoco', 'stable_baselines3'),
                       rounds=options.rounds, day=options.day)
    for i, clock in enumerate(CLOCKS):
        found[clock] = {**compared(cost[..., i], 'ms'),
                        'first_sleep_s': round(first_sleep[i], 1)}
    write(options.out, found)
    print(json.dumps(found))


if __name__ == '__main__':
    main()
