"""The agent's real-time figures against what it must reach on two cores.

    python benchmarks/loop.py [--seconds 60] [--out docs/results/loop.json]
    python benchmarks/loop.py --rows 1080000 --recorded life.gc [--memory DIR]

Runs the whole graph in processes (real rclpy, real models, real physics) twice: a waking life, and
one with all phases. With --rows: a waking life on top of a full log of so many rows, all of which
q can read; the agent's recorded states (``benchmarks/record.py``), continued as
``dylora_ros.experiments.stream`` describes. The last line is one JSON object.
"""

import argparse
import json
from pathlib import Path
import subprocess
import sys
import tempfile
import time

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dylora_ros.core.context import GlobalContext  # noqa: E402
from dylora_ros.experiments.stream import PERIOD, Stream  # noqa: E402
from dylora_ros.milestone import Milestone, SLEPT  # noqa: E402
from dylora_ros.modalities import registry  # noqa: E402
from dylora_ros.provenance import provenance, write  # noqa: E402

# (figure, worst value allowed, whether smaller is better)
TARGETS = (('hz', 24.5, False), ('cycle_ms.p99', 40.0, True),
           ('sensor_to_command_ms.p99', 120.0, True), ('deadline_miss_fraction', 0.01, True),
           ('real_time_factor', 0.98, False), ('start_to_first_row_s', 20.0, True),
           ('cpu_cores', 1.4, True), ('rss_mb', 3072.0, True))


def live(memory: str, *options: str) -> dict:
    """Return the figures of one life on a memory folder."""
    done = subprocess.run(
        [sys.executable, '-m', 'dylora_ros', 'run', '--headless', '--memory', memory,
         *options], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f'the agent ended with {done.returncode}:\n{done.stderr[-2000:]}')
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    figures.pop('memory')
    return figures


def live_anew(*options: str) -> dict:
    """Return the figures of one life with an empty memory, which tires as late as the grown."""
    with tempfile.TemporaryDirectory() as memory:
        grown = Path(memory) / 'grown.yaml'
        grown.write_text('/**/global_context:\n  ros__parameters:\n'
                         '    young_tired_after: 90000\n')
        return live(memory, '--params-file', str(grown), *options)


def remember(folder: Path, recorded: Path, rows: int):
    """Make a memory folder with a full log that ends now, if it is not there."""
    path = folder / 'context.gc'
    if path.exists():
        return
    stream = Stream(recorded)
    if stream.schema.digest() != registry.row_schema(stream.schema.actions).digest():
        sys.exit(f'{recorded} was recorded with other weights; record anew with '
                 'benchmarks/record.py')
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix('.making')
    part.unlink(missing_ok=True)
    born = time.time_ns() - rows * PERIOD
    with GlobalContext.open(part, stream.schema, rows) as log:
        while log.committed < rows:
            segment = stream.segment()[:rows - log.committed]
            segment['stamp'] += born
            segment['reward_stamp'] = segment['stamp']
            for row in segment:
                log.append_row(row)
    part.rename(path)
    Milestone(folder / SLEPT).set(rows)
    (folder / 'full.yaml').write_text(f'/**:\n  ros__parameters:\n    capacity: {rows}\n'
                                      f'    window: {rows}\n')


def live_on(folder: Path, recorded: Path, rows: int, seconds: int) -> dict:
    """Return the figures of a waking life on a full log."""
    remember(folder, recorded, rows)
    with GlobalContext.read(folder / 'context.gc') as log:
        before = log.committed
    figures = live(str(folder), '--duration', str(seconds),
                   '--params-file', str(folder / 'full.yaml'))
    with GlobalContext.read(folder / 'context.gc') as log:
        added = log.committed - before
    if figures['context_fill'] < 1 or added < figures['cycles']:
        sys.exit(f'the log was not the full one: filled to {figures["context_fill"]}, {added} '
                 f'rows added in {figures["cycles"]} cycles')
    return {**figures, 'rows_before': before}


def pick(figures: dict, path: str) -> float:
    """Return a nested figure."""
    for key in path.split('.'):
        figures = figures[key]
    return figures


def render_ms() -> float:
    """Return the median time of one camera frame at 128 x 128, ms."""
    import numpy as np

    from dylora_ros.sim.worlds import make
    world = make('gaze')
    world.render()
    times = []
    for _ in range(200):
        world.step(0.04)
        start = time.perf_counter()
        world.render()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))


def main():
    """Run; see the module."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=int, default=60)
    parser.add_argument('--rows', type=int, help='live on a full log of so many rows')
    parser.add_argument('--recorded', type=Path, help='recorded life for --rows')
    parser.add_argument('--memory', type=Path, help='where to keep the full log for the next time')
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    if options.rows and not options.recorded:
        parser.error('--rows needs --recorded LIFE (made by benchmarks/record.py)')
    duration = ('--duration', str(options.seconds))
    if options.rows:
        with tempfile.TemporaryDirectory() as folder:
            awake = live_on(options.memory or Path(folder), options.recorded, options.rows,
                            options.seconds)
        more, command = {'awake': awake}, f'--rows {options.rows} --recorded life.gc'
    else:
        awake = live_anew(*duration)
        print(json.dumps(awake), flush=True)
        more = {'awake': awake, 'all_phases': live_anew(*duration, '--sleep-after', '15')}
        command = ''
    held = {name: {'measured': pick(awake, name), 'target': target,
                   'held': pick(awake, name) <= target if smaller
                   else pick(awake, name) >= target}
            for name, target, smaller in TARGETS}
    if not options.rows:
        frame = render_ms()
        held['render_ms'] = {'measured': round(frame, 2), 'target': 5.0, 'held': frame <= 5.0}
    result = {**provenance(f'python benchmarks/loop.py {command}'.strip(),
                           ('torch', 'numpy', 'mujoco', 'transformers', 'ros-rclpy'), seed=0),
              'targets': held, **more}
    if options.out:
        write(options.out, result)
    print(json.dumps(result))


if __name__ == '__main__':
    main()
