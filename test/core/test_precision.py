"""bfloat16 where it is fast, and nowhere else."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dylora_ros.core.precision import narrow, narrowed


@pytest.mark.parametrize(('capability', 'dtype'), [
    ('AVX512', torch.bfloat16), ('AVX2', torch.float32), ('DEFAULT', torch.float32)])
def test_products_are_narrow_only_where_that_is_fast(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
    with narrow():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.fixture
def sense():
    torch.manual_seed(0)
    return SimpleNamespace(encoder=nn.Sequential(
        nn.Conv1d(2, 3, 3), nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 4)))


def test_narrowed_weights_change_no_bit_of_what_is_narrow_anyway(monkeypatch, sense):
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: 'AVX512')
    signal = torch.randn(2, 2, 8)
    with torch.inference_mode(), narrow():
        assert torch.equal(narrowed(sense).encoder(signal), sense.encoder(signal))
    assert narrowed(sense).encoder[1].weight.dtype == torch.bfloat16
    assert sense.encoder[1].weight.dtype == torch.float32, 'the sense itself stays as it was'


def test_where_narrow_is_slow_a_sense_stays_itself(monkeypatch, sense):
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: 'AVX2')
    assert narrowed(sense) is sense
