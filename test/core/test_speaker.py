"""A language model that the inner state biases, and the reward that rests on it."""

import numpy as np
import pytest
import torch
from torch import nn

from dylora_ros.core.context import RowSchema
from dylora_ros.core.decoder import DecoderReward
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.speaker import Speaker

transformers = pytest.importorskip('transformers')

VOCABULARY = 40
SENTENCES = [[1, 5, 6, 7], [1, 5, 8], [1, 9, 6, 7, 10, 11]]


def language_model():
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32, initializer_range=0.4)).eval()


@pytest.fixture
def speaker(small_schema):
    made = Speaker(language_model(), small_schema, 'tiny', blocks=2, rank=3)
    made.words = torch.arange(VOCABULARY)
    return made


def moved(speaker):
    for p in speaker.parameters():
        nn.init.normal_(p, std=0.3)
    return speaker


def states(count):
    return torch.randn(count, 12)


def test_without_low_rank_weights_it_is_the_frozen_model(speaker):
    said = speaker.read(SENTENCES)
    found = speaker.likelihood(states(2), said)
    model = language_model()
    for i, ids in enumerate(SENTENCES):
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        expected = logits[torch.arange(len(ids) - 1), ids[1:]].mean()
        torch.testing.assert_close(found[:, i], expected.repeat(2), rtol=1e-4, atol=1e-5)


def test_a_sentence_is_as_likely_alone_as_beside_longer_ones(speaker):
    moved(speaker)
    state = states(2)
    together = speaker.likelihood(state, speaker.read(SENTENCES))
    for i, ids in enumerate(SENTENCES):
        torch.testing.assert_close(speaker.likelihood(state, speaker.read([ids]))[:, 0],
                                   together[:, i], rtol=1e-4, atol=1e-5)


def test_the_state_moves_what_is_likely(speaker):
    moved(speaker)
    said = speaker.read(SENTENCES)
    one, other = states(2)
    found = speaker.likelihood(torch.stack([one, other, one]), said)
    assert (found[0] - found[1]).abs().max() > 0.01
    torch.testing.assert_close(found[0], found[2])


def test_frozen_weights_are_frozen(speaker):
    trained = {id(p) for p in speaker.parameters()}
    for name, p in speaker.model.named_parameters():
        if id(p) not in trained:
            assert not p.requires_grad, name


def test_gradient_reaches_all_small_weights(speaker):
    moved(speaker)
    values = [p.requires_grad_(True) for p in speaker.parameters()]
    speaker.token_likelihood(states(3), speaker.read(SENTENCES)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in values)


def test_words_hold_what_is_said_and_what_was_expected(speaker):
    said = speaker.read(SENTENCES)
    speaker.learn_words(said, most=2)
    words = set(speaker.words.tolist())
    with torch.inference_mode():
        top = language_model()(torch.tensor([SENTENCES[2]])).logits[0].topk(2).indices
    assert words >= {i for ids in SENTENCES for i in ids} | set(top.flatten().tolist())
    assert len(words) < VOCABULARY


def test_it_goes_on_with_the_likeliest_word_until_the_end(speaker):
    moved(speaker)
    state = states(3)
    made = speaker.say(state, [1, 5], 4, end=set())
    assert [len(row) for row in made] == [4, 4, 4]
    for row, one in zip(made, state, strict=True):
        first = speaker.likelihood(one[None], speaker.read([[1, 5, w] for w in range(VOCABULARY)]))
        assert row[0] == int(first.argmax())
    ended = speaker.say(state, [1, 5], 4, end={made[0][1]})
    assert ended[0] == made[0][:made[0].index(made[0][1]) + 1]


def test_saved_and_loaded_it_says_the_same(speaker, small_schema, tmp_path):
    moved(speaker)
    speaker.topics = [{'One.': 0.5}]
    speaker.save(tmp_path / 'decoder.safetensors')
    again = Speaker(language_model(), small_schema, 'tiny', blocks=2, rank=3)
    again.load(tmp_path / 'decoder.safetensors')
    assert again.topics == speaker.topics
    assert again.words.tolist() == speaker.words.tolist()
    state, said = states(2), again.read(SENTENCES)
    torch.testing.assert_close(again.likelihood(state, said), speaker.likelihood(state, said),
                               rtol=0, atol=0.02)              # half precision


def test_missing_weights_say_how_to_make_them(speaker, tmp_path):
    with pytest.raises(FileNotFoundError, match='reward train'):
        speaker.load(tmp_path / 'decoder.safetensors')


@pytest.mark.parametrize(('changed', 'message'), [
    ({'name': 'other'}, 'model tiny'), ({'rank': 2}, 'adapter'), ({'blocks': 1}, 'adapter')])
def test_weights_of_another_model_are_refused(speaker, small_schema, tmp_path, changed, message):
    speaker.save(tmp_path / 'decoder.safetensors')
    other = Speaker(language_model(), small_schema,
                    **{'name': 'tiny', 'blocks': 2, 'rank': 3, **changed})
    with pytest.raises(SchemaError, match=message):
        other.load(tmp_path / 'decoder.safetensors')


def test_weights_of_other_senses_are_refused(speaker, tmp_path):
    speaker.save(tmp_path / 'decoder.safetensors')
    schema = RowSchema({'vision': (2, 3), 'body': (2, 2)}, actions=2, aux=4, adapters='other')
    with pytest.raises(SchemaError, match='schema'):
        Speaker(language_model(), schema, 'tiny', blocks=2, rank=3).load(
            tmp_path / 'decoder.safetensors')


def test_another_kind_of_model_is_refused(small_schema):
    with pytest.raises(ValueError, match='Llama kind'):
        Speaker(nn.Linear(3, 3), small_schema, 'tiny')


@pytest.mark.parametrize('ids', [[], [[1]]])
def test_nothing_said_is_refused(speaker, ids):
    with pytest.raises(ValueError, match='beginning mark'):
        speaker.read(ids)


def test_the_reward_is_the_margin_of_the_good_over_the_bad(speaker):
    moved(speaker)
    reward = DecoderReward(speaker, [SENTENCES[:1], SENTENCES[1:2]], [SENTENCES[2:]])
    state = states(3)
    likely = speaker.likelihood(state, speaker.read(SENTENCES)).numpy()
    rest = speaker.likelihood(torch.zeros(1, 12), speaker.read(SENTENCES)).numpy()
    expected = (likely - rest) @ [0.5, 0.5, -1]
    np.testing.assert_allclose(reward.rewards(state.numpy()), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(reward.shares(state.numpy()).sum(1), expected, rtol=1e-3,
                               atol=1e-4)


def test_at_rest_the_reward_is_zero(speaker):
    reward = DecoderReward(moved(speaker), [SENTENCES[:2]], [SENTENCES[2:]])
    assert reward(np.zeros(10), np.zeros(2), np.ones(2)) == pytest.approx(0, abs=1e-5)
