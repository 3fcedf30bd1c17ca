"""Recall: a cue heard once among a life's rows, asked for up to a million cycles later.

A cue is one row of the agent's own stream whose text slot holds a random name (15 signs) and a
side, left or right. A question is a later row with the name and no side. q answers with its
ordinary output: the predicted next LR state has a side. Sides are drawn anew for every lesson,
so nothing can be learned by heart, and no name of the examination stands for two cues; its
thousand names crowd, though: half of them have another that differs in one sign. The rows
between are recorded from the running agent (``benchmarks/record.py``), continued as
``dylora_ros.experiments.stream`` describes, training and evaluation from different parts of the
recording.

Trained on at most 10^4 cycles, whose ages are stretched at random up to a day (the same cycles,
lived more slowly). Arms, on the same streams: ``lsh``, q through the log, the streaming index and
the predictor as the agent runs them; ``gru``, a GRU cell; ``window``, exact attention over the
newest 125 cycles (5 s); ``exact``, exact attention over everything with the weights of ``lsh``,
on fewer questions; ``none``, no context. Chance is 0.5.

Resumable: weights, the log and finished arms stay in the work folder.
"""

import argparse
from collections.abc import Callable
from functools import cached_property
import json
from pathlib import Path
import time

import numpy as np
import torch

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.features import features
from dylora_ros.core.gru import GRUNetwork
from dylora_ros.core.predictor import nothing, Predictor
from dylora_ros.core.qnetwork import HEADS, QNetwork
from dylora_ros.experiments.exact import exact_logits
from dylora_ros.experiments.progress import say
from dylora_ros.experiments.recall_train import (
    Cues,
    Lessons,
    train_gru,
    train_lsh,
    TRAIN_ROWS,
)
from dylora_ros.experiments.statistics import wilson
from dylora_ros.experiments.stream import asked, Stream
from dylora_ros.provenance import provenance, publish, write

WINDOW = 125


class Exam:
    """One long stream; at ``count`` moments near its end, one question for every distance."""

    def __init__(self, path: Path, stream: Stream, cues: Cues, distances: list[int],
                 count: int, seed: int):
        rng = np.random.default_rng(seed)
        self.cues, self.distances, self.schema = cues, distances, stream.schema
        spacing = 240
        longest = max(distances)
        self.names, self.sides = cues.new(rng, count * len(distances))
        self.names = self.names.reshape(count, len(distances), -1)
        self.sides = self.sides.reshape(count, len(distances))
        # cues of different distances must not fall on one row: shift each kind a little
        self.shift = np.arange(len(distances)) * 7
        self.times = longest + int(self.shift[-1]) + 10 + np.arange(count) * spacing
        total = int(self.times[-1]) + 1
        place = {int(t - d - s): (j, k) for j, t in enumerate(self.times)
                 for k, (d, s) in enumerate(zip(distances, self.shift, strict=True))}
        if len(place) < self.sides.size:      # never a cue that is not there
            raise ValueError(f'cues of the distances {distances} fall on the same rows; change '
                             'one of them by a few cycles')
        self.path = path
        if path.exists():
            with GlobalContext.read(path) as log:
                if log.committed == total:
                    return
            path.unlink()
        say(f'writing {total} rows')
        with GlobalContext.open(path, self.schema, total + 1000) as log:
            while log.committed < total:
                rows = stream.segment()
                numbers = np.arange(log.committed, log.committed + len(rows))
                for i, n in enumerate(numbers):
                    if n in place:
                        j, k = place[n]
                        cues.write(rows[i:i + 1], self.names[j, k][None],
                                   self.sides[j, k][None])
                    if n < total:
                        log.append_row(rows[i])

    def questions(self, log: GlobalContext, j: int) -> np.ndarray:
        """Return the rows (one a distance) asked at moment j."""
        t = int(self.times[j])
        rows = asked(np.repeat(log.take([t]), len(self.distances)))
        self.cues.write(rows, self.names[j], np.zeros(len(self.distances)))
        return rows

    def grade(self, answers: np.ndarray) -> dict:
        """Return accuracy with a 95 % Wilson interval by distance from answers (n, distances)."""
        out = {}
        for k, d in enumerate(self.distances):
            right = int((answers[:, k] * self.sides[:len(answers), k] > 0).sum())
            out[str(d)] = {'accuracy': right / len(answers), 'n': len(answers),
                           'interval': wilson(right, len(answers))}
        return out


class _Until:
    """A log as it was at a moment: what the predictor may see of the written stream."""

    def __init__(self, log: GlobalContext):
        self._log, self.committed = log, 0
        self.schema, self.window, self.capacity = log.schema, log.window, log.capacity

    @property
    def window_first(self) -> int:
        return max(0, self.committed - self.window)

    def __getattr__(self, name):
        return getattr(self._log, name)


