"""The paper's own reward model: how likely a language model finds the statements (3.3)."""

import numpy as np
import torch

from dylora_ros.core.judging import RewardModel
from dylora_ros.core.speaker import Speaker


class DecoderReward(RewardModel):
    """Likelihood under a language model that the inner state biases; at a slow rate of its own.

    The reward is the mean log-likelihood of a word of the good statements minus that of the bad
    ones. Each statement counts from the state of rest: how likely a sentence is whatever is
    perceived is no reward.

    Args:
        speaker: the language model.
        good: tokens of each good statement's paraphrases.
        bad: likewise.
        curiosity: weight of positive surprise.
    """

    def __init__(self, speaker: Speaker, good: list[list[list[int]]],
                 bad: list[list[list[int]]], curiosity: float = 0.0):
        super().__init__(len(good), len(bad), curiosity)
        self.speaker = speaker
        groups = [*good, *bad]
        self._said = speaker.read([way for group in groups for way in group])
        self._ends = np.cumsum([len(group) for group in groups])[:-1]
        rest = torch.zeros(1, speaker.bias.inside.in_features)
        self._rest = speaker.likelihood(rest, self._said).numpy()

    def closeness(self, state: np.ndarray) -> np.ndarray:
        """Return the mean over paraphrases, in nats a word; see the base class."""
        likely = self.speaker.likelihood(torch.from_numpy(state), self._said).numpy()
        return np.stack([part.mean(1)
                         for part in np.split(likely - self._rest, self._ends, 1)], 1)
