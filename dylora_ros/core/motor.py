"""Between the predicted LR state and the joints: exploration, and the guard."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

# what is usual; with much more the head drifts into the corners of its range and stays there
EXPLORATION = 0.2
_LIMIT = 8.0          # of the numbers of an LR state that is wished for


class Reachable(Protocol):
    """A body whose LR states can be chosen (``modalities.body.Body``).

    ``reachable``: command (joints,) -> its LR state (sites, rank) after it.
    """

    def reachable(self, command: np.ndarray) -> np.ndarray: ...


def bounded(q: np.ndarray) -> np.ndarray:
    """Return LR states that may be wished for, as a copy in float32."""
    return np.clip(q, -_LIMIT, _LIMIT).astype(np.float32)


def commanded(q: np.ndarray, command: np.ndarray, body: Reachable, part: slice) -> np.ndarray:
    """Return a composite (w,), its body's ``part`` brought about by a command (joints,)."""
    q = bounded(q)
    q[part] = bounded(body.reachable(command)).ravel()
    return q


class Exploration:
    """Bounded Ornstein-Uhlenbeck noise on the body's predicted LR state.

    Args:
        size: numbers in the body's LR state.
        scale: standard deviation, in units of the LR state's own (0: none).
        time: correlation time in seconds.
        period: seconds a cycle.
        seed: of the noise.
    """

    def __init__(self, size: int, scale: float, time: float = 0.6, period: float = 0.04,
                 seed: int = 0):
        self.scale = scale
        self._keep = float(np.exp(-period / time))
        self._rng = np.random.default_rng(seed)
        self._state = np.zeros(size, np.float32)

    def __call__(self) -> np.ndarray:
        """Return the next noise (size,), at most 2.5 scales in each direction."""
        fresh = self._rng.standard_normal(len(self._state)) * np.sqrt(1 - self._keep ** 2)
        self._state = (self._keep * self._state + fresh).astype(np.float32)
        return self.scale * np.clip(self._state, -2.5, 2.5)


@dataclass(frozen=True)
class Limits:
    """What a command may be.

    Attributes:
        low: (joints,) least command, in the actuator's unit.
        high: (joints,) greatest command.
        slew: (joints,) greatest change a second.
    """

    low: np.ndarray
    high: np.ndarray
    slew: np.ndarray


class CommandError(ValueError):
    """A command that must not reach the joints."""


class Guard:
    """Clip commands to limits and slew; refuse NaN and wrong sizes.

    Args:
        limits: per joint.
        period: seconds between commands.
    """

    def __init__(self, limits: Limits, period: float):
        self.limits = limits
        self.period = period
        self.last = np.zeros(len(limits.low))

    def command(self, normalised: np.ndarray) -> np.ndarray:
        """Map a command in -1 .. 1 to the actuators' units, safely.

        Raises:
            CommandError: wrong size or not finite; the caller stops the joints.

        """
        value = np.asarray(normalised, float)
        if value.shape != self.last.shape:
            raise CommandError(f'command has shape {value.shape}, expected {self.last.shape}')
        if not np.isfinite(value).all():
            raise CommandError('command holds NaN or infinity')
        low, high = self.limits.low, self.limits.high
        wanted = low + (np.clip(value, -1, 1) + 1) / 2 * (high - low)
        step = self.limits.slew * self.period
        self.last = np.clip(np.clip(wanted, self.last - step, self.last + step), low, high)
        return self.last.copy()

    def stop(self) -> np.ndarray:
        """Return the stop command (zero velocity or effort) and remember it."""
        self.last = np.zeros_like(self.last)
        return self.last.copy()

    def normalise(self, command: np.ndarray) -> np.ndarray:
        """Map an applied command back to -1 .. 1."""
        low, high = self.limits.low, self.limits.high
        return (2 * (np.asarray(command) - low) / (high - low) - 1).astype(np.float32)
