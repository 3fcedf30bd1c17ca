"""The networks of the continuous DQN: who acts, and who judges what was done.

Legend: b batch, k critics.
"""

import math

import torch
from torch import nn
import torch.nn.functional as F

CRITICS = 2
_LOG_STD = (-5.0, 1.0)
_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


class Critics(nn.Module):
    """k critics in one: linear layers are batched products, layer norm after each."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        sizes = (inputs, width, width, 1)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(CRITICS, m, n).uniform_(-1, 1) / math.sqrt(m))
            for m, n in zip(sizes, sizes[1:], strict=False))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(CRITICS, 1, n))
                                       for n in sizes[1:])

    def forward(self, state: torch.Tensor, action: torch.Tensor,
                frozen: bool = False) -> torch.Tensor:
        """Return (k, b) values; ``frozen`` lets gradient reach the action only."""
        h = torch.cat([state, action], 1).expand(CRITICS, -1, -1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if frozen:
                weight, bias = weight.detach(), bias.detach()
            if i:
                h = F.relu(F.layer_norm(h, h.shape[-1:]))
            h = torch.baddbmm(bias, h, weight)
        return h[..., 0]


class Actor(nn.Module):
    """A Gaussian squashed by tanh."""

    def __init__(self, state: int, action: int, width: int):
        super().__init__()
        self.inside = nn.Linear(state, width)
        self.mix = nn.Linear(width, width)
        self.out = nn.Linear(width, 2 * action)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.out.weight.mul_(0.1)            # a newborn acts around the middle

    def forward(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log standard deviation (b, a) before tanh."""
        h = F.relu(F.layer_norm(self.inside(state), (self.inside.out_features,)))
        h = F.relu(F.layer_norm(self.mix(h), (self.mix.out_features,)))
        mean, spread = self.out(h).chunk(2, 1)
        low, high = _LOG_STD
        return mean, low + 0.5 * (high - low) * (torch.tanh(spread) + 1)

    def sample(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return an action (b, a) in -1 .. 1 and its log probability (b,)."""
        mean, log_std = self(state)
        noise = torch.randn_like(mean)
        raw = mean + log_std.exp() * noise
        log = -0.5 * noise.square() - log_std - _HALF_LOG_TAU
        log = log - 2 * (math.log(2) - raw - F.softplus(-2 * raw))     # of tanh
        return torch.tanh(raw), log.sum(1)
