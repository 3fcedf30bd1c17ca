"""Percentiles of a measured time over a whole life, in constant memory."""

import numpy as np


class Spread:
    """A histogram of milliseconds: bins of ``width`` up to ``most``; beyond is the last bin."""

    def __init__(self, width: float = 0.1, most: float = 1000.0):
        self.width = width
        self._count = np.zeros(round(most / width) + 1, np.int64)

    def add(self, value: float):
        """Count one value (ms); negative counts as zero."""
        self._count[min(max(int(value / self.width), 0), len(self._count) - 1)] += 1

    def percentile(self, share: float) -> float | None:
        """Return the value below which ``share`` (0 .. 1) lie, None while there is none."""
        total = int(self._count.sum())
        if not total:
            return None
        at = int(np.searchsorted(self._count.cumsum(), share * total))
        return (at + 0.5) * self.width

    def summary(self) -> dict[str, float | None]:
        """Return p50 and p99 (ms)."""
        return {name: value if value is None else round(value, 2) for name, value in
                (('p50', self.percentile(0.5)), ('p99', self.percentile(0.99)))}
