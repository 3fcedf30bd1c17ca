"""Tasks of the coupling: where the sounding toy is, what is seen, what a missing sense would say.

Legend: n samples, k rows of a window, w numbers of a target.
"""

from dataclasses import dataclass

import numpy as np
import torch

from dylora_ros.core.rows import RowSchema
from dylora_ros.core.window import LAGS, Window
from dylora_ros.experiments.babble import VISION_EVERY
from dylora_ros.experiments.coupling_data import Lives
from dylora_ros.modalities.specs import ORDER
from dylora_ros.sim import view
from dylora_ros.sim.gaze import TOYS

EVERY = 4                  # cycles between samples
FIRST = 50                 # cycle of the first sample of a life
SOON = 25                  # cycles: "when it will come into view" is within a second
PLACES = ((0, 0), (0.7, 0), (-0.7, 0), (0, 0.7), (0, -0.7))
SPREAD = np.float32([0.6, 0.4])     # usual size of a direction's parts, to the right and up
OFF = 0.4, 8.0             # s: a sense to be filled in was switched off that long ago


def nameable() -> list[str]:
    """Return all sentences that name a toy and its place in the view."""
    return [view.seen(toy, *place) for toy in TOYS for place in PLACES]


@dataclass
class Task:
    """What is to be predicted at which moments.

    Attributes:
        name: of the task.
        target: name of what is predicted, as in ``Coupling.targets``.
        row: (n,) rows of the moments.
        truth: (n, w).
        sources: modalities that may be read.
        off: modality that was switched off some time before, or None.
        since: (n,) s before the moment, where ``off``.
        answer: (n,) number of the right candidate, for naming.
        candidates: (c, w) to choose from, for naming.
    """

    name: str
    target: str
    row: np.ndarray
    truth: torch.Tensor
    sources: tuple[str, ...] = ORDER
    off: str | None = None
    since: torch.Tensor | None = None
    answer: np.ndarray | None = None
    candidates: torch.Tensor | None = None

    def quality(self, predicted: torch.Tensor, index: np.ndarray) -> np.ndarray:
        """Return (2, n) of some samples: what is summed and what it is divided by.

        The score is one minus the ratio of the sums: R2 over all numbers of the target, or the
        share of right names.
        """
        if self.candidates is not None:
            named = torch.cdist(predicted, self.candidates).argmin(1).numpy()
            return np.stack([named != self.answer[index], np.ones(len(index))])
        truth = self.truth[index]
        mean = self.truth.mean(0)
        return np.stack([(truth - predicted).square().sum(1).numpy(),
                         (truth - mean).square().sum(1).numpy()])


class Moments:
    """Windows of LR states, or of the frozen features, before any rows of some lives.

    Args:
        lives: recorded.
        schema: of their rows.
        features: modality -> (., w) to read in place of LR states.
    """

    def __init__(self, lives: Lives, schema: RowSchema,
                 features: dict[str, np.ndarray] | None = None):
        rows = lives.rows
        self._first = np.searchsorted(lives.life, lives.life)
        self._stamp = rows['stamp'] * 1e-9
        self._x, self._on, self._age, self._at = {}, {}, {}, {}
        for i, (name, part) in enumerate(schema.slices.items()):
            self._on[name] = torch.from_numpy(rows['mask'] >> i & 1 == 1)
            self._age[name] = torch.from_numpy(rows['age'][:, i].astype(np.float32))
            if features is None:
                self._x[name] = torch.from_numpy(rows['x'][:, part].astype(np.float32))
                self._at[name] = np.arange(len(rows))
            else:
                self._x[name] = torch.from_numpy(features[name].astype(np.float32))
                self._at[name] = lives.newest[name]
        self.shapes = {name: x.shape[1] for name, x in self._x.items()}

    def window(self, row: np.ndarray, names=ORDER, lags: np.ndarray = LAGS) -> Window:
        """Return the window (n, k) before and at some rows (n,)."""
        at = row[:, None] - lags
        valid = torch.from_numpy(at >= self._first[row][:, None])
        at = np.maximum(at, 0)
        lag = torch.from_numpy((self._stamp[row][:, None] - self._stamp[at]).astype(np.float32))
        at_x = {n: torch.from_numpy(self._at[n][at]) for n in names}
        at = torch.from_numpy(at)
        return Window({n: self._x[n][at_x[n]] for n in names},
                      {n: self._on[n][at] & valid for n in names},
                      {n: self._age[n][at] for n in names}, lag * valid)


