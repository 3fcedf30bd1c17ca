"""What long experiments tell while they run."""

import time


def say(text: str):
    """Print a line with the time, at once."""
    print(f'[{time.strftime("%H:%M:%S")}] {text}', flush=True)


class Left:
    """How long a number of equal parts will still take.

    Args:
        total: parts.
    """

    def __init__(self, total: int):
        self._total, self._start = total, time.time()

    def after(self, done: int) -> str:
        """Return the time left when ``done`` parts are done."""
        left = (time.time() - self._start) / done * max(0, self._total - done)
        return f'{left / 60:.1f} min left'
