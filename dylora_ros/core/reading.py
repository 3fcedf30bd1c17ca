"""What q reads at the rows of a log, kept on disk: rows are read anew only when q has changed."""

from collections.abc import Callable
import hashlib
from pathlib import Path

import numpy as np
from safetensors import safe_open, SafetensorError
from safetensors.numpy import save_file

from dylora_ros.core.experience import Experience
from dylora_ros.core.files import whole
from dylora_ros.core.qnetwork import QNetwork, WIDTH
from dylora_ros.core.will import read_all

FILE = 'reading.safetensors'      # beside the log
_FORMAT = 'dylora-reading-1'


def digest(network: QNetwork, context: bool = True) -> str:
    """Return a name of these weights, and of how they read."""
    found = hashlib.sha256(b'context' if context else b'row')
    for name, value in sorted(network.state_dict().items()):
        found.update(name.encode() + value.numpy().tobytes())
    return found.hexdigest()[:16]


class Reading:
    """What one q read at consecutive rows, by their numbers in the log.

    A damaged file, or one of other weights, is no reading: all is read anew.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        self._path = path

    def read(self, network: QNetwork, data: Experience, first: int = 0, context: bool = True,
             going: Callable[[], bool] = lambda: True) -> np.ndarray:
        """Return what q's heads read at the newest rows of ``data`` (n, WIDTH), and keep it.

        Args:
            network: q.
            data: rows.
            first: number in the log of the first of them.
            context: False: as an agent without global context reads them.
            going: asked before each part, the newest first; False: the older rows are left out.

        """
        name, count = digest(network, context), len(data.features)
        begin, known = self._known(name, data, first)
        end = begin + len(known)                          # data rows begin .. end are known
        new = read_all(network, data, context, going, end) if end < count else known[:0]
        if len(new) < count - end:                        # no time even for all the new ones
            begin, known = count - len(new), known[:0]
        out = np.concatenate([known, new])
        if begin and len(out) and going():                # older ones, left out in another night
            older = read_all(network, data, context, going, 0, begin)
            begin, out = begin - len(older), np.concatenate([older, out])
        self._keep(name, data, first, begin, out)
        return out

    def _known(self, name: str, data: Experience, first: int) -> tuple[int, np.ndarray]:
        """Return where in ``data`` what these weights have read before begins, and that."""
        nothing = 0, np.empty((0, WIDTH), np.float32)
        try:
            with safe_open(str(self._path), 'np') as file:
                meta = file.metadata() or {}
                read, sign = file.get_tensor('read'), file.get_tensor('sign')
        except (FileNotFoundError, SafetensorError):
            return nothing
        if (meta.get('format'), meta.get('q')) != (_FORMAT, name) or \
                read.shape != (len(sign), WIDTH) or not np.isfinite(read).all():
            return nothing
        begin = int(meta['first']) - first
        old = max(0, -begin)                              # rows no longer wanted
        begin, read, sign = max(0, begin), read[old:], sign[old:]
        # the same rows, not those of a log that was since begun anew
        same = len(read) and np.array_equal(_signs(data, begin, len(read)), sign)
        return (begin, read) if same else nothing

    def _keep(self, name: str, data: Experience, first: int, begin: int, read: np.ndarray):
        with whole(self._path) as part:
            save_file({'read': np.ascontiguousarray(read), 'sign': _signs(data, begin, len(read))},
                      str(part),
                      metadata={'format': _FORMAT, 'q': name, 'first': str(first + begin)})


def _signs(data: Experience, begin: int, count: int) -> np.ndarray:
    """Return what tells rows from others: when they were, and what is in them, (count, 2)."""
    rows = slice(begin, begin + count)
    return np.stack([data.stamp[rows], data.features[rows].double().sum(1).numpy()], 1)
