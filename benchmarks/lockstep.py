"""What a lockstep cycle of the worlds costs: physics, a frame every 4th cycle, sound every 5th.

    python benchmarks/lockstep.py [--cycles 400] [--out docs/results/lockstep.json]

Worlds alone and in batches are measured in turns in one process, so that a busy machine disturbs
all alike. A cycle is 40 ms of simulated time; frames are 64 x 64. The last line is one JSON
object: milliseconds a world and cycle, of the wall clock and of the processor (all threads).
"""

import argparse
import json
from pathlib import Path
import sys
import time

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dylora_ros.provenance import provenance, write  # noqa: E402
from dylora_ros.sim.batch import Batch  # noqa: E402

WORLDS = (('gaze', {}), ('gaze with screen', {'screen': True}), ('forage', {}), ('reach', {}))
COUNTS = (1, 8)
TARGET_MS = 10.0
BLOCK = 20             # cycles a turn: whole numbers of frames and of chunks


def live(batch: Batch, rng: np.random.Generator, action: np.ndarray) -> tuple[float, float]:
    """Live a block of cycles; returns wall and processor milliseconds a world and cycle."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(BLOCK):
        action += 0.3 * rng.standard_normal(action.shape) - 0.05 * action
        batch.step(np.clip(action, -1, 1))
    per = 1e3 / (BLOCK * len(batch.worlds))
    return per * (time.perf_counter() - wall), per * (time.process_time() - cpu)


def parts(batch: Batch, repeats: int = 100) -> dict[str, dict[str, float]]:
    """Return milliseconds of one world's step, frame and chunk of sound."""
    world, out = batch.worlds[0], {}
    for name, act in (('step', lambda: world.step(0.04)),
                      ('frame_64', lambda: world.render(64, 64)),
                      ('frame_128', lambda: world.render(128, 128)),
                      ('sound_200ms', lambda: world.listen(3200))):
        act()
        walls, start_cpu = [], time.process_time()
        for _ in range(repeats):
            start = time.perf_counter()
            act()
            walls.append(1e3 * (time.perf_counter() - start))
        out[name] = {'wall_ms': round(float(np.median(walls)), 3),
                     'wall_ms_best': round(min(walls), 3),
                     'cpu_ms': round(1e3 * (time.process_time() - start_cpu) / repeats, 3)}
    return out


def main():
    """Run; see the module."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cycles', type=int, default=400)
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    arms = {}
    for label, extra in WORLDS:
        for count in COUNTS:
            batch = Batch(label.split()[0], count, 0, **extra)
            batch.reset()
            action = np.zeros((count, len(batch.actuators)))
            live(batch, rng, action)
            arms[label, count] = batch, action, []
    for turn in range(max(1, options.cycles // BLOCK)):
        for batch, action, figures in arms.values():
            figures.append(live(batch, rng, action))
        print(f'turn {turn + 1} of {options.cycles // BLOCK}', flush=True)
    result = provenance('python benchmarks/lockstep.py', ('numpy', 'mujoco'), seed=0,
                        cycles=options.cycles, target_ms=TARGET_MS)
    result['worlds'] = {}
    for (label, count), (batch, _, figures) in arms.items():
        wall, cpu = np.array(figures).T
        entry = result['worlds'].setdefault(label, {})
        entry[f'batch_{count}'] = {
            'wall_ms': round(float(np.median(wall)), 3),
            'wall_ms_best': round(float(wall.min()), 3),
            'cpu_ms': round(float(np.median(cpu)), 3),
            'held': bool(np.median(wall) <= TARGET_MS)}
        if count == 1:
            entry['parts'] = parts(batch)
    for batch, _, _ in arms.values():
        batch.close()
    if options.out:
        write(options.out, result)
    print(json.dumps(result))


if __name__ == '__main__':
    main()
