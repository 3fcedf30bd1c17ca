"""One life in the real ROS graph, in real time, with several sleeps: what they bring.

    python benchmarks/hour.py [--seconds 3600] [--awake S] [--rem S] [--nrem S] [--memory DIR]

Starts the agent (``dylora_ros run``) with an empty memory and asks its monitor and its world for
their figures every few seconds. Without ``--awake`` it sleeps when it is tired, as the agent does
by itself. For each time awake: mean reward, share of cycles with the named toy in the central
third of the view, and whether a deadline was missed; for each sleep, what it reported. The last
line is one JSON object.
"""

import argparse
import json
from pathlib import Path
import subprocess
import sys
import tempfile
import time

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dylora_ros.provenance import provenance, write  # noqa: E402
from dylora_ros.run import Observer  # noqa: E402

RESULT = ROOT / 'docs' / 'results' / 'hour.json'
_LOOK = 5.0           # s between two looks
_COUNTS = 'hits', 'counted', 'cycles', 'rewarded', 'late'


def wanted(options) -> dict:
    """Return the parameters of the nodes."""
    budgets = {'rem_seconds': options.rem, 'nrem_seconds': options.nrem}
    values: dict[str, dict] = {'lifecycle_manager': dict(budgets), 'predictor': budgets}
    if options.awake is not None:
        values['lifecycle_manager']['sleep_after'] = options.awake
        values['global_context'] = {'young_tired_after': 90_000}
    return {f'/**/{node}': {'ros__parameters': v} for node, v in values.items()}


def look(observer: Observer) -> dict | None:
    """Return what there is to count by now, None where a node does not answer."""
    agent, world = observer.ask('monitor', 2.0), observer.ask('simulator', 2.0)
    if not agent.get('cycles') or 'hits' not in world:
        return None
    cycles = agent['cycles']
    return {'at': time.monotonic(), 'phase': agent['phase'], 'sleeps': agent['sleep_reports'],
            'hits': world['hits'], 'counted': world['counted'], 'cycles': cycles,
            'rewarded': (agent['reward'] or 0.0) * cycles,
            'late': agent['deadline_miss_fraction'] * cycles}


def awakenings(looks: list[dict]) -> list[dict]:
    """Return the figures of each time awake, from pairs of looks with nothing but it between."""
    out: list[dict] = []
    number = -1
    for before, now in zip(looks, looks[1:], strict=False):
        if not before['phase'] == now['phase'] == 'AWAKE':
            continue
        slept = len(now['sleeps'])
        if len(before['sleeps']) != slept:
            continue
        if slept != number:
            number = slept
            out.append({'from_s': before['at'] - looks[0]['at'], **dict.fromkeys(_COUNTS, 0)})
        for name in _COUNTS:
            out[-1][name] += now[name] - before[name]
    return [{'from_s': round(o['from_s'], 1), 'cycles': o['cycles'],
             'success': round(o['hits'] / max(1, o['counted']), 4),
             'reward': round(o['rewarded'] / max(1, o['cycles']), 4),
             'late': round(o['late'])} for o in out]


def last_line(told: str) -> dict:
    """Return the figures of the whole run; none where it ended before it could tell them."""
    try:
        return json.loads(told.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {}


def main():
    """Run; see the module."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=3600.0)
    parser.add_argument('--awake', type=float, help='s between two sleeps, however tired')
    parser.add_argument('--rem', type=float, default=60.0, help='s, at most')
    parser.add_argument('--nrem', type=float, default=300.0, help='s, at most')
    parser.add_argument('--memory', type=Path, help='where the life is kept; default: nowhere')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        memory = options.memory or Path(folder) / 'memory'
        if (memory / 'context.gc').exists():
            parser.error(f'{memory} holds a life already; this one begins newborn')
        parameters = Path(folder) / 'hour.yaml'
        parameters.write_text(yaml.safe_dump(wanted(options)))
        command = ['run', '--headless', '--duration', str(options.seconds), '--memory',
                   str(memory), '--params-file', str(parameters), '--seed', str(options.seed)]
        with open(Path(folder) / 'out', 'w+') as out:
            agent = subprocess.Popen([sys.executable, '-m', 'dylora_ros', *command], cwd=ROOT,
                                     stdout=out)
            observer, looks = Observer(''), []
            try:
                while agent.poll() is None:
                    time.sleep(_LOOK)
                    now = look(observer)
                    if now is not None:
                        looks.append(now)
                        if len(looks) % 24 == 1:
                            print(f'{now["at"] - looks[0]["at"]:.0f} s {now["phase"]}: '
                                  f'{awakenings(looks)[-1:]}', flush=True)
            finally:
                if agent.poll() is None:
                    agent.terminate()
                    agent.wait(30)
                observer.close()
            out.seek(0)
            figures = last_line(out.read())
    times = awakenings(looks)
    if not times:
        sys.exit(f'the agent ended with {agent.returncode} before it lived; nothing is written')
    figures.pop('memory', None)
    result = provenance('python benchmarks/hour.py', ('torch', 'numpy', 'mujoco', 'ros-rclpy'),
                        seconds=options.seconds, awake_s=options.awake, rem_s=options.rem,
                        nrem_s=options.nrem, seed=options.seed, times_awake=times,
                        life=figures)
    write(options.out, result)
    print(json.dumps(result))


if __name__ == '__main__':
    main()
