"""The recent rows of the global context as the coupling networks read them.

Legend: b batch, k rows, w numbers in one modality's LR state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from dylora_ros.core.rows import RowSchema

# cycles before now, newest first: dense where things still move, eight seconds in all at 25 Hz
LAGS = np.array([0, 2, 4, 8, 12, 20, 30, 45, 65, 100, 150, 200])
LONGEST = 16.0        # s; what is older (rows before a sleep) is not part of a window


@dataclass(frozen=True)
class Window:
    """LR states of some moments and of what came before, newest row first.

    A missing or stale state is masked: its numbers are never read.

    Attributes:
        x: modality -> (b, k, w).
        present: modality -> (b, k) bool.
        age: modality -> (b, k) seconds between a row and the making of its state.
        lag: (b, k) seconds between each row and now.
    """

    x: Mapping[str, torch.Tensor]
    present: Mapping[str, torch.Tensor]
    age: Mapping[str, torch.Tensor]
    lag: torch.Tensor

    def __len__(self) -> int:
        return len(self.lag)

    def available(self, sources) -> torch.Tensor:
        """Tell where all of these modalities have a state in some row, (b,) bool."""
        out = torch.ones(len(self), dtype=torch.bool)
        for name in sources:
            out = out & self.present[name].any(1)
        return out

    def without(self, name: str, since: torch.Tensor | float = float('inf')) -> 'Window':
        """Return this window with a modality switched off.

        Args:
            name: of the modality.
            since: seconds before now, one number or (b,); infinity: it never was on.

        """
        since = torch.as_tensor(since, dtype=torch.float32).expand(len(self))
        on = self.present[name] & (self.lag >= since[:, None])
        return replace(self, present={**self.present, name: on})

    def only(self, names) -> 'Window':
        """Return this window with just these modalities."""
        return Window(*({n: part[n] for n in names} for part in (self.x, self.present, self.age)),
                      self.lag)


def window_of(rows: np.ndarray, valid: np.ndarray, schema: RowSchema) -> Window:
    """Cut log rows into the parts of their modalities.

    Args:
        rows: (b, k) log rows, newest first.
        valid: (b, k) bool; False rows do not exist or are no memories.
        schema: of the rows.

    """
    lag = np.maximum((rows['stamp'][:, :1] - rows['stamp']) * 1e-9, 0.0).astype(np.float32)
    valid = valid & (lag <= LONGEST)
    x, present, age = {}, {}, {}
    for i, (name, part) in enumerate(schema.slices.items()):
        on = valid & (rows['mask'] >> i & 1 == 1)
        x[name] = torch.from_numpy(rows['x'][:, :, part].astype(np.float32))
        present[name] = torch.from_numpy(on)
        age[name] = torch.from_numpy(rows['age'][:, :, i].astype(np.float32))
    return Window(x, present, age, torch.from_numpy(np.where(valid, lag, 0.0).astype(np.float32)))
