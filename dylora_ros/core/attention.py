"""LSH attention over a whole sequence, in O(N log N): what the streaming read does, for every row.

Row i attends the newest ``depth`` earlier rows of its bucket in every hash round: exactly the
rows that :class:`dylora_ros.core.lsh.StreamingIndex` would hold for it at its time. Sorted by
bucket and time, these are its neighbours to the left, so attention is a band that is computed in
blocks, as in Reformer (Kitaev et al. 2020); a row found in several rounds counts once.

Legend: n rows, d width, h heads, r rounds, m blocks, c rows of a block.
"""

import numpy as np
import torch

from dylora_ros.core.lsh import AngularHash
from dylora_ros.core.timecode import Decay

_BLOCK = 32      # askers computed together
_PIECE = 64      # blocks at a time: what fits the cache


def sequence_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                       seconds: torch.Tensor, hasher: AngularHash, sharpness: torch.Tensor,
                       decay: Decay, depth: int = 8) -> torch.Tensor:
    """Attend causally over a sequence.

    Args:
        query: (n, d) unit queries, as the agent asks.
        key: (n, d) unit keys; queries and keys are hashed alike.
        value: (n, d).
        seconds: (n,) time of each row.
        hasher: of queries and keys.
        sharpness: (h,) factor of each head's logits.
        decay: forgetting by age.
        depth: newest rows of each bucket.

    Returns:
        (n, d); zeros where a row found nothing.

    """
    n, d = query.shape
    heads = len(sharpness)
    ask, put = (hasher(t.detach().numpy()) for t in (query, key))
    parts = [_Round(ask[:, r], put[:, r], depth) for r in range(hasher.rounds)]
    query = query.view(n, heads, -1) * sharpness[:, None]
    total = query.new_zeros(n, heads)
    read = torch.zeros(n, heads, d // heads)
    for part in parts:
        for asker, member, near in part.pieces():
            # in how many rounds is each pair found
            times = sum(other.found(asker, member).to(torch.uint8) for other in parts)
            q = query[asker].transpose(1, 2)                                # (m, h, c, e)
            k = key[member].view(*member.shape, heads, -1).transpose(1, 2)
            v = value[member].view(*member.shape, heads, -1).transpose(1, 2)
            age = (seconds[asker][:, :, None] - seconds[member][:, None]).float()
            forget = decay(age.flatten(1)).view(len(age), heads, *age.shape[1:])
            weight = torch.exp(q @ k.transpose(2, 3) + forget - sharpness[:, None, None])
            weight = weight * (near / times.clamp(min=1))[:, None]          # (m, h, c, k)
            flat = asker.flatten()
            total.index_add_(0, flat, weight.sum(-1).transpose(1, 2).flatten(0, 1))
            read.index_add_(0, flat, (weight @ v).transpose(1, 2).flatten(0, 1))
    return (read / total.clamp(min=1e-30)[..., None]).view(n, d)


class _Round:
    """One hash round: askers and members side by side, in order of bucket and time."""

    def __init__(self, ask: np.ndarray, put: np.ndarray, depth: int):
        n = len(put)
        order = np.argsort(put, kind='stable')
        code = put[order] * n + order
        # where each asker would stand among the members, and where its bucket begins
        self.place = torch.from_numpy(np.searchsorted(code, ask * n + np.arange(n))).int()
        begin = torch.from_numpy(np.searchsorted(code, ask * n)).int()
        self.rank = torch.empty(n, dtype=torch.int32)
        self.rank[torch.from_numpy(order)] = torch.arange(n, dtype=torch.int32)
        self.low = torch.maximum(begin, self.place - depth)
        size = max(_BLOCK, depth)
        asker = torch.argsort(self.place, stable=True)
        pad = -n % size
        self.asker = torch.cat([asker, asker[-1:].expand(pad)]).view(-1, size)
        # askers of a block stand at rising places: their members are a run of the sorted rows
        self.order = torch.from_numpy(order)

    def pieces(self):
        """Yield (asker (m, c), member (m, k), near (m, c, k) bool), a cacheful of blocks each."""
        n = len(self.rank)
        for i in range(0, len(self.asker), _PIECE):
            asker = self.asker[i:i + _PIECE]
            start = self.low[asker].amin(1)
            width = max(1, int((self.place[asker].amax(1) - start).max()))
            at = start[:, None] + torch.arange(width)
            member = self.order[at.clamp(max=n - 1)]
            near = self.found(asker, member) & (at < n)[:, None]
            if i + _PIECE >= len(self.asker):            # the padding at the end asks nothing
                near[-1, asker.shape[1] - -n % asker.shape[1]:] = False
            yield asker, member, near

    def found(self, asker: torch.Tensor, member: torch.Tensor) -> torch.Tensor:
        """Tell which members (m, k) each asker (m, c) finds in this round, (m, c, k) bool."""
        rank = self.rank[member][:, None]
        return (rank >= self.low[asker][:, :, None]) & (rank < self.place[asker][:, :, None])
