"""Time in the context: harmonic code and forgetting."""

import pytest
import torch

from dylora_ros.core.timecode import Decay, harmonic


def test_code_has_its_shape_and_range():
    code = harmonic(torch.linspace(0, 1e6, 1000), 16)
    assert code.shape == (1000, 16)
    assert code.abs().max() <= 1


def test_near_times_are_coded_nearer_than_far_ones():
    a, b, c = harmonic(torch.tensor([100.0, 100.04, 5000.0]), 16)
    assert (a - b).norm() < (a - c).norm()


def test_code_repeats_after_a_common_period_only():
    day = harmonic(torch.arange(0, 43200, 0.37), 16)
    twin = torch.cdist(day[:1], day[1:]).min()
    assert twin > 0.1


def test_code_keeps_a_cycle_apart_after_a_day():
    """Stamps of a long day need more digits than single precision has."""
    late = torch.tensor([43200.0 * 20, 43200.0 * 20 + 0.04], dtype=torch.float64)
    early = torch.tensor([0.0, 0.04], dtype=torch.float64)
    apart = [(x[0] - x[1]).norm() for x in (harmonic(late), harmonic(early))]
    assert apart[0] == pytest.approx(float(apart[1]), rel=1e-3)


def test_forgetting_starts_at_zero_and_only_falls():
    logit = Decay(4)(torch.tensor([[0.0, 1.0, 10.0, 1000.0]]))[0]
    assert (logit[:, 0] == 0).all()
    assert (logit.diff(dim=1) < 0).all()


def test_half_life_halves_the_weight():
    decay = Decay(4)
    weight = decay(decay.half_life()[None])[0].exp().diagonal()
    torch.testing.assert_close(weight, torch.full((4,), 0.5))


def test_future_stamps_do_not_count_as_old():
    assert (Decay(2)(torch.tensor([[-5.0]])) == 0).all()


def test_rate_learns():
    decay = Decay(2)
    decay(torch.tensor([[3.0]])).sum().backward()
    assert (decay.rate.grad != 0).all()
