"""The global context (GC): a ring log of composite LR states on disk.

One file, memory-mapped, one writer and many readers::

    [ replay buffer … | global context … newest ]

Overflow is only age: a row leaves the GC window and is replay until it is overwritten. Row t is
written once, at the end of cycle t, and never edited. A row is visible when the commit counter
in the header has passed it; a killed process loses at most the row it was writing.

Layout: 4096-byte header (magic, sizes, schema as JSON, its digest), then ``capacity`` rows.
"""

from dataclasses import dataclass, field
import errno
import fcntl
import hashlib
import json
import mmap
import os
from pathlib import Path
import shutil
import struct
import zlib

import numpy as np

MAGIC = b'DYLORAGC'
VERSION = 1
HEADER = 4096
_FIXED = struct.Struct('<8sIIIQI')      # magic, version, header, row size, capacity, schema bytes
_COMMIT_AT = 128                        # committed rows, uint64, alone on its cache line
_DIGEST_AT = 192
_SCHEMA_AT = 256

FLAG_DREAM = 1
FLAG_REJECTED = 2
FLAG_LATE = 4          # the command of this cycle came after one period
FLAG_BOOT = 8          # first row after a start: no prediction stands behind it


class ContextError(RuntimeError):
    """The log cannot be used as asked; the message says what to do."""


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

    @property
    def dtype(self) -> np.dtype:
        """Numpy layout of one row."""
        m = len(self.modalities)
        return np.dtype([
            ('stamp', '<i8'),             # ns, end of the cycle's observation
            ('reward_stamp', '<i8'),      # ns, stamp of the state that the reward judges
            ('crc', '<u4'),               # of all other bytes
            ('phase', 'u1'), ('flags', 'u1'), ('mask', '<u2'),
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


class GlobalContext:
    """The ring log. Open one writer with :meth:`open`, any number of readers with :meth:`read`.

    Sequence numbers are absolute: row ``n`` is the n-th ever written; rows
    ``first .. committed - 1`` are in the file.
    """

    def __init__(self, path: Path, writable: bool, window: int = 0):
        self.path = Path(path)
        self._file = open(path, 'r+b' if writable else 'rb')   # noqa: SIM115 held open
        try:
            self._attach(writable)
        except BaseException:
            self._file.close()
            raise
        self.window = min(window or self.capacity, self.capacity)

    def _attach(self, writable: bool):
        if writable:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ContextError(f'{self.path} is being written by another process; stop that '
                                   'agent or choose another memory folder') from error
        head = self._file.read(HEADER)
        if len(head) < HEADER or head[:8] != MAGIC:
            raise ContextError(f'{self.path} is not a global context (bad header); move it away '
                               'to start with an empty memory')
        _, version, header, row_size, capacity, n_schema = _FIXED.unpack_from(head)
        text = head[_SCHEMA_AT:_SCHEMA_AT + n_schema]
        if version != VERSION or header != HEADER:
            raise ContextError(f'{self.path} has format version {version}, this program reads '
                               f'{VERSION}; move it away to start with an empty memory')
        if hashlib.sha256(text).digest() != head[_DIGEST_AT:_DIGEST_AT + 32]:
            raise ContextError(f'{self.path} has a damaged header (schema digest differs); '
                               'restore a copy or move it away')
        self.schema = RowSchema.from_json(text.decode())
        self.capacity = capacity
        size = HEADER + capacity * row_size
        if row_size != self.schema.dtype.itemsize or os.fstat(self._file.fileno()).st_size < size:
            raise ContextError(f'{self.path} is truncated: expected {size} bytes, found '
                               f'{os.fstat(self._file.fileno()).st_size}; restore a copy or '
                               'move it away')
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._map = mmap.mmap(self._file.fileno(), size, access=access)
        self._commit = np.frombuffer(self._map, '<u8', 1, _COMMIT_AT)
        self._rows = np.frombuffer(self._map, self.schema.dtype, capacity, HEADER)
        self._raw = np.frombuffer(self._map, 'u1', capacity * row_size, HEADER)
        self._raw = self._raw.reshape(capacity, row_size)
        self._crc_at = self.schema.dtype.fields['crc'][1]

    @classmethod
    def create(cls, path: str | Path, schema: RowSchema, capacity: int) -> Path:
        """Make an empty log; its blocks are allocated, so that a full disk shows now.

        Raises:
            ContextError: the disk is too small, or the file exists.

        """
        path = Path(path)
        text = schema.to_json().encode()
        if len(text) > HEADER - _SCHEMA_AT:
            raise ContextError(f'schema of {len(text)} bytes does not fit the header')
        size = HEADER + capacity * schema.dtype.itemsize
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix('.part')
        try:
            with open(part, 'wb') as file:
                os.posix_fallocate(file.fileno(), 0, size)
                head = bytearray(HEADER)
                _FIXED.pack_into(head, 0, MAGIC, VERSION, HEADER, schema.dtype.itemsize,
                                 capacity, len(text))
                head[_DIGEST_AT:_DIGEST_AT + 32] = schema.digest()
                head[_SCHEMA_AT:_SCHEMA_AT + len(text)] = text
                file.write(head)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                raise ContextError(f'{path} exists already')
            os.rename(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                free = shutil.disk_usage(path.parent).free
                raise ContextError(
                    f'{path} needs {size / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free; free '
                    'some space or lower capacity') from error
            raise
        return path

    @classmethod
    def open(cls, path: str | Path, schema: RowSchema, capacity: int,
             window: int = 0) -> 'GlobalContext':
        """Open the log for writing, making it if needed.

        A log of another schema (other adapters, modalities or body) is kept under a dated name
        beside the new one: its rows stay readable but are no data for this agent.
        """
        path = Path(path)
        if path.exists():
            log = cls(path, True, window)
            if log.schema.digest() == schema.digest():
                return log
            old = path.with_name(f'{path.stem}-{log.schema.digest().hex()[:8]}{path.suffix}')
            log.close()
            os.replace(path, old)
        cls.create(path, schema, capacity)
        return cls(path, True, window)

    @classmethod
    def read(cls, path: str | Path, window: int = 0) -> 'GlobalContext':
        """Open for reading while another process writes."""
        return cls(Path(path), False, window)

    @property
    def committed(self) -> int:
        """Rows ever written."""
        return int(self._commit[0])

    @property
    def first(self) -> int:
        """Oldest row still in the file."""
        return max(0, self.committed - self.capacity)

    @property
    def window_first(self) -> int:
        """Oldest row of the GC window; older rows are the replay buffer."""
        return max(0, self.committed - self.window)

    @property
    def fill(self) -> float:
        """How full the GC window is, 0 .. 1."""
        return (self.committed - self.window_first) / self.window

    def append(self, **values) -> int:
        """Write and commit one row; returns its sequence number.

        Raises:
            ValueError: a value has the wrong size, is unknown or is not finite; nothing is
                written then.

        """
        row = np.zeros((), self.schema.dtype)
        for name, value in values.items():
            if name not in row.dtype.fields or name == 'crc':
                raise ValueError(f'a row has no field {name!r}')
            array = np.asarray(value)
            if array.shape != row[name].shape:
                raise ValueError(f'{name} has shape {array.shape}, expected {row[name].shape}')
            if array.dtype.kind == 'f':
                if not np.isfinite(array).all():
                    raise ValueError(f'{name} holds NaN or infinity')
                if row[name].dtype.itemsize == 2:
                    array = array.clip(-65504, 65504)
            row[name] = array
        return self.append_row(row)

    def append_row(self, row: np.ndarray) -> int:
        """Write and commit a row of :attr:`schema` ``dtype`` as it is."""
        n = self.committed
        slot = n % self.capacity
        row = row.copy()
        row['crc'] = self._crc(np.frombuffer(row.tobytes(), 'u1'))
        self._rows[slot] = row
        self._commit[0] = n + 1         # the row is visible from here on
        return n

    def _crc(self, raw: np.ndarray) -> int:
        at = self._crc_at
        return zlib.crc32(raw[at + 4:].tobytes(), zlib.crc32(raw[:at].tobytes()))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Copy rows start .. stop - 1 (absolute numbers, clipped to what is there)."""
        start, stop = max(start, self.first), min(stop, self.committed)
        return self.take(np.arange(start, max(start, stop)))

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """Copy scattered rows by absolute number.

        Raises:
            IndexError: a row is not in the file (any more).

        """
        numbers = np.asarray(numbers)
        if len(numbers) and (numbers.min() < self.first or numbers.max() >= self.committed):
            raise IndexError(f'rows {numbers.min()} .. {numbers.max()} asked, '
                             f'{self.first} .. {self.committed - 1} are there')
        return self._rows[numbers % self.capacity]

    def verify(self) -> list[int]:
        """Return the numbers of committed rows whose checksum is wrong."""
        return [n for n in range(self.first, self.committed)
                if self._crc(self._raw[n % self.capacity]) != self._rows[n % self.capacity]['crc']]

    def close(self):
        """Release the file (and the writer's lock)."""
        if self._file.closed:
            return
        self._commit = self._rows = self._raw = None
        self._map.close()
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
