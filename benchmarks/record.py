"""Record a log of the running agent: real senses, q and body in the gaze world, in lockstep.

    python benchmarks/record.py life.gc --cycles 20000

The log goes on where it stopped. Benchmarks and experiments take their states from it, since
random vectors say nothing about attention over the agent's own memory.
"""

import argparse
import json
from pathlib import Path
import sys
import time

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dylora_ros.core.agent import Agent  # noqa: E402
from dylora_ros.core.context import GlobalContext  # noqa: E402
from dylora_ros.core.motor import EXPLORATION  # noqa: E402
from dylora_ros.core.qnetwork import QNetwork  # noqa: E402
from dylora_ros.experiments.life import agent_on, live  # noqa: E402
from dylora_ros.modalities import registry  # noqa: E402
from dylora_ros.sim.worlds import make as make_world  # noqa: E402

PART = 2500        # cycles of one life: another world seed, so that toys and sounds vary


def record(path: Path, cycles: int, capacity: int, seed: int = 0):
    """Live until the log holds ``cycles`` rows."""
    schema = registry.row_schema(2)
    senses = {name: registry.make(name) for name in registry.ORDER}
    network = QNetwork.load(registry.SHIPPED / 'q.safetensors', schema)
    with GlobalContext.open(path, schema, capacity) as log:
        while log.committed < cycles:
            part = log.committed // PART
            world = make_world('gaze', 1000 + seed + part)
            agent = agent_on(log, senses, network, world, EXPLORATION, seed + part)
            start, before = time.time(), log.committed
            live(_After(agent, log), world, min(PART, cycles - log.committed), [])
            spent, lived = time.time() - start, log.committed - before
            left = (cycles - log.committed) * spent / lived
            print(json.dumps({'rows': log.committed, 'seed': 1000 + seed + part,
                              'ms_a_cycle': round(1e3 * spent / lived, 1),
                              'minutes_left': round(left / 60, 1)}), flush=True)


class _After:
    """An agent whose every life begins when the last one ended: stamps only grow."""

    def __init__(self, agent: Agent, log: GlobalContext):
        self._agent = agent
        last = log.rows(log.committed - 1, log.committed)
        self._start = int(last['stamp'][0]) + int(1e9) if len(last) else 0
        self.senses, self.guard = agent.senses, agent.guard

    def step(self, stamp: int, signals: dict) -> np.ndarray:
        """Live one cycle, later."""
        return self._agent.step(self._start + stamp, signals)


def main(arguments: list[str] | None = None):
    """Record; see the module."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('path', type=Path)
    parser.add_argument('--cycles', type=int, default=20_000)
    parser.add_argument('--capacity', type=int, default=100_000)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    record(options.path, options.cycles, options.capacity, options.seed)


if __name__ == '__main__':
    main()
