"""Recorded rows as training data for q: what it would have read, and what came next."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from dylora_ros.core.features import features, lived, perceived
from dylora_ros.core.memory import Past, RECENT
from dylora_ros.core.qnetwork import QNetwork
from dylora_ros.core.rows import (
    FLAG_BOOT,
    FLAG_DREAM,
    FLAG_FORGOTTEN,
    FLAG_REJECTED,
    RowSchema,
)

GAP = 0.2             # s; rows further apart are not consecutive
DISCOUNT = 0.98       # a cycle; about two seconds ahead
BLOCK = 250           # waking rows held out together, at most
DREAM_SHARE = 0.1     # of the rows that q learns from; more taught it the dreams' mistakes
MIN_ROWS = 4 * RECENT
DAY = 1_080_000      # rows of a context that a trained q must be able to read
LEAK = 0.02          # share of the attention that may fall on rows which LSH does not find
_LEAK_WEIGHT, _LEAK_ROWS, _ALIKE_WEIGHT = 0.3, 64, 1.0


class Experience:
    """Rows of the log as training data for q.

    Args:
        rows: (n,) consecutive log rows, oldest first.
        schema: of them.

    Raises:
        ValueError: too few rows to learn from.
    """

    def __init__(self, rows: np.ndarray, schema: RowSchema):
        if len(rows) < MIN_ROWS:
            raise ValueError(f'{len(rows)} rows are too few to learn from, {MIN_ROWS} needed')
        self.schema = schema
        feats = features(rows, schema)
        self.features = torch.from_numpy(feats)
        self.now = torch.from_numpy(feats * perceived(schema).astype(np.float32))
        self.stamp = rows['stamp'] * 1e-9
        bits = np.arange(len(schema.modalities))
        mask = ((rows['mask'][:, None] >> bits) & 1).astype(bool)
        wide = np.repeat(mask, [s * r for s, r in schema.modalities.values()], 1)
        self.present = torch.from_numpy(wide[:-1] & wide[1:])
        step = np.diff(self.stamp)
        usable = (step > 0) & (step < GAP) & (rows['flags'][1:] & (FLAG_BOOT | FLAG_REJECTED) == 0)
        usable &= rows['flags'][1:] & FLAG_DREAM == rows['flags'][:-1] & FLAG_DREAM
        usable &= (rows['flags'][1:] | rows['flags'][:-1]) & FLAG_FORGOTTEN == 0
        self.period = float(np.median(step[usable])) if usable.any() else GAP
        index = np.arange(len(rows) - 1)
        awake = index[usable & (rows['flags'][:-1] & FLAG_DREAM == 0)]   # dreams prove nothing
        # of every eight blocks of waking life one chooses and one judges, even of a short life
        size = min(BLOCK, max(1, len(awake) // 40))
        block = np.arange(len(awake)) // size % 8
        self.validation, self.held_out = awake[block == 3], awake[block == 7]
        held = np.zeros(len(index), bool)
        held[self.validation] = held[self.held_out] = True
        self.train = index[usable & ~held]
        dreamt = rows['flags'][self.train] & FLAG_DREAM != 0
        self.waking, self.dreamt = self.train[~dreamt], self.train[dreamt]
        self.reward = torch.from_numpy(rows['reward'].astype(np.float32))
        self.returns = torch.from_numpy(_returns(rows['reward'], step))
        self._rows = rows[['flags', 'stamp', 'mask', 'age', 'surprise']]
        self._lived = np.flatnonzero(lived(rows))
        self._past: Past | None = None

    def refresh(self, network: QNetwork):
        """Hash all rows by the present keys: what LSH would find at each moment."""
        self._past = Past(network, self._rows, self.features)

    def batch(self, index: np.ndarray):
        """Return q's inputs (now, past, age, valid, at) for the rows ``index`` (b,)."""
        chosen = self._past.find(index)
        valid = chosen >= 0                                    # dreams are no memories
        chosen = np.maximum(chosen, 0)
        age = np.maximum(self.stamp[index][:, None] - self.stamp[chosen], 0.0)
        rows, at = np.unique(chosen, return_inverse=True)      # neighbours read the same rows
        return (self.now[index], self.features[rows], torch.from_numpy(age.astype(np.float32)),
                torch.from_numpy(valid), torch.from_numpy(at.reshape(chosen.shape)))

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Return ``count`` rows to learn from; of a dreamer's at most ``DREAM_SHARE`` dreamt."""
        share = min(DREAM_SHARE, len(self.dreamt) / max(1, len(self.train)))
        if not len(self.waking):
            return rng.choice(self.dreamt, count)
        dreams = rng.binomial(count, share) if len(self.dreamt) else 0
        return np.concatenate([rng.choice(self.waking, count - dreams),
                               rng.choice(self.dreamt, dreams) if dreams else self.dreamt[:0]])

    def leak(self, network: QNetwork, index: np.ndarray, mass: torch.Tensor,
             rng: np.random.Generator) -> torch.Tensor:
        """Estimate the log odds (b, h) of attention on rows of a full day that q does not read.

        Exact attention would spread over every row of a day; what LSH leaves out must be little,
        or the cheap read is not the exact one. The sum over the day is estimated from rows at
        log-uniform lags (importance sampling). Lags beyond the data get random rows: old rows
        are as similar to now as any. Keys are those of the last :meth:`refresh`, so the
        gradient sharpens queries, heads and forgetting.

        Args:
            network: being trained.
            index: (b,) rows.
            mass: (b, h) of :class:`Heads` for the same rows.
            rng: picks the lags.

        """
        span = math.log(DAY / RECENT)
        lag = RECENT * np.exp(span * rng.random((len(index), _LEAK_ROWS)))
        row = index[:, None] - lag.astype(np.int64)
        beyond = row < 0
        row[beyond] = rng.choice(self._lived, beyond.sum())
        age = np.where(beyond, lag * self.period, self.stamp[index][:, None] - self.stamp[row])
        counted = (row[:, :, None] != self._past.find(index)[:, None]).all(2)
        log_weight = np.where(counted, np.log(lag * span / _LEAK_ROWS), -np.inf)
        logits = network.logits(network.keys(self.now[index]),
                                torch.from_numpy(self._past.keys[row]),
                                torch.from_numpy(np.maximum(age, 0).astype(np.float32)))
        rest = logits + torch.from_numpy(log_weight.astype(np.float32))[:, None]
        return rest.logsumexp(-1) - mass

    def readable(self, network: QNetwork, index: np.ndarray, mass: torch.Tensor,
                 rng: np.random.Generator) -> torch.Tensor:
        """Return the loss of keys that LSH cannot read: too much leaks, or all are alike.

        Keys in a narrow cone share their buckets whatever they mean, so those of random moments
        are held apart (mean squared cosine).
        """
        excess = F.relu(self.leak(network, index, mass, rng) - math.log(LEAK / (1 - LEAK)))
        keys = network.keys(self.now[index])
        alike = (keys @ keys.T).square().mean() - 1 / len(keys)
        return _LEAK_WEIGHT * excess.mean() + _ALIKE_WEIGHT * alike

    def target(self, index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the next composite (b, w) and where it counts (b, w) bool."""
        return self.features[index + 1][:, :self.schema.width], self.present[index]


def _returns(reward: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return (1 - discount) * the discounted sum of what followed, cut at gaps."""
    out = np.zeros(len(reward), np.float32)
    carry = 0.0
    for i in range(len(reward) - 2, -1, -1):
        carry = reward[i + 1] * (1 - DISCOUNT) + DISCOUNT * carry if 0 < step[i] < GAP else 0.0
        out[i] = carry
    return out
