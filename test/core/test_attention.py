"""Attention over a whole sequence equals attention over what the streaming index would find."""

import numpy as np
import pytest
import torch

from dylora_ros.core.attention import sequence_attention
from dylora_ros.core.lsh import AngularHash, StreamingIndex
from dylora_ros.core.timecode import Decay

HEADS, WIDTH, DEPTH = 4, 32, 5


def small_hash():
    return AngularHash(WIDTH, rounds=3, polytopes=2, axes=2)


def sample(n, seed=0):
    rng = torch.Generator().manual_seed(seed)
    walk = torch.randn(n, WIDTH, generator=rng).cumsum(0)
    key = torch.nn.functional.normalize(walk, dim=1)
    query = torch.nn.functional.normalize(walk + torch.randn(n, WIDTH, generator=rng), dim=1)
    return query, key, torch.randn(n, WIDTH, generator=rng), torch.arange(n).double() * 0.04


def dense(query, key, value, seconds, hasher, sharpness, decay):
    """Ask a streaming index row by row."""
    index = StreamingIndex(hasher, DEPTH)
    out = torch.zeros_like(value)
    ask = hasher(query.detach().numpy())
    for i in range(len(key)):
        table = index._all.members[np.arange(hasher.rounds), ask[i]]
        found = torch.from_numpy(np.unique(table[table >= 0]))
        if len(found):
            q = query[i].view(HEADS, -1) * sharpness[:, None]
            logits = torch.einsum('he,khe->hk', q, key[found].view(len(found), HEADS, -1))
            age = (seconds[i] - seconds[found]).float()[None]
            weight = (logits + decay(age)[0]).softmax(-1)
            read = torch.einsum('hk,khe->he', weight, value[found].view(len(found), HEADS, -1))
            out[i] = read.flatten()
        index.insert(key[i:i + 1].detach().numpy(), np.array([i]), np.zeros(1, bool))
    return out


@pytest.mark.parametrize('n', [1, 33, 400])
@pytest.mark.parametrize('sharpness', [6.0, 120.0])      # trained heads reach 100
def test_equals_the_streaming_read(n, sharpness):
    query, key, value, seconds = sample(n)
    hasher, decay = small_hash(), Decay(HEADS)
    sharp = torch.full((HEADS,), sharpness)
    got = sequence_attention(query, key, value, seconds, hasher, sharp, decay, DEPTH)
    want = dense(query, key, value, seconds, hasher, sharp, decay)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_no_row_sees_itself_or_the_future():
    query, key, value, seconds = sample(200)
    hasher, sharp, decay = small_hash(), torch.ones(HEADS), Decay(HEADS)
    before = sequence_attention(query, key, value, seconds, hasher, sharp, decay)
    value[100:] += 100.0
    after = sequence_attention(query, key, value, seconds, hasher, sharp, decay)
    torch.testing.assert_close(after[:101], before[:101])
    assert not torch.equal(after[101:], before[101:])


def test_gradient_reaches_queries_keys_values_and_forgetting():
    query, key, value, seconds = (t.requires_grad_(t.dtype == torch.float32) for t in sample(80))
    hasher, sharp, decay = small_hash(), torch.ones(HEADS), Decay(HEADS)
    sequence_attention(query, key, value, seconds, hasher, sharp, decay).square().sum().backward()
    for tensor in (query, key, value, decay.rate):
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.abs().sum() > 0