@torch.inference_mode()
def ask_lsh(exam: Exam, network: QNetwork) -> dict:
    """Answer through the log, the streaming index and the predictor."""
    with GlobalContext.read(exam.path) as log:
        view = _Until(log)
        predictor = Predictor(network, view)
        answers, found, spent = [], [], []
        for j, t in enumerate(exam.times):
            view.committed = int(t)
            predictor.catch_up()
            rows = exam.questions(log, j)
            answers.append([])
            for k, row in enumerate(rows):
                start = time.perf_counter()
                answers[-1].append(predictor.observe(row).q[exam.cues.side])
                spent.append(time.perf_counter() - start)
                key = network.keys(torch.from_numpy(features(row[None], log.schema)))[0]
                cue = t - exam.distances[k] - exam.shift[k]
                found.append(cue in predictor.memory.find(key.numpy(), int(row['stamp'])))
            if j % 50 == 49:
                say(f'lsh: {j + 1}/{len(exam.times)} moments, {np.mean(found):.3f} cues found')
    found = np.reshape(found, (-1, len(exam.distances))).mean(0)
    return {**exam.grade(np.array(answers)), 'tick_ms_p50': round(1e3 * np.median(spent), 2),
            'cue_found': {str(d): round(float(f), 4)
                          for d, f in zip(exam.distances, found, strict=True)}}


@torch.inference_mode()
def ask_window(exam: Exam, network: QNetwork, window: int) -> dict:
    """Answer by exact attention over the newest ``window`` rows (0: none)."""
    answers = []
    with GlobalContext.read(exam.path) as log:
        for j, t in enumerate(exam.times):
            rows = exam.questions(log, j)
            now = torch.from_numpy(features(rows, log.schema))
            if window:
                past = log.rows(int(t) - window, int(t))
                age = torch.from_numpy((rows['stamp'][:, None] - past['stamp']) * 1e-9).float()
                feats = torch.from_numpy(features(past, log.schema))
                heads = network(now, feats.expand(len(rows), -1, -1), age,
                                torch.ones_like(age, dtype=torch.bool))
            else:
                heads = nothing(network, now)
            answers.append(heads.q[:, exam.cues.side].numpy())
    return exam.grade(np.array(answers))


@torch.inference_mode()
def ask_exact(exam: Exam, network: QNetwork, count: int) -> dict:
    """Answer by exact attention over all rows, the first ``count`` moments."""
    answers = []
    with GlobalContext.read(exam.path) as log:
        keys, values, stamps = [], [], []
        for _, rows in log.chunks():
            feats = torch.from_numpy(features(rows, log.schema))
            keys.append(network.keys(feats))
            values.append(network.value(network.rows(feats)))
            stamps.append(torch.from_numpy(rows['stamp'].copy()))
        keys, values, stamps = (torch.cat(v) for v in (keys, values, stamps))
        for j, t in enumerate(exam.times[:count]):
            rows = exam.questions(log, j)
            now = torch.from_numpy(features(rows, log.schema))
            query = network.keys(now)
            # softmax in parts: what was summed is scaled down when a greater logit comes
            peak = torch.full((len(rows), HEADS, 1), float('-inf'))
            total, read = torch.zeros(len(rows), HEADS, 1), 0.0
            for i in range(0, int(t), 65536):
                part = slice(i, min(i + 65536, int(t)))
                age = ((int(rows['stamp'][0]) - stamps[part]) * 1e-9).float()
                logits = exact_logits(network, query, keys[part], age)
                top = torch.maximum(peak, logits.amax(-1, keepdim=True))
                weight, shrink = (logits - top).exp(), (peak - top).exp()
                value = values[part] + network.time_values(age)
                total = shrink * total + weight.sum(-1, keepdim=True)
                read = shrink * read + torch.einsum('bhk,khe->bhe', weight,
                                                    value.view(len(value), HEADS, -1))
                peak = top
            heads = network.decide(now, network.rows(now), (read / total).flatten(1))
            answers.append(heads.q[:, exam.cues.side].numpy())
    return exam.grade(np.array(answers))


@torch.inference_mode()
def ask_gru(exam: Exam, network: GRUNetwork) -> dict:
    """Answer from a GRU state carried through the whole stream."""
    answers, at, state = [], 0, torch.zeros(1, network.cell.hidden_size)
    with GlobalContext.read(exam.path) as log:
        for j, t in enumerate(exam.times):
            while at < t:
                stop = min(at + 16384, int(t))
                feats = torch.from_numpy(features(log.rows(at, stop), log.schema))
                state = network.carry(feats[None], state)[:, -1]
                at = stop
            now = torch.from_numpy(features(exam.questions(log, j), log.schema))
            heads = network(now, state.expand(len(now), -1))
            answers.append(heads.q[:, exam.cues.side].numpy())
    return exam.grade(np.array(answers))


