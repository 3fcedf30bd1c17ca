"""How dreams are compared with what really followed."""

from types import SimpleNamespace

import numpy as np
import pytest

from dylora_ros.experiments.dreams import compare, Driven, EVERY, HORIZONS, summarise
from dylora_ros.experiments.life import Foresight


def line(every, slope=0.001):
    """Return inputs by cycle that grow linearly."""
    return {i: np.full((3, 2, 2), 0.2 + slope * i) for i in range(0, 400, every)}


START = 100


@pytest.fixture
def life():
    return SimpleNamespace(inputs={n: line(e) for n, e in EVERY.items()})


def test_a_perfect_dream_has_no_error_and_extrapolation_follows_a_line(life):
    dreamt = {n: {a: life.inputs[n][START + a] for a in range(0, 200, e)}
              for n, e in EVERY.items()}
    for errors in compare(life, START, dreamt).values():
        for horizon, (dream, unchanged, straight) in errors.items():
            assert dream == 0
            assert straight == pytest.approx(0, abs=1e-12)
            assert unchanged >= (0.001 * horizon) ** 2 - 1e-12


def test_a_slow_sense_is_judged_at_its_first_input_from_the_horizon_on(life):
    dreamt = {n: dict.fromkeys(range(0, 200, e), life.inputs[n][START]) for n, e in EVERY.items()}
    found = compare(life, START, dreamt)
    assert found['vision'][1][0] == pytest.approx(0.004 ** 2)
    assert found['vision'][25][0] == pytest.approx(0.028 ** 2)
    assert found['body'][25][0] == pytest.approx(0.025 ** 2)


def test_a_rejected_dream_counts_as_far_as_it_went(life):
    dreamt = {n: dict.fromkeys(range(0, 12, e), life.inputs[n][START]) for n, e in EVERY.items()}
    assert set(compare(life, START, dreamt)['body']) == {1, 5}


def test_summary_takes_the_better_baseline():
    one = {n: {h: [1.0, 4.0, 2.0] for h in HORIZONS} for n in EVERY}
    out = summarise([one] * 4, np.random.default_rng(0))['vision']['25']
    assert out['ratio_to_better_baseline'] == pytest.approx(0.5)
    assert out['ratio_95'] == pytest.approx([0.5, 0.5])
    assert out['dreams'] == 4


def test_a_driven_body_does_what_it_is_told():
    body = Driven(SimpleNamespace(present=7), np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert body.act(None).tolist() == [1.0, 2.0]
    assert body.act(None).tolist() == [3.0, 4.0]
    assert body.present == 7


def test_foresight_compares_with_the_last_input():
    sense = SimpleNamespace(spec=SimpleNamespace(decodes=True), expected=None,
                            target=lambda signal: np.asarray(signal, float))
    foresight = Foresight({'body': sense})
    foresight.judge({'body': [0.0]})
    sense.expected = np.array([1.0])
    foresight.judge({'body': [2.0]})
    foresight.judge({'vision': [9.0]})
    assert foresight.summary()['body'] == {'predicted': 1.0, 'unchanged': 4.0, 'ratio': 0.25}
