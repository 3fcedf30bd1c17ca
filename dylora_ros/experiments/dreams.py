"""Dreams beside what really followed: how fast they diverge, and how they look.

In some lives, dreams start from remembered moments, as in REM (the same Dreamer, the same
decoders and encoders, q reading the log as it was then), with one difference: the dreamt body
does what the real one did next, so that there is one real future to compare with. Baselines:
"nothing changes" and linear extrapolation of the last two inputs.
"""

import argparse
import json
from pathlib import Path
import tempfile
import time

import numpy as np
import torch

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.dreamer import Dreamer
from dylora_ros.core.motor import EXPLORATION
from dylora_ros.core.predictor import Predictor, QNetwork
from dylora_ros.experiments.babble import EVERY, PERIOD, VISION_EVERY
from dylora_ros.experiments.life import Feed, Foresight, fresh_agent
from dylora_ros.modalities import registry
from dylora_ros.modalities.sounding import write_wave
from dylora_ros.modalities.specs import EARS, ORDER, RATE
from dylora_ros.provenance import provenance, write
from dylora_ros.sim.worlds import make as make_world

HORIZONS = (1, 5, 25, 125)
EPISODE = 129
# a cycle at which both vision and hearing have just perceived
FIRST, SPACING = 240, 80


class Driven:
    """A body whose commands are given: what it wants is not asked."""

    def __init__(self, body, commands: np.ndarray):
        self._body, self._commands = body, iter(commands)

    def __getattr__(self, name: str):
        return getattr(self._body, name)

    def act(self, q: np.ndarray) -> np.ndarray:
        """Return the next given command."""
        return next(self._commands)


class Recorded:
    """One life: its log, its inputs in the decoders' space, and moments to dream from."""

    def __init__(self, senses: dict, network: QNetwork, seed: int, starts: int, folder: Path,
                 noise: float):
        cycles = FIRST + SPACING * (starts - 1) + EPISODE + SPACING
        world = make_world('gaze', seed)
        agent, log = fresh_agent(senses, folder / f'life{seed}.gc', network, cycles, world,
                                 noise, seed)
        feed, foresight = Feed(world, agent.guard), Foresight(senses)
        self.inputs: dict[str, dict[int, np.ndarray]] = {n: {} for n in EVERY}
        self.moments: dict[int, dict] = {}
        for sense in senses.values():
            sense.forget_expectation()
        for i in range(cycles):
            signals = feed(i)
            foresight.judge(signals)
            world.apply(agent.step(round(world.time * 1e9), signals))
            world.step(PERIOD)
            for name in signals:
                self.inputs[name][i] = senses[name].present.copy()
            if i >= FIRST and i % SPACING == VISION_EVERY \
                    and len(self.moments) < starts:
                self.moments[i] = {n: senses[n].local_context() for n in EVERY}
        world.close()
        self.rows = log.rows(0, log.committed)
        self.foresight = foresight.summary()
        log.close()


def dream(life: Recorded, start: int, senses: dict, network: QNetwork, folder: Path):
    """Dream from a moment of a life; return the dreamt inputs by sense and cycles ahead."""
    path = folder / 'until.gc'
    path.unlink(missing_ok=True)
    dreamt: dict[str, dict[int, np.ndarray]] = {n: {} for n in EVERY}
    driven = {**senses, 'body': Driven(senses['body'],
                                       life.rows['action'][start:].astype(np.float32))}
    ahead = 0

    def remember():
        return {n: s.resume(life.moments[start][n]).x for n, s in senses.items()}

    def emit(row):
        nonlocal ahead
        for name, sense in senses.items():
            if ahead % EVERY[name] == 0:
                dreamt[name][ahead] = sense.present.copy()
        ahead += 1

    with GlobalContext.open(path, network.schema, len(life.rows)) as log:
        for row in life.rows[:start + 1]:         # no row of the future can be remembered
            log.append_row(row)
        dreamer = Dreamer(driven, log, Predictor(network, log), emit, PERIOD, EVERY, remember)
        began, used = time.monotonic(), time.process_time()
        report = dreamer.run(1e9, EPISODE, most=EPISODE)
        spent = time.monotonic() - began, time.process_time() - used
    return dreamt, report, spent


