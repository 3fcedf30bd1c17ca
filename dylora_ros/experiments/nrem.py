"""What one sleep teaches: held-out loss before and after NREM, by length of life.

The shipped agent lives in lockstep in worlds that it was not trained in; its q then trains as in
a sleep (same rate, passes and rehearsal), without dreams. Resumable: a life stays in the work
folder and is not lived again.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from dylora_ros.core import rehearsal
from dylora_ros.core.context import GlobalContext
from dylora_ros.core.experience import Experience
from dylora_ros.core.files import whole
from dylora_ros.core.motor import EXPLORATION
from dylora_ros.core.qnetwork import QNetwork
from dylora_ros.core.sleep import PASSES, RATE, train
from dylora_ros.experiments.life import fresh_agent, live
from dylora_ros.modalities import registry
from dylora_ros.modalities.specs import ORDER
from dylora_ros.provenance import provenance, write
from dylora_ros.sim.worlds import make as make_world

LENGTHS = (500, 1500, 4500)      # rows: 20 s, a minute, three minutes
WORLDS = 7000                    # seeds of the worlds begin here


def rows_of(path: Path, seed: int, cycles: int) -> np.ndarray:
    """Return the rows of one life, lived now if it is not there yet."""
    if not path.exists():
        senses = {name: registry.make(name) for name in ORDER}
        world = make_world('gaze', WORLDS + seed)
        schema = registry.row_schema(len(world.names), registry.SHIPPED)
        network = QNetwork.load(registry.SHIPPED / 'q.safetensors', schema)
        with whole(path) as part:
            agent, log = fresh_agent(senses, part, network, cycles, world, EXPLORATION, seed)
            live(agent, world, cycles, [], lambda text: print(f'seed {seed}: {text}', flush=True))
            log.close()
    with GlobalContext.read(path) as log:
        return log.rows(0, log.committed)


def sleep(rows: np.ndarray, schema, seed: int) -> dict:
    """Train a copy of the shipped q on the rows (n,) as a sleep would; return its report."""
    network = QNetwork.load(registry.SHIPPED / 'q.safetensors', schema)
    report = train(network, Experience(rows, schema), 1.0, seed, clock=lambda: 0.0, lr=RATE,
                   passes=PASSES, childhood=rehearsal.experience(registry.SHIPPED, schema))
    return report.as_dict()


def summary(reports: list[dict]) -> dict:
    """Return the mean change of the held-out loss and how many sleeps lowered it."""
    change = [r['after'] / r['before'] - 1 for r in reports]
    return {'mean_change': float(np.mean(change)), 'worst_change': max(change),
            'best_change': min(change), 'lowered': sum(c < 0 for c in change),
            'of': len(change)}


def main(arguments: list[str] | None = None):
    """Live, sleep and report; see the module."""
    parser = argparse.ArgumentParser(prog='dylora_ros experiment nrem', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('nrem'))
    parser.add_argument('--output', type=Path, default=Path('docs/results'))
    parser.add_argument('--seeds', type=int, default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for folder in (options.work, options.output):
        folder.mkdir(parents=True, exist_ok=True)
    schema = registry.row_schema(len(make_world('gaze', 0).names), registry.SHIPPED)
    reports: dict[int, list[dict]] = {n: [] for n in LENGTHS}
    for seed in range(options.seeds):
        rows = rows_of(options.work / f'life{seed}.gc', seed, max(LENGTHS))
        for n in LENGTHS:
            torch.manual_seed(seed)
            reports[n].append(sleep(rows[:n], schema, seed))
            print(f'seed {seed}, {n} rows: {reports[n][-1]}', flush=True)
    write(options.output / 'nrem.json', provenance(
        'python -m dylora_ros experiment nrem', seeds=options.seeds,
        summary={n: summary(r) for n, r in reports.items()}, sleeps=reports))


if __name__ == '__main__':
    main()
