"""What a sentence of a person says, among the captions whose truth the projector was taught.

In the space of a frozen sentence model two ways to say the same often lie farther apart than one
of them and its opposite ("dead ahead of me", "nowhere in my sight"). Which directions only tell
ways of saying apart is known from many ways to say each caption: linear discriminant analysis
(Fisher 1936) with one covariance for all captions takes these out.

Legend: c captions, n ways to say them, p sentences, d width of the sentence space.
"""

import torch
from torch import nn
import torch.nn.functional as F

NEAR = 0.65           # cosine with what a caption's ways share: less is about something else
SHRINKAGE = 0.3       # of the covariance, towards that of equal variance in all directions


class Understanding(nn.Module):
    """Reads a sentence as the caption that it says.

    Args:
        captions: c; 0: every sentence stays itself.
        sentence: d.

    Attributes:
        captions: (c, d) unit vectors of the captions.
        means: (c, d) unit vectors, what the ways to say each have in common.
        weight: (c, d) of the discriminant.
        bias: (c,) of the discriminant.
    """

    def __init__(self, captions: int = 0, sentence: int = 384):
        super().__init__()
        for name in ('captions', 'means', 'weight'):
            self.register_buffer(name, torch.zeros(captions, sentence))
        self.register_buffer('bias', torch.zeros(captions))

    @classmethod
    def taught(cls, captions: torch.Tensor, ways: torch.Tensor,
               which: torch.Tensor) -> 'Understanding':
        """Return what follows from ways to say captions.

        Args:
            captions: (c, d) unit vectors.
            ways: (n, d) unit vectors; at least one of each caption.
            which: (n,) number of the caption that each says.

        """
        out = cls(*captions.shape)
        means = torch.stack([ways[which == i].mean(0) for i in range(len(captions))]).double()
        apart = ways.double() - means[which]
        within = apart.T @ apart / len(ways)
        size = within.diagonal().mean()
        within += (SHRINKAGE * size + 1e-9) * torch.eye(len(within), dtype=within.dtype)
        weight = torch.linalg.solve(within, means.T).T
        out.captions.copy_(captions)
        out.means.copy_(F.normalize(means, dim=-1))
        out.weight.copy_(weight)
        out.bias.copy_(-0.5 * (weight * means).sum(1))
        return out

    def which(self, said: torch.Tensor) -> torch.Tensor:
        """Return the number of the caption that each sentence (p, d) says; -1: none of them."""
        if not len(self.captions):
            return torch.full((len(said),), -1)
        best = (said @ self.weight.T + self.bias).argmax(1)
        return torch.where((said * self.means[best]).sum(1) > NEAR, best, -1)

    def forward(self, said: torch.Tensor) -> torch.Tensor:
        """Return sentence vectors (p, d) as captions; one that says none of them stays itself."""
        which, out = self.which(said), said.clone()
        out[which >= 0] = self.captions[which[which >= 0]]
        return out
