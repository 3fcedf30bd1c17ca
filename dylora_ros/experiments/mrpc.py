"""Figure 5 of the paper, with numbers: the global context carries what an answer needs, or not.

Four arms on MRPC (paraphrase or not), one code path, equal rank, sites, start, data order and
budget:

* ``lora``: the local context is the pair; no global context (Eq. 1).
* ``gc``: the pair is written to the global context and is the local context too (Eq. 2).
* ``blinded_gc``: written to the context; the answering pass sees PAD tokens only.
* ``blinded_no_gc``: PAD tokens and no context.

Given several learning rates, each arm's is searched on a held-out part of the training split,
beyond them too while the best is at the edge, and the best is tried at full length; with one, all
arms use it. The test split is only evaluated. Resumable: finished epochs are kept in the work
folder. Started twice with the same work folder, two processes share the runs out.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
import fcntl
import json
from pathlib import Path
import time

import numpy as np
import torch

from dylora_ros.core.precision import has_fast_bfloat16
from dylora_ros.experiments import pairs as task
from dylora_ros.experiments.figures import curves
from dylora_ros.experiments.paraphrase import (
    ARMS,
    Budget,
    evaluate,
    initialise,
    Paraphrase,
    Q_SHARE,
    Training,
)
from dylora_ros.experiments.progress import say
from dylora_ros.experiments.statistics import f1_score, interval
from dylora_ros.modalities.encoders import load_encoder, QUERY_VALUE
from dylora_ros.modalities.text import SOURCE
from dylora_ros.provenance import provenance, write

COST = {'lora': 1.0, 'gc': 2.0, 'blinded_gc': 1.2, 'blinded_no_gc': 0.2}    # epochs of LoRA
RANKS = (1, 2, 4, 8)
HELD = 0.15
SEARCH_EPOCHS, SEARCH_SEED, EXTENSIONS = 1, 1000, 3


class WorkError(ValueError):
    """The work folder holds runs of other settings; says which."""


@dataclass(frozen=True)
class Run:
    """One training of one arm; its name is that of its files in the work folder."""

    name: str
    arm: str
    lr: float
    seed: int
    epochs: int
    searching: bool = False                 # on a part of the training split, judged on the rest
    ranks: tuple[int, ...] | None = None    # nested

    def cost(self) -> float:
        """Return about what an epoch costs, in epochs of LoRA on the whole training split."""
        return COST[self.arm] * (1 - HELD if self.searching else 1)


class Runner:
    """Trains the runs of a plan one after the other, with time left.

    Several processes may work in one folder: each takes runs that no other is at.

    Args:
        options: of the command line.
        train: the training split.
        test: the test split.
        model: the frozen encoder.
    """

    def __init__(self, options: argparse.Namespace, train: task.Pairs, test: task.Pairs,
                 model: torch.nn.Module):
        self.options, self.train, self.test, self.model = options, train, test, model
        self.searched = task.split(train, HELD)
        self.budget = Budget(epochs=options.epochs)
        self.work = Path(options.work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.left: dict[str, float] = {}        # planned cost of each run, in epochs of LoRA
        self._spent = self._seconds = 0.0

    @contextmanager
    def claim(self, name: str, wait: bool) -> Iterator[bool]:
        """Hold a name against other processes; yields whether it is ours (always, if we wait).

        The operating system lets go of it when the process ends in whatever way.
        """
        with open(self.work / f'{name}.lock', 'w') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True

    def share(self, plan: list[Run]) -> list[dict]:
        """Return the records of a plan; train what is neither finished nor being trained."""
        self.expect(plan)
        for run in plan:
            with self.claim(run.name, wait=False) as ours:
                if ours:
                    self.train_run(run)
                else:
                    self.left[run.name] = 0.0
        records = []
        for run in plan:
            with self.claim(run.name, wait=True):       # until another process has finished it
                records.append(self.train_run(run))
        return records

    def expect(self, plan: list[Run]):
        """Count the runs of a plan in the time left."""
        self.left |= {run.name: run.cost() * run.epochs for run in plan}

    def _record(self, run: Run) -> dict:
        """Return what there is of a run.

        Raises:
            WorkError: it was made with other settings.

        """
        options = self.options
        settings = {'arm': run.arm, 'lr': run.lr, 'seed': run.seed, 'ranks': run.ranks,
                    'epochs': run.epochs, 'encoder': options.encoder, 'sites': options.sites,
                    'rank': options.rank, 'precision': options.precision,
                    'pairs': [len(self.train), len(self.test)]}
        settings = json.loads(json.dumps(settings))
        path = self.work / f'{run.name}.json'
        if not path.exists():
            return {'settings': settings, 'curve': []}
        record = json.loads(path.read_text())
        found = record.get('settings', {})
        odd = [key for key in settings if found.get(key) != settings[key]]
        if odd:
            raise WorkError(f'{path} was made with ' + ', '.join(
                f'{key} {found.get(key)!r}' for key in odd) + '; asked for ' + ', '.join(
                f'{settings[key]!r}' for key in odd) + ': delete it, or use another --work')
        return record

    def train_run(self, run: Run) -> dict:
        """Train and judge one run; return its record, at once if it is finished already."""
        record, options = self._record(run), self.options
        self.left[run.name] = run.cost() * (run.epochs - len(record['curve']))
        if len(record['curve']) == run.epochs:
            return record
        checkpoint = self.work / f'{run.name}.safetensors'
        data, judged = self.searched if run.searching else (self.train, self.test)
        torch.manual_seed(run.seed)
        rank = max(run.ranks) if run.ranks else options.rank
        model = Paraphrase(self.model, options.sites, rank, ARMS[run.arm],
                           options.precision == 'bfloat16')
        initialise(model, data)
        training = Training(model, data, replace(self.budget, epochs=run.epochs), run.lr,
                            run.seed, run.ranks)
        if record['curve']:
            training.load(checkpoint)
        while training.epoch < run.epochs:
            start, cpu = time.perf_counter(), time.process_time()
            loss = training.run_epoch(lambda i, n, loss: i % 32 or say(
                f'{run.name} epoch {training.epoch + 1}/{run.epochs} {i}/{n} loss {loss:.4f}'))
            cpu = time.process_time() - cpu
            point = {'epoch': training.epoch, 'train_loss': loss, 'cpu_seconds': round(cpu, 1)}
            last = training.epoch == run.epochs
            for r in (rank,) if run.ranks is None else run.ranks if last else ():
                model.encoder.limit_rank(r)
                found = evaluate(model, judged)
                bits = ''.join(str(p) for p in found.pop('predicted'))
                point = {**point, **({f'rank{r}': found} if run.ranks else found)}
                record[f'predicted{r}' if run.ranks else 'predicted'] = bits
            record['curve'].append(point)
            training.save(checkpoint)
            write(self.work / f'{run.name}.json', record)
            self.left[run.name] -= run.cost()
            self._spent += run.cost()
            self._seconds += time.perf_counter() - start
            found = {k: v for k, v in point.items() if k not in ('epoch', 'cpu_seconds')}
            say(f'{run.name} epoch {training.epoch}: {found}, {cpu:.0f} s CPU; about '
                f'{sum(self.left.values()) * self._seconds / self._spent / 60:.0f} min left')
        checkpoint.unlink(missing_ok=True)
        model.encoder.adapter.remove()
        return record

    def search(self) -> tuple[dict[str, float], dict]:
        """Return each arm's learning rate, and what the search found.

        First a short training at every rate; an arm whose best is at the edge of the rates it
        tried gets one more beyond it, at most ``EXTENSIONS`` times. Then its best rate and the
        middle one of those asked for, if they differ, are compared at full length: a short
        training favours high rates. What counts is the held-out loss. One rate is not searched.
        """
        rates = sorted(self.options.rates)
        if len(rates) == 1:
            return dict.fromkeys(ARMS, rates[0]), {}
        short: dict[str, dict] = {arm: {} for arm in ARMS}
        asked = dict.fromkeys(ARMS, rates)
        for _ in range(1 + EXTENSIONS):
            for arm, found in self._try(asked, SEARCH_EPOCHS).items():
                short[arm] |= found
            asked = {arm: beyond({lr: judged['loss'] for lr, judged in found.items()})
                     for arm, found in short.items()}
        middle = rates[len(rates) // 2]
        full = self._try({arm: sorted({best(found), middle}) if best(found) != middle else []
                          for arm, found in short.items()}, self.options.epochs)
        chosen = {arm: best(full[arm] or found) for arm, found in short.items()}
        say(f'learning rates: {chosen}')
        return chosen, {name: {arm: {f'{lr:g}': found[lr] for lr in sorted(found)}
                               for arm, found in part.items()}
                        for name, part in (('short', short), ('full', full))}

    def _try(self, asked: dict[str, list[float]], epochs: int) -> dict[str, dict]:
        """Return held-out loss and accuracy by arm and rate after so many epochs."""
        plan = [Run(f'search-{arm}-{lr:g}-{epochs}', arm, lr, SEARCH_SEED, epochs, True)
                for arm in ARMS for lr in asked[arm]]
        found: dict[str, dict] = {arm: {} for arm in ARMS}
        for run, record in zip(plan, self.share(plan), strict=True):
            found[run.arm][run.lr] = {k: record['curve'][-1][k] for k in ('loss', 'accuracy')}
        return found


def best(found: dict[float, dict]) -> float:
    """Return the rate of least held-out loss."""
    return min(found, key=lambda lr: found[lr]['loss'])


def beyond(losses: dict[float, float]) -> list[float]:
    """Return half the least or twice the largest rate if that one is the best, else nothing."""
    best = min(losses, key=losses.get)
    return [best / 2] if best == min(losses) else [best * 2] if best == max(losses) else []


def final_runs(options: argparse.Namespace, rates: dict[str, float]) -> list[Run]:
    """Return the runs that are published: seeds x arms, and the nested ranks."""
    runs = [Run(f'{arm}-{seed}', arm, rates[arm], seed, options.epochs)
            for seed in range(options.seeds) for arm in ARMS]
    ranked = () if options.no_ranks else ('gc', 'blinded_gc')
    return runs + [Run(f'nested-{arm}', arm, rates[arm], 0, options.epochs, ranks=RANKS)
                   for arm in ranked]


def report(runner: Runner, runs: list[tuple[Run, dict]], found: dict) -> dict:
    """Gather the published result from the records of the final runs and of the search."""
    truth, options = runner.test.labels, runner.options
    right, out = {}, {}
    for arm in ARMS:
        plain = [(run, record) for run, record in runs if run.arm == arm and run.ranks is None]
        records = [record for _, record in plain]
        classes = np.array([[int(c) for c in r['predicted']] for r in records])
        right[arm] = (classes == truth).astype(float)
        out[arm] = {
            'learning_rate': plain[0][0].lr,
            'test_accuracy': [r['curve'][-1]['accuracy'] for r in records],
            'test_f1': [f1_score(c, truth) for c in classes],
            'accuracy': interval(right[arm]),
            'curves': {key: [[p[key] for p in r['curve']] for r in records]
                       for key in ('accuracy', 'f1', 'loss')},      # on the test split
            'epoch_cpu_seconds': float(np.median([p['cpu_seconds'] for r in records
                                                  for p in r['curve']])),
            'predicted': [r['predicted'] for r in records]}
    differences = {f'{a}-{b}': interval(right[a] - right[b]) for a, b in
                   (('gc', 'lora'), ('blinded_gc', 'lora'), ('blinded_gc', 'blinded_no_gc'))}
    rates = ' '.join(f'{lr:g}' for lr in options.rates)
    command = (f'python -m dylora_ros experiment mrpc --data DIR --seeds {options.seeds} '
               f'--epochs {options.epochs} --rates {rates}')
    return {
        'experiment': 'mrpc',
        **provenance(command, ('torch', 'numpy', 'transformers'),
                     seeds=list(range(options.seeds))),
        'model': options.encoder, 'rank': options.rank,
        'sites': options.sites, 'precision': options.precision,
        'equation': 'gamma = 1, q added (Eq. 2 with LoRA as the case of an empty context)',
        'budget': asdict(runner.budget),
        'q_learning_rate_share': Q_SHARE, 'train_pairs': len(runner.train),
        'test_pairs': len(truth), 'majority': float(max(truth.mean(), 1 - truth.mean())),
        'search': {'held_out': HELD, 'short_epochs': SEARCH_EPOCHS, 'seed': SEARCH_SEED, **found}
        if found else 'none: every arm at the same learning rate',
        'arms': out, 'differences': differences,
        'ranks': {run.arm: {f'{r}': {k: record['curve'][-1][f'rank{r}'][k]
                                     for k in ('accuracy', 'f1')} for r in run.ranks}
                  for run, record in runs if run.ranks}}


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment and write its result and figure."""
    parser = argparse.ArgumentParser('dylora_ros experiment mrpc', description=__doc__)
    parser.add_argument('--data', required=True, help='folder of the corpus, or a hub name')
    parser.add_argument('--work', default='runs/mrpc', help='checkpoints (resumes from them)')
    parser.add_argument('--output', default='docs/results', help='folder of the result')
    parser.add_argument('--encoder', default=SOURCE, help='package:NAME, hub:ID or file:FOLDER')
    parser.add_argument('--sites', default=QUERY_VALUE, help='pattern of the adapted layers')
    parser.add_argument('--rank', type=int, default=4)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--epochs', type=int, default=3)
    parser.add_argument('--rates', type=float, nargs='+', default=[2e-3],
                        help='learning rates; of several, each arm\'s is searched')
    parser.add_argument('--precision', choices=('bfloat16', 'float32'),
                        default='bfloat16' if has_fast_bfloat16() else 'float32',
                        help='of the passes; default: what is fast here')
    parser.add_argument('--no-ranks', action='store_true', help='leave out the rank runs')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    tokenizer, model = load_encoder(options.encoder)
    train, test = (task.tokenize(tokenizer, *task.load(options.data, part))
                   for part in ('train', 'test'))
    say(f'{len(train)} training pairs, {len(test)} test pairs')
    runner = Runner(options, train, test, model)
    runner.expect(final_runs(options, dict.fromkeys(ARMS, 0.0)))
    rates, found = runner.search()
    plan = final_runs(options, rates)
    records = runner.share(plan)
    result = report(runner, list(zip(plan, records, strict=True)), found)
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    with runner.claim('publish', wait=True):
        write(output / 'mrpc.json', result)
        curves(result, output / 'mrpc.png')
    for name, arm in result['arms'].items():
        say(f'{name:14} learning rate {arm["learning_rate"]:g} accuracy '
            f'{np.mean(arm["test_accuracy"]):.4f} F1 {np.mean(arm["test_f1"]):.4f} seeds '
            f'{arm["test_accuracy"]}')
    for name, d in result['differences'].items():
        say(f'{name}: {100 * d["mean"]:+.2f} points [{100 * d["low"]:+.2f}, '
            f'{100 * d["high"]:+.2f}]')
    return 0
