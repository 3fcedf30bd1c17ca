"""One cycle's composite: the newest LR state of every modality, its age and its presence."""

from dataclasses import dataclass

import numpy as np

from dylora_ros.core.context import RowSchema
from dylora_ros.core.rows import WORDS

MAX_AGE = {WORDS: 30.0}
_DEFAULT_MAX_AGE = 1.0


@dataclass
class _Slot:
    x: np.ndarray
    stamp: int
    surprise: float


@dataclass
class Prediction:
    """What q says of one moment, as numpy (see ``qnetwork.Heads``).

    ``recollected``: the row (1,) that is recollected then, and its worth, if any.
    ``rewarded``: the newest reward, if there is a new one.
    """

    q: np.ndarray
    reward: float
    value: float
    aux: np.ndarray
    state: np.ndarray | None = None
    recollected: tuple[np.ndarray, float] | None = None
    rewarded: float | None = None

    @classmethod
    def of(cls, heads) -> 'Prediction':
        """Take the first of a batch of ``qnetwork.Heads``."""
        return cls(heads.q[0].numpy(), float(heads.reward[0]), float(heads.value[0]),
                   heads.aux[0].numpy(), None if heads.state is None else heads.state[0].numpy())


class Composer:
    """Collect LR states as they come; compose a row's perceived part when the cycle beats.

    A modality that has never spoken, or not for its maximal age, is a masked slot of zeros.

    Args:
        schema: of the row.
    """

    def __init__(self, schema: RowSchema):
        self.schema = schema
        self._slots: dict[str, _Slot] = {}

    def put(self, name: str, x: np.ndarray, stamp: int, surprise: float | None = None):
        """Take a modality's newest state.

        Args:
            name: of the modality.
            x: (sites, rank) encoded input.
            stamp: ns, when the signal was acquired.
            surprise: of that signal; None, or not a number: unknown.

        Raises:
            ValueError: unknown modality, wrong shape, or NaN; the old state stays.

        """
        if name not in self.schema.modalities:
            raise ValueError(f'unknown modality {name!r}; the schema has '
                             f'{", ".join(self.schema.modalities)}')
        x = np.array(x, np.float32)         # a copy: the caller may reuse its array
        if x.shape != self.schema.modalities[name]:
            raise ValueError(f'{name}/x has shape {x.shape}, expected '
                             f'{self.schema.modalities[name]}')
        if not np.isfinite(x).all():
            raise ValueError(f'{name}/x holds NaN or infinity')
        known = surprise is not None and not np.isnan(surprise)
        self._slots[name] = _Slot(x, stamp, float(surprise) if known else 0.0)

    def clear(self):
        """Forget all states (after sleep the world has moved on)."""
        self._slots.clear()

    def newest(self) -> int | None:
        """Return the stamp (ns) of the newest signal, or None."""
        return max((s.stamp for s in self._slots.values()), default=None)

    def compose(self, stamp: int) -> np.ndarray:
        """Return a row (schema dtype) with x, mask, age, surprise and stamp filled in."""
        row = np.zeros((), self.schema.dtype)
        row['stamp'] = stamp
        for i, name in enumerate(self.schema.modalities):
            slot = self._slots.get(name)
            if slot is None:
                continue
            age = max(0.0, (stamp - slot.stamp) * 1e-9)
            if age > MAX_AGE.get(name, _DEFAULT_MAX_AGE):
                continue
            row['mask'] |= 1 << i
            row['age'][i] = age
            row['surprise'][i] = min(slot.surprise, 1000.0)
            row['x'][self.schema.slices[name]] = slot.x.ravel().clip(-60000, 60000)
        return row
