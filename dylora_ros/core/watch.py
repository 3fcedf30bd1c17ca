"""Tell at once when somebody touches a file (Linux inotify)."""

from collections.abc import Callable
import ctypes
import os
from pathlib import Path
import select
import struct
import threading
import time

_EVENT = struct.Struct('iIII')
_KINDS = {0x2: 'changed in place', 0x8: 'opened for writing', 0x4: 'given other attributes',
          0x40: 'moved away', 0x80: 'put in place', 0x100: 'made', 0x200: 'deleted',
          0x800: 'lost with its moved folder', 0x400: 'lost with its deleted folder'}
_MASK = sum(_KINDS)
_FOLDER_GONE = 0xc00
_OVERFLOW = 0x4000
_SETTLE = 0.02         # s; a file is told to be closed a moment before its lock is free


def locked(path: Path) -> bool:
    """Tell whether some process holds the lock of a file (flock), without touching it."""
    time.sleep(_SETTLE)
    try:
        inode = path.stat().st_ino
    except OSError:
        return True            # moved away: its writer does not do that
    return any(line.split()[5].rsplit(':', 1)[-1] == str(inode)
               for line in Path('/proc/locks').read_text().splitlines()
               if line.split()[1] == 'FLOCK')


class Watch:
    """Calls back, in a thread of its own, for each change of the watched files.

    Reading is not noticed. Stores through a mapping are noticed when the file is closed.

    Args:
        changed: called with (path, what happened to it).

    Raises:
        OSError: the system gives no inotify instance.
    """

    def __init__(self, changed: Callable[[Path, str], None]):
        self._changed = changed
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), 'inotify_init1 failed; raise '
                          'fs.inotify.max_user_instances')
        self._folders: dict[int, Path] = {}
        self._names: dict[Path, set[str]] = {}
        self._own: dict[Path, int] = {}
        self._wake, self._end = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, path: Path):
        """Watch a file, whether it is there or not; its folder must be.

        Raises:
            OSError: the folder cannot be watched.

        """
        path = Path(os.path.abspath(path))
        self._names.setdefault(path.parent, set()).add(path.name)
        number = self._libc.inotify_add_watch(self._fd, os.fsencode(path.parent), _MASK)
        if number < 0:
            code = ctypes.get_errno()
            raise OSError(code, f'cannot watch {path.parent}: {os.strerror(code)}')
        if number not in self._folders:      # what we did before in this folder was not seen
            self._folders[number] = path.parent
            self._own = {p: n for p, n in self._own.items() if p.parent != path.parent}

    def expect(self, path: Path, times: int = 1):
        """Let replacements of a file pass, which are our own (-1: one did not take place)."""
        path = Path(os.path.abspath(path))
        self._own[path] = self._own.get(path, 0) + times

    def _run(self):
        poll = select.poll()           # select() knows no descriptor beyond 1023
        for fd in (self._fd, self._wake):
            poll.register(fd, select.POLLIN)
        while True:
            if self._wake in dict(poll.poll()):
                return
            raw, at = os.read(self._fd, 65536), 0
            while at < len(raw):
                number, mask, _, length = _EVENT.unpack_from(raw, at)
                name = os.fsdecode(raw[at + _EVENT.size:at + _EVENT.size + length].rstrip(b'\0'))
                at += _EVENT.size + length
                self._tell(number, mask, name)

    def _tell(self, number: int, mask: int, name: str):
        if mask & _OVERFLOW:
            self._changed(Path(), 'changed faster than can be written down')
            return
        folder = self._folders.get(number)
        if folder is None:
            return
        what = ', '.join(text for bit, text in _KINDS.items() if mask & bit)
        if mask & _FOLDER_GONE:
            for each in sorted(self._names[folder]):
                self._changed(folder / each, what)
        elif name in self._names[folder]:
            path = folder / name
            if mask & 0x80 and self._own.get(path, 0):
                self._own[path] -= 1
            elif what:
                self._changed(path, what)

    def close(self):
        """End the watch."""
        os.write(self._end, b'.')
        self._thread.join(2.0)
        for fd in (self._fd, self._wake, self._end):
            os.close(fd)