class School:
    """The trained networks, from the work folder; trained when they are first needed.

    Args:
        options: of the command line.
        cues: writes cues and questions.
    """

    def __init__(self, options: argparse.Namespace, cues: Cues):
        self._options, self._cues = options, cues

    @cached_property
    def lsh(self) -> QNetwork:
        """Return the LSH transformer."""
        return self._network('lsh', QNetwork, train_lsh, self._options.steps)

    @cached_property
    def gru(self) -> GRUNetwork:
        """Return the GRU."""
        return self._network('gru', GRUNetwork, train_gru, self._options.gru_steps)

    def _network(self, name: str, kind: type, train: Callable, steps: int):
        path, seed = self._options.work / f'{name}.safetensors', self._options.seed
        if not path.exists():
            torch.manual_seed(seed)
            stream = Stream(self._options.recorded, seed, (0.0, 0.7))
            network = kind(self._cues.schema)
            train(network, Lessons(stream, self._cues, seed), steps)
            network.save(path)
        return kind.load(path, self._cues.schema)


def figure(result: dict, path: Path):
    """Plot accuracy by distance for every arm."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    figure_, axis = plt.subplots(figsize=(6.4, 4.0))
    for arm, graded in result['arms'].items():
        points = [(int(d), v['accuracy'], *v['interval']) for d, v in graded.items()
                  if d.isdigit()]
        x, y, low, high = np.array(points).T
        axis.errorbar(x, y, [np.maximum(y - low, 0), np.maximum(high - y, 0)], marker='o',
                      capsize=3, label=arm)
    axis.axvspan(axis.get_xlim()[0], TRAIN_ROWS, color='0.92', zorder=0)
    axis.text(TRAIN_ROWS, 0.43, 'trained up to here ', ha='right', fontsize=8)
    axis.set(xscale='log', xlabel='cycles between cue and question', ylabel='answered right',
             ylim=(0.4, 1.03))
    axis.axhline(0.5, color='0.6', lw=0.8, ls=':')
    axis.legend(fontsize=8, loc='center right')
    figure_.tight_layout()
    figure_.savefig(path, dpi=110)


def main(arguments: list[str] | None = None):
    """Run the experiment; see the module."""
    parser = argparse.ArgumentParser(prog='dylora_ros experiment recall', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--recorded', type=Path, required=True,
                        help='a log of the running agent (benchmarks/record.py)')
    parser.add_argument('--work', type=Path, default=Path('recall'))
    parser.add_argument('--out', type=Path, help='folder of recall.json and recall.png')
    parser.add_argument('--steps', type=int, default=1500)
    parser.add_argument('--gru-steps', type=int, default=1000)
    parser.add_argument('--distances', type=int, nargs='+',
                        default=[10, 100, 1000, 10_000, 100_000, 1_000_000])
    parser.add_argument('--questions', type=int, default=250, help='for every distance')
    parser.add_argument('--exact-questions', type=int, default=25)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    cues = Cues(Stream(options.recorded, options.seed + 1, (0.0, 0.7)))
    school = School(options, cues)
    exam = Exam(options.work / 'exam.gc', Stream(options.recorded, options.seed + 2, (0.7, 1.0)),
                cues, options.distances, options.questions, options.seed + 3)
    state = options.work / 'arms.json'
    arms = json.loads(state.read_text()) if state.exists() else {}
    for arm, ask in (('lsh', lambda: ask_lsh(exam, school.lsh)),
                     ('window', lambda: ask_window(exam, school.lsh, WINDOW)),
                     ('none', lambda: ask_window(exam, school.lsh, 0)),
                     ('gru', lambda: ask_gru(exam, school.gru)),
                     ('exact', lambda: ask_exact(exam, school.lsh,
                                                 options.exact_questions))):
        if arm not in arms:
            start = time.time()
            arms[arm] = ask()
            write(state, arms)
            say(f'{arm}: {arms[arm]} in {time.time() - start:.0f} s')
    result = {
        **provenance('python -m dylora_ros experiment recall --recorded LOG '
                     f'--steps {options.steps} --gru-steps {options.gru_steps} '
                     f'--questions {options.questions} --seed {options.seed}',
                     seed=options.seed),
        'trained_on_cycles': TRAIN_ROWS, 'name_signs': exam.names.shape[-1],
        'accuracy': {d: arms['lsh'][str(d)]['accuracy'] for d in options.distances},
        'arms': arms}
    figure(result, options.work / 'recall.png')
    publish(result, options.work, options.out, 'recall')
    print(json.dumps(result))


if __name__ == '__main__':
    main()
