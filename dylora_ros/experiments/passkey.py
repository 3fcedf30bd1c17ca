"""Passkey: facts heard once in up to a million tokens of varied filler, asked for at the end.

The frozen MiniLM (in bfloat16) reads sentence by sentence (at most 128 tokens each); every
sentence becomes one LR state (4 sites x rank 32, A trained, gamma = 0, B = 0) and one row of the
global context. Only the lower four blocks are run, where the sites are. A question is one more
row. q reads the context and predicts the next LR state, which is compared with those of "It is in
CITY." (30 cities: chance is 0.033). A one-fact question takes one cycle; for a two-fact
question ("Where is the thing that PERSON owns?") q thinks once more: its predicted LR state is
put in the place of the input, as in REM, and read with again. Nothing else crosses from the text
to the answer.

Trained on contexts of at most 512 tokens. Their rows get ages of up to an hour there (the same
short text, read slowly or long ago), since a million tokens take that long. Things and persons
asked for in the evaluation are combinations of words never seen in training. Longer contexts are
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
import torch
import torch.nn.functional as F

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.features import features
from dylora_ros.core.predictor import Forgetful, Predictor
from dylora_ros.core.qnetwork import QNetwork
from dylora_ros.core.rows import RowSchema
from dylora_ros.experiments.passkey_text import answers, chains, filler
from dylora_ros.experiments.recall_train import say
from dylora_ros.experiments.statistics import wilson
from dylora_ros.provenance import write

BLOCKS, RANK, WIDTH = 4, 32, 384
SCHEMA = RowSchema({'text': (BLOCKS, RANK)}, 1, 1, adapters='passkey')
TRAIN_TOKENS = 512
PERIOD = 40_000_000      # ns a sentence
LONGEST = 3600.0         # s, ages in training
ROWS = 75_000            # of a context of a million tokens, about


class Reader:
    """The frozen text model's lower blocks: sentences to the mean input of every site."""

    def __init__(self):
        from dylora_ros.core.lowrank import inject
        from dylora_ros.modalities.text import MAX_TOKENS, SentenceEncoder
        encoder = SentenceEncoder()
        self.model, self.tokenizer, self._most = encoder.model, encoder.tokenizer, MAX_TOKENS
        self.model.encoder.layer = self.model.encoder.layer[:BLOCKS]
        self.adapter = inject(self.model, r'attention\.self\.value$', RANK,
                              name='passkey:minilm-l6')
        self.model.to(torch.bfloat16)          # twice as fast; the states are float16 anyway
        self.adapter.set_state(None, gamma=0.0)
        for layer in self.adapter.layers.values():
            layer.calibrating = True

    @torch.inference_mode()
    def read(self, texts: list[str]) -> tuple[np.ndarray, int]:
        """Return (n, sites * width) float16 and the number of tokens.

        Sentences of one length are batched together, so that no padding is ever read.
        """
        ids = self.tokenizer(texts, truncation=True, max_length=self._most)['input_ids']
        lengths = np.array([len(i) for i in ids])
        out = np.empty((len(texts), BLOCKS * WIDTH), np.float16)
        for length in np.unique(lengths):
            same = np.flatnonzero(lengths == length)
            for part in np.array_split(same, -(-len(same) * length // 2048)):
                self.model(input_ids=torch.tensor([ids[i] for i in part]))
                out[part] = torch.cat([layer.inputs for layer in
                                       self.adapter.layers.values()], 1).float().numpy()
        return out, int(lengths.sum())


def read_all(texts: list[str], path: Path, label: str) -> np.ndarray:
    """Read sentences once; the result is kept in ``path``."""
    if path.exists():
        return np.load(path)
    reader, parts, start = Reader(), [], time.time()
    size = 4096
    for i in range(0, len(texts), size):
        parts.append(reader.read(texts[i:i + size])[0])
        left = (time.time() - start) / (i + size) * max(0, len(texts) - i - size)
        say(f'{label}: {min(i + size, len(texts))}/{len(texts)} sentences, '
            f'{left / 60:.1f} min left')
    np.save(path, np.concatenate(parts))
    return np.load(path)


class States(torch.nn.Module):
    """A of every site: mean site inputs to LR states."""

    def __init__(self, inputs: torch.Tensor):
        super().__init__()
        a, centre = [], []
        for part in inputs.view(len(inputs), BLOCKS, WIDTH).unbind(1):
            mean = part.mean(0)
            _, values, directions = torch.linalg.svd(part - mean, full_matrices=False)
            scale = values[:RANK] / len(part) ** 0.5 + 1e-6
            a.append(directions[:RANK] / scale[:, None])     # whitened, as the agent's A
            centre.append(a[-1] @ mean)
        self.A = torch.nn.Parameter(torch.stack(a))
        self.register_buffer('centre', torch.stack(centre))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (n, sites * width) to x (n, sites * rank)."""
        x = torch.einsum('nsw,srw->nsr', inputs.view(len(inputs), BLOCKS, WIDTH), self.A)
        return (x - self.centre).flatten(1)


def row_features(x: torch.Tensor) -> torch.Tensor:
    """Return the features (n, f) of rows with these LR states (n, w) and nothing decided."""
    row = np.zeros(1, SCHEMA.dtype)
    row['mask'] = 1
    rest = torch.from_numpy(features(row, SCHEMA))[:, SCHEMA.width:]
    return torch.cat([x.clamp(-8, 8), rest.expand(len(x), -1)], 1)


class Course:
    """Training contexts of at most TRAIN_TOKENS tokens: three chains among filler."""

    def __init__(self, work: Path, seed: int):
        rng = np.random.default_rng(seed)
        self.rng = rng
        self.chains = chains(rng, 2000, held_out=False)
        groups = {'filler': [filler(rng) for _ in range(6000)], 'answers': answers()}
        for kind in ('place', 'owner', 'one', 'two'):
            groups[kind] = [getattr(c, kind) for c in self.chains]
        texts = [t for g in groups.values() for t in g]
        inputs = read_all(texts, work / 'course.npy', 'training sentences')
        self.inputs, at = {}, 0
        for kind, group in groups.items():
            self.inputs[kind] = torch.from_numpy(inputs[at:at + len(group)].astype(np.float32))
            at += len(group)
        self.lengths = np.array([len(t.split()) + 4 for t in groups['filler']])
        self.city = np.array([c.city for c in self.chains])

    def draw(self, batch: int):
        """Return chain numbers (b, 3) and filler numbers (b, 30): about 490 tokens a context."""
        some = self.rng.integers(0, len(self.chains), (batch, 3))
        return some, self.rng.integers(0, len(self.inputs['filler']), (batch, 30))


def train(course: Course, steps: int, batch: int = 48) -> tuple[States, QNetwork]:
    """Train A and q to answer."""
    states = States(torch.cat([v[:2000] for k, v in course.inputs.items() if k != 'answers']))
    network = QNetwork(SCHEMA)
    fast = {'sharpness', 'decay.rate'}
    optimizer = torch.optim.Adam(
        [{'params': [p for n, p in network.named_parameters() if n not in fast], 'peak': 2e-3},
         {'params': [p for n, p in network.named_parameters() if n in fast], 'peak': 1e-2},
         {'params': list(states.parameters()), 'peak': 3e-4}])
    rng, start, right = course.rng, time.time(), []
    for step in range(steps):
        some, noise = course.draw(batch)
        inputs = torch.cat([course.inputs['place'][some], course.inputs['owner'][some],
                            course.inputs['filler'][noise]], 1)              # (b, k, s*w)
        k = inputs.shape[1]
        x = states(inputs.flatten(0, 1))
        past = row_features(x).view(batch, k, -1)
        order = np.argsort(rng.random((batch, k)), 1) + 1                    # places in the text
        stretch = np.exp(rng.uniform(0, np.log(LONGEST * 1e9 / PERIOD / k), (batch, 1)))
        age = torch.from_numpy((order * stretch * PERIOD * 1e-9).astype(np.float32))
        valid = torch.ones(batch, k, dtype=torch.bool)
        asked = {kind: states(course.inputs[kind][some[:, 0]]) for kind in ('one', 'two')}
        target = states(course.inputs['answers'])
        city = torch.from_numpy(course.city[some[:, 0]])

        def answer(q, target=target):
            return q @ target.T / SCHEMA.width ** 0.5

        now = row_features(asked['one'])
        one = network(now, past, age, valid)
        thought = network(row_features(asked['two']), past, age, valid)
        again = row_features(thought.q)
        two = network(again, past, age, valid)
        loss = F.cross_entropy(answer(one.q), city) + F.cross_entropy(answer(two.q), city) \
            + F.smooth_l1_loss(thought.q, asked['one'].detach())
        # a million tokens have far more rows: those of all other contexts stand for them
        keys = network.keys(past).flatten(0, 1)
        own = torch.arange(batch).repeat_interleave(k)[None] == torch.arange(batch)[:, None]
        weight = torch.full((batch, batch * k), np.log(ROWS / (batch * k)), dtype=torch.float32)
        weight = weight.masked_fill(own, float('-inf'))
        for heads, ask, place in ((one, now, 0), (thought, row_features(asked['two']), 3)):
            query = network.keys(ask)
            rest = network.logits(query, keys.expand(batch, -1, -1),
                                  age.flatten()[None].expand(batch, -1)) + weight[:, None]
            leak = F.relu(rest.logsumexp(-1) - heads.mass + 4.0)
            # hashing finds what is near: a question comes close to its fact, and to no other
            gold = network.keys(past[:, place])
            near = (query * gold).sum(1)
            alike = (query @ query.T).square().mean() - 1 / batch
            loss = loss + 0.03 * leak.amin(1).mean() + 0.3 * alike \
                + 0.3 * F.relu(0.97 - near).mean()
        share = step / steps
        for group in optimizer.param_groups:
            group['lr'] = group['peak'] * min(1.0, (step + 1) / 50) * (1 - 0.97 * share)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        right.append([float((answer(h.q).argmax(1) == city).float().mean()) for h in (one, two)])
        if (step + 1) % 100 == 0:
            left = (time.time() - start) / (step + 1) * (steps - step - 1)
            say(f'passkey {step + 1}/{steps} loss {loss.item():.3f} right '
                f'{np.mean(right[-100:], 0).round(3)} leak {leak.amin(1).mean():.1f} near '
                f'{near.mean():.2f} {left / 60:.1f} min left')
    return states.eval(), network.eval()


def write_context(path: Path, x: np.ndarray):
    """Write LR states (n, w) as the rows of a new log."""
    path.unlink(missing_ok=True)
    with GlobalContext.open(path, SCHEMA, max(len(x), 100)) as log:
        row = np.zeros((), SCHEMA.dtype)
        row['mask'] = 1
        for i, state in enumerate(x):
            row['stamp'], row['x'] = (i + 1) * PERIOD, state
            log.append_row(row)


def ask(predictor, x: np.ndarray, stamp: int, thoughts: int) -> np.ndarray:
    """Return the predicted LR state for a question's state after so many further thoughts."""
    row = np.zeros((), SCHEMA.dtype)
    row['mask'], row['stamp'], row['x'] = 1, stamp, x
    q = predictor.observe(row).q
    for _ in range(thoughts):
        row['x'] = np.clip(q, -8, 8)
        q = predictor.observe(row).q
    return q


@torch.inference_mode()
def examine(work: Path, states: States, network: QNetwork, tokens: int, questions: int,
            sentences: np.ndarray, per_sentence: float, exam: dict) -> dict:
    """Ask about facts at random depths in contexts of ``tokens`` tokens."""
    rng = np.random.default_rng(tokens)
    room = round(tokens / per_sentence)
    per = max(1, min(questions, room // 40))           # chains in one context
    scored = {arm: {'one': [], 'two': []} for arm in ('lsh', 'none')}
    depth, done = [], 0
    target = states(exam['answers']).numpy()
    while done < questions:
        some = np.arange(done, min(done + per, questions)) % len(exam['city'])
        facts = np.concatenate([states(exam['place'][some]).numpy(),
                                states(exam['owner'][some]).numpy()])
        start = rng.integers(0, max(1, len(sentences) - room + 1))
        x = sentences[start:start + room].astype(np.float32)
        places = rng.choice(room, len(facts), replace=False)
        x[places] = facts
        path = work / 'context.gc'
        write_context(path, x)
        with GlobalContext.read(path) as log:
            arms = {'lsh': Predictor(network, log), 'none': Forgetful(network, log)}
            stamp = (room + 1) * PERIOD
            for i, chain in enumerate(some):
                depth.append(1 - places[i] / room)
                for kind, thoughts in (('one', 0), ('two', 1)):
                    state = states(exam[kind][chain][None])[0].numpy()
                    for arm, predictor in arms.items():
                        q = ask(predictor, state, stamp, thoughts)
                        scored[arm][kind].append(
                            int((target @ q).argmax() == exam['city'][chain]))
        done += len(some)
    out = {'tokens': tokens, 'rows': room, 'contexts': -(-questions // per)}
    for arm, kinds in scored.items():
        out[arm] = {f'{kind}_fact{"s" * (kind == "two")}': {
            'accuracy': float(np.mean(v)), 'n': len(v), 'interval': wilson(sum(v), len(v))}
            for kind, v in kinds.items()}
    return out


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
    with GlobalContext.open(path, SCHEMA, len(texts)) as log, torch.inference_mode():
        predictor = Predictor(network, log)
        row = np.zeros((), SCHEMA.dtype)
        for i in range(0, len(texts), 1024):
            inputs, n = reader.read(texts[i:i + 1024])
            tokens += n
            for x in states(torch.from_numpy(inputs.astype(np.float32))).numpy():
                row['x'] = x
                log.append_row(row)
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
        for kind in ('one_fact', 'two_facts'):
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


def load(work: Path, states: States) -> QNetwork:
    """Load trained A and q."""
    from safetensors.torch import load_file
    states.load_state_dict(load_file(str(work / 'states.safetensors')))
    return QNetwork.load(work / 'q.safetensors', SCHEMA)


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
    if not (work / 'q.safetensors').exists():
        from safetensors.torch import save_file
        states, network = train(Course(work, options.seed), options.steps)
        save_file(states.state_dict(), str(work / 'states.safetensors'))
        network.save(work / 'q.safetensors')
    states = States(torch.randn(200, BLOCKS * WIDTH))
    network = load(work, states)

    rng = np.random.default_rng(options.seed + 1)
    held_out = chains(rng, min(options.questions, 80), held_out=True)
    texts = [t for kind in ('place', 'owner', 'one', 'two') for t in
             (getattr(c, kind) for c in held_out)] + answers()
    inputs = torch.from_numpy(read_all(texts, work / 'exam.npy', 'facts').astype(np.float32))
    n = len(held_out)
    exam = {kind: inputs[i * n:(i + 1) * n] for i, kind in
            enumerate(('place', 'owner', 'one', 'two'))}
    exam['answers'] = inputs[4 * n:]
    exam['city'] = np.array([c.city for c in held_out])

    sentences, per_sentence = filler_states(work, states, max(options.tokens), rng)
    state = work / 'sizes.json'
    sizes = json.loads(state.read_text()) if state.exists() else {}
    for tokens in options.tokens:
        if str(tokens) not in sizes:
            start = time.time()
            sizes[str(tokens)] = examine(work, states, network, tokens, options.questions,
                                         sentences, per_sentence, exam)
            write(state, sizes)
            say(f'{tokens} tokens in {time.time() - start:.0f} s: {sizes[str(tokens)]["lsh"]}')
    chosen = [sizes[str(t)] for t in options.tokens]
    result = {'command': 'python -m dylora_ros experiment passkey '
                         f'--steps {options.steps} --questions {options.questions} '
                         f'--seed {options.seed}',
              'seed': options.seed, 'trained_on_tokens': TRAIN_TOKENS,
              'one_fact': {str(s['tokens']): s['lsh']['one_fact']['accuracy'] for s in chosen},
              'two_facts': {str(s['tokens']): s['lsh']['two_facts']['accuracy']
                            for s in chosen},
              'sizes': chosen, **speed(work)}
    write(work / 'passkey.json', result)
    figure(result, work / 'passkey.png')
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        for name in ('passkey.json', 'passkey.png'):
            (options.out / name).write_bytes((work / name).read_bytes())
    print(json.dumps(result))


def filler_states(work: Path, states: States, tokens: int, rng) -> tuple[np.ndarray, float]:
    """Return LR states of enough filler sentences and the tokens of one, on average."""
    path, reader = work / 'filler.npy', None
    sample = [filler(rng) for _ in range(500)]
    reader = Reader()
    per_sentence = reader.read(sample)[1] / len(sample)
    count = round(tokens / per_sentence)
    if path.exists() and len(np.load(path, mmap_mode='r')) >= count:
        return np.load(path), per_sentence
    parts, start = [], time.time()
    while sum(map(len, parts)) < count:
        inputs, _ = reader.read([filler(rng) for _ in range(4096)])
        with torch.inference_mode():
            x = states(torch.from_numpy(inputs.astype(np.float32)))
        parts.append(x.numpy().astype(np.float16))
        done = sum(map(len, parts))
        left = (time.time() - start) / done * max(0, count - done)
        say(f'filler: {done}/{count} sentences, {left / 60:.1f} min left')
    np.save(path, np.concatenate(parts))
    return np.load(path), per_sentence


if __name__ == '__main__':
    main()
