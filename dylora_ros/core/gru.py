"""q as a GRU cell: the other way to read the context (paper, sections 3.1 and 6).

It carries one state through the rows instead of reading them again; a tick costs the same
whatever the day was, but what the state has lost cannot be found again.
"""

import math

import numpy as np
import torch
from torch import nn

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.features import features, lived
from dylora_ros.core.predictor import Prediction
from dylora_ros.core.qnetwork import HeadNetwork, Heads, WIDTH
from dylora_ros.core.rows import RowSchema

WARM = 2000           # newest rows that make the state at a start
_SLOWEST = 1000       # cycles


class GRUNetwork(HeadNetwork):
    """A GRU over row embeddings, and the heads of q."""

    KIND = 'gru'

    def __init__(self, schema: RowSchema):
        super().__init__(schema)
        self.cell = nn.GRU(WIDTH, WIDTH, batch_first=True)
        # a newborn forgets over one to a thousand cycles, each unit at its own pace, not over
        # two cycles all of them: else no gradient comes from far (Tallec and Ollivier 2018)
        pace = torch.empty(WIDTH).uniform_(0.0, math.log(_SLOWEST)).exp()
        with torch.no_grad():
            self.cell.bias_ih_l0[WIDTH:2 * WIDTH] = torch.log(pace)
            self.cell.bias_hh_l0[WIDTH:2 * WIDTH] = 0.0

    def carry(self, past: torch.Tensor, state: torch.Tensor | None = None) -> torch.Tensor:
        """Return the states (b, k, d) after each of the rows past (b, k, f).

        Args:
            past: features, oldest first.
            state: (b, d) before the first, zero when None.

        """
        return self.cell(self.rows(past), None if state is None else state[None])[0]

    def forward(self, now: torch.Tensor, state: torch.Tensor) -> Heads:
        """Predict from the newest row's features (b, f) and the state before it (b, d)."""
        return self.decide(now, self.rows(now), state)


class GRUPredictor:
    """A GRU state that follows the log.

    Args:
        network: trained or newborn.
        log: the global context (a reader will do).
    """

    def __init__(self, network: GRUNetwork, log: GlobalContext):
        self.log = log
        self.adopt(network)

    def adopt(self, network: GRUNetwork):
        """Take new weights; the state is made anew from the newest rows."""
        self.network = network.eval()
        self._state = torch.zeros(1, WIDTH)
        self._seen = max(self.log.window_first, self.log.committed - WARM)
        self.catch_up()

    @torch.inference_mode()
    def catch_up(self):
        """Take in the rows committed since the last call."""
        for numbers, rows in self.log.chunks(self._seen):
            rows = rows[lived(rows) & self.log.intact(rows, numbers)]
            if len(rows):
                past = torch.from_numpy(features(rows, self.log.schema))[None]
                self._state = self.network.carry(past, self._state)[:, -1]
            self._seen = int(numbers[-1]) + 1 if len(numbers) else self.log.committed

    @torch.inference_mode()
    def observe(self, row: np.ndarray) -> Prediction:
        """Predict from a composed row (not yet committed) and the state."""
        self.catch_up()
        now = torch.from_numpy(features(row.reshape(1), self.log.schema))
        return Prediction.of(self.network(now, self._state))
