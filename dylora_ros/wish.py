"""What somebody last asked the agent for: a manager that died and came again goes on with it."""

import json
import os
from pathlib import Path

from dylora_ros.paths import write_whole

FILE = 'wish.json'


def this_run() -> str:
    """Return a name of this run of the agent: who started its processes, and since when."""
    parent = os.getppid()
    fields = Path(f'/proc/{parent}/stat').read_text().rpartition(')')[2].split()
    return f'{parent} {fields[19]}'           # its start, in ticks since the machine's


class Wish:
    """Whether the agent is to be awake, kept in its memory for as long as it runs.

    Args:
        folder: of the memory.
    """

    def __init__(self, folder: Path):
        self._path = folder / FILE

    def read(self) -> bool | None:
        """Return it; None where nobody asked for anything in this run."""
        try:
            told = json.loads(self._path.read_text())
            return bool(told['awake']) if told['run'] == this_run() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def set(self, awake: bool):
        """Write it down.

        Raises:
            OSError: it cannot be written; it holds for as long as this process lives.

        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._path, json.dumps({'awake': awake, 'run': this_run()}))
