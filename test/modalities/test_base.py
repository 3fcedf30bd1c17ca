"""What every sense shares: checks, surprise, expectation, saving. A sense by hand stands in."""

import numpy as np
import pytest
from safetensors import safe_open
import torch
from torch import nn

from dylora_ros.core.lowrank import inject, SchemaError
from dylora_ros.modalities.base import check, Modality, Surprise
from dylora_ros.modalities.specs import ModalitySpec, SignalError


class Echo(Modality):
    """A sense of three numbers that expects them again."""

    def __init__(self, name='echo', rank=2, decodes=True):
        self.spec = ModalitySpec(name, 1.0, (3,), 2, rank, decodes)
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        self.adapter = inject(self.encoder, '.', rank, name=name)
        self.decoder = nn.Linear(3, 3)
        self.seen = []

    def _encode(self, signal):
        self.seen.append(signal)
        with torch.no_grad():
            self.encoder(torch.from_numpy(np.asarray(signal, np.float32))[None])
        return self.adapter.read_x()[0].detach().numpy()

    def _decode(self):
        return self.seen[-1].copy()


def test_first_input_is_no_surprise():
    percept = Echo().observe(np.ones(3))
    assert percept.error is None
    assert percept.surprise is None
    assert percept.x.shape == (2, 2)


def test_error_is_the_mean_square_against_the_expectation():
    sense = Echo()
    sense.observe(np.zeros(3))
    assert sense.observe(np.array([1.0, 2.0, 0.0])).error == pytest.approx(5 / 3)


def test_expectation_is_of_the_newest_input():
    sense = Echo()
    assert sense.expected is None
    sense.observe(np.full(3, 4.0))
    np.testing.assert_array_equal(sense.expected, [4, 4, 4])


def test_forgotten_expectation_makes_the_next_input_no_surprise():
    sense = Echo()
    sense.observe(np.ones(3))
    sense.forget_expectation()
    assert sense.observe(np.zeros(3)).surprise is None


def test_a_sense_without_decoder_expects_nothing():
    sense = Echo(decodes=False)
    sense.observe(np.ones(3))
    assert sense.expected is None


@pytest.mark.parametrize(('signal', 'message'), [
    (np.ones(4), r'echo has shape \(4,\), expected \(3,\)'),
    (np.ones((1, 3)), 'shape'),
    (np.array([1, np.nan, 1]), 'echo holds NaN'),
    (np.array([1, np.inf, 1]), 'NaN or infinity'),
    (np.array(['a', 'b', 'c']), 'numbers'),
    (None, 'echo'),
])
def test_bad_signal_is_refused_and_nothing_changes(signal, message):
    sense = Echo()
    sense.observe(np.full(3, 2.0))
    with pytest.raises(SignalError, match=message):
        sense.observe(signal)
    assert len(sense.seen) == 1
    np.testing.assert_array_equal(sense.expected, [2, 2, 2])


@pytest.mark.parametrize('q', [np.zeros((2, 3)), np.zeros(4), np.full((2, 2), np.nan)])
def test_bad_bias_is_refused_and_the_old_one_stays(q):
    sense = Echo()
    sense.bias(np.full((2, 2), 0.5))
    with pytest.raises(SignalError, match='echo/q'):
        sense.bias(q)
    assert (sense._q == 0.5).all()


def test_a_dream_observes_what_was_expected():
    sense = Echo()
    sense.observe(np.array([1.0, 2.0, 3.0]))
    percept = sense.dream()
    np.testing.assert_array_equal(sense.seen[1], [1, 2, 3])
    assert percept.surprise is None, 'a dream is no evidence of how wrong predictions are'


class Biased(Echo):
    """It expects what it saw plus the sum of its bias."""

    def _decode(self):
        return self.seen[-1] + self._q.sum()


def test_the_expectation_follows_the_newest_bias():
    sense = Biased()
    sense.observe(np.zeros(3))
    np.testing.assert_array_equal(sense.expected, [0, 0, 0])
    sense.bias(np.full((2, 2), 0.5))
    np.testing.assert_array_equal(sense.expected, [2, 2, 2])
    assert sense.observe(np.full(3, 2.0)).error == 0


def test_nothing_to_dream_from_is_an_error():
    with pytest.raises(RuntimeError, match='echo has nothing to dream from'):
        Echo().dream()


def test_resume_perceives_the_remembered_signal():
    sense = Echo()
    sense.resume({'signal': np.full(3, 9.0)})
    np.testing.assert_array_equal(sense.expected, [9, 9, 9])


def test_saved_weights_come_back(tmp_path):
    first, second = Echo(), Echo()
    first.save(tmp_path / 'echo.safetensors')
    second.load(tmp_path / 'echo.safetensors')
    for key, value in first.adapter.state_dict().items():
        assert torch.equal(value, second.adapter.state_dict()[key])
    assert torch.equal(first.decoder.weight, second.decoder.weight)


def test_frozen_encoder_is_not_in_the_file(tmp_path):
    Echo().save(tmp_path / 'echo.safetensors')
    with safe_open(str(tmp_path / 'echo.safetensors'), 'pt') as file:
        assert not [k for k in file.keys() if 'base' in k or k.startswith('encoder')]


@pytest.mark.parametrize('other', [{'name': 'smell'}, {'rank': 3}])
def test_weights_of_another_sense_are_refused_and_nothing_changes(tmp_path, other):
    Echo(**other).save(tmp_path / 'other.safetensors')
    sense = Echo()
    before = sense.adapter.state_dict()
    with pytest.raises(SchemaError, match='other.safetensors'):
        sense.load(tmp_path / 'other.safetensors')
    assert all(torch.equal(v, before[k]) for k, v in sense.adapter.state_dict().items())


def test_check_takes_any_size_where_the_shape_is_free():
    assert check(np.zeros((5, 7, 3)), (-1, -1, 3), 'image').shape == (5, 7, 3)
    with pytest.raises(SignalError):
        check(np.zeros((5, 7, 4)), (-1, -1, 3), 'image')


def test_check_refuses_emptiness():
    with pytest.raises(SignalError, match='image is empty'):
        check(np.zeros((0, 7, 3)), (-1, -1, 3), 'image')


def test_first_error_is_as_usual():
    assert Surprise()(0.3) == pytest.approx(1)
    assert Surprise()(0.0) == 1


def test_steady_error_stays_as_usual():
    surprise = Surprise()
    assert [surprise(0.3) for _ in range(20)] == pytest.approx([1] * 20)


def test_twice_the_usual_error_is_about_two():
    surprise = Surprise()
    for _ in range(1000):
        surprise(0.3)
    assert surprise(0.6) == pytest.approx(2, rel=0.01)
    assert surprise(0.15) == pytest.approx(0.5, rel=0.01)


def test_surprise_gets_used_to_a_new_level():
    surprise = Surprise(memory=20)
    for error in [0.1] * 200 + [1.0] * 100:
        last = surprise(error)
    assert last == pytest.approx(1, abs=0.05)