def tasks(lives: Lives, schema: RowSchema, seed: int = 0) -> list[Task]:
    """Return all tasks on some lives."""
    rng = np.random.default_rng(seed)
    cycle = np.arange(len(lives.life)) - np.searchsorted(lives.life, lives.life)
    sample = np.flatnonzero((cycle >= FIRST) & (cycle % EVERY == FIRST % EVERY))
    places = lives.truth[:, :12].reshape(-1, 3, 4)
    inside = (np.abs(places[:, :, 2:]) <= 1).all(2)                  # (rows, toys)
    sounding = lives.truth[:, 12].astype(int)
    there = np.arange(len(sounding))
    heard, place = inside[there, sounding], places[there, sounding]
    x = {n: torch.from_numpy(lives.rows['x'][:, s].astype(np.float32))
         for n, s in schema.slices.items()}
    row, then = arrivals(lives, np.flatnonzero((cycle >= FIRST) & ~heard & (cycle % 2 == 0)),
                         sounding, inside, cycle)
    out = [Task('where', 'direction', row, torch.from_numpy(
        toward(place[row, 0], place[row, 1], *lives.features['body'][row, :2].T) / SPREAD))]
    out.append(Task('arrive', 'vision soon', row, x['vision'][then]))
    row = sample[heard[sample]]
    number = {s: i for i, s in enumerate(nameable())}
    named = np.array([number[view.seen(TOYS[sounding[i]], *place[i, 2:])] for i in row])
    meaning = torch.from_numpy(lives.meaning.reshape(len(lives.meaning), -1))
    meaning = whitened(meaning[[lives.sentences.index(s) for s in number]])
    out.append(Task('name', 'text', row, meaning[named], tuple(n for n in ORDER if n != 'text'),
                    answer=named, candidates=meaning))
    for i, name in enumerate(schema.modalities):
        if name == 'text':
            continue
        row = sample[lives.rows['mask'][sample] >> i & 1 == 1]
        since = torch.from_numpy(rng.uniform(*OFF, len(row)).astype(np.float32))
        out.append(Task(f'fill {name}', name, row, x[name][row], off=name, since=since))
    return out


def whitened(points: torch.Tensor) -> torch.Tensor:
    """Return points (c, w) in their own c - 1 principal directions, each of unit variance.

    In text's LR state "left" and "right" are 0.1 apart and two toys 20: without this, only the
    toy would count.
    """
    points = (points - points.mean(0)).double()
    left, size, _ = torch.linalg.svd(points, full_matrices=False)
    kept = size > 1e-4 * size[0]
    return (left[:, kept] * len(points) ** 0.5).float()


def toward(azimuth: np.ndarray, elevation: np.ndarray, pan: np.ndarray,
           tilt: np.ndarray) -> np.ndarray:
    """Return how far to the right and up of the head's axis things are, (n, 2) in -1 .. 1.

    Components of the unit vector to a thing at world azimuth and elevation (rad), seen by a head
    that is turned by ``pan`` (to the left) and ``tilt`` (down).
    """
    forward = np.cos(elevation) * np.cos(azimuth - pan)
    right = -np.cos(elevation) * np.sin(azimuth - pan)
    return np.stack([right, np.sin(elevation) * np.cos(tilt) + forward * np.sin(tilt)], 1)


def arrivals(lives: Lives, unseen: np.ndarray, sounding: np.ndarray, inside: np.ndarray,
             cycle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return moments at which the sounding toy is out of view, and the first frame with it.

    (n,) rows and (n,) rows of the frame, at most SOON cycles later.
    """
    row, then = [], []
    for i in unseen:
        ahead = np.arange(i + 1, min(i + SOON + 1, len(cycle)))
        ahead = ahead[(lives.life[ahead] == lives.life[i]) & (cycle[ahead] % VISION_EVERY == 0)]
        found = ahead[inside[ahead, sounding[i]]]
        if len(found):
            row.append(i)
            then.append(found[0])
    return np.array(row, int), np.array(then, int)
