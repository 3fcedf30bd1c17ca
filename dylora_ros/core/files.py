"""Files that are there whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Yield where to write what takes the place of ``path`` at the end.

    Whoever reads ``path`` meanwhile, or after the writer was killed, finds what was there before;
    so does who comes after the power was cut, until the new file is on the disk.
    A writer that fails (a full disk) leaves nothing beside it.
    """
    path = Path(path)
    part = path.with_name(f'{path.name}.part')     # its own: files beside it differ by suffix
    try:
        yield part
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    with part.open('rb+') as file:
        os.fsync(file.fileno())          # before the name: else a cut leaves an empty file
    part.replace(path)
