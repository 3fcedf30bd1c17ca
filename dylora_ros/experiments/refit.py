"""Train q anew on a recorded log of the agent, as a long NREM would.

The one command after q's architecture or its loss changed; senses, decoders and the recorded
rows stay as they are.
"""

import argparse
import json
from pathlib import Path
import time

import numpy as np
import torch

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.experience import Experience
from dylora_ros.core.qnetwork import QNetwork
from dylora_ros.core.sleep import train


@torch.inference_mode()
def mass_estimate(network: QNetwork, data: Experience, seed: int) -> list[float]:
    """Return each head's estimated share of a full day's exact attention that the read keeps."""
    data.refresh(network)
    rng = np.random.default_rng(seed)
    kept = []
    for part in np.array_split(data.held_out[::3], 12):
        mass = network(*data.batch(part)).mass
        kept.append(torch.sigmoid(-data.leak(network, part, mass, rng)))
    return [round(float(v), 4) for v in torch.cat(kept).mean(0)]


def main(arguments: list[str] | None = None):
    """Train; see the module."""
    parser = argparse.ArgumentParser(prog='dylora_ros experiment refit', description=__doc__)
    parser.add_argument('--recorded', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True, help='q.safetensors to write')
    parser.add_argument('--steps', type=int, default=2500)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    with GlobalContext.read(options.recorded) as log:
        rows, schema = log.rows(0, log.committed), log.schema
    network, data, start = QNetwork(schema), Experience(rows, schema), time.time()

    def progress(share: float, left: float):
        spent = time.time() - start
        print(f'{100 * share:.0f} %, {spent / max(share, 1e-3) * (1 - share) / 60:.1f} min left',
              flush=True)

    report = train(network, data, 1e9, options.seed, progress, most_steps=options.steps)
    network.save(options.out)
    half = network.decay.half_life()
    print(json.dumps({'command': 'python -m dylora_ros experiment refit', 'seed': options.seed,
                      **report.as_dict(), 'mass_estimate': mass_estimate(network, data, 1),
                      'sharpness': [round(float(v), 2) for v in network.sharpness.exp()],
                      'half_life_s': [round(float(v), 3) for v in half]}))


if __name__ == '__main__':
    main()
