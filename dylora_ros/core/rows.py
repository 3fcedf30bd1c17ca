"""What one row of the global context holds, and its numpy layout."""

from dataclasses import dataclass, field
from functools import cached_property
import hashlib
import json

import numpy as np

FLAG_DREAM = 1
FLAG_REJECTED = 2
FLAG_LATE = 4          # the command of this cycle came after one period
FLAG_BOOT = 8          # first row after a start: no prediction stands behind it
FLAG_FORGOTTEN = 16    # erased on request: only its stamp is left
FLAG_NAMES = {FLAG_DREAM: 'dream', FLAG_REJECTED: 'rejected', FLAG_LATE: 'late',
              FLAG_BOOT: 'boot', FLAG_FORGOTTEN: 'forgotten'}

WORDS = 'text'         # the modality that is of the moment it was said, not of now


@dataclass(frozen=True)
class RowSchema:
    """Shape of one row.

    Args:
        modalities: name -> (sites, rank), in the order of the composite.
        actions: width of the applied command.
        aux: auxiliary states that no model sees (the agent's "thoughts").
        adapters: digest of the adapters that made x; rows of other adapters are not comparable.
    """

    modalities: dict[str, tuple[int, int]]
    actions: int
    aux: int = 16
    adapters: str = ''
    slices: dict[str, slice] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        offset, slices = 0, {}
        for name, (sites, rank) in self.modalities.items():
            slices[name] = slice(offset, offset + sites * rank)
            offset += sites * rank
        object.__setattr__(self, 'slices', slices)

    @property
    def width(self) -> int:
        """Numbers in a composite LR state."""
        return sum(s * r for s, r in self.modalities.values())

    @cached_property      # making it takes longer than writing a row
    def dtype(self) -> np.dtype:
        """Numpy layout of one row."""
        m = len(self.modalities)
        return np.dtype([
            ('crc', '<u4'),               # of the row's number and all that follows
            ('phase', 'u1'), ('flags', 'u1'), ('mask', '<u2'),
            ('stamp', '<i8'),             # ns, end of the cycle's observation
            ('reward_stamp', '<i8'),      # ns, stamp of the state that the reward judges
            ('reward', '<f4'), ('value', '<f4'),
            ('age', '<f2', (m,)),         # s since each modality's state was made
            ('surprise', '<f2', (m,)),
            ('action', '<f2', (self.actions,)),
            ('aux', '<f2', (self.aux,)),
            ('x', '<f2', (self.width,)),
            ('q', '<f2', (self.width,)),
        ])

    def to_json(self) -> str:
        """Serialise for the header."""
        return json.dumps({'modalities': {k: list(v) for k, v in self.modalities.items()},
                           'actions': self.actions, 'aux': self.aux,
                           'adapters': self.adapters}, sort_keys=False)

    @classmethod
    def from_json(cls, text: str) -> 'RowSchema':
        """Read what :meth:`to_json` wrote."""
        data = json.loads(text)
        return cls({k: tuple(v) for k, v in data['modalities'].items()}, data['actions'],
                   data['aux'], data['adapters'])

    def digest(self) -> bytes:
        """Return the sha256 of the schema."""
        return hashlib.sha256(self.to_json().encode()).digest()
