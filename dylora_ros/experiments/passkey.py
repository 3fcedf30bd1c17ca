"""Passkey: facts heard once in up to a million tokens of varied filler, asked for at the end.

The frozen MiniLM (in bfloat16 where that is fast) reads sentence by sentence (at most 128 tokens
each); every sentence becomes one LR state (4 sites x rank 32, A trained, gamma = 0, B = 0) and one
row of the global context. Only the lower four blocks are run, where the sites are. A question is
one more row. q reads the context and predicts the next LR state, which is compared with those of
"It is in CITY." (30 cities: chance is 0.033). A one-fact question takes one cycle; for a two-fact
question ("Where is the thing that PERSON owns?") q thinks once more: its predicted LR state is
put in the place of the input, as in REM, and read with again. Nothing else crosses from the text
to the answer.

Trained on contexts of at most 512 tokens. Their rows get ages of up to an hour there (the same
short text, read slowly or long ago), since a million tokens take that long. Things and persons
asked for in the evaluation are combinations of words never seen in training; the filler of the
evaluation names them too, without telling where the thing is or whose. Longer contexts are
read through the log, the streaming index and the predictor as the agent runs them. Arms: ``lsh``
and ``none`` (the same questions with an empty context).

Resumable: encodings, weights and finished sizes stay in the work folder.
"""

import argparse
import json
from multiprocessing import get_context
from pathlib import Path
import time

import numpy as np
from safetensors.torch import load_file, save_file
import torch

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.predictor import Forgetful, Predictor
from dylora_ros.core.qnetwork import QNetwork
from dylora_ros.experiments.passkey_read import (
    BLOCKS,
    PERIOD,
    read_all,
    Reader,
    SCHEMA,
    States,
    WIDTH,
)
from dylora_ros.experiments.passkey_text import answers, chains, filler
from dylora_ros.experiments.passkey_train import Course, train, TRAIN_TOKENS
from dylora_ros.experiments.progress import say
from dylora_ros.experiments.statistics import wilson
from dylora_ros.provenance import provenance, publish, write

TOGETHER = 80            # chains in a context at most: so many persons are held out
KINDS = {'one_fact': ('one', 0), 'two_facts': ('two', 1)}     # question and further thoughts


