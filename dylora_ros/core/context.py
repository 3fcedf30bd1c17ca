"""The global context (GC): a ring log of composite LR states on disk.

One file, memory-mapped, one writer and many readers::

    [ replay buffer … | global context … newest ]

Overflow is only age: a row leaves the GC window and is replay until it is overwritten. Row t is
written once, at the end of cycle t, and never edited (:meth:`GlobalContext.forget` erases it).
A row is visible when the commit counter in the header has passed it; a killed process loses at
most the row it was writing.

Layout: 4096-byte header (magic, sizes, schema as JSON, their digest, the commit counter twice),
then ``capacity + SLACK`` rows. The slack is the writer's lead: it overwrites rows that left the
log SLACK cycles ago, so that a reader has that long to finish what it began.
"""

from collections.abc import Iterator
import errno
import fcntl
import hashlib
import mmap
import os
from pathlib import Path
import shutil
import struct
import zlib

import numpy as np

from dylora_ros.core.commit import CommitCounter
from dylora_ros.core.rows import (
    FLAG_BOOT,
    FLAG_DREAM,
    FLAG_FORGOTTEN,
    FLAG_LATE,
    FLAG_REJECTED,
    RowSchema,
)

__all__ = ['FLAG_BOOT', 'FLAG_DREAM', 'FLAG_FORGOTTEN', 'FLAG_LATE', 'FLAG_REJECTED',
           'ContextError', 'FormatError', 'GlobalContext', 'RowSchema']

MAGIC = b'DYLORAGC'
VERSION = 2
HEADER = 4096
SLACK = 64                              # rows; 2.5 s at 25 Hz
_FIXED = struct.Struct('<8sIIIIQI')     # magic, version, header, row size, slack, capacity, text
_DIGEST_AT = 256
_SCHEMA_AT = 320
_CHUNK = 16384                          # rows looked at in one go
AHEAD = 256                             # rows whose pages are fetched before the writer comes


class ContextError(RuntimeError):
    """The log cannot be used as asked; the message says what to do."""


class FormatError(ContextError):
    """A log of another version of this program."""


