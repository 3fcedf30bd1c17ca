"""bfloat16 where it is fast, and nowhere else."""

import pytest
import torch

from dylora_ros.core.precision import narrow


@pytest.mark.parametrize(('capability', 'dtype'), [
    ('AVX512', torch.bfloat16), ('AVX2', torch.float32), ('DEFAULT', torch.float32)])
def test_products_are_narrow_only_where_that_is_fast(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
    with narrow():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
