"""Remembered moments: raw local contexts of a sense, from which dreams start.

Every sense keeps the first signal of every ``SPACING`` seconds, so that the moments of different
senses match without any coordination. Only the newest ``KEEP`` are kept.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from dylora_ros.core.files import whole

SPACING = 2.0        # s
KEEP = 32


class Keyframes:
    """Moments of one sense.

    Args:
        spacing: s between two of them.
        keep: how many of the newest are kept.
    """

    def __init__(self, spacing: float = SPACING, keep: int = KEEP):
        self._spacing, self._keep = spacing, keep
        self._kept: OrderedDict[int, dict[str, np.ndarray]] = OrderedDict()

    def due(self, stamp: int) -> bool:
        """Whether the moment of this stamp (ns) is still missing."""
        return int(stamp * 1e-9 / self._spacing) not in self._kept

    def put(self, stamp: int, context: dict[str, np.ndarray]):
        """Keep a local context."""
        if context:
            self._kept[int(stamp * 1e-9 / self._spacing)] = context
            while len(self._kept) > self._keep:
                self._kept.popitem(last=False)

    def kept(self) -> dict[int, dict[str, np.ndarray]]:
        """Return the moments, as :func:`load` does."""
        return dict(self._kept)

    def save(self, path: Path):
        """Write all moments; whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, self._kept)


def _write(path: Path, moments: Mapping[int, dict[str, np.ndarray]]):
    with whole(path) as part:
        save_file({f'{moment}.{name}': np.ascontiguousarray(array)
                   for moment, context in moments.items()
                   for name, array in context.items()}, str(part))


def forget(folder: Path, t0: int, t1: int) -> int:
    """Erase what all senses kept of t0 <= stamp < t1 (ns); return the number of moments."""
    first, last = (int(t * 1e-9 / SPACING) for t in (t0, t1 - 1))
    erased: set[int] = set()
    for path in sorted(folder.glob('*.safetensors')):
        moments = load(path)
        gone = {m for m in moments if first <= m <= last}
        if gone:
            _write(path, {m: c for m, c in moments.items() if m not in gone})
        erased |= gone
    return len(erased)


def load(path: Path) -> dict[int, dict[str, np.ndarray]]:
    """Read what :meth:`Keyframes.save` wrote; empty where there is no file."""
    out: dict[int, dict[str, np.ndarray]] = {}
    if path.exists():
        for key, array in load_file(str(path)).items():
            moment, name = key.split('.', 1)
            out.setdefault(int(moment), {})[name] = array
    return out


def recall(senses: dict, moments: dict[str, dict[int, dict[str, np.ndarray]]],
           rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Put senses into one remembered moment; return their LR states there (sites, rank).

    A sense that did not keep the moment takes its newest; one that kept none says nothing.

    Args:
        senses: by name.
        moments: of each, see :func:`load`.
        rng: picks the moment.

    """
    common = sorted(set.intersection(*(set(moments[n]) for n in senses)))
    pick = common[rng.integers(len(common))] if common else None
    states = {}
    for name, sense in senses.items():
        sense.forget_expectation()
        if moments[name]:
            moment = max(moments[name]) if pick is None else pick
            states[name] = sense.resume(moments[name][moment]).x
    return states
