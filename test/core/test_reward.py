"""Statements in a file, closeness to them, and curiosity."""

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.reward import Projector, StatementError, StatementReward, Statements
from dylora_ros.core.understanding import Understanding


def load(tmp_path, text):
    path = tmp_path / 'statements.yaml'
    path.write_text(text)
    return Statements.load(path)


def test_texts_and_paraphrases_are_read(tmp_path):
    found = load(tmp_path, 'good:\n- One.\n- [Two., Deux.]\nbad:\n- Three.\n')
    assert found.good == (('One.',), ('Two.', 'Deux.'))
    assert found.bad == (('Three.',),)


def test_bad_statements_are_optional(tmp_path):
    assert load(tmp_path, 'good: [One.]\n').bad == ()


def test_digest_is_the_files_sha256(tmp_path):
    text = 'good: [One.]\n'
    assert load(tmp_path, text).digest == hashlib.sha256(text.encode()).hexdigest()
    assert load(tmp_path, text + '# a word\n').digest != load(tmp_path, text).digest


def test_the_shipped_statements_are_valid(root):
    found = Statements.load(root / 'config/statements.yaml')
    assert found.good
    assert found.bad


@pytest.mark.parametrize(('text', 'message'), [
    ('good: [One.]\nugly: [Two.]\n', 'ugly'),
    ('- One.\n', 'lists good and bad'),
    ('', 'lists good and bad'),
    ('bad: [Two.]\n', 'no good statement'),
    ('good: []\n', 'no good statement'),
    ('good: ["  "]\n', 'expected sentences'),
    ('good: [[]]\n', 'expected sentences'),
    ('good: [One., 5]\n', 'good holds 5'),
    ('good: [[One., 5]]\n', 'expected sentences'),
    ('good: 5\n', 'good'),
    ('good: Nice\n', 'good'),
    ('good:\n- I see: the ball\n', 'expected sentences'),
    ('good: [One.\n', 'not YAML'),
])
def test_faulty_statements_are_refused_by_name(tmp_path, text, message):
    with pytest.raises(StatementError, match=message) as error:
        load(tmp_path, text)
    assert 'statements.yaml' in str(error.value)


class Identity(nn.Module):
    """A projector by hand: the first three numbers of the state are the sentence space."""

    def forward(self, state):
        return nn.functional.normalize(state[:, :3], dim=-1)

    def understood(self, said):
        return said

    def likely(self, state, contrast):
        return self(state) @ contrast.T


GOOD, BAD, ASIDE = np.eye(3, dtype=np.float32)
PRESENT, CALM = np.ones(2), np.ones(2)


def reward(bad=True, curiosity=0.0, good=((0,),)):
    space = np.eye(3, dtype=np.float32)
    return StatementReward(Identity(), [space[list(g)] for g in good],
                           [space[[1]]] if bad else [], curiosity)


def test_nearer_the_good_is_better():
    score = reward()
    assert score(GOOD, PRESENT, CALM) == pytest.approx(1)
    assert (score(GOOD, PRESENT, CALM) > score(GOOD + ASIDE, PRESENT, CALM)
            > score(ASIDE, PRESENT, CALM))


def test_nearer_the_bad_is_worse():
    score = reward()
    assert score(BAD, PRESENT, CALM) == pytest.approx(-1)
    assert (score(BAD, PRESENT, CALM) < score(BAD + ASIDE, PRESENT, CALM)
            < score(ASIDE, PRESENT, CALM))


def test_the_nearest_paraphrase_counts():
    assert reward(good=((0, 2),))(ASIDE, PRESENT, CALM) == pytest.approx(1)


def test_several_statements_are_averaged():
    assert reward(good=((0,), (2,)))(GOOD, PRESENT, CALM) == pytest.approx(0.5)


def test_without_bad_statements_only_the_good_counts():
    assert reward(bad=False)(BAD, PRESENT, CALM) == pytest.approx(0)


@pytest.mark.parametrize(('surprise', 'mask', 'news'), [
    ([1, 1], [1, 1], 0.0),
    ([0, 0], [1, 1], 0.0),           # expected better than usual: nothing is taken away
    ([2, 1], [1, 1], 0.5),
    ([2, 2], [1, 1], 1.0),
    ([2, 2], [1, 0], 0.5),           # an absent sense tells no news
    ([2, 2], [0, 0], 0.0),
    ([99, 99], [1, 1], 2.0),         # bounded
])
def test_surprise_pays_above_one_and_for_present_senses(surprise, mask, news):
    score = reward(curiosity=0.1)(ASIDE, np.array(mask), np.array(surprise, float))
    assert score == pytest.approx(0.1 * news)


def test_the_projector_returns_unit_vectors():
    out = Projector(10, 2)(torch.randn(5, 12))
    assert out.shape == (5, 384)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(5))


def test_the_reward_reads_the_mask():
    torch.manual_seed(0)
    score = StatementReward(Projector(3, 2), [np.eye(384, dtype=np.float32)[:1]], [])
    assert score(GOOD, np.array([1, 1]), CALM) != score(GOOD, np.array([1, 0]), CALM)


def test_what_all_sentences_share_does_not_count():
    projector = Projector(3, 2, 4)
    projector.shared.copy_(torch.eye(4)[0])
    said = torch.eye(4)[1:3]
    state = torch.randn(5, 5)
    shifted = projector.contrast(said + 2 * projector.shared)
    torch.testing.assert_close(projector.likely(state, shifted),
                               projector.likely(state, projector.contrast(said)))


def test_closeness_is_a_likelihood():
    score = StatementReward(Projector(3, 2), [np.eye(384, dtype=np.float32)[:1]], [])
    closeness = score.closeness(np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32))
    assert ((closeness > 0) & (closeness < 1)).all()


@pytest.fixture
def taught():
    """A projector that was taught two captions in a space of four."""
    projector, captions = Projector(3, 2, 4), torch.eye(4)[1:3]
    projector.understanding = Understanding.taught(captions, captions, torch.arange(2))
    return projector


def test_a_statement_counts_as_the_caption_that_it_says(taught):
    said = torch.nn.functional.normalize(torch.tensor([[0.3, 0.2, 1.0, 0.1]]), dim=-1)
    assert torch.equal(taught.understood(said), taught.contrast(torch.eye(4)[2:3]))


def test_a_projector_is_made_of_its_tensors(taught):
    again = Projector.of(taught.state_dict(), 3, 2)
    state, said = torch.randn(5, 5), torch.eye(4)
    assert torch.equal(again.likely(state, again.understood(said)),
                       taught.likely(state, taught.understood(said)))


def test_a_projector_of_an_earlier_version_is_refused(taught):
    older = {k: v for k, v in taught.state_dict().items() if 'understanding' not in k}
    with pytest.raises(SchemaError, match='earlier version.*make it anew'):
        Projector.of(older, 3, 2)


def test_a_projector_of_other_rows_is_refused(taught):
    with pytest.raises(SchemaError, match='rows of 7 numbers and 2 modalities'):
        Projector.of(taught.state_dict(), 7, 2)
