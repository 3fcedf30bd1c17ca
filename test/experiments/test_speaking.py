"""Teaching a language model to speak of the inner state, and what is told of it."""

import json

import numpy as np
import pytest
import torch

from dylora_ros import reward_tool
from dylora_ros.core.context import ContextError, GlobalContext
from dylora_ros.core.decoder import DecoderReward
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.speaker import Speaker
from dylora_ros.experiments import agreement, explaining, speaking
from dylora_ros.experiments.shown import PAUSE, recorded
from dylora_ros.experiments.statistics import auc
from dylora_ros.experiments.teaching import said
from dylora_ros.modalities import registry

transformers = pytest.importorskip('transformers')

CAPTIONS = ['I am warm now.', 'I am cold now.']


class Tokenizer:
    """A word is a token."""

    bos_token_id, eos_token_id = 0, 1

    def __init__(self):
        self._words: dict[str, int] = {}

    def __call__(self, sentences, add_special_tokens=True):
        return {'input_ids': [[self._words.setdefault(w, 2 + len(self._words))
                               for w in s.replace('.', ' .').split()] for s in sentences]}

    def decode(self, ids, skip_special_tokens=False):
        known = {i: w for w, i in self._words.items()}
        return ''.join(f' {known.get(i, "?")}' for i in ids)


def life(count=400):
    """Return moments whose first number says what is true, and captions."""
    state = np.random.default_rng(0).standard_normal((count, 12)).astype(np.float32)
    return state, [[CAPTIONS[int(s[0] < 0)]] for s in state]


def newborn(schema):
    torch.manual_seed(0)
    return Speaker(transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=80, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, initializer_range=0.2)), schema, 'tiny', blocks=2, rank=4)


def taught(schema, work, steps, stop=None):
    state, captions = life()
    tokenizer, speaker = Tokenizer(), newborn(schema)
    lesson = speaking.Lesson(state[:300], *said(captions[:300]), schema.width)
    speaker.topics = speaking.topics(captions, lesson.rarity)
    ways = speaker.read(speaking.tokens(tokenizer, lesson.ways))
    speaker.learn_words(ways)
    work.mkdir(exist_ok=True)
    if stop is not None:
        class Stop(Exception):
            pass

        def killed(text):
            if f'{stop}/' in text:
                raise Stop
        with pytest.raises(Stop):
            speaking.fit(speaker, lesson, ways, steps, 0, work, killed)
        speaker = newborn(schema)
        speaker.words = torch.unique(ways.ids)
        speaker.learn_words(ways)
    told = []
    speaking.fit(speaker, lesson, ways, steps, 0, work, told.append)
    return speaker, tokenizer, told


def test_taught_likelihood_orders_unseen_moments(small_schema, tmp_path):
    speaker, tokenizer, told = taught(small_schema, tmp_path / 'a', 75)
    state, captions = life()
    good, bad = (speaking.tokens(tokenizer, [c]) for c in CAPTIONS)
    reward = DecoderReward(speaker, [good], [bad])
    truth = np.array([c[0] == CAPTIONS[0] for c in captions])[300:]
    assert auc(reward.rewards(state[300:]), truth) > 0.95
    assert 'left' in told[-1]
    speaker.topics = speaking.topics(captions, dict.fromkeys(CAPTIONS, 0.0))
    found = explaining.naming(speaker, tokenizer, state[300:], captions[300:], 100, 0)
    assert found['right'] > 0.75 > found['chance']


def test_a_killed_training_goes_on_to_the_same_weights(small_schema, tmp_path):
    whole, _, _ = taught(small_schema, tmp_path / 'a', 50)
    resumed, _, told = taught(small_schema, tmp_path / 'b', 50, stop=25)
    assert told[0] == 'goes on from step 25'
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_checkpoint_of_another_training_is_refused(small_schema, tmp_path):
    taught(small_schema, tmp_path / 'a', 2)
    with pytest.raises(SchemaError, match='another training'):
        taught(small_schema, tmp_path / 'a', 3)


def test_rare_sentences_are_drawn_more_often_than_they_are_true():
    state, vocabulary = np.zeros((1000, 4), np.float32), ['rare', 'frequent']
    truth = np.zeros((1000, 2))
    truth[:10, 0] = truth[10:, 1] = 1
    lesson = speaking.Lesson(state, vocabulary, truth, 4)
    _, way = lesson.draw(np.random.default_rng(0), 2000)
    share = float((way == 0).float().mean())
    assert 0.05 < share < 0.5
    # what is drawn, corrected, is what is true
    odds = np.log(share / (1 - share)) + lesson.rarity['rare'] - lesson.rarity['frequent']
    assert odds == pytest.approx(np.log(10 / 990), abs=0.2)


