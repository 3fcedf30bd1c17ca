"""LSH attention over a whole sequence, in O(N log N): what the streaming read does, for every row.

Row i attends the newest ``depth`` earlier rows of its bucket in every hash round (Kitaev et al.
2020): exactly the rows that :class:`dylora_ros.core.lsh.StreamingIndex` would hold for it at its
time, looked up in :class:`dylora_ros.core.lsh.BucketHistory` as for training. A row found in
several rounds counts once.

Legend: n rows, d width, h heads, b rows asking together, c rows they found.
"""

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from dylora_ros.core.lsh import AngularHash, BucketHistory, distinct
from dylora_ros.core.timecode import Decay

_PIECE = 128     # rows asking together: what they found fits the cache


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
    ask = hasher(query.detach().numpy())
    put = ask if key is query else hasher(key.detach().numpy())
    history = BucketHistory(put, np.arange(n), n, depth)
    heads = torch.eye(len(sharpness)).repeat_interleave(d // len(sharpness), 0)   # (d, h)
    # rows of one bucket lie and ask together: what they find is mostly the same, and in the cache
    order = np.argsort(ask[:, 0], kind='stable')
    place = np.full(n + 1, -1)                    # the last: of -1, nothing found
    place[order] = np.arange(n)
    together = torch.from_numpy(order)
    query = (query * (heads @ sharpness))[together]
    both = torch.cat([key, value], 1)[together]   # gathered at one go
    seconds = seconds[together]
    parts = []
    for i in range(0, n, _PIECE):
        asker = order[i:i + _PIECE]
        # distinct rows to the right, columns that hold none are cut off
        found = np.sort(place[distinct(history.query(ask[asker, :, None], asker))], 1)
        most = max(1, (found >= 0).sum(1).max())
        inputs = (query[i:i + _PIECE], seconds[i:i + _PIECE], both, seconds,
                  torch.from_numpy(found[:, -most:].copy()), heads, decay)
        # what a piece gathers is made again for the gradient instead of being kept
        parts.append(checkpoint(_read, *inputs, use_reentrant=False)
                     if torch.is_grad_enabled() else _read(*inputs))
    return torch.cat(parts)[torch.from_numpy(place[:n])]


def _read(query, now, both, seconds, found, heads, decay) -> torch.Tensor:
    """Attend the rows found (b, c), -1 for none, with query (b, d) at now (b,); return (b, d)."""
    (b, c), d = found.shape, query.shape[1]
    valid = (found >= 0)[:, None]
    at = found.clamp(min=0).flatten()
    key, value = both.index_select(0, at).view(b, c, 2 * d).split(d, 2)
    # all heads in one product: h times the arithmetic, a third of the passes over memory
    same = key @ (query[:, :, None] * heads)                                 # (b, c, h)
    age = (now[:, None] - seconds[at].view(b, c)).float()
    logits = same.transpose(1, 2) + decay(age)                               # (b, h, c)
    weight = logits.masked_fill(~valid, -1e30).softmax(-1) * valid           # all zero if none
    return ((weight @ value) * heads.T).sum(1)
