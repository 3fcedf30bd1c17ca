"""Sleep: NREM trains q on the log; REM dreams with sensors and actuators off (paper, 6)."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
import math
import time

import numpy as np
import torch
import torch.nn.functional as F

from dylora_ros.core.agent import finish, split
from dylora_ros.core.context import (
    FLAG_BOOT,
    FLAG_DREAM,
    FLAG_REJECTED,
    GlobalContext,
    RowSchema,
)
from dylora_ros.core.cycle import Composer
from dylora_ros.core.lsh import AngularHash, past_neighbours
from dylora_ros.core.phases import Phase
from dylora_ros.core.predictor import (
    DEPTH,
    features,
    Predictor,
    QNetwork,
    RECENT,
    WIDTH,
)

GAP = 0.2             # s; rows further apart are not consecutive
DISCOUNT = 0.98       # a cycle; about two seconds ahead
BLOCK = 250           # waking rows held out together, at most
MIN_ROWS = 4 * RECENT


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
        now = feats.copy()                 # what is not known yet when q is asked
        now[:, schema.width:2 * schema.width + schema.actions + schema.aux] = 0.0
        self.now = torch.from_numpy(now)
        self.stamp = rows['stamp'] * 1e-9
        bits = np.arange(len(schema.modalities))
        mask = ((rows['mask'][:, None] >> bits) & 1).astype(bool)
        wide = np.repeat(mask, [s * r for s, r in schema.modalities.values()], 1)
        self.present = torch.from_numpy(wide[:-1] & wide[1:])
        step = np.diff(self.stamp)
        usable = (step > 0) & (step < GAP) & (rows['flags'][1:] & (FLAG_BOOT | FLAG_REJECTED) == 0)
        usable &= rows['flags'][1:] & FLAG_DREAM == rows['flags'][:-1] & FLAG_DREAM
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
        self._neighbours = None

    def refresh(self, network: QNetwork):
        """Hash all rows by the present keys: what LSH would find at each moment."""
        with torch.inference_mode():
            keys = torch.cat([network.keys(p) for p in self.features.split(8192)]).numpy()
        self._neighbours = past_neighbours(keys, AngularHash(WIDTH), DEPTH)

    def batch(self, index: np.ndarray):
        """Return q's inputs (now, past, age, valid) for the rows ``index`` (b,)."""
        recent = index[:, None] - np.arange(1, RECENT + 1)
        old = self._neighbours[index]
        old = np.where(old < recent[:, -1:], old, -1)          # what recent has already
        chosen = np.sort(np.concatenate([recent, old], 1), 1)
        valid = chosen >= 0
        valid[:, 1:] &= chosen[:, 1:] != chosen[:, :-1]        # found in two rounds: once
        chosen = np.maximum(chosen, 0)
        valid &= ~(self.dream[chosen] & ~self.dream[index][:, None])   # dreams are no memories
        age = np.maximum(self.stamp[index][:, None] - self.stamp[chosen], 0.0)
        return (self.now[index], self.features[chosen],
                torch.from_numpy(age.astype(np.float32)), torch.from_numpy(valid))

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
    optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=1e-4)
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
            group['lr'] = lr * warm * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        index = rng.choice(data.train, min(batch, len(data.train)))
        heads = network(*data.batch(index))
        target, present = data.target(index)
        loss = F.smooth_l1_loss(heads.q[present], target[present]) \
            + 0.1 * F.mse_loss(heads.reward, data.reward[index + 1]) \
            + 0.1 * F.mse_loss(heads.value, data.returns[index])
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
    own prediction, under the bias that q reads from the real log.

    Args:
        senses: the modalities that can dream.
        log: a reader of the real log.
        predictor: q over that log.
        emit: takes each dreamt row (schema dtype).
        period: seconds a cycle.
        every: modality -> cycles between its inputs.
        remember: puts the senses into a remembered moment; called before each episode.
    """

    def __init__(self, senses: dict, log: GlobalContext, predictor: Predictor,
                 emit: Callable[[np.ndarray], None], period: float, every: dict[str, int],
                 remember: Callable[[], None]):
        self.remember = remember
        self.senses, self.log, self.predictor = senses, log, predictor
        self.emit, self.period, self.every = emit, period, every

    def run(self, seconds: float, episode: int = 50,
            progress: Callable[[float, float], None] = lambda share, left: None,
            clock: Callable[[], float] = time.monotonic, most: int | None = None) -> DreamReport:
        """Dream for a budget of seconds (or ``most`` cycles), in episodes of ``episode``."""
        start = clock()
        report = DreamReport(0, 0, 0)
        stamp = int(self.log.rows(self.log.committed - 1, self.log.committed)['stamp'][0])
        while clock() - start < seconds and (most is None or report.cycles < most):
            report.episodes += 1
            self.remember()
            stamp += int(1e9)                     # episodes are not consecutive
            composer = Composer(self.log.schema)
            for i in range(episode):
                spent = clock() - start
                if spent >= seconds or (most is not None and report.cycles >= most):
                    break
                stamp += int(self.period * 1e9)
                row = self._cycle(composer, stamp, i)
                sane = float(np.abs(row['x'].astype(np.float32)).max()) < 20.0
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

    def _cycle(self, composer: Composer, stamp: int, i: int) -> np.ndarray:
        schema = self.log.schema
        for name, sense in self.senses.items():
            if i % self.every[name] == 0 and sense.expected is not None:
                composer.put(name, sense.dream().x, stamp)
        row = composer.compose(stamp)
        prediction = self.predictor.observe(row)
        q = np.clip(prediction.q, -8, 8).astype(np.float32)
        for name, sense in self.senses.items():
            sense.bias(split(q, schema, name))
        command = self.senses['body'].act(split(q, schema, 'body'))
        finish(row, q, prediction, command, prediction.reward, stamp, Phase.REM,
               FLAG_DREAM | (FLAG_BOOT if i == 0 else 0))
        return row
