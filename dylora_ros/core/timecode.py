"""Time in the global context: harmonic encoding and forgetting (paper, section 6, Memory)."""

import torch
from torch import nn


def harmonic(seconds: torch.Tensor, dims: int = 16, shortest: float = 0.08,
             longest: float = 43200.0) -> torch.Tensor:
    """Encode times or time differences by sines and cosines.

    Args:
        seconds: any shape, in seconds.
        dims: even number of outputs.
        shortest: shortest period in seconds (two cycles at 25 Hz).
        longest: longest period in seconds (a 12-hour day).

    Returns:
        The shape of ``seconds`` with ``dims`` appended, values in [-1, 1]
        (Vaswani et al. 2017, with periods spaced geometrically).

    """
    half = dims // 2
    ratio = torch.linspace(0, 1, half, dtype=torch.float64, device=seconds.device)
    omega = 2 * torch.pi / (shortest * (longest / shortest) ** ratio)
    angle = seconds.double().unsqueeze(-1) * omega
    return torch.cat([angle.sin(), angle.cos()], -1).float()


class Decay(nn.Module):
    """Learned forgetting: a logit that falls with log age, one rate a head.

    The weight of a row is ``(1 + age / s) ** -rate``: steep at first and slower and slower, as
    human forgetting curves are (Wixted and Ebbesen 1991).
    """

    def __init__(self, heads: int):
        super().__init__()
        self.rate = nn.Parameter(torch.linspace(-2.0, 0.5, heads))

    def forward(self, age: torch.Tensor) -> torch.Tensor:
        """Map ages in seconds (b, k) to logits (b, h, k), zero at age zero."""
        rate = nn.functional.softplus(self.rate)
        return -rate.view(1, -1, 1) * torch.log1p(age.clamp(min=0)).unsqueeze(1)

    @torch.no_grad()
    def half_life(self) -> torch.Tensor:
        """Return the age in seconds (h,) at which each head's weight has halved."""
        return 2.0 ** (1.0 / nn.functional.softplus(self.rate)) - 1.0
