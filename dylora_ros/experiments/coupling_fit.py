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

BATCH = 64
MOST = 1000                     # steps
CHECK, PATIENCE = 50, 6        # steps between looks at the validation lives; looks without gain
DROP = 0.2, 0.15                # chance that a sense is off in a sample, or was switched off
NOISE = 0.5                     # on LR states (and features), whose unit is their deviation
_SHARP = 20.0                   # of the choice between names


@dataclass
class Course:
    """How a training went: steps, processor seconds, and the best validation loss."""

    steps: int
    seconds: float
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
    """Squared error of the target; for naming, the right sentence must be the nearest."""
    if task.candidates is None:
        return F.mse_loss(predicted, task.truth[index])
    far = torch.cdist(predicted, task.candidates).square()
    return F.cross_entropy(-_SHARP * far, torch.from_numpy(task.answer[index]))


def train(predict: Callable[[Window], torch.Tensor], module: nn.Module, task: Task,
          moments: Moments, sources, split: tuple[np.ndarray, np.ndarray], seed: int,
          most: int = MOST, masked: Callable[[Window, np.ndarray], Window] | None = None,
          lr: float = 2e-3) -> Course:
    """Train until the validation loss stops to fall; the best weights stay.

    Args:
        predict: window -> (b, w).
        module: what is trained; other parts keep their weights.
        task: what is learned.
        moments: where the windows come from.
        sources: modalities that are read.
        split: samples to train on, and for validation.
        seed: of the order of samples and of what is switched off.
        most: steps at most.
        masked: hides what a sample's data do not have (samples by their number).
        lr: learning rate.

    """
    start = time.process_time()
    rng = np.random.default_rng(seed)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr, weight_decay=0.05, fused=True)
    chosen, validation = split
    validation = validation[:: max(1, len(validation) // 512)]
    judged = seen(task, moments, validation, sources)
    if len(sources) > 1:
        judged = disturb(judged, sources, np.random.default_rng(0))
    since, steps = 0, 0
    # what it begins with counts too: a coupled network begins as the mean of its pairs
    with torch.no_grad():
        best = float(loss_of(task, predict(judged), validation))
    kept = {k: v.clone() for k, v in module.state_dict().items()}
    while steps < most and since < PATIENCE:
        module.train()
        for _ in range(CHECK):
            for group in optimizer.param_groups:
                group['lr'] = lr * min(1.0, (steps + 1) / 50) * 0.5 ** (steps / 500)
            index = rng.choice(chosen, BATCH)
            window = seen(task, moments, index, sources)
            if masked is not None:
                window = masked(window, index)
            if len(sources) > 1:
                window = disturb(window, sources, rng)
            window = blur(window)
            loss = loss_of(task, predict(window), index)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            steps += 1
        module.eval()
        with torch.no_grad():
            value = float(loss_of(task, predict(judged), validation))
        since += 1
        if value < best:
            best, since = value, 0
            kept = {k: v.clone() for k, v in module.state_dict().items()}
    module.load_state_dict(kept)
    return Course(steps, time.process_time() - start, best)


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
              most: int = MOST) -> dict[str, Course]:
    """Train q(m -> target) for every modality m of a task, each alone.

    Args:
        coupling: gets the networks.
        task: with the target.
        moments: of LR states.
        split: samples to train on, and for validation.
        seed: of the networks and of the training.
        only: which of the samples to train on have this modality.
        most: steps of each at most.

    """
    courses = {}
    for i, source in enumerate(task.sources):
        torch.manual_seed(100 * seed + i)
        pair = coupling.add((source,), task.target)
        part = only(source, split[0]), split[1]
        courses[source] = train(pair, pair, task, moments, (source,), part, 100 * seed + i,
                                most)
        pair.requires_grad_(False)
        said = predict_all(pair, task, moments, (source,), split[1])
        there = seen(task, moments, split[1], (source,)).available((source,))
        if there.any():
            pair.error.copy_((said - task.truth[split[1]])[there].square().mean(0))
    return courses


def fit_coupled(coupling: Coupling, task: Task, moments: Moments,
                split: tuple[np.ndarray, np.ndarray], seed: int, most: int = MOST) -> Course:
    """Add the coupled network of a task's target over its frozen pairs, and train it."""
    torch.manual_seed(100 * seed + 50)
    coupled = coupling.couple(task.target)
    course = train(lambda w: coupling(w, task.target), coupled, task, moments, task.sources,
                   split, 100 * seed + 50, most)
    coupled.requires_grad_(False)
    return course


def fit_joint(coupling: Coupling, task: Task, moments: Moments,
              split: tuple[np.ndarray, np.ndarray], seed: int,
              masked: Callable[[Window, np.ndarray], Window] | None = None) -> Course:
    """Train the same networks together from scratch, all by the error of the last."""
    torch.manual_seed(100 * seed + 70)
    for source in task.sources:
        coupling.add((source,), task.target)
    coupling.couple(task.target)
    course = train(lambda w: coupling(w, task.target), coupling, task, moments, task.sources,
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
        joined = 2 * width * len(shapes)
        self.head = nn.Sequential(nn.Linear(joined, 2 * width), nn.GELU(),
                                  nn.Linear(2 * width, outputs))

    def forward(self, window: Window) -> torch.Tensor:
        """Predict (b, w); a missing modality is zeros."""
        parts = [window.available((n,)).float()[:, None] * reader(window)
                 for n, reader in self.readers.items()]
        newest = torch.cat([reader.newest(window) for reader in self.readers.values()], 1)
        return self.straight(newest) + self.head(torch.cat(parts, 1))
