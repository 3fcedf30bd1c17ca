"""NREM: q learns from the log (paper, section 6)."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
import math
import time

import numpy as np
import torch
import torch.nn.functional as F

from dylora_ros.core.experience import Experience
from dylora_ros.core.qnetwork import QNetwork

RATE, PASSES = 3e-4, 4     # of a night: the shipped q knows most; see decision 005
_CLOSENESS = 100.0, 300.0, 1000.0, 3000.0, 10000.0     # of the last layer to its old weights
FORGOTTEN = 1.1       # times its error that a night may cost an older life
_SETTLED = 4000       # rows that the last layer is fitted to, at most
_CHECKS = 8           # of the validation loss in one training
_MEAN = 0.05          # share of the newest weights in their running mean


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
        inputs = data.batch(part)
        target, present = data.target(part)
        heads = network(*inputs)
        wrong += float(((heads.q - target) ** 2)[present].sum())
        same += float(((inputs[0][:, :data.schema.width] - target) ** 2)[present].sum())
        count += int(present.sum())
    return wrong / max(count, 1), same / max(count, 1)


def not_trained(network: QNetwork, data: Experience) -> TrainReport:
    """Return the report of a night in which q did not learn."""
    loss, same = evaluate(network, data, data.held_out)
    return TrainReport(len(data.features), 0, loss, loss, same, False)


@torch.no_grad()
def settle(network: QNetwork, data: Experience, rng: np.random.Generator,
           childhood: Experience | None = None):
    """Fit q's last layer in closed form, close to its old weights.

    Ridge regression (Hoerl and Kennard 1970) of what q still gets wrong, on its last hidden
    layer: half a minute of life is enough for it. How close is chosen on the validation rows;
    no change at all is one of the choices.

    Args:
        network: its ``next`` layer is changed in place.
        data: what it learns from.
        rng: picks the rows where there are many.
        childhood: older rows whose error must not grow by more than ``FORGOTTEN``.

    """
    if not len(data.waking) or not len(data.validation):
        return
    data.refresh(network)
    rows = data.waking
    if len(rows) > _SETTLED:
        rows = np.sort(rng.choice(rows, _SETTLED, replace=False))
    hidden, wrong = _wrong(network, data, rows)
    hidden_v, wrong_v = _wrong(network, data, data.validation[:_SETTLED])
    gram, cross = hidden.T @ hidden, hidden.T @ wrong
    known = None
    if childhood is not None:
        childhood.refresh(network)
        known = _wrong(network, childhood, childhood.validation)
    best, best_loss = None, wrong_v.square().sum()
    for closeness in _CLOSENESS:
        change = torch.linalg.solve(gram + closeness * torch.eye(len(gram)).double(), cross)
        loss = _after(change, hidden_v, wrong_v)
        if known and _after(change, *known) > FORGOTTEN * known[1].square().sum():
            continue
        if loss < best_loss:
            best, best_loss = change, loss
    if best is not None:
        network.next.weight += best[:-1].T.float()
        network.next.bias += best[-1].float()


def _after(change: torch.Tensor, hidden: torch.Tensor, wrong: torch.Tensor) -> torch.Tensor:
    return (wrong - (hidden @ change) * (wrong != 0)).square().sum()


def _wrong(network: QNetwork, data: Experience,
           index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the last hidden layer with a one (n, d + 1) and errors, 0 where absent (n, w)."""
    hidden, wrong = [], []
    for part in np.array_split(index, max(1, len(index) // 256)):
        heads = network(*data.batch(part))
        target, present = data.target(part)
        hidden.append(F.pad(heads.state, (0, 1), value=1.0))
        wrong.append(torch.where(present, target - heads.q, 0.0))
    return torch.cat(hidden).double(), torch.cat(wrong).double()


def train(network: QNetwork, data: Experience, seconds: float, seed: int = 0,
          progress: Callable[[float, float], None] = lambda share, left: None,
          clock: Callable[[], float] = time.monotonic, batch: int = 64, lr: float = 1e-3,
          most_steps: int | None = None, passes: float | None = None,
          childhood: Experience | None = None) -> TrainReport:
    """Train q on the log for a budget of seconds.

    First the last layer is fitted in closed form (:func:`settle`), then all weights by gradient.
    What is kept is a running mean of the weights (Polyak and Juditsky 1992), at the check where
    it did best on the validation rows; if that is nowhere, or if they are worse on the held-out
    rows, the old ones stay.

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
        passes: end after reading the own waking rows so many times: more learns a short life
            by heart.
        childhood: older rows to rehearse, so that a short life is not learned by heart; half of
            every batch, less once the own life is longer.

    """
    start = clock()
    rng = np.random.default_rng(seed)
    old = _copy(network.state_dict())
    before, unchanged = evaluate(network, data, data.held_out)
    settle(network, data, rng, childhood)
    mean = _copy(network.state_dict())
    best_loss = evaluate(network, data, data.validation)[0]
    best = _copy(mean)
    spent = clock() - start
    checks = [(i + 1) / _CHECKS for i in range(_CHECKS)]
    parts = [(data, batch)]
    if childhood is not None:
        rehearsed = round(batch * min(0.5, len(childhood.train) / (len(data.train) + 1)))
        parts = [(data, batch - rehearsed), (childhood, rehearsed)]
    if passes is not None:
        enough = math.ceil(passes * len(data.waking) / parts[0][1])
        most_steps = min(enough, most_steps or enough)
    optimizer = _optimizer(network, lr)
    steps = 0
    network.train()
    while len(data.train):
        now_s = clock() - start
        share = now_s / max(seconds - (_CHECKS / 2) * spent, 1e-6)
        if most_steps:
            share = max(share, steps / most_steps)
        if steps and share >= checks[0]:
            trained = _copy(network.state_dict())
            network.load_state_dict(mean)
            network.eval()
            loss, _ = evaluate(network, data, data.validation)
            if loss < best_loss or (math.isnan(best_loss) and finite(mean)):
                best, best_loss = _copy(mean), loss
            network.load_state_dict(trained)
            network.train()
            data.refresh(network)
            checks = [c for c in checks if c > share]
            if not checks:
                break
        if steps % 100 == 0:
            for rows, _ in parts:
                rows.refresh(network)
            progress(share, max(0.0, seconds - now_s))
        for group in optimizer.param_groups:
            warm = min(1.0, (steps + 1) / 20)
            rate = lr * warm * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
            group['lr'] = rate * group.get('faster', 1.0)
        loss = sum(n / batch * _loss(network, rows, rows.draw(rng, n), rng)
                   for rows, n in parts if n)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        steps += 1
        with torch.no_grad():
            for k, v in network.state_dict().items():
                mean[k].lerp_(v, _MEAN)
    network.load_state_dict(best)
    network.eval()
    after, _ = evaluate(network, data, data.held_out)
    # without held-out rows nothing judges; what is not finite is never kept
    kept = finite(best) and (bool(after <= before) or not len(data.held_out))
    if not kept:
        network.load_state_dict(old)
    progress(1.0, 0.0)
    return TrainReport(len(data.features), steps, before, after, unchanged, kept)


def finite(weights: dict[str, torch.Tensor]) -> bool:
    """Tell whether weights hold neither NaN nor infinity: what does is never worth keeping."""
    return all(bool(torch.isfinite(v).all()) for v in weights.values())


def _copy(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in weights.items()}


def _optimizer(network: QNetwork, lr: float) -> torch.optim.Optimizer:
    few = {'sharpness', 'decay.rate'}            # a few numbers in logs: they may move faster
    return torch.optim.AdamW(
        [{'params': [p for n, p in network.named_parameters() if n not in few]},
         {'params': [p for n, p in network.named_parameters() if n in few],
          'weight_decay': 0.0, 'faster': 10.0}], lr, weight_decay=1e-4)


def _loss(network: QNetwork, data: Experience, index: np.ndarray,
          rng: np.random.Generator) -> torch.Tensor:
    heads = network(*data.batch(index))
    target, present = data.target(index)
    return (F.smooth_l1_loss(heads.q[present], target[present])
            + 0.1 * F.mse_loss(heads.reward, data.reward[index + 1])
            + 0.1 * F.mse_loss(heads.value, data.returns[index])
            + data.readable(network, index, heads.mass, rng))
