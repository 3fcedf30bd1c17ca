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
    query = query * sharpness.repeat_interleave(d // len(sharpness))
    # rows of one bucket ask together: what they find is mostly the same, and in the cache
    order = np.argsort(ask[:, 0], kind='stable')
    parts = []
    for asker in np.split(order, range(_PIECE, n, _PIECE)):
        # distinct rows to the right, columns that hold none are cut off
        found = np.sort(distinct(history.query(ask[asker, :, None], asker)), 1)
        most = max(1, (found >= 0).sum(1).max())
        inputs = (query, key, value, seconds, torch.from_numpy(asker),
                  torch.from_numpy(found[:, -most:].copy()), decay)
        # what a piece gathers is made again for the gradient instead of being kept
        parts.append(checkpoint(_read, *inputs, use_reentrant=False)
                     if torch.is_grad_enabled() else _read(*inputs))
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    return torch.cat(parts)[torch.from_numpy(place)]


def _read(query, key, value, seconds, asker, found, decay) -> torch.Tensor:
    """Attend the rows found (b, c), -1 for none, from the rows asker (b,); return (b, d)."""
    (b, c), d, heads = found.shape, query.shape[1], len(decay.rate)
    valid = (found >= 0)[:, None]
    at = found.clamp(min=0).flatten()
    same = (key[at].view(b, c, d) * query[asker][:, None]).view(b, c, heads, -1).sum(-1)
    age = (seconds[asker][:, None] - seconds[at].view(b, c)).float()
    logits = same.transpose(1, 2) + decay(age)                               # (b, h, c)
    weight = logits.masked_fill(~valid, -1e30).softmax(-1) * valid           # all zero if none
    return (weight.transpose(1, 2)[..., None] * value[at].view(b, c, heads, -1)).sum(1).flatten(1)
