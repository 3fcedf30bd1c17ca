"""Whether a noisy screen hypnotizes: what curiosity pays for staring at it.

On one wall of ``gaze`` hangs a screen that no model can predict. The shipped agent, with all its
decoders, first looks about by habit; then something turns its head to the screen and holds it
there, or to the bare wall opposite. Reported is the curiosity that the sentence reward would pay a
cycle, and the raw error of sight beside it: the screen must stay hard to predict, and yet soon pay
no more than anything else. Looking about goes on in a third life, for comparison.
"""

import argparse
import math
from pathlib import Path
import tempfile

import numpy as np
import torch

from dylora_ros.core.cycle import Prediction
from dylora_ros.core.judging import news
from dylora_ros.core.motor import commanded, EXPLORATION
from dylora_ros.core.qnetwork import QNetwork
from dylora_ros.experiments.babble import PERIOD
from dylora_ros.experiments.coupling_data import HEAD
from dylora_ros.experiments.life import Feed, fresh_agent
from dylora_ros.modalities import registry
from dylora_ros.modalities.specs import ORDER
from dylora_ros.provenance import provenance, write
from dylora_ros.sim.gaze import SCREEN_AT
from dylora_ros.sim.worlds import make as make_world

WORLDS = 12_000                  # seeds of the worlds begin here
HABIT = 750                      # cycles before something takes the head: half a minute
HELD = 3000                      # cycles after it: two minutes
TARGETS = {'screen': SCREEN_AT, 'wall': (SCREEN_AT[0], -SCREEN_AT[1], SCREEN_AT[2]),
           'about': None}
SPANS = {'first 2 s': (10, 60), '2 to 10 s': (60, 250), '10 to 30 s': (250, 750),
         '30 s to 2 min': (750, HELD)}       # cycles since; a turn takes up to 3 s
_GAIN = 2.0                      # of speed, for a radian; pan is to the left, tilt down


class Held:
    """Turns the head towards a place, in the will's stead.

    Args:
        world: looked at.
        body: sense whose LR states its commands are.
        part: slice of the body's numbers in a composite.
        at: (3,) place in the world, m.
    """

    def __init__(self, world, body, part: slice, at):
        self._world, self._body, self._part, self._at = world, body, part, at

    def __call__(self, row: np.ndarray, prediction: Prediction) -> tuple[np.ndarray, float]:
        """Return the composite (w,) to bring about, and no value."""
        # by the joints and not by the view: the shorter way round may be barred by a limit
        x, y, z = self._at
        wanted = np.array([np.arctan2(y, x), -np.arctan2(z - HEAD, np.hypot(x, y))])
        command = np.clip(_GAIN * (wanted - self._world.joints().position), -1, 1)
        return commanded(prediction.q, command, self._body, self._part), 0.0


def error_of_sight(sight, signals: dict[str, np.ndarray]) -> float:
    """Return how far what sight expects is from what comes, before it sees it; NaN: no frame."""
    if 'vision' not in signals or sight.expected is None:
        return math.nan
    return float(np.mean((sight.target(signals['vision']) - sight.expected) ** 2))


def live(target: str, seed: int, network: QNetwork, folder: Path) -> dict[str, np.ndarray]:
    """Return curiosity's news (n,) and sight's error (n,; NaN without a frame) of one life."""
    senses = {name: registry.make(name) for name in ORDER}
    world = make_world('gaze', WORLDS + seed, screen=True)
    cycles = HABIT + HELD
    agent, log = fresh_agent(senses, folder / f'{target}-{seed}.gc', network, cycles, world,
                             EXPLORATION, seed)
    feed = Feed(world, agent.guard)
    world.reset()
    wrong = np.zeros(cycles)
    for i in range(cycles):
        if i == HABIT and TARGETS[target] is not None:
            agent.will = Held(world, senses['body'], log.schema.slices['body'], TARGETS[target])
        signals = feed(i)
        wrong[i] = error_of_sight(senses['vision'], signals)
        world.apply(agent.step(round(world.time * 1e9), signals))
        world.step(PERIOD)
    rows = log.rows(0, cycles)
    mask = rows['mask'][:, None] >> np.arange(len(ORDER)) & 1
    log.close()
    world.close()
    return {'news': news(rows['surprise'].astype(np.float32), mask), 'wrong': wrong}


def spans(life: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return the mean news and error of sight by the time since the head was taken."""
    parts = {'before': slice(50, HABIT),
             **{name: slice(HABIT + a, HABIT + b) for name, (a, b) in SPANS.items()}}
    return {name: {'news': round(float(life['news'][part].mean()), 4),
                   'error_of_sight': round(float(np.nanmean(life['wrong'][part])), 5)}
            for name, part in parts.items()}


def main(arguments: list[str] | None = None):
    """Run the experiment; see the module."""
    parser = argparse.ArgumentParser(prog='dylora_ros experiment noisy-screen',
                                     description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--out', type=Path, default=Path('docs/results/noisy_screen.json'))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    schema = registry.row_schema(2, registry.SHIPPED)
    network = QNetwork.load(registry.SHIPPED / 'q.safetensors', schema)
    found: dict[str, dict] = {target: {} for target in TARGETS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            for target in TARGETS:
                found[target][seed] = spans(live(target, seed, network, Path(folder)))
                print(f'seed {seed}, {target}: {found[target][seed]}', flush=True)
    last = list(SPANS)[-1]
    paid = {target: [found[target][s][last]['news'] for s in options.seeds] for target in TARGETS}
    write(options.out, provenance(
        'python -m dylora_ros experiment noisy-screen', ('torch', 'numpy', 'mujoco'),
        seeds=options.seeds, lives=found, news_in_the_end=paid,
        screen_over_about=round(float(np.mean(paid['screen']) / np.mean(paid['about'])), 3)))


if __name__ == '__main__':
    main()
