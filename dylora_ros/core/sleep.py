"""Sleep: NREM trains q on the log; REM dreams with sensors and actuators off (paper, 6)."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
import math
import time

import numpy as np
import torch
import torch.nn.functional as F

from dylora_ros.core.agent import bias_all, finish, split
from dylora_ros.core.context import (
    FLAG_BOOT,
    FLAG_DREAM,
    FLAG_FORGOTTEN,
    FLAG_REJECTED,
    GlobalContext,
    RowSchema,
)
from dylora_ros.core.cycle import Composer
from dylora_ros.core.features import features, lived, perceived
from dylora_ros.core.memory import Past, RECENT
from dylora_ros.core.phases import Phase
from dylora_ros.core.predictor import Predictor
from dylora_ros.core.qnetwork import QNetwork

GAP = 0.2             # s; rows further apart are not consecutive
DISCOUNT = 0.98       # a cycle; about two seconds ahead
BLOCK = 250           # waking rows held out together, at most
_SANE = 20.0           # an LR state of this size is sane whatever was lived through
_JUDGED = 2000         # newest rows that tell how large the states of waking life get
MIN_ROWS = 4 * RECENT
DAY = 1_080_000      # rows of a context that a trained q must be able to read
LEAK = 0.02          # share of the attention that may fall on rows which LSH does not find
_LEAK_WEIGHT, _LEAK_ROWS, _ALIKE_WEIGHT = 0.3, 64, 1.0


@dataclass
class TrainReport:
    """What an NREM phase did.

    Attributes:
        rows: rows it learned from.
        steps: gradient steps.
        before, after: held-out next-LR-state loss (mean squared error of present modalities).
        unchanged: the same loss of "nothing changes".
        kept: whether the new weights were kept (they are not when they got worse).
    """

    rows: int
    steps: int
    before: float
    after: float
    unchanged: float
    kept: bool

    def as_dict(self) -> dict:
        """Return plain values."""
        return asdict(self)


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
        # every tenth block of waking life is held out: half of it chooses, half judges
        size = min(BLOCK, max(1, len(awake) // 20))
        block = np.arange(len(awake)) // size % 10
        self.validation, self.held_out = awake[block == 4], awake[block == 9]
        held = np.zeros(len(index), bool)
        held[self.validation] = held[self.held_out] = True
        self.train = index[usable & ~held]
        self.reward = torch.from_numpy(rows['reward'].astype(np.float32))
        self.returns = torch.from_numpy(_returns(rows['reward'], step))
        self.dream = (rows['flags'] & FLAG_DREAM) != 0
        self._rows = rows[['flags', 'stamp', 'mask', 'age', 'surprise']]
        self._lived = np.flatnonzero(lived(rows))
        self._past: Past | None = None

    def refresh(self, network: QNetwork):
        """Hash all rows by the present keys: what LSH would find at each moment."""
        self._past = Past(network, self._rows, self.features)

    def batch(self, index: np.ndarray):
        """Return q's inputs (now, past, age, valid) for the rows ``index`` (b,)."""
        chosen = self._past.find(index)
        valid = chosen >= 0                                    # dreams are no memories
        chosen = np.maximum(chosen, 0)
        age = np.maximum(self.stamp[index][:, None] - self.stamp[chosen], 0.0)
        return (self.now[index], self.features[chosen],
                torch.from_numpy(age.astype(np.float32)), torch.from_numpy(valid))

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


