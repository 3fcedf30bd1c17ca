import numpy as np
import pytest

from dylora_ros.core.spread import Spread


def test_percentiles_agree_with_numpy_to_a_bin():
    values = np.random.default_rng(0).gamma(2.0, 5.0, 5000)
    spread = Spread()
    for value in values:
        spread.add(value)
    for share in (0.5, 0.99):
        assert spread.percentile(share) == pytest.approx(np.quantile(values, share), abs=0.15)


def test_nothing_measured_is_none():
    assert Spread().summary() == {'p50': None, 'p99': None}


def test_outliers_are_counted_in_the_last_bin():
    spread = Spread(most=10.0)
    spread.add(1e9)
    spread.add(-1.0)
    assert spread.percentile(1.0) == pytest.approx(10.0, abs=0.1)
    assert spread.percentile(0.5) == pytest.approx(0.0, abs=0.1)