def test_sentences_told_at_one_place_exclude_each_other():
    told = speaking.topics([['a', 'x'], ['b', 'x', 'extra']], dict.fromkeys('abx', 0.0))
    assert [sorted(t) for t in told] == [['a', 'b'], ['x']]


def test_moments_to_judge_are_even_among_grades():
    grade = np.array([0] * 90 + [1] * 8 + [2] * 3)
    chosen = agreement.drawn(grade, 20, 0)
    assert np.bincount(grade[chosen]).tolist() == [9, 8, 3]
    assert len(set(chosen)) == 20


def test_agreement_and_order_are_those_of_the_rewards():
    class Fixed:
        def __init__(self, sign):
            self._sign = sign

        def rewards(self, state):
            return self._sign * state[:, 0]

    state = np.array([[0.0], [1], [2], [3]], np.float32)
    told = agreement.agree({'a': Fixed(1), 'b': Fixed(-1)}, state, np.array([0, 0, 1, 2]))
    assert told['a_and_b'] == -1
    assert told['a']['spearman'] == told['a']['most'] > 0.9
    assert told['a']['auc_middle'] == 1
    assert told['b']['auc_in_view'] == 0


def test_grades_and_things_are_read_from_captions():
    captions = [['The red ball is in the middle of my view.'],
                ['The red ball is out of my view.'], ['The red ball is at the top of my view.']]
    assert agreement.things(captions) == ['red ball']
    assert agreement.grades(captions, 'red ball').tolist() == [2, 0, 1]


@pytest.fixture
def told_life(small_schema, tmp_path):
    with GlobalContext.open(tmp_path / 'life.gc', small_schema, 10) as log:
        for i in range(6):
            log.append(stamp=int((i + (i > 3) * 2 * PAUSE) * 1e9))
    (tmp_path / 'life.json').write_text(json.dumps({'captions': [['a']] * 6}))
    return tmp_path


def test_worlds_are_told_apart_by_their_stamps(told_life):
    _, _, world, _ = recorded(told_life)
    assert world.tolist() == [0, 0, 0, 0, 1, 1]


def test_half_a_told_life_is_refused(told_life):
    (told_life / 'life.json').write_text(json.dumps({'captions': [['a']] * 5}))
    with pytest.raises(ContextError, match='6 rows and captions of 5'):
        recorded(told_life)
    (told_life / 'life.json').unlink()
    with pytest.raises(ContextError, match=r'life\.json is missing'):
        recorded(told_life)


def test_rows_are_chosen_or_refused(told_life):
    with GlobalContext.read(told_life / 'life.gc') as log:
        assert explaining.chosen(log, [], 2).tolist() == [4, 5]
        assert explaining.chosen(log, [3, 0], 1).tolist() == [3, 0]
        with pytest.raises(ContextError, match='rows 0 to 5'):
            explaining.chosen(log, [6], 1)
        with pytest.raises(ContextError, match='--last 0'):
            explaining.chosen(log, [], 0)


def failing(capsys, *arguments):
    assert reward_tool.main(list(map(str, arguments))) == 2
    return capsys.readouterr().err


def test_a_missing_memory_is_named(tmp_path, capsys):
    error = failing(capsys, 'explain', '--memory', tmp_path / 'nowhere')
    assert 'context.gc is missing' in error
    assert '--memory' in error


def agents_memory(folder, weights):
    with GlobalContext.open(folder / 'context.gc', registry.row_schema(2, weights), 10) as log:
        log.append(stamp=1)


def test_missing_decoder_weights_are_named(tmp_path, capsys):
    agents_memory(tmp_path, tmp_path)
    error = failing(capsys, 'explain', '--memory', tmp_path, '--weights', tmp_path)
    assert 'decoder.safetensors is missing' in error
    assert 'reward train' in error


def test_a_memory_of_other_senses_is_refused(tmp_path, capsys):
    agents_memory(tmp_path, tmp_path)
    assert 'was lived with senses' in failing(capsys, 'explain', '--memory', tmp_path)


def test_too_many_judges_are_refused(told_life, capsys, monkeypatch):
    monkeypatch.setattr(reward_tool, '_same', lambda *_: None)
    error = failing(capsys, 'train', '--life', told_life, '--judges', 2,
                    '--work', told_life / 'work')
    assert '2 of 2 worlds cannot judge' in error
