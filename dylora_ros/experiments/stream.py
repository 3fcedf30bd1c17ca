"""Long streams of the agent's own states, made from a recorded log.

A recording of some ten thousand cycles (``benchmarks/record.py``) is walked through again and
again, ten seconds at a time in a new random order, with fresh stamps and with noise of a tenth of
a standard deviation on every LR state. A longer stream is therefore more of the same life, not a
longer life: no two rows are equal, but every ten seconds were recorded once.
"""

from pathlib import Path

import numpy as np

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.rows import RowSchema

SEGMENT = 250        # rows: ten seconds
NOISE = 0.1          # of a standard deviation
PERIOD = 40_000_000  # ns


class Stream:
    """Endless rows from a recorded log.

    Args:
        path: of the recorded log.
        seed: of order and noise.
        part: (from, to), the share of the recorded rows that is used.
    """

    def __init__(self, path: Path, seed: int = 0, part: tuple[float, float] = (0.0, 1.0)):
        with GlobalContext.read(path) as log:
            self.schema: RowSchema = log.schema
            self._rows = log.rows(*(round(p * log.committed) for p in part))
        if len(self._rows) < 4 * SEGMENT:
            raise ValueError(f'{path} gives {len(self._rows)} rows, {4 * SEGMENT} needed; record '
                             'more with benchmarks/record.py')
        self._rng = np.random.default_rng(seed)
        self.made = 0

    def segment(self) -> np.ndarray:
        """Return the next ten seconds (SEGMENT rows), stamps following the last."""
        start = self._rng.integers(len(self._rows) - SEGMENT)
        rows = self._rows[start:start + SEGMENT].copy()
        noise = self._rng.standard_normal((SEGMENT, self.schema.width), np.float32)
        present = (rows['mask'][:, None] >> np.arange(len(self.schema.modalities))) & 1
        wide = np.repeat(present, [s * r for s, r in self.schema.modalities.values()], 1)
        rows['x'] = rows['x'] + NOISE * noise * wide
        rows['stamp'] = (self.made + 1 + np.arange(SEGMENT)) * PERIOD
        rows['flags'] = 0
        self.made += SEGMENT
        return rows

    def rows(self, count: int) -> np.ndarray:
        """Return at least ``count`` rows, whole segments."""
        return np.concatenate([self.segment() for _ in range(-(-count // SEGMENT))])


def asked(rows: np.ndarray) -> np.ndarray:
    """Return rows, or one row, as they are when q is asked: nothing decided yet."""
    rows = rows.copy()
    for name in ('q', 'aux', 'action', 'reward'):
        rows[name] = 0
    return rows


def build(path: Path, recorded: Path, count: int, seed: int = 0) -> GlobalContext:
    """Return a reader of a log of ``count`` rows, made if it is not there."""
    if not path.exists():
        stream = Stream(recorded, seed)
        part = path.with_suffix('.making')
        part.unlink(missing_ok=True)
        with GlobalContext.open(part, stream.schema, count) as log:
            while log.committed < count:
                for row in stream.segment()[:count - log.committed]:
                    log.append_row(row)
        part.rename(path)
    return GlobalContext.read(path)
