"""The commit counter of the global context: how many rows every reader may see.

Two words of the log's header, each on a cache line of its own. A word is the count and a checksum
of it in one aligned 8-byte store, so that no reader ever sees half of one; the second is written
after the first, should that be damaged.
"""

import mmap
import struct
import zlib

import numpy as np

_AT = 128                               # uint64
_COPY_AT = 192
_COUNT_BITS = 48
_COUNT_MASK = (1 << _COUNT_BITS) - 1


def _seal(count: int) -> int:
    """Return the word of a count: the count and a checksum of it."""
    return count | (zlib.crc32(count.to_bytes(8, 'little')) & 0xffff) << _COUNT_BITS


def _unseal(word: int) -> int | None:
    """Return the count of a word, None if it is damaged."""
    count = word & _COUNT_MASK
    return count if _seal(count) == word else None


class CommitCounter:
    """The counter in a log that is mapped into memory.

    Args:
        header: map that begins with the log's header.
    """

    def __init__(self, header: mmap.mmap):
        self._word = np.frombuffer(header, '<u8', 1, _AT)
        self._copy = np.frombuffer(header, '<u8', 1, _COPY_AT)

    @staticmethod
    def begin(header: bytearray):
        """Write a count of 0 into the header of a new log."""
        for at in (_AT, _COPY_AT):
            struct.pack_into('<Q', header, at, _seal(0))

    @property
    def damaged(self) -> bool:
        """Whether the first word is, so that its copy counts, which may be a row behind."""
        return _unseal(int(self._word[0])) is None

    def get(self) -> int | None:
        """Return the count, None if both words are damaged."""
        count = _unseal(int(self._word[0]))
        return _unseal(int(self._copy[0])) if count is None else count

    def set(self, count: int):
        """Make so many rows visible."""
        word = _seal(count)
        self._word[0] = word            # one store: rows are visible from here on
        self._copy[0] = word
