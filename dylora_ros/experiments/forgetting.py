"""Forgetting curves: what each head of a trained q still weighs, by age.

Left: the learned decay alone, a row of equal key. Right: where exact attention really goes on the
agent's recorded states, the share of it that is older than an age (LSH not involved).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.features import features, lived
from dylora_ros.core.qnetwork import HEADS, QNetwork
from dylora_ros.modalities import registry
from dylora_ros.provenance import provenance, publish

SHIPPED_Q = registry.SHIPPED / 'q.safetensors'


@torch.inference_mode()
def older_than(network: QNetwork, rows: np.ndarray, ages: np.ndarray, queries: int,
               seed: int) -> np.ndarray:
    """Return the share (h, len(ages)) of exact attention on rows older than each age in s."""
    feats = torch.from_numpy(features(rows, network.schema))
    keys = torch.cat([network.keys(part) for part in feats.split(8192)])
    stamp = torch.from_numpy(rows['stamp'].copy())
    rng = np.random.default_rng(seed)
    out = np.zeros((HEADS, len(ages)))
    for i in rng.integers(len(rows) // 2, len(rows), queries):
        age = ((stamp[i] - stamp[:i]) * 1e-9).float().clamp(min=0)
        share = network.logits(keys[i:i + 1], keys[None, :i], age[None])[0].softmax(-1)
        for a, limit in enumerate(ages):
            out[:, a] += share[:, age > limit].sum(-1).numpy() / queries
    return out


def main(arguments: list[str] | None = None):
    """Draw the curves; see the module."""
    parser = argparse.ArgumentParser(prog='dylora_ros experiment forgetting',
                                     description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--recorded', type=Path, required=True, help='a log of the agent')
    parser.add_argument('--q', type=Path, default=SHIPPED_Q)
    parser.add_argument('--rows', type=int, default=50_000, help='newest rows that are used')
    parser.add_argument('--queries', type=int, default=100)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--work', type=Path, default=Path('forgetting'))
    parser.add_argument('--out', type=Path, help='folder of forgetting.json and forgetting.png')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with GlobalContext.read(options.recorded) as log:
        network = QNetwork.load(options.q, log.schema)
        rows = log.rows(log.committed - options.rows, log.committed)
    rows = rows[lived(rows)]
    ages = np.geomspace(0.04, 1500, 40)
    share = older_than(network, rows, ages, options.queries, options.seed)
    with torch.inference_mode():
        curve = network.decay(torch.from_numpy(ages).float()[None])[0].exp().numpy()
        half = network.decay.half_life().numpy()

    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8))
    for h in range(HEADS):
        left.plot(ages, curve[h], label=f'head {h + 1}, half-life {half[h]:.2f} s')
        right.plot(ages, share[h], label=f'head {h + 1}')
    left.set(xscale='log', yscale='log', ylim=(1e-6, 1.5), xlabel='age, s',
             ylabel='weight of an equal key', title='learned decay alone')
    right.set(xscale='log', yscale='log', ylim=(1e-4, 1.0), xlabel='age, s',
              ylabel='share on older rows', title='attention on recorded states')
    for axis in (left, right):
        axis.grid(alpha=0.3)
    left.legend(fontsize=8)
    figure.tight_layout()
    options.work.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.work / 'forgetting.png', dpi=110)
    result = {
        **provenance('python -m dylora_ros experiment forgetting --recorded LOG '
                     f'--rows {options.rows} --queries {options.queries} --seed {options.seed}',
                     seed=options.seed),
        'q': 'shipped' if options.q == SHIPPED_Q else options.q.name, 'rows': len(rows),
        'queries': options.queries, 'half_life_s': [round(float(v), 4) for v in half],
        'older_than': {f'{limit} s': [round(float(np.interp(limit, ages, s)), 4) for s in share]
                       for limit in (1, 10, 100, 1000)}}
    publish(result, options.work, options.out, 'forgetting')
    print(json.dumps(result))


if __name__ == '__main__':
    main()