class Exam:
    """Facts, questions and filler, read once; contexts of any length made from them.

    Args:
        work: folder where encodings are kept.
        states: trained A.
        questions: of each kind.
        tokens: of the longest context.
        seed: of the text.
    """

    def __init__(self, work: Path, states: States, questions: int, tokens: int, seed: int):
        rng = np.random.default_rng(seed)
        self._work = work
        asked = chains(rng, questions, held_out=True)
        texts = [getattr(c, kind) for kind in ('place', 'owner', 'one', 'two') for c in asked]
        x = states.of(read_all(texts + answers(), work / f'facts{questions}.npz')[0])
        self.place, self.owner, self.one, self.two, self.answers = np.split(
            x, questions * np.arange(1, 5))
        self.city = np.array([c.city for c in asked])
        sample = [filler(rng) for _ in range(500)]
        self._per_row = read_all(sample, work / 'sample.npz')[1] / len(sample)
        # what is read does not depend on how much of it is asked for later
        count = self.rows(tokens)
        self._filler = states.of(read_all([filler(rng) for _ in range(count)],
                                          work / f'filler{count}.npz')[0])

    def rows(self, tokens: int) -> int:
        """Return the sentences in so many tokens."""
        return round(tokens / self._per_row)

    def context(self, some: np.ndarray, rows: int, rng: np.random.Generator
                ) -> tuple[Path, np.ndarray]:
        """Write a log with the facts of chains ``some`` (c,) at random places among filler.

        Returns:
            its path and the places (2 * c,) of the facts: those of things, then those of owners.

        """
        start = rng.integers(0, len(self._filler) - rows + 1)
        x = self._filler[start:start + rows].copy()
        places = rng.choice(rows, 2 * len(some), replace=False)
        x[places] = np.concatenate([self.place[some], self.owner[some]])
        path = self._work / 'context.gc'
        path.unlink(missing_ok=True)
        with GlobalContext.open(path, SCHEMA, max(rows, 100)) as log:
            for i, state in enumerate(x):
                log.append_row(question(state, (i + 1) * PERIOD))
        return path, places

    @torch.inference_mode()
    def run(self, network: QNetwork, tokens: int) -> dict:
        """Ask everything in contexts of ``tokens`` tokens."""
        rng, rows = np.random.default_rng(tokens), self.rows(tokens)
        together, n = max(1, min(TOGETHER, rows // 40)), len(self.city)
        scored = {arm: {kind: [] for kind in KINDS} for arm in ('lsh', 'none')}
        # chains of one such block have different things and persons
        blocks = [np.arange(i, min(i + TOGETHER, n)) for i in range(0, n, TOGETHER)]
        contexts = [c for b in blocks for c in np.array_split(b, -(-len(b) // together))]
        for some in contexts:
            path, _ = self.context(some, rows, rng)
            with GlobalContext.read(path) as log:
                arms = {'lsh': Predictor(network, log), 'none': Forgetful(network, log)}
                for chain in some:
                    for kind, (text, thoughts) in KINDS.items():
                        for arm, predictor in arms.items():
                            q = think(predictor, getattr(self, text)[chain],
                                      (rows + 1) * PERIOD, thoughts)
                            said = (self.answers @ q).argmax()
                            scored[arm][kind].append(int(said == self.city[chain]))
        out = {'tokens': tokens, 'rows': rows, 'contexts': len(contexts)}
        for arm, kinds in scored.items():
            out[arm] = {kind: {'accuracy': float(np.mean(v)), 'n': len(v),
                               'interval': wilson(sum(v), len(v))} for kind, v in kinds.items()}
        return out


def question(x: np.ndarray, stamp: int) -> np.ndarray:
    """Return a row () with this LR state (w,) and nothing decided."""
    row = np.zeros((), SCHEMA.dtype)
    row['mask'], row['stamp'], row['x'] = 1, stamp, np.clip(x, -8, 8)
    return row


def think(predictor: Predictor | Forgetful, x: np.ndarray, stamp: int, thoughts: int
          ) -> np.ndarray:
    """Return the predicted LR state (w,) for a question's after so many further thoughts."""
    q = predictor.observe(question(x, stamp)).q
    for _ in range(thoughts):
        q = predictor.observe(question(q, stamp)).q
    return q


def _speed_worker(texts: list[str], folder: str, number: int) -> tuple[int, float]:
    """Read, write to the log and index; return tokens and seconds (entry of a process)."""
    torch.set_num_threads(1)
    reader = Reader()
    reader.read(texts[:64])
    states = States(torch.randn(200, BLOCKS * WIDTH))
    network = QNetwork(SCHEMA).eval()
    start, tokens = time.time(), 0
    path = Path(folder) / f'speed{number}.gc'
    path.unlink(missing_ok=True)
    with GlobalContext.open(path, SCHEMA, len(texts)) as log:
        predictor = Predictor(network, log)
        for i in range(0, len(texts), 1024):
            inputs, n = reader.read(texts[i:i + 1024])
            tokens += n
            for j, x in enumerate(states.of(inputs)):
                log.append_row(question(x, (i + j + 1) * PERIOD))
            predictor.catch_up()
    path.unlink()
    return tokens, time.time() - start


def speed(work: Path, count: int = 6000) -> dict:
    """Measure tokens a second with two processes: reading, log and index included."""
    rng = np.random.default_rng(5)
    jobs = [([filler(rng) for _ in range(count)], str(work), i) for i in range(2)]
    with get_context('spawn').Pool(2) as pool:
        done = pool.starmap(_speed_worker, jobs)
    return {'tokens_per_s': round(sum(n / s for n, s in done)),
            'tokens_per_s_by_process': [round(n / s) for n, s in done]}


def figure(result: dict, path: Path):
    """Plot accuracy by tokens."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    figure_, axis = plt.subplots(figsize=(6.4, 4.0))
    for arm in ('lsh', 'none'):
        for kind in KINDS:
            points = [(s['tokens'], s[arm][kind]['accuracy'], *s[arm][kind]['interval'])
                      for s in result['sizes']]
            x, y, low, high = np.array(points).T
            axis.errorbar(x, y, [np.maximum(y - low, 0), np.maximum(high - y, 0)], marker='o',
                          capsize=3, label=f'{kind.replace("_", " ")}, {arm}')
    axis.axvline(TRAIN_TOKENS, color='0.7', ls='--')
    axis.text(TRAIN_TOKENS * 1.1, 0.5, 'trained on contexts\nup to here', fontsize=8)
    axis.set(xscale='log', xlabel='tokens of context', ylabel='answered right', ylim=(-0.03, 1.03))
    axis.legend(fontsize=8, loc='center right')
    figure_.tight_layout()
    figure_.savefig(path, dpi=110)


def trained(work: Path, steps: int, seed: int) -> tuple[States, QNetwork]:
    """Return A and q, trained if the work folder does not hold them yet."""
    if not (work / 'q.safetensors').exists():
        states, network = train(Course(work, seed), steps)
        save_file(states.state_dict(), str(work / 'states.safetensors'))
        network.save(work / 'q.safetensors')
    states = States(torch.randn(200, BLOCKS * WIDTH))
    states.load_state_dict(load_file(str(work / 'states.safetensors')))
    return states, QNetwork.load(work / 'q.safetensors', SCHEMA)


def main(arguments: list[str] | None = None):
    """Run the experiment; see the module."""
    parser = argparse.ArgumentParser(prog='dylora_ros experiment passkey', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('passkey'))
    parser.add_argument('--out', type=Path, help='folder of passkey.json and passkey.png')
    parser.add_argument('--steps', type=int, default=2000)
    parser.add_argument('--tokens', type=int, nargs='+',
                        default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument('--questions', type=int, default=300, help='of each kind, every size')
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    states, network = trained(work, options.steps, options.seed)
    exam = Exam(work, states, options.questions, max(options.tokens), options.seed + 1)
    state = work / 'sizes.json'
    sizes = json.loads(state.read_text()) if state.exists() else {}
    for tokens in options.tokens:
        if str(tokens) not in sizes:
            start = time.time()
            sizes[str(tokens)] = exam.run(network, tokens)
            write(state, sizes)
            say(f'{tokens} tokens in {time.time() - start:.0f} s: {sizes[str(tokens)]["lsh"]}')
    chosen = [sizes[str(t)] for t in options.tokens]
    result = {
        **provenance('python -m dylora_ros experiment passkey '
                     f'--steps {options.steps} --questions {options.questions} '
                     f'--seed {options.seed}', ('torch', 'numpy', 'transformers'),
                     seed=options.seed),
        'trained_on_tokens': TRAIN_TOKENS,
        **{kind: {str(s['tokens']): s['lsh'][kind]['accuracy'] for s in chosen}
           for kind in KINDS},
        'sizes': chosen, **speed(work)}
    figure(result, work / 'passkey.png')
    publish(result, work, options.out, 'passkey')
    print(json.dumps(result))


if __name__ == '__main__':
    main()
