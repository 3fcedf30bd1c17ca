"""What every reward model is: closeness of inner states to good and bad statements."""

from abc import ABC, abstractmethod

import numpy as np

BAD = -0.5            # a reward halfway from neutral to the worst


class RewardModel(ABC):
    """Judges composite LR states: closeness to the good statements minus closeness to the bad.

    Subclasses say how close a state is to each statement.

    Args:
        good: number of good statements, at least one.
        bad: number of bad statements.
        curiosity: weight of positive surprise.
    """

    def __init__(self, good: int, bad: int, curiosity: float):
        self._share = np.concatenate([np.full(good, 1 / good), np.full(bad, -1 / max(1, bad))])
        self.curiosity = curiosity

    @abstractmethod
    def closeness(self, state: np.ndarray) -> np.ndarray:
        """Return how close states are to each statement, the good ones first.

        Args:
            state: (n, w + m) float32, composite LR state and presence.

        Returns:
            (n, statements).

        """

    def shares(self, state: np.ndarray) -> np.ndarray:
        """Return what each statement adds to the reward of states (n, w + m), (n, statements)."""
        return self.closeness(state) * self._share

    def rewards(self, state: np.ndarray) -> np.ndarray:
        """Return the rewards (n,) of states (n, w + m), without curiosity."""
        return self.shares(state).sum(1)

    def __call__(self, x: np.ndarray, mask: np.ndarray, surprise: np.ndarray) -> float:
        """Return the reward of one moment.

        Args:
            x: (w,) composite LR state.
            mask: (m,) presence.
            surprise: (m,) of the modalities, 1 is as usual.

        """
        state = np.concatenate([x, mask]).astype(np.float32)[None]
        return float(self.rewards(state)[0] + self.curiosity * news(surprise, mask))


def news(surprise: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return what curiosity pays for: mean positive surprise (..., m) -> (...).

    Surprise is an error over its own running mean, so what stays unpredictable (noise) soon is as
    usual and pays little, however wrong the prediction is.
    """
    return (np.clip(surprise - 1.0, 0.0, 2.0) * mask).mean(-1)
