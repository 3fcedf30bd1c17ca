"""Where the agent's memory and the installed files are."""

import os
from pathlib import Path
import sys

from dylora_ros.core.files import whole


class PathError(FileNotFoundError):
    """A file that should have been installed is missing."""


def memory_dir(value: str) -> Path:
    """Return the memory folder: the given one, or the XDG data folder."""
    if value:
        return Path(value).expanduser()
    base = os.environ.get('XDG_DATA_HOME') or Path.home() / '.local' / 'share'
    return Path(base) / 'dylora_ros'


def write_whole(path: Path, text: str):
    """Write a file; a reader, and the next start, see the old one or the new one."""
    with whole(path) as part:
        part.write_text(text)


def share_file(relative: str) -> Path:
    """Return a file of ``launch/``, ``config/`` or ``sim/``: source tree or installed share.

    Raises:
        PathError: in neither place; names them.

    """
    here = Path(__file__).resolve()
    roots = [here.parents[1], Path(sys.prefix) / 'share/dylora_ros',
             *(p / 'share/dylora_ros' for p in here.parents)]
    for root in roots:
        if (root / relative).exists():
            return root / relative
    raise PathError(f'{relative} is in none of {roots[0]}, {roots[1]}; reinstall dylora_ros')
