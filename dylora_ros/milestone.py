"""Row of the log at which something last happened, kept in a small file beside it."""

from collections.abc import Callable
import json
from pathlib import Path

from dylora_ros.paths import write_whole

SLEPT, LEARNED = 'slept.json', 'q_learned.json'       # woke from its last sleep; q learned last


class Milestone:
    """See the module; the file is whole at any moment.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        self.path = path

    def row(self, committed: int,
            damaged: Callable[[Exception], None] = lambda error: None) -> int:
        """Return the row; 0 where it never happened, or in another log than this one.

        Args:
            committed: rows of the log.
            damaged: called where the file cannot be read; it counts as never.

        """
        try:
            row = int(json.loads(self.path.read_text())['row'])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            damaged(error)
            return 0
        return row if row <= committed else 0

    def set(self, row: int):
        """Say that it happened now."""
        write_whole(self.path, json.dumps({'row': row}))
