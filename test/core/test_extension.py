"""Context extension: windows, the context they leave, and what q makes of it."""

import pytest
import torch
from torch import nn

from dylora_ros.core.extension import ContextReader, ExtendedEncoder, LRContext, StreamingLM
from dylora_ros.core.lowrank import inject

transformers = pytest.importorskip('transformers')


def random_b(adapter):
    for layer in adapter.layers.values():
        nn.init.normal_(layer.B, std=0.3)


@pytest.fixture
def encoder():
    model = transformers.BertModel(transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=16)).eval()
    adapter = inject(model, r'(query|value)$', rank=2)
    random_b(adapter)
    return ExtendedEncoder(model, adapter, ContextReader(4, 2, width=16), window=8, capacity=64)


def text(length, batch=2):
    ids = torch.randint(5, 50, (batch, length))
    return {'input_ids': ids, 'attention_mask': torch.ones_like(ids)}


PAD = {'input_ids': torch.zeros(2, 3, dtype=torch.long),
       'attention_mask': torch.ones(2, 3, dtype=torch.long)}


def context_of(count, capacity=64, value=None):
    context = LRContext.empty(1, 4, 2, capacity)
    for i in range(count):
        x = torch.full((1, 1, 4, 2), float(i) if value is None else value)
        context = context.append(x, torch.zeros(1, 4, 2), torch.tensor([[i]]),
                                 torch.ones(1, 1, dtype=torch.bool))
    return context


def test_context_is_first_in_first_out():
    context = context_of(5, capacity=3)
    assert context.place.tolist() == [[2, 3, 4]]
    assert context.states[0, :, 0, 0, 0].tolist() == [2, 3, 4]


def test_context_of_size_zero_keeps_nothing():
    assert len(context_of(4, capacity=0)) == 0


def test_q_of_nothing_is_zero():
    reader = ContextReader(4, 2)
    assert not reader(context_of(0)).any()
    context = context_of(3)
    padding = LRContext(context.states, context.place, torch.zeros_like(context.valid), 64)
    assert not reader(padding).any()
    assert reader(context).abs().max() > 1e-3


def test_padding_changes_nothing():
    reader = ContextReader(4, 2)
    context = context_of(3)
    longer = context.append(torch.randn(1, 2, 4, 2), torch.zeros(1, 4, 2), torch.zeros(1, 2),
                            torch.zeros(1, 2, dtype=torch.bool))
    torch.testing.assert_close(reader(longer), reader(context))


def test_a_long_text_leaves_an_entry_a_token(encoder):
    words = text(20)
    context = encoder.write(words)
    assert len(context) == 20
    assert context.place[0].tolist() == list(range(20))
    encoder.adapter.set_state(None)
    first = encoder.adapter.encode(**{k: v[:, :8] for k, v in words.items()})
    torch.testing.assert_close(context.states[:, :8, 0], first)


def test_later_windows_are_read_under_q_of_the_earlier(encoder):
    words = text(16)
    context = encoder.write(words)
    early = LRContext(context.states[:, :8], context.place[:, :8], context.valid[:, :8], 64)
    q = encoder.reader(early)
    assert not context.states[:, 0, 1].any()
    torch.testing.assert_close(context.states[:, 8, 1], q)
    encoder.adapter.set_state(q)
    second = encoder.adapter.encode(**{k: v[:, 8:] for k, v in words.items()})
    torch.testing.assert_close(context.states[:, 8:, 0], second)


def test_writing_goes_on_where_it_stopped(encoder):
    words = text(16)
    parts = [{k: v[:, s] for k, v in words.items()} for s in (slice(0, 8), slice(8, 16))]
    whole, pieces = encoder.write(words), encoder.write(parts[1], encoder.write(parts[0]))
    torch.testing.assert_close(whole.states, pieces.states)
    torch.testing.assert_close(whole.place, pieces.place)


def test_one_entry_a_window(encoder):
    words = text(20)
    each = encoder.write({k: v[:, :8] for k, v in words.items()}).states[:, :, 0]
    encoder.per_token = False
    context = encoder.write(words)
    assert len(context) == 3
    torch.testing.assert_close(context.states[:, 0, 0], each.mean(1))


def test_corrupting_the_text_after_writing_leaves_the_blinded_answer(encoder):
    words = text(8)
    context = encoder.write(words)
    before = encoder.answer(PAD, context)
    other = encoder.answer(PAD, encoder.write(text(8)))
    words['input_ids'].fill_(7)
    assert torch.equal(encoder.answer(PAD, context), before)
    assert (other - before).abs().max() > 1e-4      # the text did matter while it was written


def test_emptied_context_is_the_arm_without(encoder):
    context = encoder.write(text(8))
    emptied = encoder.answer(PAD, encoder.empty(2))
    assert (encoder.answer(PAD, context) - emptied).abs().max() > 1e-4
    encoder.capacity = 0
    assert torch.equal(encoder.answer(PAD, encoder.write(text(8))), emptied)


def test_gradient_reaches_a_and_b_through_the_context(encoder):
    context = encoder.write(text(8))
    encoder.adapter.set_state(None)
    encoder.reader(context).square().sum().backward()
    for name, layer in encoder.adapter.layers.items():
        assert layer.A.grad.abs().max() > 0, name
    written = encoder.adapter.layers['encoder.layer.0.attention.self.value']
    assert written.B.grad.abs().max() > 0


def test_detached_context_carries_no_gradient(encoder):
    assert not encoder.write(text(8)).detach().states.requires_grad


