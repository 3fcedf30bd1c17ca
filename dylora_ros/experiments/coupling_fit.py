"""Train coupling networks: pairs alone, then the coupled network; and the arms to compare with.

Legend: b batch, n samples, w numbers of a target.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
import time

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from dylora_ros.core.coupling import Coupling, Reader, Straight
from dylora_ros.core.window import Window
from dylora_ros.experiments.coupling_tasks import Moments, Task

BATCH = 128
MOST = 2000                     # steps
CHECK, PATIENCE = 50, 8         # steps between looks at the validation lives; looks without gain
DROP = 0.05, 0.05               # chance that a sense is off in a sample, or was switched off
NOISE = 0.15                    # on LR states (and features), whose unit is their deviation
_RIDGES = 0.03, 0.3, 3.0        # candidates, in units of the samples' number
_SETTLED = 4096                 # samples of the closed form at most
_TRUSTS = 0.0, 1.0, 2.0, 4.0, 16.0      # powers of the pairs' precision: mean .. best pair
_MEAN = 0.02                    # share of the newest weights in their running mean


# the layer of a network that begins at zero, and what it reads of a window
Linear = tuple[nn.Linear, Callable[[Window], torch.Tensor]]


@dataclass
class Course:
    """How a training went: steps, processor seconds, and the best validation loss.

    ``until`` are the seconds until the weights that were kept.
    """

    steps: int
    seconds: float
    until: float
    loss: float


def disturb(window: Window, sources, rng: np.random.Generator) -> Window:
    """Switch senses off at random, some altogether, some from a moment on (modality dropout)."""
    n = len(window)
    for name in sources:
        draw, since = rng.random(n), rng.uniform(0.4, 8.0, n)
        since[draw < DROP[0]] = np.inf
        since[draw >= sum(DROP)] = 0.0
        window = window.without(name, torch.from_numpy(since))
    return window


def blur(window: Window) -> Window:
    """Add noise: few worlds are easily learnt by heart."""
    return replace(window, x={n: x + NOISE * torch.randn_like(x) for n, x in window.x.items()})


def seen(task: Task, moments: Moments, index: np.ndarray, names) -> Window:
    """Return what may be read of some modalities at some samples of a task."""
    window = moments.window(task.row[index], names)
    if task.off in names:
        window = window.without(task.off, task.since[index])
    return window


def loss_of(task: Task, predicted: torch.Tensor, index: np.ndarray) -> torch.Tensor:
    """Squared error of the target; for naming, the right sentence must be the nearest.

    What a name is told by is taken as normal around the right candidate, of unit variance.
    """
    if task.candidates is None:
        return F.mse_loss(predicted, task.truth[index])
    far = torch.cdist(predicted, task.candidates).square()
    return F.cross_entropy(-0.5 * far, torch.from_numpy(task.answer[index]))


def train(predict: Callable[[Window], torch.Tensor], module: nn.Module, linear: Linear,
          task: Task, moments: Moments, sources, split: tuple[np.ndarray, np.ndarray], seed: int,
          most: int = MOST, masked: Callable[[Window, np.ndarray], Window] | None = None,
          lr: float = 2e-3, patience: int = PATIENCE) -> Course:
    """Train until the validation loss stops to fall; the best weights stay.

    First the linear path is fitted in closed form (:func:`settle`), then all weights by gradient.
    What is kept is a running mean of the weights (Polyak and Juditsky 1992).

    Args:
        predict: window -> (b, w).
        module: what is trained; other parts keep their weights.
        linear: its linear path.
        task: what is learned.
        moments: where the windows come from.
        sources: modalities that are read.
        split: samples to train on, and for validation.
        seed: of the order of samples and of what is switched off.
        most: steps at most.
        masked: hides what a sample's data do not have (samples by their number).
        lr: learning rate.
        patience: looks without gain until it ends.

    """
    start = time.process_time()
    rng = np.random.default_rng(seed)
    chosen, validation = split
    validation = validation[:: max(1, len(validation) // 512)]
    judged = seen(task, moments, validation, sources)
    if len(sources) > 1:
        judged = disturb(judged, sources, np.random.default_rng(0))

    def draw(index):
        window = seen(task, moments, index, sources)
        if masked is not None:
            window = masked(window, index)
        if len(sources) > 1:
            window = disturb(window, sources, rng)
        return blur(window)

    @torch.no_grad()
    def judge():
        return float(loss_of(task, predict(judged), validation))

    parameters = {k: p for k, p in module.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr, weight_decay=0.05, fused=True)
    module.eval()
    # what it begins with counts too: a coupled network begins as the mean of its pairs
    best = settle(linear, predict, task, draw, rng.permutation(chosen)[:_SETTLED], judge)
    kept = mean = {k: p.detach().clone() for k, p in parameters.items()}
    since, steps, until = 0, 0, time.process_time() - start
    while steps < most and since < patience:
        for _ in range(CHECK):
            for group in optimizer.param_groups:
                group['lr'] = lr * min(1.0, (steps + 1) / 50) * 0.5 ** (steps / 500)
            index = rng.choice(chosen, BATCH)
            loss = loss_of(task, predict(draw(index)), index)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            optimizer.step()
            steps += 1
            mean = dict(zip(mean, torch._foreach_lerp(
                list(mean.values()), [p.detach() for p in parameters.values()],
                max(_MEAN, 1 / (steps + 1))), strict=True))
        trained = {k: p.detach().clone() for k, p in parameters.items()}
        module.load_state_dict(mean, strict=False)
        value = judge()
        since += 1
        if value < best:
            best, since, kept, until = value, 0, mean, time.process_time() - start
        module.load_state_dict(trained, strict=False)
    module.load_state_dict(kept, strict=False)
    return Course(steps, time.process_time() - start, until, best)


@torch.no_grad()
def settle(linear: Linear, predict: Callable[[Window], torch.Tensor], task: Task,
           draw: Callable[[np.ndarray], Window], chosen: np.ndarray,
           judge: Callable[[], float]) -> float:
    """Fit the linear path in closed form to what is still wrong (ridge regression).

    How close it stays to its old weights is chosen by the validation loss, which is returned; no
    change at all is one of the choices.
    """
    straight, newest = linear
    inputs, wrong = [], []
    for part in np.array_split(chosen, max(1, len(chosen) // 256)):
        window = draw(part)
        inputs.append(F.pad(newest(window), (0, 1), value=1.0))
        wrong.append(task.truth[part] - predict(window))
    x, y = torch.cat(inputs).double(), torch.cat(wrong).double()
    gram, cross = x.T @ x / len(x), x.T @ y / len(x)
    old = straight.weight.clone(), straight.bias.clone()
    best, kept = judge(), old
    for ridge in _RIDGES:
        change = torch.linalg.solve(gram + ridge * torch.eye(len(gram)).double(), cross).float()
        straight.weight.copy_(old[0] + change[:-1].T)
        straight.bias.copy_(old[1] + change[-1])
        value = judge()
        if value < best:
            best, kept = value, (straight.weight.clone(), straight.bias.clone())
    straight.weight.copy_(kept[0])
    straight.bias.copy_(kept[1])
    return best


@torch.no_grad()
def predict_all(predict: Callable[[Window], torch.Tensor], task: Task, moments: Moments, sources,
                index: np.ndarray, change: Callable[[Window], Window] = lambda w: w
                ) -> torch.Tensor:
    """Return predictions (n, w) of some samples; ``change`` may switch senses off."""
    return torch.cat([predict(change(seen(task, moments, part, sources)))
                      for part in np.array_split(index, max(1, len(index) // 512))])


def fit_pairs(coupling: Coupling, task: Task, moments: Moments,
              split: tuple[np.ndarray, np.ndarray], seed: int,
              only: Callable[[str, np.ndarray], np.ndarray] = lambda source, index: index,
              most: int = MOST, patience: int = PATIENCE) -> dict[str, Course]:
    """Train q(m -> target) for every modality m of a task, each alone.

    Args:
        coupling: gets the networks.
        task: with the target.
        moments: of LR states.
        split: samples to train on, and for validation.
        seed: of the networks and of the training.
        only: which of the samples to train on have this modality.
        most: steps of each at most.
        patience: see :func:`train`.

    """
    courses = {}
    for i, source in enumerate(task.sources):
        torch.manual_seed(100 * seed + i)
        pair = coupling.add((source,), task.target)
        part = only(source, split[0]), split[1]
        courses[source] = train(pair, pair, (pair.straight, pair.reader.newest), task, moments,
                                (source,), part, 100 * seed + i, most, patience=patience)
        pair.requires_grad_(False)
        said = predict_all(pair, task, moments, (source,), split[1])
        there = seen(task, moments, split[1], (source,)).available((source,))
        if there.any():
            pair.error.copy_((said - task.truth[split[1]])[there].square().mean(0))
    return courses


def fit_coupled(coupling: Coupling, task: Task, moments: Moments,
                split: tuple[np.ndarray, np.ndarray], seed: int, most: int = MOST,
                patience: int = PATIENCE) -> Course:
    """Add the coupled network of a task's target over its frozen pairs, and train it.

    How much more it trusts the better pairs at the beginning is chosen on the validation lives.
    """
    torch.manual_seed(100 * seed + 50)
    coupled = coupling.couple(task.target)
    start = time.process_time()
    judged = disturb(seen(task, moments, split[1], task.sources), task.sources,
                     np.random.default_rng(0))
    with torch.no_grad():
        precision, losses = coupled.trust.clone(), []
        for power in _TRUSTS:
            coupled.trust.copy_(power * precision)
            losses.append(float(loss_of(task, coupling(judged, task.target), split[1])))
        coupled.trust.copy_(_TRUSTS[int(np.argmin(losses))] * precision)
    spent = time.process_time() - start
    course = train(lambda w: coupling(w, task.target), coupled,
                   (coupled.straight, coupled.reader.newest), task, moments, task.sources,
                   split, 100 * seed + 50, most, patience=patience)
    coupled.requires_grad_(False)
    return replace(course, seconds=course.seconds + spent, until=course.until + spent)


def fit_joint(coupling: Coupling, task: Task, moments: Moments,
              split: tuple[np.ndarray, np.ndarray], seed: int,
              masked: Callable[[Window, np.ndarray], Window] | None = None) -> Course:
    """Train the same networks together from scratch, all by the error of the last."""
    torch.manual_seed(100 * seed + 70)
    for source in task.sources:
        coupling.add((source,), task.target)
    coupled = coupling.couple(task.target)
    course = train(lambda w: coupling(w, task.target), coupling,
                   (coupled.straight, coupled.reader.newest), task, moments, task.sources,
                   split, 100 * seed + 70, masked=masked)
    coupling.requires_grad_(False)
    return course


class LateFusion(nn.Module):
    """Frozen features of every modality, each read alone, joined in a last network.

    Args:
        shapes: modality -> numbers of its features.
        outputs: w.
        width: of each reader.
    """

    def __init__(self, shapes: dict[str, int], outputs: int, width: int):
        super().__init__()
        self.readers = nn.ModuleDict({n: Reader({n: w}, width) for n, w in shapes.items()})
        self.straight = Straight(sum(shapes.values()), outputs)
        joined = 3 * width * len(shapes)
        self.head = nn.Sequential(nn.Linear(joined, 2 * width), nn.GELU(),
                                  nn.Linear(2 * width, 2 * width), nn.GELU(),
                                  nn.Linear(2 * width, outputs))

    def newest(self, window: Window) -> torch.Tensor:
        """Return the newest features side by side (b, .), zeros where masked."""
        return torch.cat([reader.newest(window) for reader in self.readers.values()], 1)

    def forward(self, window: Window) -> torch.Tensor:
        """Predict (b, w); a missing modality is zeros."""
        parts = [window.available((n,)).float()[:, None] * reader(window)
                 for n, reader in self.readers.items()]
        return self.straight(self.newest(window)) + self.head(torch.cat(parts, 1))
