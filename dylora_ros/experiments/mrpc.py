"""Figure 5 of the paper, with numbers: the global context carries what an answer needs, or not.

Four arms on MRPC (paraphrase or not), one code path, equal rank, sites, start, data order and
budget:

* ``lora``: the local context is the pair; no global context (Eq. 1).
* ``gc``: the pair is written to the global context and is the local context too (Eq. 2).
* ``blinded_gc``: written to the context; the answering pass sees PAD tokens only.
* ``blinded_no_gc``: PAD tokens and no context.

The learning rate of each arm is searched on a part of the training split; the test split is
only evaluated. Resumable: finished epochs are kept in the work folder.
"""

import argparse
from dataclasses import asdict
import json
from pathlib import Path
import time

import numpy as np
import torch

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
from dylora_ros.experiments.results import machine, write
from dylora_ros.experiments.statistics import f1_score, interval
from dylora_ros.modalities.encoders import load_encoder, QUERY_VALUE
from dylora_ros.modalities.text import SOURCE

COST = {'lora': 1.0, 'gc': 2.0, 'blinded_gc': 1.2, 'blinded_no_gc': 0.2}    # epochs of LoRA
RANKS = (1, 2, 4, 8)
HELD = 0.15
SEARCH_EPOCHS = 1


def say(text: str):
    """Print progress at once."""
    print(f'[mrpc {time.strftime("%H:%M:%S")}] {text}', flush=True)