def test_limited_rank_is_the_smaller_adapter(encoder):
    words = text(8)
    encoder.limit_rank(1)
    limited = encoder.answer(words, encoder.write(words))
    encoder.limit_rank(2)
    for layer in encoder.adapter.layers.values():
        with torch.no_grad():
            layer.A[1:] = 0
            layer.B[:, 1:] = 0
    torch.testing.assert_close(limited, encoder.answer(words, encoder.write(words)))


@pytest.mark.parametrize('rank', [0, 3])
def test_impossible_rank(encoder, rank):
    with pytest.raises(ValueError, match='1 to 2'):
        encoder.limit_rank(rank)


def test_impossible_window(encoder):
    with pytest.raises(ValueError, match='window'):
        ExtendedEncoder(encoder.model, encoder.adapter, encoder.reader, window=0)


@pytest.fixture
def language():
    """Return a tiny random Llama that counts the tokens it is given."""
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32)).eval()
    adapter = inject(model, r'(q_proj|v_proj)$', rank=2)
    random_b(adapter)
    model.counted = []
    model.register_forward_pre_hook(
        lambda m, args, kwargs: m.counted.append(kwargs['input_ids'].shape[1]),
        with_kwargs=True)
    reader = ContextReader(4, 2, width=16)

    def make(capacity=16, window=8):
        return StreamingLM(model, adapter, reader, window, capacity)
    return make


def ids(count, seed=0):
    return torch.randint(0, 60, (count,), generator=torch.Generator().manual_seed(seed))


def test_within_the_window_it_is_the_model_itself(language):
    lm = language()
    logits = [lm.feed(ids(8)[:5]), lm.feed(ids(8)[5:])]
    lm.adapter.set_state(None)
    with torch.no_grad():
        plain = lm.model(input_ids=ids(8)[None]).logits[0]
    torch.testing.assert_close(logits[0], plain[4])
    torch.testing.assert_close(logits[1], plain[7])


def test_the_past_beyond_the_window_is_felt_through_the_context_alone(language):
    def after(past, capacity):
        lm = language(capacity)
        lm.feed(ids(16, seed=past))
        logits = lm.feed(ids(16, seed=9))
        assert torch.equal(lm.local, ids(16, seed=9)[-8:])
        return logits
    assert (after(1, 64) - after(2, 64)).abs().max() > 1e-4
    torch.testing.assert_close(after(1, 0), after(2, 0))


def test_memory_and_cost_do_not_grow_with_the_text(language):
    lm = language(capacity=12, window=8)
    costs = []
    for i in range(40):
        lm.model.counted.clear()
        lm.feed(ids(8, seed=i))
        costs.append(sum(lm.model.counted))
        assert len(lm.local) <= 8
        assert len(lm.context) <= 12
        assert lm._cache.get_seq_length() == len(lm.local)
    assert lm.seen == 320
    assert max(costs) <= 2 * 8
    assert costs[-1] == costs[5]


def test_generation_crosses_the_window(language):
    lm = language()
    made = lm.generate(ids(3), 20)
    assert len(made) == 20
    assert lm.seen == 23
    assert len(lm.context) > 0


def test_generation_stops_at_the_end_token(language):
    made = language().generate(ids(3), 20)
    again = language().generate(ids(3), 20, end=int(made[4]))
    assert again[-1] == made[4]
    assert len(again) <= 5


def test_no_token_is_refused(language):
    with pytest.raises(ValueError, match='at least one token'):
        language().feed(torch.zeros(0, dtype=torch.long))


@pytest.mark.weights
def test_minilm_reads_beyond_its_window():
    from dylora_ros.modalities.encoders import load_encoder, QUERY_VALUE
    from dylora_ros.modalities.weights import WeightsError
    try:
        tokenizer, model = load_encoder()
    except WeightsError as error:
        pytest.skip(str(error))
    adapter = inject(model, QUERY_VALUE)
    random_b(adapter)
    encoder = ExtendedEncoder(model, adapter, ContextReader(12, 4), window=32, capacity=512)
    blind = {k: v[:1] for k, v in PAD.items()}
    answers = []
    for animal in ('cat', 'submarine'):
        words = tokenizer(f'It begins with a {animal}. ' + 'Then nothing happens. ' * 150,
                          return_tensors='pt')
        assert words['input_ids'].shape[1] > model.config.max_position_embeddings
        context = encoder.write(dict(words))
        assert len(context) == 512
        answers.append(encoder.answer(blind, context))
    # the animal itself has left the first-in-first-out context: it lives on in later q and x
    assert (answers[0] - answers[1]).abs().max() > 1e-5


@pytest.mark.weights
def test_smollm2_goes_on_under_the_bias():
    from dylora_ros.modalities.language import load_language_model
    from dylora_ros.modalities.weights import WeightsError
    try:
        tokenizer, model = load_language_model()
    except WeightsError as error:
        pytest.skip(str(error))
    adapter = inject(model, r'(q_proj|v_proj)$')
    for layer in adapter.layers.values():
        nn.init.normal_(layer.B, std=0.02)
    reader = ContextReader(len(adapter.layers), 4)
    prompt = tokenizer('The capital of France is', return_tensors='pt').input_ids[0]
    lm = StreamingLM(model, adapter, reader, window=16, capacity=16)
    made = lm.generate(prompt, 14)
    assert 'Paris' in tokenizer.decode(made)
    assert 0 < len(lm.context) <= 16
    without = StreamingLM(model, adapter, reader, window=16, capacity=0)
    without.feed(torch.cat([prompt, made]))
    assert torch.equal(lm.local, without.local)
    assert (lm.feed(prompt[:1]) - without.feed(prompt[:1])).abs().max() > 1e-3
