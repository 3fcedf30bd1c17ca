"""The audit: every attempt on the seal leaves a line, whoever tries to wipe it."""

from collections import Counter, deque
import json
import os
from pathlib import Path
import threading
import time

from dylora_ros.core.files import whole

MOST = 100_000        # lines of one life; from there on one line a thousand attempts
_LARGE = 32 << 20     # bytes; an older, larger file is put aside at a start


class Audit:
    """Append-only list of attempts in a file, counted by kind.

    The lines are kept in memory too: a file that was cut, changed, moved or deleted is written
    again, and that was an attempt as well.

    Args:
        path: of the file, one JSON object a line.
    """

    def __init__(self, path: Path):
        self.path = path
        self.counts: Counter[str] = Counter()
        self._lines: deque[str] = deque(maxlen=MOST)
        self._lock = threading.Lock()
        self._file = self._known = None      # an unwritable folder is told by who needs it
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size > _LARGE:
                path.replace(path.with_suffix('.old'))
            if path.exists():
                self._lines.extend(path.read_text(errors='replace').splitlines(keepends=True))
            self._open()
        except OSError:
            pass

    def _open(self):
        self._file = open(self.path, 'a', buffering=1)     # noqa: SIM115 held open
        self._known = os.fstat(self._file.fileno())

    def note(self, kind: str, what: str):
        """Write down one attempt; a disk that is full costs the line on it, not the process.

        Args:
            kind: for counting.
            what: was tried, in words.

        """
        with self._lock:
            self._heal()
            self._write(kind, what)

    def _write(self, kind: str, what: str):
        self.counts[kind] += 1
        n = self.total
        if n > MOST and n % 1000:
            return
        line = json.dumps({'t': round(time.time(), 3), 'n': n, 'kind': kind, 'what': what}) + '\n'
        self._lines.append(line)
        if self._file is None:
            return
        try:
            self._file.write(line)
            self._known = os.fstat(self._file.fileno())
        except OSError:
            self._known = None           # all lines are tried again at the next look

    @property
    def total(self) -> int:
        """Attempts of this life."""
        return sum(self.counts.values())

    def check(self):
        """Repair the file if another hand was on it."""
        with self._lock:
            self._heal()

    def _heal(self):
        try:
            found = os.lstat(self.path)
            same = self._known is not None and (found.st_ino, found.st_size, found.st_mtime_ns) \
                == (self._known.st_ino, self._known.st_size, self._known.st_mtime_ns)
        except OSError:
            same = False
        if same:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_dir():
                self.path.rename(f'{self.path}.{time.time_ns()}')
            with whole(self.path) as part:
                part.write_text(''.join(self._lines))
            if self._file is not None:
                self._file.close()
            self._open()
        except OSError:
            return                       # not now; the lines are in memory
        self._write('audit', f'{self.path.name} was changed by another hand; written again')

    def close(self):
        """Release the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