class GlobalContext:
    """The ring log. Open one writer with :meth:`open`, any number of readers with :meth:`read`.

    Sequence numbers are absolute: row ``n`` is the n-th ever written; rows
    ``first .. committed - 1`` are in the file; the writer's next one is ``next``.
    """

    def __init__(self, path: Path, writable: bool, window: int = 0):
        self.path = Path(path)
        self.next: int | None = None         # of a reader
        self._file = open(path, 'r+b' if writable else 'rb')   # noqa: SIM115 held open
        try:
            self._attach(writable)
            if writable:
                self._recover()
                self.next = self._fetched = self.committed
                self._fetch_ahead()
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
                                   'agent, or choose another memory folder and another namespace '
                                   'for this one') from error
        head = self._file.read(HEADER)
        if len(head) < HEADER or head[:8] != MAGIC:
            raise ContextError(f'{self.path} is not a global context (bad header); restore a '
                               'copy, or move it away to start with an empty memory')
        _, version, header, row_size, slack, self.capacity, n_text = _FIXED.unpack_from(head)
        if version != VERSION:
            raise FormatError(f'{self.path} has format version {version}, this program reads '
                              f'{VERSION}; move it away to start with an empty memory')
        fixed, text = head[:_FIXED.size], head[_SCHEMA_AT:_SCHEMA_AT + n_text]
        if hashlib.sha256(fixed + text).digest() != head[_DIGEST_AT:_DIGEST_AT + 32]:
            raise ContextError(f'{self.path} has a damaged header (its digest differs); restore '
                               'a copy, or move it away to start with an empty memory')
        self.schema = RowSchema.from_json(text.decode())
        self._slots = self.capacity + slack
        size, found = header + self._slots * row_size, os.fstat(self._file.fileno()).st_size
        if found < size:
            raise ContextError(f'{self.path} is truncated: expected {size} bytes, found '
                               f'{found}; restore a copy, or move it away to start with an '
                               'empty memory')
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._map = mmap.mmap(self._file.fileno(), size, access=access)
        self._size = row_size
        self._counter = CommitCounter(self._map)
        self._rows = np.frombuffer(self._map, self.schema.dtype, self._slots, header)

    def _recover(self):
        """Make the counter agree with the rows; matters only after the machine went down.

        A killed process leaves nothing to do. After a power cut, pages reached the disk in any
        order: rows at the end that are not whole are given up.
        """
        count = self.committed
        if self._counter.damaged:
            while self._whole(count):
                count += 1
        while count > 0 and count > self.committed - self.capacity and not self._whole(count - 1):
            count -= 1
        if count == 0 and self.committed > 0:
            raise ContextError(f'{self.path} holds no whole row of {self.committed}; restore a '
                               'copy, or move it away to start with an empty memory')
        self._counter.set(count)

    def _whole(self, n: int) -> bool:
        return self.intact(self._rows[n % self._slots:][:1], np.array([n]))[0]

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
        size = HEADER + (capacity + SLACK) * schema.dtype.itemsize
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f'{path.name}.{os.getpid()}.part')
        head = bytearray(HEADER)
        _FIXED.pack_into(head, 0, MAGIC, VERSION, HEADER, schema.dtype.itemsize, SLACK,
                         capacity, len(text))
        head[_SCHEMA_AT:_SCHEMA_AT + len(text)] = text
        head[_DIGEST_AT:_DIGEST_AT + 32] = hashlib.sha256(
            bytes(head[:_FIXED.size]) + text).digest()
        CommitCounter.begin(head)
        try:
            with open(part, 'wb') as file:
                os.posix_fallocate(file.fileno(), 0, size)
                file.write(head)
                file.flush()
                os.fsync(file.fileno())
            os.link(part, path)          # unlike a rename, never over a file that is there
        except FileExistsError as error:
            raise ContextError(f'{path} exists already') from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                free = shutil.disk_usage(path.parent).free
                raise ContextError(
                    f'{path} needs {size / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free '
                    f'({error.strerror}); free some space or lower capacity') from error
            raise
        finally:
            part.unlink(missing_ok=True)
        return path

    @classmethod
    def open(cls, path: str | Path, schema: RowSchema, capacity: int,
             window: int = 0) -> 'GlobalContext':
        """Open the log for writing, making it if needed.

        A log of another schema (other adapters, modalities or body) or format version is kept
        under another name beside the new one: its rows stay readable but are no data for this
        agent.
        """
        path = Path(path)
        if path.exists():
            try:
                log = cls(path, True, window)
            except FormatError:
                tag = 'older'
            else:
                if log.schema.digest() == schema.digest():
                    return log
                tag = log.schema.digest().hex()[:8]
                log.close()
            aside = (path.with_name(f'{path.stem}-{tag}{end}{path.suffix}')
                     for end in ('', *(f'-{i}' for i in range(2, 10000))))
            os.replace(path, next(p for p in aside if not p.exists()))
        cls.create(path, schema, capacity)
        return cls(path, True, window)

    @classmethod
    def read(cls, path: str | Path, window: int = 0) -> 'GlobalContext':
        """Open for reading while another process writes."""
        return cls(Path(path), False, window)

    @property
    def committed(self) -> int:
        """Rows ever written.

        Raises:
            ContextError: both copies of the counter are damaged.

        """
        count = self._counter.get()
        if count is None:
            raise ContextError(f'{self.path} has a damaged commit counter; restore a copy, or '
                               'move it away to start with an empty memory')
        return count

    @property
    def first(self) -> int:
        """Oldest row still in the log."""
        return max(0, self.committed - self.capacity)

    @property
    def window_first(self) -> int:
        """Oldest row of the GC window; older rows are the replay buffer."""
        return max(0, self.committed - self.window)

    @property
    def fill(self) -> float:
        """How full the GC window is, 0 .. 1."""
        committed = self.committed
        return min(committed, self.window) / self.window

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
        """Write and commit a row of :attr:`schema` ``dtype`` as it is.

        Raises:
            ValueError: it has another layout.
            TypeError: the log was opened for reading.

        """
        if self.next is None:
            raise TypeError(f'{self.path} was opened for reading')
        if row.dtype != self.schema.dtype:
            raise ValueError(f'the row has layout {row.dtype}, this log {self.schema.dtype}')
        n = self.next          # not the file's count: another hand may have changed that
        self._put(n, bytearray(row.tobytes()))
        self.next = n + 1
        self._counter.set(n + 1)
        if n + AHEAD >= self._fetched:
            self._fetch_ahead()
        return n

    def _fetch_ahead(self):
        """Have the system read the next pages; returns at once.

        The slot to overwrite was last touched a whole ring ago (half a day). Without this the
        first store into a page that has left the system's cache waits for the disk.
        """
        start = self._fetched % self._slots
        count = min(2 * AHEAD, self._slots - start)          # up to the seam
        os.posix_fadvise(self._file.fileno(), HEADER + start * self._size, count * self._size,
                         os.POSIX_FADV_WILLNEED)
        self._fetched += count

    def _put(self, n: int, raw: bytearray):
        """Store row n with its checksum."""
        raw[:4] = zlib.crc32(memoryview(raw)[4:], n & 0xffffffff).to_bytes(4, 'little')
        at = HEADER + n % self._slots * self._size
        self._map[at:at + self._size] = raw

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Copy rows start .. stop - 1 (absolute numbers, clipped to what is there)."""
        start, stop = max(start, self.first), min(stop, self.committed)
        count = max(0, stop - start)
        at = start % self._slots
        past = at + count - self._slots
        out = self._rows[at:at + count].copy()
        if past > 0:                     # joining rows of many fields is slow: only at the seam
            out = np.concatenate([out, self._rows[:past]])
        return out[max(0, self._oldest_safe() - start):]

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """Copy scattered rows by absolute number.

        A row that leaves the log during the call is still read whole.

        Raises:
            IndexError: a row is not in the file (any more).

        """
        numbers = np.asarray(numbers)
        out = self._rows[numbers % self._slots]
        if len(numbers) and (numbers.min() < self._oldest_safe()
                             or numbers.max() >= self.committed):
            raise IndexError(f'rows {numbers.min()} .. {numbers.max()} asked, '
                             f'{self.first} .. {self.committed - 1} are there')
        return out

    def _oldest_safe(self) -> int:
        """Return the oldest row that the writer is not overwriting at this moment."""
        return max(0, self.committed - self._slots + 1)

    def intact(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Tell which rows (n,) are undamaged and really those numbers; (n,) bool."""
        rows = np.ascontiguousarray(rows)
        raw, size = memoryview(rows.view('u1')), self._size
        crc = [zlib.crc32(raw[i * size + 4:(i + 1) * size], int(n) & 0xffffffff)
               for i, n in enumerate(numbers)]
        return rows['crc'] == np.array(crc, np.uint32)

    def chunks(self, start: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (numbers, rows) from ``start`` (or the oldest) to the newest row."""
        at = self.first if start is None else start
        while at < self.committed:
            stop = min(at + _CHUNK, self.committed)
            rows = self.rows(at, stop)
            yield np.arange(stop - len(rows), stop), rows
            at = stop

    def verify(self) -> list[int]:
        """Return the numbers of committed rows whose checksum is wrong."""
        return [int(n) for numbers, rows in self.chunks()
                for n in numbers[~self.intact(rows, numbers)]]

    def forget(self, t0: int, t1: int) -> int:
        """Erase all rows with t0 <= stamp < t1 (ns); returns how many.

        Of an erased row only the stamp and FLAG_FORGOTTEN are left; it is kept out of reading,
        training and the index. Rows that already left the log but not yet the file are erased
        too. The file is on the disk when the call returns.
        """
        count = 0
        for n in range(self._oldest_safe(), self.committed):
            slot = self._rows[n % self._slots]
            if t0 <= slot['stamp'] < t1 and not slot['flags'] & FLAG_FORGOTTEN:
                row = np.zeros((), self.schema.dtype)
                row['stamp'], row['flags'] = slot['stamp'], FLAG_FORGOTTEN
                self._put(n, bytearray(row.tobytes()))
                count += 1
        self._map.flush()
        return count

    def release_pages(self):
        """Give the pages read so far back to the system; they are read again when needed."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def close(self):
        """Release the file (and the writer's lock)."""
        if self._file.closed:
            return
        self._counter = self._rows = None
        self._map.close()
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
