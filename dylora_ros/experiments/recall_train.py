"""Lessons of the recall experiment: cues in streams of at most 10^4 cycles."""

import numpy as np
import torch
import torch.nn.functional as F

from dylora_ros.core.features import features, remarkable
from dylora_ros.core.gru import GRUNetwork
from dylora_ros.core.lsh import SequenceIndex, strongest
from dylora_ros.core.memory import DEPTH, KEPT, MOST, new_hash, RECENT
from dylora_ros.core.qnetwork import QNetwork
from dylora_ros.experiments.descent import Descent
from dylora_ros.experiments.stream import asked, PERIOD, SEGMENT, Stream

TRAIN_ROWS = 10_000
DAY = 1_080_000
SIZE = 2.0               # of every number of a name, in standard deviations
BATCH = 48
GRU_REACH = 1000
NEAR = 0.99              # cosine of a question's key and its cue's


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

    def new(self, rng: np.random.Generator, n: int,
            alike: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return n different random names (n, 15) and their sides (n,).

        Args:
            rng: source of chance.
            n: how many.
            alike: the last so many are the first so many with one to three signs turned.

        Raises:
            ValueError: there are not so many names.

        """
        signs = self.side - self._slot.start
        if n > 2 ** signs:
            raise ValueError(f'{n} different names of {signs} signs were asked for, there are '
                             f'{2 ** signs}; ask fewer questions')
        code = rng.choice(2 ** signs, n, replace=False)
        for i in range(alike):
            turned = rng.choice(signs, rng.integers(1, 4), replace=False)
            code[n - alike + i] = code[i] ^ (1 << turned).sum()
        names = 1.0 - 2.0 * (code[:, None] >> np.arange(signs) & 1)
        return names, rng.choice([-1.0, 1.0], n)


class Lessons:
    """Training streams of TRAIN_ROWS cycles with cues and questions in them."""

    def __init__(self, stream: Stream, cues: Cues, seed: int, pool: int = 8):
        self.cues, self.schema = cues, stream.schema
        self.rng = np.random.default_rng(seed)
        self._rows = stream.rows(pool * TRAIN_ROWS)
        self._feats = features(self._rows, self.schema)
        self._remarkable = remarkable(self._rows)

    def draw(self, length: int, n: int, alike: int = 0, asks: int = 1,
             reach: float = np.inf):
        """Put n cues in a stream, each asked for at log-uniform distances.

        Args:
            length: cycles of the stream.
            n: cues.
            alike: so many names differ from another in one to three signs only.
            asks: questions for every cue.
            reach: most cycles between a cue and its question.

        Returns:
            feats (length, f), remarkable (length,), places of cues and questions (n * asks,),
            features of the questions (n * asks, f), sides (n * asks,).

        """
        rng = self.rng
        start = rng.integers(len(self._rows) - length)
        names, sides = self.cues.new(rng, n, alike)
        at = rng.choice(np.arange(1, length - 40), n, replace=False)
        heard = self._rows[start + at].copy()
        self.cues.write(heard, names, sides)
        feats = self._feats[start:start + length].copy()
        feats[at] = features(heard, self.schema)
        marked = self._remarkable[start:start + length].copy()
        marked[at] = remarkable(heard)
        at, names, sides = (np.repeat(v, asks, 0) for v in (at, names, sides))
        most = np.clip(length - 1 - at, 3, reach)
        gap = np.exp(rng.uniform(np.log(2), np.log(most)))
        ask = np.minimum(at + gap.astype(int), length - 1)
        questions = asked(self._rows[start + ask])
        self.cues.write(questions, names, np.zeros(len(at)))
        return feats, marked, at, ask, features(questions, self.schema), sides


def train_lsh(network: QNetwork, lessons: Lessons, steps: int, lr: float = 2e-3):
    """Train q to answer; candidates come from the index, in early training with the cue added."""
    descent, rng, hasher = Descent('lsh', network, steps, lr), lessons.rng, new_hash()
    while descent.done < steps:
        length = int(np.exp(rng.uniform(np.log(500), np.log(TRAIN_ROWS))))
        n = min(BATCH, length // 20)
        # half of the names resemble another: what is newer must not win over what is meant
        feats, marked, at, ask, questions, sides = lessons.draw(length, n, n // 2)
        feats, now = torch.from_numpy(feats), torch.from_numpy(questions)
        with torch.no_grad():
            keys, query = network.keys(feats), network.keys(now)
        index = SequenceIndex(hasher, keys.numpy(), None, marked, DEPTH, KEPT)
        old = index.query(query.numpy(), np.maximum(ask - RECENT, 0))
        age = _Ages(rng, at, ask)
        score = network.scorer()(query.numpy(), keys.numpy()[old], age.of(old), old >= 0)
        old = strongest(old, score, MOST)
        recent = ask[:, None] - np.arange(RECENT, 0, -1)
        chosen = np.concatenate([old, np.where(recent >= 0, recent, -1)], 1)
        found = (chosen == at[:, None]).any(1)
        add = ~found & (rng.random(n) < 1.0 - 0.8 * descent.share)
        chosen = np.concatenate([chosen, np.where(add, at, -1)[:, None]], 1)
        heads = network(now, feats[np.maximum(chosen, 0)], torch.from_numpy(age.of(chosen)),
                        torch.from_numpy(chosen >= 0))
        answer = heads.q[:, lessons.cues.side] * torch.from_numpy(sides).float()
        # a day has a hundred times more rows than a lesson; they must not outweigh the cue
        other = torch.from_numpy((rng.random((n, 64)) * ask[:, None]).astype(int))
        weight = torch.full((n, 64), np.log(DAY / 64), dtype=torch.float32)
        weight[other == torch.from_numpy(at)[:, None]] = float('-inf')
        asking = network.keys(now)
        rest = network.logits(asking, keys[other], torch.from_numpy(age.of(other.numpy()))) \
            + weight[:, None]
        leak = F.relu(rest.logsumexp(-1) - heads.mass + 4.0).amin(1).mean()
        # hashing finds what is near: a question's key must come close to its cue's key, and
        # keys of different questions must not
        near = (asking * network.keys(feats[torch.from_numpy(at)])).sum(1)
        alike = (asking @ asking.T).square().mean() - 1 / n
        loss = F.softplus(-4 * answer).mean() + 0.02 * leak + 0.3 * alike \
            + 0.3 * F.relu(NEAR - near).mean()
        descent.step(loss, right=(answer > 0).float().mean(), found=found.mean(), leak=leak,
                     near=near.mean(), sharpness=network.sharpness.exp().max(),
                     rate=F.softplus(network.decay.rate).max())


class _Ages:
    """Ages of a lesson's rows, up to a day, at each of its questions.

    The same few cycles, lived more slowly, and with a pause somewhere between the cue and the
    question. So the codes of great ages are known; and what resembles the cue is often very much
    younger: a q that had seen both only some minutes apart took the younger of them.

    Args:
        rng: source of chance.
        at: (n,) places of the cues.
        ask: (n,) places of the questions.
    """

    def __init__(self, rng: np.random.Generator, at: np.ndarray, ask: np.ndarray):
        n, period = len(at), PERIOD * 1e-9
        self._ask = ask[:, None]
        self._pace = period * np.exp(rng.uniform(0, np.log(DAY / TRAIN_ROWS), (n, 1)))
        self._pause = period * np.exp(rng.uniform(0, np.log(DAY), (n, 1)))
        self._before = rng.integers(at, ask)[:, None]      # the last row before the pause

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return the ages in s (n, k) float32 of rows (n, k)."""
        age = (self._ask - rows) * self._pace + self._pause * (rows <= self._before)
        return age.astype(np.float32)


def train_gru(network: GRUNetwork, lessons: Lessons, steps: int, lr: float = 2e-3):
    """Train the GRU by backpropagation through up to 1000 cycles (its reach is memory-bound).

    Questions first follow their cue at once and later after up to 1000 cycles, and there are
    many cues in every stream: with few and far ones from the start it learned nothing at all.
    Each stream goes on from the state that another one left, as a day does.
    """
    descent, rng, batch = Descent('gru', network, steps, lr), lessons.rng, 16
    state = torch.zeros(batch, network.cell.hidden_size)
    while descent.done < steps:
        grown = min(1.0, 1.25 * descent.share)
        reach = 3 * np.exp(rng.uniform(0.5, 1.0) * grown * np.log(GRU_REACH / 3))
        length = int(80 + min(2 * reach, GRU_REACH - 80))
        # up to six cues compete within the reach
        cues = int(np.clip(rng.uniform(1, 6) * length / reach, 1, (length - 40) // 2))
        drawn = [lessons.draw(length, cues, asks=2, reach=reach) for _ in range(batch)]
        states = network.carry(torch.from_numpy(np.stack([d[0] for d in drawn])), state)
        state = states[:, -1].detach()
        ask = np.stack([d[3] for d in drawn])
        before = states[np.arange(batch)[:, None], ask - 1].flatten(0, 1)
        now = torch.from_numpy(np.concatenate([d[4] for d in drawn]))
        sides = torch.from_numpy(np.concatenate([d[5] for d in drawn])).float()
        answer = network(now, before).q[:, lessons.cues.side] * sides
        descent.step(F.softplus(-4 * answer).mean(), right=(answer > 0).float().mean(),
                     cues=cues, reach=reach)