def compare(life: Recorded, start: int, dreamt: dict) -> dict[str, dict[int, list[float]]]:
    """Return squared errors of the dream, "nothing changes" and extrapolation by horizon."""
    out: dict[str, dict[int, list[float]]] = {}
    for name, every in EVERY.items():
        real = life.inputs[name]
        now, before = real[start], real[start - every]
        out[name] = {}
        for horizon in HORIZONS:
            ahead = -(-horizon // every) * every           # its next input at or after that
            if ahead not in dreamt[name]:
                continue                                   # the dream was rejected before
            straight = now + (now - before) * (ahead // every)
            if name == 'vision':
                straight = straight.clip(0, 1)
            truth = real[start + ahead]
            out[name][horizon] = [float(np.mean((guess - truth) ** 2)) for guess in (
                dreamt[name][ahead], now, straight)]
    return out


def summarise(errors: list[dict], rng) -> dict:
    """Return means and the ratios with 95 % bootstrap intervals over dreams."""
    out: dict[str, dict] = {}
    for name in EVERY:
        out[name] = {}
        for horizon in HORIZONS:
            e = np.array([d[name][horizon] for d in errors if horizon in d[name]])
            if not len(e):
                continue
            pick = e[rng.integers(0, len(e), (2000, len(e)))].mean(1)
            ratio = pick[:, 0] / np.maximum(pick[:, 1:].min(1), 1e-12)
            out[name][str(horizon)] = {
                'dreams': len(e), 'dream': float(e[:, 0].mean()),
                'unchanged': float(e[:, 1].mean()), 'extrapolated': float(e[:, 2].mean()),
                'ratio_to_better_baseline': float(e[:, 0].mean() / max(e[:, 1:].mean(0).min(),
                                                                       1e-12)),
                'ratio_95': [float(v) for v in np.percentile(ratio, [2.5, 97.5])]}
    return out


def picture(path: Path, shown: list[tuple[str, dict, dict, int]]):
    """Draw rows of frames: what really followed, and the dream of it."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt
    columns = (0, 4, 8, 12, 16, 20, 28, 40, 60, 80, 100, 124)
    figure, axes = plt.subplots(2 * len(shown), len(columns),
                                figsize=(1.05 * len(columns), 2.35 * len(shown)))
    for r, (label, real, dreamt, start) in enumerate(shown):
        for c, ahead in enumerate(columns):
            for k, (kind, frame) in enumerate((('real', real.get(start + ahead)),
                                               ('dream', dreamt.get(ahead)))):
                axis = axes[2 * r + k, c]
                axis.set_xticks([])
                axis.set_yticks([])
                if frame is not None:
                    axis.imshow(frame.transpose(1, 2, 0).clip(0, 1), interpolation='bicubic')
                if c == 0:
                    axis.set_ylabel(f'{label}\n{kind}', fontsize=7)
                if r == 0 and k == 0:
                    axis.set_title(f'{ahead * PERIOD:.2f} s', fontsize=8)
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=110)


def listenable(audio, real: dict[int, np.ndarray], dreamt: dict[int, np.ndarray],
               start: int) -> np.ndarray:
    """Return what really sounded, half a second of silence, and the dream of it.

    Both come from spectra, so they can be compared; loudness is the same share of both.

    Args:
        audio: the sense.
        real: cycle -> spectrum of a life.
        dreamt: cycles ahead -> spectrum.
        start: cycle at which the dream began.

    """
    ahead = sorted(a for a in dreamt if start + a in real)
    both = [audio.sound(np.stack(part)) for part in (
        [real[start + a] for a in ahead], [dreamt[a] for a in ahead])]
    loudest = max(float(np.abs(both[0]).max()), 1e-6)
    return np.concatenate([both[0], np.zeros((EARS, RATE // 2)), both[1]], 1) * 0.7 / loudest


def main(arguments: list[str] | None = None):
    """Run the experiment; see the module."""
    parser = argparse.ArgumentParser(prog='dylora_ros experiment dreams', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', type=Path, default=registry.SHIPPED)
    parser.add_argument('--output', type=Path, default=Path('docs/results'))
    parser.add_argument('--seeds', type=int, nargs='+', default=[1, 2, 3])
    parser.add_argument('--starts', type=int, default=6, help='dreams of each life')
    parser.add_argument('--noise', type=float, default=EXPLORATION,
                        help='exploration of the lives')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    network = QNetwork.load(options.weights / 'q.safetensors',
                            registry.row_schema(2, options.weights))
    senses = {n: registry.make(n, weights=options.weights) for n in ORDER}
    dreaming = {n: senses[n] for n in EVERY}
    errors, shown, heard, foresight = [], [], None, {}
    wall = used = cycles = rejected = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            life = Recorded(senses, network, seed, options.starts, Path(folder), options.noise)
            foresight[str(seed)] = life.foresight
            for n, start in enumerate(life.moments):
                dreamt, report, spent = dream(life, start, dreaming, network, Path(folder))
                errors.append(compare(life, start, dreamt))
                wall, used = wall + spent[0], used + spent[1]
                cycles, rejected = cycles + report.cycles, rejected + report.rejected
                if n == 0:
                    shown.append((f'seed {seed}', life.inputs['vision'], dreamt['vision'], start))
                if heard is None:
                    heard = listenable(senses['audio'], life.inputs['audio'], dreamt['audio'],
                                       start)
            print(f'seed {seed}: {len(life.moments)} dreams, next-input ratios '
                  + ', '.join(f'{k} {v["ratio"]:.2f}' for k, v in life.foresight.items()),
                  flush=True)
    result = {
        **provenance('python -m dylora_ros experiment dreams', ('torch', 'numpy', 'mujoco'),
                     seeds=options.seeds, starts=options.starts, noise=options.noise),
        'next_input': foresight, 'divergence': summarise(errors, np.random.default_rng(0)),
        'dream_real_time_factor': cycles * PERIOD / wall,
        'dream_real_time_factor_of_cpu_time': cycles * PERIOD / used,
        'cycles': int(cycles), 'rejected': int(rejected)}
    options.output.mkdir(parents=True, exist_ok=True)
    write(options.output / 'dreams.json', result)
    picture(options.output / 'dreams.png', shown[:3])
    write_wave(options.output / 'dreams.wav', heard)
    print(json.dumps(result['divergence'], indent=1))
    print(f'dreams at {result["dream_real_time_factor"]:.1f} x real time '
          f'({result["dream_real_time_factor_of_cpu_time"]:.1f} x of its processor time)')


if __name__ == '__main__':
    main()