@torch.inference_mode()
def evaluate(network: QNetwork, data: Experience, index: np.ndarray,
             most: int = 1500) -> tuple[float, float]:
    """Return (loss of q, loss of "nothing changes") on the rows ``index``; NaN without any."""
    index = index[:: max(1, len(index) // most)]
    if not len(index):
        return math.nan, math.nan
    data.refresh(network)
    wrong = same = count = 0.0
    for part in np.array_split(index, max(1, len(index) // 256)):
        now, past, age, valid = data.batch(part)
        target, present = data.target(part)
        heads = network(now, past, age, valid)
        wrong += float(((heads.q - target) ** 2)[present].sum())
        same += float(((now[:, :data.schema.width] - target) ** 2)[present].sum())
        count += int(present.sum())
    return wrong / max(count, 1), same / max(count, 1)


def train(network: QNetwork, data: Experience, seconds: float, seed: int = 0,
          progress: Callable[[float, float], None] = lambda share, left: None,
          clock: Callable[[], float] = time.monotonic, batch: int = 64, lr: float = 1e-3,
          most_steps: int | None = None) -> TrainReport:
    """Train q on the log for a budget of seconds.

    The best weights on the validation rows are kept; if they are worse than the old ones on the
    held-out rows, the old ones stay.

    Args:
        network: trained in place.
        data: what it learns from.
        seconds: budget, evaluation included.
        seed: of the order of the data.
        progress: called with (share done, seconds left).
        clock: seconds; replaced in tests.
        batch: rows a step.
        lr: peak learning rate (cosine decay over the budget).
        most_steps: end earlier after this many steps (reproducible runs).

    """
    start = clock()
    rng = np.random.default_rng(seed)
    old = {k: v.clone() for k, v in network.state_dict().items()}
    before, unchanged = evaluate(network, data, data.held_out)
    best, best_loss = old, evaluate(network, data, data.validation)[0]
    spent = clock() - start
    checks = [0.25, 0.5, 0.75, 1.0]
    few = {'sharpness', 'decay.rate'}            # a few numbers in logs: they may move faster
    optimizer = torch.optim.AdamW(
        [{'params': [p for n, p in network.named_parameters() if n not in few]},
         {'params': [p for n, p in network.named_parameters() if n in few],
          'weight_decay': 0.0, 'faster': 10.0}], lr, weight_decay=1e-4)
    steps = 0
    network.train()
    while len(data.train):
        now_s = clock() - start
        share = now_s / max(seconds - 2 * spent, 1e-6)
        if most_steps:
            share = max(share, steps / most_steps)
        if share >= checks[0]:
            network.eval()
            loss, _ = evaluate(network, data, data.validation)
            if not loss >= best_loss:
                best, best_loss = {k: v.clone() for k, v in network.state_dict().items()}, loss
            network.train()
            checks = [c for c in checks if c > share]
            if not checks:
                break
        if steps % 100 == 0:
            data.refresh(network)
            progress(share, max(0.0, seconds - now_s))
        for group in optimizer.param_groups:
            warm = min(1.0, (steps + 1) / 20)
            rate = lr * warm * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
            group['lr'] = rate * group.get('faster', 1.0)
        index = rng.choice(data.train, min(batch, len(data.train)))
        heads = network(*data.batch(index))
        target, present = data.target(index)
        loss = F.smooth_l1_loss(heads.q[present], target[present]) \
            + 0.1 * F.mse_loss(heads.reward, data.reward[index + 1]) \
            + 0.1 * F.mse_loss(heads.value, data.returns[index])
        loss = loss + data.readable(network, index, heads.mass, rng)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        steps += 1
    network.load_state_dict(best)
    network.eval()
    after, _ = evaluate(network, data, data.held_out)
    kept = bool(after <= before) or math.isnan(after)
    if not kept:
        network.load_state_dict(old)
    progress(1.0, 0.0)
    return TrainReport(len(data.features), steps, before, after, unchanged, kept)


@dataclass
class DreamReport:
    """What a REM phase did: cycles dreamt, episodes, and how they ended."""

    cycles: int
    episodes: int
    rejected: int


class Dreamer:
    """REM: decoders feed encoders, the global context fills with flagged rows.

    Each episode starts from a remembered moment; from there on every next input is the senses'
    own prediction, under the bias that q reads from the real log, given the dreamt command.

    Args:
        senses: the modalities that can dream.
        log: a reader of the real log.
        predictor: q over that log.
        emit: takes each dreamt row (schema dtype).
        period: seconds a cycle.
        every: modality -> cycles between its inputs.
        remember: puts the senses into a remembered moment and returns their LR states there
            (sites, rank) by name; called before each episode.
    """

    def __init__(self, senses: dict, log: GlobalContext, predictor: Predictor,
                 emit: Callable[[np.ndarray], None], period: float, every: dict[str, int],
                 remember: Callable[[], dict[str, np.ndarray]]):
        self.remember = remember
        self.senses, self.log, self.predictor = senses, log, predictor
        self.emit, self.period, self.every = emit, period, every

    def run(self, seconds: float, episode: int = 50,
            progress: Callable[[float, float], None] = lambda share, left: None,
            clock: Callable[[], float] = time.monotonic, most: int | None = None) -> DreamReport:
        """Dream for a budget of seconds (or ``most`` cycles), in episodes of ``episode``."""
        start = clock()
        report = DreamReport(0, 0, 0)
        limit = self._limit()
        stamp = int(self.log.rows(self.log.committed - 1, self.log.committed)['stamp'][0])
        while clock() - start < seconds and (most is None or report.cycles < most):
            report.episodes += 1
            moment = self.remember()
            stamp += int(1e9)                     # episodes are not consecutive
            composer = Composer(self.log.schema)
            for name, x in moment.items():
                composer.put(name, x, stamp + int(self.period * 1e9))
            for i in range(episode):
                spent = clock() - start
                if spent >= seconds or (most is not None and report.cycles >= most):
                    break
                stamp += int(self.period * 1e9)
                row = self.cycle(composer, stamp, i)
                sane = bool((np.abs(row['x'].astype(np.float32)) < limit).all())
                if not sane:
                    row['flags'] |= FLAG_REJECTED
                    report.rejected += 1
                self.emit(row)
                report.cycles += 1
                progress(spent / seconds, seconds - spent)
                if not sane:
                    break
        progress(1.0, 0.0)
        return report

    def _limit(self) -> np.ndarray:
        """Return the size (w,) beyond which an LR state is no dream any more, but a fault."""
        rows = self.log.rows(self.log.committed - _JUDGED, self.log.committed)
        states = rows['x'][lived(rows)].astype(np.float32)
        return np.maximum(_SANE, 3 * np.abs(states).max(0, initial=0.0))

    def cycle(self, composer: Composer, stamp: int, i: int) -> np.ndarray:
        """Dream one cycle, the ``i``-th of an episode (its first is the remembered moment)."""
        schema = self.log.schema
        for name, sense in self.senses.items():
            if i and i % self.every[name] == 0 and sense.expected is not None:
                composer.put(name, sense.dream().x, stamp)
        row = composer.compose(stamp)
        prediction = self.predictor.observe(row)
        q = np.clip(prediction.q, -8, 8).astype(np.float32)
        bias_all(self.senses, q, row, schema)
        command = self.senses['body'].act(split(q, schema, 'body'))
        self.senses['body'].acted(command)
        finish(row, q, prediction, command, prediction.reward, stamp, Phase.REM,
               FLAG_DREAM | (FLAG_BOOT if i == 0 else 0))
        return row
