"""Exact attention logits of several questions on the same rows."""

import torch

from dylora_ros.core.qnetwork import HEADS, QNetwork
from dylora_ros.core.timecode import harmonic


def exact_logits(network: QNetwork, query: torch.Tensor, key: torch.Tensor,
                 age: torch.Tensor) -> torch.Tensor:
    """Return :meth:`QNetwork.logits` where every query meets every key, without copies of it.

    Args:
        network: the q.
        query: (b, d) unit queries.
        key: (n, d) unit keys.
        age: (n,) seconds.

    Returns:
        (b, heads, n).

    """
    query = query.view(len(query), HEADS, -1) * network.sharpness.exp()[:, None]
    aging = network.time(harmonic(age, network.time.in_features)).T + network.decay(age[None])[0]
    return torch.einsum('bhe,nhe->bhn', query, key.view(len(key), HEADS, -1)) + aging
