"""What somebody last asked the agent for: a manager that died and came again goes on with it.

Only whoever starts processes again when they died (``run``, the launch file) makes a run, and
names it in the environment of all its processes. Outside of one nothing is kept.
"""

import json
import os
from pathlib import Path
import uuid

from dylora_ros.paths import write_whole

FILE = 'wish.json'
RUN = 'DYLORA_RUN'


def new_run() -> dict[str, str]:
    """Return the environment that names a new run of the agent."""
    return {RUN: uuid.uuid4().hex}


class Wish:
    """Whether the agent is to be awake, kept in its memory for as long as it runs.

    Args:
        folder: of the memory.
    """

    def __init__(self, folder: Path):
        self._path, self._run = folder / FILE, os.environ.get(RUN)

    def read(self) -> bool | None:
        """Return it; None where nobody asked for anything in this run."""
        try:
            told = json.loads(self._path.read_text())
            return bool(told['awake']) if self._run and told['run'] == self._run else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def set(self, awake: bool):
        """Write it down.

        Raises:
            OSError: it cannot be written; it holds for as long as this process lives.

        """
        if self._run:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps({'awake': awake, 'run': self._run}))