class Runner:
    """Trains the runs of the plan one after the other, with time left.

    Args:
        options: of the command line.
        train: the training split.
        test: the test split.
    """

    def __init__(self, options: argparse.Namespace, train: task.Pairs, test: task.Pairs,
                 model: torch.nn.Module):
        self.options, self.train, self.test, self.model = options, train, test, model
        self.budget = Budget(epochs=options.epochs)
        self.work = Path(options.work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.left = 0.0           # planned cost, in epochs of LoRA
        self._spent = self._seconds = 0.0

    def run(self, name: str, arm: str, lr: float, seed: int, data: task.Pairs,
            judged: task.Pairs, budget: Budget, ranks: tuple[int, ...] | None = None) -> dict:
        """Train and judge one run; return its record, at once if it is finished already."""
        done = self.work / f'{name}.json'
        checkpoint = self.work / f'{name}.safetensors'
        record = json.loads(done.read_text()) if done.exists() else {'curve': []}
        cost = COST[arm] * len(data) / len(self.train)
        self.left -= cost * len(record['curve'])
        if len(record['curve']) == budget.epochs:
            return record
        torch.manual_seed(seed)
        rank = max(ranks) if ranks else self.options.rank
        model = Paraphrase(self.model, self.options.sites, rank, ARMS[arm],
                           self.options.precision == 'bfloat16')
        initialise(model, data)
        training = Training(model, data, budget, lr, seed, ranks)
        if record['curve']:
            training.load(checkpoint)
        while training.epoch < budget.epochs:
            start, cpu = time.perf_counter(), time.process_time()
            loss = training.run_epoch(lambda i, n, loss: i % 32 or say(
                f'{name} epoch {training.epoch + 1}/{budget.epochs} {i}/{n} loss {loss:.4f}'))
            cpu = time.process_time() - cpu
            point = {'epoch': training.epoch, 'train_loss': loss, 'cpu_seconds': round(cpu, 1)}
            judge = ranks if training.epoch == budget.epochs else ()
            for r in (rank,) if ranks is None else judge:
                model.encoder.limit_rank(r)
                found = evaluate(model, judged)
                bits = ''.join(str(p) for p in found.pop('predicted'))
                point = {**point, **({f'rank{r}': found} if ranks else found)}
                record[f'predicted{r}' if ranks else 'predicted'] = bits
            record['curve'].append(point)
            training.save(checkpoint)
            write(done, {**record, 'arm': arm, 'lr': lr, 'seed': seed})
            self.left -= cost
            self._spent += cost
            self._seconds += time.perf_counter() - start
            found = {k: v for k, v in point.items() if k not in ('epoch', 'cpu_seconds')}
            say(f'{name} epoch {training.epoch}: {found}, {cpu:.0f} s CPU; about '
                f'{self.left * self._seconds / self._spent / 60:.0f} min left')
        checkpoint.unlink(missing_ok=True)
        model.encoder.adapter.remove()
        return json.loads(done.read_text())

    def search(self) -> dict[str, float]:
        """Return each arm's learning rate: least held-out loss after a short training."""
        if len(self.options.rates) == 1:
            self.found = {}
            return dict.fromkeys(ARMS, self.options.rates[0])
        data, held = task.split(self.train, HELD)
        budget = Budget(epochs=SEARCH_EPOCHS)
        chosen, self.found = {}, {}
        for arm in ARMS:
            runs = {lr: self.run(f'search-{arm}-{lr:g}', arm, lr, 1000, data, held, budget)
                    for lr in self.options.rates}
            self.found[arm] = {f'{lr:g}': {k: run['curve'][-1][k] for k in ('loss', 'accuracy')}
                               for lr, run in runs.items()}
            chosen[arm] = min(runs, key=lambda lr: runs[lr]['curve'][-1]['loss'])
        say(f'learning rates: {chosen}')
        return chosen


def report(runner: Runner, runs: dict[str, list[dict]], rates: dict[str, float],
           nested: dict[str, dict]) -> dict:
    """Gather the published result from the records of all runs."""
    truth = runner.test.labels
    right, out = {}, {}
    for arm, records in runs.items():
        classes = np.array([[int(c) for c in r['predicted']] for r in records])
        right[arm] = (classes == truth).astype(float)
        out[arm] = {
            'learning_rate': rates[arm],
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
    return {
        'experiment': 'mrpc', 'machine': machine(),
        'command': f'python -m dylora_ros experiment mrpc --data DIR '
                   f'--seeds {runner.options.seeds} --epochs {runner.options.epochs}',
        'model': runner.options.encoder, 'rank': runner.options.rank,
        'sites': runner.options.sites, 'precision': runner.options.precision,
        'equation': 'gamma = 1, q added (Eq. 2 with LoRA as the case of an empty context)',
        'seeds': list(range(runner.options.seeds)), 'budget': asdict(runner.budget),
        'q_learning_rate_share': Q_SHARE, 'train_pairs': len(runner.train),
        'test_pairs': len(truth), 'majority': float(max(truth.mean(), 1 - truth.mean())),
        'search': {'held_out': HELD, 'epochs': SEARCH_EPOCHS, 'seed': 1000,
                   'found': runner.found},
        'arms': out, 'differences': differences,
        'ranks': {arm: {f'{r}': {k: record['curve'][-1][f'rank{r}'][k]
                                 for k in ('accuracy', 'f1')} for r in RANKS}
                  for arm, record in nested.items()}}


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
    parser.add_argument('--precision', choices=('bfloat16', 'float32'), default='bfloat16')
    parser.add_argument('--no-ranks', action='store_true', help='leave out the rank runs')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    tokenizer, model = load_encoder(options.encoder)
    train, test = (task.tokenize(tokenizer, *task.load(options.data, part))
                   for part in ('train', 'test'))
    say(f'{len(train)} training pairs, {len(test)} test pairs')
    runner = Runner(options, train, test, model)
    ranked = () if options.no_ranks else ('gc', 'blinded_gc')
    runner.left = (sum(COST.values()) * (options.epochs * options.seeds + SEARCH_EPOCHS
                                         * (1 - HELD) * len(options.rates[1:] and options.rates))
                   + sum(COST[arm] for arm in ranked) * options.epochs)
    rates = runner.search()
    runs: dict[str, list[dict]] = {arm: [] for arm in ARMS}
    nested: dict[str, dict] = {}
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)

    def publish():
        result = report(runner, runs, rates, nested)
        write(output / 'mrpc.json', result)
        curves(result, output / 'mrpc.png')
        return result

    for seed in range(options.seeds):
        for arm in ARMS:
            runs[arm].append(runner.run(f'{arm}-{seed}', arm, rates[arm], seed, train, test,
                                        runner.budget))
        result = publish()
    for arm in ranked:
        nested[arm] = runner.run(f'nested-{arm}', arm, rates[arm], 0, train, test, runner.budget,
                                 RANKS)
        result = publish()
    for name, arm in result['arms'].items():
        say(f'{name:14} accuracy {np.mean(arm["test_accuracy"]):.4f} '
            f'F1 {np.mean(arm["test_f1"]):.4f} seeds {arm["test_accuracy"]}')
    for name, d in result['differences'].items():
        say(f'{name}: {100 * d["mean"]:+.2f} points [{100 * d["low"]:+.2f}, '
            f'{100 * d["high"]:+.2f}]')
    return 0
