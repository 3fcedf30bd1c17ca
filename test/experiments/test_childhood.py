"""Sight that sentences teach."""

import numpy as np
import pytest
import torch
from torch import nn

from dylora_ros.core.lowrank import inject
from dylora_ros.experiments.childhood import align, fit_projector, said
from dylora_ros.experiments.pretrain_states import states_of, whiten
from dylora_ros.experiments.statistics import auc


@pytest.fixture
def looks():
    """Two sites; a faint direction of the first tells the one sentence, of the second another."""
    rng = np.random.default_rng(0)
    inputs = {n: 10 * rng.standard_normal((3000, 12)) @ np.diag(np.linspace(1, 0.3, 12))
              for n in ('0', '1')}
    truth = np.stack([inputs['0'][:, 11] > 3.6, inputs['1'][:, 10] > 4.0], 1).astype(np.float32)
    model = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 12))
    return inject(model, r'^[01]$', 2, name='test'), inputs, truth


def told(x, truth):
    """Return how well a linear reading of x tells each sentence (AUC on the second half)."""
    x = np.c_[x.reshape(len(x), -1), np.ones(len(x))]
    half = len(x) // 2
    read = np.linalg.lstsq(x[:half], truth[:half], rcond=None)[0]
    return [auc(x[half:] @ read[:, i], truth[half:, i]) for i in range(truth.shape[1])]


def test_taught_sight_tells_what_principal_directions_do_not(looks):
    adapter, inputs, truth = looks
    whiten(adapter, inputs)
    before = told(states_of(adapter, inputs), truth)
    align(adapter, inputs, truth)
    after = told(states_of(adapter, inputs), truth)
    assert max(before) < 0.7
    assert min(after) > 0.95


def test_states_have_unit_variance_and_no_mean(looks):
    adapter, inputs, truth = looks
    align(adapter, inputs, truth)
    x = states_of(adapter, inputs)
    assert np.allclose(x.mean(0), 0, atol=0.02)
    assert np.allclose(x.std(0), 1, atol=0.02)


def test_taught_sight_biases_nothing_yet(looks):
    adapter, inputs, truth = looks
    align(adapter, inputs, truth)
    assert all(float(layer.B.detach().abs().max()) == 0 for layer in adapter.layers.values())


def test_sentences_and_when_they_were_true():
    vocabulary, truth = said([['a', 'b'], ['b'], ['c']])
    assert vocabulary == ['a', 'b', 'c']
    assert truth.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_auc_counts_pairs_in_order():
    assert auc(np.array([3.0, 1.0, 2.0, 0.0]), np.array([1.0, 0, 0, 1])) == 0.5
    assert np.isnan(auc(np.arange(3.0), np.zeros(3)))


def test_the_projector_hears_nothing_in_what_other_senses_say(small_schema):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 6))
    truth = np.stack([x[:, 0] > 0, x[:, 0] <= 0], 1)
    vectors = np.eye(2, 384)
    others = rng.standard_normal((50, 12)).astype(np.float32)
    projector = fit_projector(x, others, small_schema, truth, vectors, 150, 0)
    state = np.zeros((300, 12), np.float32)
    state[:, :6], state[:, 10] = x, 1
    with torch.inference_mode():
        alone = projector(torch.from_numpy(state)).numpy() @ vectors.T
        state[:, 6:10] = others[np.arange(300) % 50, 6:10]
        among = projector(torch.from_numpy(state)).numpy() @ vectors.T
    assert auc(alone[:, 0], truth[:, 0]) > 0.95
    assert auc(among[:, 0], truth[:, 0]) > 0.95
