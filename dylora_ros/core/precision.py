"""The number type in which this machine multiplies matrices fastest."""

import torch


def has_fast_bfloat16() -> bool:
    """Whether bfloat16 is worth using: without AVX-512 torch multiplies in it 50 times slower."""
    return torch.backends.cpu.get_cpu_capability() == 'AVX512'


def narrow() -> torch.autocast:
    """Return a context in which matrix products are in bfloat16 where that is fast.

    They take half the time there; results differ in the third digit. Elsewhere nothing changes.
    """
    return torch.autocast('cpu', torch.bfloat16, enabled=has_fast_bfloat16())
