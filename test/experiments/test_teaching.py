"""Sight that sentences teach."""

import numpy as np
import pytest
import torch
from torch import nn

from dylora_ros.core.lowrank import inject
from dylora_ros.core.reward import Statements
from dylora_ros.experiments.agreement import users
from dylora_ros.experiments.pretrain_states import states_of, whiten
from dylora_ros.experiments.statistics import auc, spearman
from dylora_ros.experiments.teaching import (
    fit_projector,
    judge_projector,
    paraphrased,
    PARAPHRASES,
    said,
    teach,
    understanding,
    ways_to_say,
)
from dylora_ros.experiments.ways import FURTHER


@pytest.fixture
def looks():
    """Four sites; a faint direction of the first tells one sentence, of the second another."""
    rng = np.random.default_rng(0)
    inputs = {n: 10 * rng.standard_normal((3000, 12)) @ np.diag(np.linspace(1, 0.3, 12))
              for n in '0123'}
    truth = np.stack([inputs['0'][:, 11] > 3.6, inputs['1'][:, 10] > 4.0], 1).astype(np.float32)
    model = nn.Sequential(*(nn.Linear(12, 12) for _ in range(4)))
    return inject(model, r'^[0-3]$', 2, name='test'), inputs, truth


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
    teach(adapter, inputs, truth)
    after = told(states_of(adapter, inputs), truth)
    assert max(before) < 0.7
    assert min(after) > 0.95


def test_states_have_unit_variance_and_no_mean(looks):
    adapter, inputs, truth = looks
    teach(adapter, inputs, truth)
    x = states_of(adapter, inputs)
    assert np.allclose(x.mean(0), 0, atol=0.02)
    assert np.allclose(x.std(0), 1, atol=0.02)


def test_taught_sight_biases_nothing_yet(looks):
    adapter, inputs, truth = looks
    teach(adapter, inputs, truth)
    assert all(float(layer.B.detach().abs().max()) == 0 for layer in adapter.layers.values())


def test_sentences_and_when_they_were_true():
    vocabulary, truth = said([['a', 'b'], ['b'], ['c']])
    assert vocabulary == ['a', 'b', 'c']
    assert truth.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_auc_counts_pairs_in_order():
    assert auc(np.array([3.0, 1.0, 2.0, 0.0]), np.array([1.0, 0, 0, 1])) == 0.5
    assert np.isnan(auc(np.arange(3.0), np.zeros(3)))


def test_rank_correlation_shares_ranks_of_equal_values():
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([1.0, 4, 9, 16])) == pytest.approx(1)
    assert spearman(np.array([1.0, 1, 2, 2]), np.array([5.0, 5, 3, 3])) == pytest.approx(-1)
    assert abs(spearman(np.array([1.0, 2, 1, 2]), np.array([1.0, 1, 2, 2]))) < 1e-9


def test_a_paraphrase_is_true_when_its_caption_is():
    sentences, truth = paraphrased(['A green pixel.', 'The red ball is out of my view.'],
                                   np.array([[1.0, 0], [0, 1], [0, 1]]))
    assert sentences[:2] == ['A green pixel.', 'The red ball is out of my view.']
    assert 'I do not see the red ball.' in sentences
    assert (truth[:, 1:] == [[0], [1], [1]]).all()


def test_what_judges_was_never_learned_from():
    captions = [f'The red ball is {where} my view.' for where in ('in the middle of', 'out of')]
    learned = {way for c in captions for way in ways_to_say(c, PARAPHRASES, FURTHER)}
    judging = {s for stated in users('red ball') for s in stated}
    read = Statements.load('config/statements.yaml')
    stated = {s for group in (*read.good, *read.bad) for s in group}
    assert not learned & judging
    assert not (stated - set(captions)) & learned


class Sentences:
    """Fixed unit vectors."""

    def embed(self, texts):
        bad = {'The red ball is out of my view.', *(b for _, b in users('red ball'))}
        return np.eye(384, dtype=np.float32)[[int(t in bad) for t in texts]]


def test_the_projector_orders_moments(small_schema):
    rng = np.random.default_rng(0)
    state = rng.standard_normal((600, 12)).astype(np.float32)
    grade = np.digitize(state[:, 0], (0, 1))
    captions = [[f'The red ball is {where} my view.'] for where in np.array(
        ['out of', 'on the left side of', 'in the middle of'])[grade]]
    vocabulary, truth = said(captions)
    keep = [i for i, c in enumerate(vocabulary) if 'side' not in c]
    truth, vocabulary = truth[:, keep], [vocabulary[i] for i in keep]
    projector = fit_projector(state[:400], small_schema, truth[:400],
                              Sentences().embed(vocabulary), 150, 0)
    told = judge_projector(projector, state[400:], captions[400:], Sentences(), 'red ball')
    assert told['captions_auc_middle'] > 0.9
    assert 0.8 * told['most'] < told['captions_spearman'] <= told['most']
    assert told['users_spearman'] == pytest.approx(told['captions_spearman'])


def test_a_sentence_is_understood_as_the_caption_that_it_is_a_way_to_say():
    class ByHand:
        """What is said is small beside how it is said."""

        def embed(self, texts):
            rng = np.random.default_rng(len(texts))
            out = np.zeros((len(texts), 8), np.float32)
            out[:, 0], out[:, 1] = 2, [0.3 if 'middle' in t or 'centre' in t else -0.3
                                       for t in texts]
            out[:, 2:5] = rng.normal(size=(len(texts), 3)) / 3
            return out / np.linalg.norm(out, axis=1, keepdims=True)

    vocabulary = ['The red ball is in the middle of my view.', 'The red ball is out of my view.']
    known = understanding(vocabulary, ByHand().embed)
    said_so = known.which(torch.from_numpy(ByHand().embed(
        ['What a middle!', 'In the centre, as ever.', 'Gone.'])))
    assert said_so.tolist() == [0, 0, 1]
