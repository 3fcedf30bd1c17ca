"""What a missing sense would say: the coupling networks as a term of q at run time."""

from pathlib import Path

import numpy as np
import torch

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.coupling import Coupling
from dylora_ros.core.features import lived
from dylora_ros.core.window import LAGS, window_of


class Imagination:
    """Fill q of senses that are off from those that are on; costs nothing while all are there.

    Args:
        coupling: networks whose targets are modalities' own LR states.
        log: the global context (a reader will do).

    Raises:
        ValueError: a target is not a modality of the log.
    """

    def __init__(self, coupling: Coupling, log: GlobalContext):
        unknown = set(coupling.coupled) - set(log.schema.modalities)
        if unknown:
            raise ValueError(f'the coupling predicts {", ".join(sorted(unknown))}, but the log '
                             f'has {", ".join(log.schema.modalities)}')
        self.coupling, self.log = coupling, log
        order = list(log.schema.modalities)
        self._bits = {name: 1 << order.index(name) for name in coupling.coupled}

    @classmethod
    def shipped(cls, weights: Path, log: GlobalContext) -> 'Imagination | None':
        """Return that of a weights folder, or None where none was made.

        Raises:
            SchemaError: the file belongs to other low-rank weights.

        """
        path = Path(weights) / 'coupling.safetensors'
        return cls(Coupling.load(path, log.schema), log) if path.exists() else None

    @torch.inference_mode()
    def fill(self, row: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Return q (w,) with the parts of the senses that are off filled in.

        Args:
            row: composed, not yet committed.
            q: as predicted from the context.

        """
        off = [name for name, bit in self._bits.items() if not row['mask'] & bit]
        if not off or not row['mask']:
            return q
        window, q = self._window(row), q.copy()
        for name in off:
            q[self.log.schema.slices[name]] = self.coupling(window, name)[0].numpy()
        return q

    def _window(self, row: np.ndarray):
        committed = self.log.committed
        # the writer may be about to overwrite the very oldest
        oldest = max(self.log.window_first, self.log.first + 1)
        numbers = committed - LAGS[1:]
        there = numbers >= oldest
        rows = np.zeros(len(LAGS), row.dtype)
        rows[0] = row
        valid = np.concatenate([[True], there])
        if there.any():
            past = self.log.take(numbers[there])
            rows[valid.nonzero()[0][1:]] = past
            valid[1:][there] &= lived(past) & self.log.intact(past, numbers[there])
        return window_of(rows[None], valid[None], self.log.schema)
