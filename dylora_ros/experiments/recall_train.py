"""Lessons of the recall experiment: cues in streams of at most 10^4 cycles."""

import time

import numpy as np
import torch
import torch.nn.functional as F

from dylora_ros.core.features import features, remarkable
from dylora_ros.core.gru import GRUNetwork
from dylora_ros.core.lsh import SequenceIndex, strongest
from dylora_ros.core.memory import DEPTH, KEPT, MOST, new_hash, RECENT
from dylora_ros.core.qnetwork import QNetwork
from dylora_ros.experiments.stream import asked, PERIOD, SEGMENT, Stream

TRAIN_ROWS = 10_000
DAY = 1_080_000
SIZE = 2.0               # of every number of a name, in standard deviations
BATCH = 48


def say(text: str):
    """Print progress at once."""
    print(f'[{time.strftime("%H:%M:%S")}] {text}', flush=True)


class Cues:
    """Writes cues and questions into rows."""

    def __init__(self, stream: Stream):
        self.schema = stream.schema
        self._text = list(self.schema.modalities).index('text')
        self._slot = self.schema.slices['text']
        self.side = self._slot.stop - 1              # place of the side in the composite
        rows = stream.rows(20 * SEGMENT)
        heard = ((rows['mask'] >> self._text & 1) == 1) & (rows['age'][:, self._text] == 0)
        heard[::SEGMENT] = False                     # nothing was predicted for these
        after = np.flatnonzero(heard)
        if not len(after):
            raise ValueError('the recorded log has no words in it')
        # the sense's usual error, as modalities.base.Surprise keeps it
        self._usual = float(np.mean(self._error(rows[after], rows[after - 1])))

    def _error(self, rows: np.ndarray, before: np.ndarray) -> np.ndarray:
        gap = rows['x'][:, self._slot].astype(np.float32) - before['q'][:, self._slot]
        return (gap ** 2).mean(-1)

    def write(self, rows: np.ndarray, names: np.ndarray, sides: np.ndarray):
        """Put names (n, 15) and sides (n,), 0 for a question, into rows (n,), in place."""
        rows['x'][:, self._slot] = SIZE * np.concatenate([names, sides[:, None]], 1)
        rows['mask'] |= 1 << self._text
        rows['age'][:, self._text] = 0
        rows['surprise'][:, self._text] = self._error(rows, rows) / self._usual

    def new(self, rng, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return n random names and sides."""
        names = rng.choice([-1.0, 1.0], (n, self._slot.stop - self._slot.start - 1))
        return names, rng.choice([-1.0, 1.0], n)


class Lessons:
    """Training streams of TRAIN_ROWS cycles with cues and questions in them."""

    def __init__(self, stream: Stream, cues: Cues, seed: int, pool: int = 8):
        self.cues, self.schema = cues, stream.schema
        self.rng = np.random.default_rng(seed)
        self._rows = stream.rows(pool * TRAIN_ROWS)
        self._feats = features(self._rows, self.schema)
        self._remarkable = remarkable(self._rows)

    def draw(self, length: int, n: int):
        """Put n cues in a stream, each asked for once, at a log-uniform distance.

        Returns:
            feats (length, f), remarkable (length,), places of cues and questions (n,), features
            of the questions (n, f), sides (n,).

        """
        rng = self.rng
        start = rng.integers(len(self._rows) - length)
        names, sides = self.cues.new(rng, n)
        at = rng.choice(np.arange(1, length - 40), n, replace=False)
        gap = np.exp(rng.uniform(np.log(2), np.log(np.maximum(length - 1 - at, 3))))
        ask = np.minimum(at + gap.astype(int), length - 1)
        heard = self._rows[start + at].copy()
        self.cues.write(heard, names, sides)
        questions = asked(self._rows[start + ask])
        self.cues.write(questions, names, np.zeros(n))
        feats = self._feats[start:start + length].copy()
        feats[at] = features(heard, self.schema)
        marked = self._remarkable[start:start + length].copy()
        marked[at] = remarkable(heard)
        return feats, marked, at, ask, features(questions, self.schema), sides


def train_lsh(network: QNetwork, lessons: Lessons, steps: int, lr: float = 2e-3):
    """Train q to answer; candidates come from the index, in early training with the cue added."""
    fast = {'sharpness', 'decay.rate'}
    optimizer = torch.optim.Adam(
        [{'params': [p for n, p in network.named_parameters() if n not in fast], 'peak': lr},
         {'params': [p for n, p in network.named_parameters() if n in fast], 'peak': 10 * lr}])
    rng, hasher, start = lessons.rng, new_hash(), time.time()
    right, hit, shown = [], [], []
    for step in range(steps):
        share = step / steps
        length = int(np.exp(rng.uniform(np.log(500), np.log(TRAIN_ROWS))))
        n = min(BATCH, length // 20)
        feats, marked, at, ask, questions, sides = lessons.draw(length, n)
        feats, now = torch.from_numpy(feats), torch.from_numpy(questions)
        with torch.inference_mode():
            keys = network.keys(feats).numpy()
            query = network.keys(now).numpy()
        index = SequenceIndex(hasher, keys, None, marked, DEPTH, KEPT)
        old = index.query(query, np.maximum(ask - RECENT, 0))
        age = (ask[:, None] - old) * PERIOD * 1e-9
        score = network.scorer()(query, keys[old], age.astype(np.float32), old >= 0)
        old = strongest(old, score, MOST)
        recent = ask[:, None] - np.arange(RECENT, 0, -1)
        chosen = np.concatenate([old, np.where(recent >= 0, recent, -1)], 1)
        found = (chosen == at[:, None]).any(1)
        hit.append(found.mean())
        add = ~found & (rng.random(n) < 1.0 - 0.8 * share)
        chosen = np.concatenate([chosen, np.where(add, at, -1)[:, None]], 1)
        valid = torch.from_numpy(chosen >= 0)
        # the same few cycles lived more slowly: ages up to a day, so that their code is known
        stretch = np.exp(rng.uniform(0, np.log(DAY / TRAIN_ROWS), (n, 1))) * PERIOD * 1e-9
        age = torch.from_numpy(((ask[:, None] - chosen) * stretch).astype(np.float32))
        heads = network(now, feats[np.maximum(chosen, 0)], age.clamp(min=0), valid)
        answer = heads.q[:, lessons.cues.side]
        sides = torch.from_numpy(sides).float()
        loss = F.softplus(-4 * sides * answer).mean()
        # a day has a hundred times more rows than a lesson; they must not outweigh the cue
        other = torch.from_numpy(rng.integers(0, length, (n, 64)))
        weight = torch.full((n, 64), np.log(DAY / 64), dtype=torch.float32)
        for place in (at, ask):
            weight[(other - torch.from_numpy(place)[:, None]).abs() < 1] = float('-inf')
        with torch.inference_mode(False):
            rest = network.logits(network.keys(now), torch.from_numpy(keys)[other].clone(),
                                  other * torch.from_numpy(stretch).float()) + weight[:, None]
            leak = F.relu(rest.logsumexp(-1) - heads.mass + 4.0)
        # hashing finds what is near: a question's key must come close to its cue's key, and
        # keys of different questions must not
        asking = network.keys(now)
        near = (asking * network.keys(feats[torch.from_numpy(at)])).sum(1)
        alike = (asking @ asking.T).square().mean() - 1 / n
        loss = loss + 0.02 * leak.amin(1).mean() + 0.3 * alike + 0.3 * F.relu(0.97 - near).mean()
        for group in optimizer.param_groups:
            group['lr'] = group['peak'] * min(1.0, (step + 1) / 50) * (1 - 0.95 * share)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        right.append(float(((answer * sides) > 0).float().mean()))
        shown.append(loss.item())
        if (step + 1) % 100 == 0:
            left = (time.time() - start) / (step + 1) * (steps - step - 1)
            say(f'lsh {step + 1}/{steps} loss {np.mean(shown[-100:]):.3f} right '
                f'{np.mean(right[-100:]):.3f} found {np.mean(hit[-100:]):.3f} sharpness '
                f'{network.sharpness.exp().max():.0f} leak {leak.amin(1).mean():.1f} near '
                f'{near.mean():.2f} '
                f'{left / 60:.1f} min left')


def train_gru(network: GRUNetwork, lessons: Lessons, steps: int, lr: float = 2e-3):
    """Train the GRU by backpropagation through up to 1000 cycles (its reach is memory-bound)."""
    optimizer = torch.optim.Adam(network.parameters(), lr)
    start, right = time.time(), []
    for step in range(steps):
        length = int(np.exp(lessons.rng.uniform(np.log(50), np.log(100 + 900 * step / steps))))
        drawn = [lessons.draw(max(length, 60), 2) for _ in range(8)]
        states = network.carry(torch.from_numpy(np.stack([d[0] for d in drawn])))
        loss = torch.zeros(())
        for b, (_, _, _, ask, questions, sides) in enumerate(drawn):
            heads = network(torch.from_numpy(questions), states[b, ask - 1])
            score = torch.from_numpy(sides).float() * heads.q[:, lessons.cues.side]
            loss = loss + F.softplus(-4 * score).mean() / len(drawn)
            right += (score > 0).tolist()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            left = (time.time() - start) / (step + 1) * (steps - step - 1)
            say(f'gru {step + 1}/{steps} right {np.mean(right[-1600:]):.3f} '
                f'{left / 60:.1f} min left')
