"""The DyLoRA layer and its injection into frozen models."""

import copy

import pytest
import torch
from torch import nn

from dylora_ros.core.lowrank import inject, SchemaError


class Small(nn.Module):
    """A Linear on tokens and two convolutions on pictures."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(12, 16)
        self.second = nn.Linear(16, 8)
        self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.point = nn.Conv2d(6, 5, 1)

    def forward(self, tokens, picture):
        return self.second(torch.tanh(self.first(tokens))), self.point(self.conv(picture).relu())


@pytest.fixture
def inputs():
    return torch.randn(3, 7, 12), torch.randn(3, 3, 8, 8)


def random_b(adapter):
    for layer in adapter.layers.values():
        nn.init.normal_(layer.B, std=0.3)


def peft_twin(model, adapter):
    """PEFT's LoRA on a copy of the frozen model, with the same A and B."""
    import peft
    twin = peft.get_peft_model(model, peft.LoraConfig(
        r=adapter.rank, lora_alpha=2 * adapter.rank, target_modules=list(adapter.layers)))
    pairs = []
    for name, layer in adapter.layers.items():
        theirs = twin.base_model.model.get_submodule(name)
        a, b = theirs.lora_A['default'].weight, theirs.lora_B['default'].weight
        with torch.no_grad():
            a.copy_(layer.A)
            b.copy_(layer.B)
        pairs += [(layer.A, a), (layer.B, b)]
    return twin, pairs


@pytest.mark.parametrize('pattern', ['first|second', 'conv|point'])
def test_is_pefts_lora(inputs, pattern):
    model = Small()
    frozen = copy.deepcopy(model)
    adapter = inject(model, pattern, rank=4, alpha=8)
    random_b(adapter)
    twin, pairs = peft_twin(copy.deepcopy(frozen), adapter)
    ours, theirs, plain = model(*inputs), twin(*inputs), frozen(*inputs)
    which = 0 if 'first' in pattern else 1
    assert (ours[which] - plain[which]).abs().max() > 0.05
    torch.testing.assert_close(ours[which], theirs[which], atol=1e-5, rtol=0)
    for outputs in (ours, theirs):
        outputs[which].square().mean().backward()
    for mine, other in pairs:
        assert other.grad.abs().max() > 1e-3
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-5, rtol=0)


def test_b_zero_is_the_frozen_model_bit_for_bit(inputs):
    model = Small()
    before = model(*inputs)
    adapter = inject(model, '', rank=4)
    adapter.set_state(torch.randn(3, 4, 4), torch.randn(3, 4, 4))
    for ours, frozen in zip(model(*inputs), before, strict=True):
        assert torch.equal(ours, frozen)


def test_frozen_weights_stay_bit_identical_in_training(inputs):
    model = Small()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    adapter = inject(model, '', rank=2)
    start = adapter.state_dict()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, 1.0)
    for _ in range(3):
        optimizer.zero_grad()
        sum(out.square().mean() for out in model(*inputs)).backward()
        optimizer.step()
    adapter.remove()
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
    assert all(not torch.equal(adapter.state_dict()[f'{s}.B'], start[f'{s}.B'])
               for s in adapter.layers)


@pytest.mark.parametrize('gamma', [None, 0.0, 'each'])
def test_a_batch_of_states_equals_single_runs(inputs, gamma):
    model = Small()
    adapter = inject(model, '', rank=3)
    random_b(adapter)
    q = torch.randn(3, 4, 3)
    gamma = torch.rand(3, 4, 3) if gamma == 'each' else gamma
    adapter.set_state(q, gamma)
    together = model(*inputs)
    for i in range(3):
        adapter.set_state(q[i:i + 1], gamma[i:i + 1] if torch.is_tensor(gamma) else gamma)
        alone = model(*(part[i:i + 1] for part in inputs))
        for all_, one in zip(together, alone, strict=True):
            torch.testing.assert_close(all_[i:i + 1], one, atol=1e-6, rtol=1e-5)


def test_gamma_zero_is_equation_two_read_literally(inputs):
    model = Small()
    adapter = inject(model, 'first', rank=2)
    random_b(adapter)
    layer = adapter.layers['first']
    q = torch.randn(3, 1, 2)
    adapter.set_state(q, gamma=0.0)
    expected = layer.base(inputs[0]) + (q[:, 0] @ layer.B.T)[:, None]
    torch.testing.assert_close(model.first(inputs[0]), expected)


def test_x_is_what_the_site_encoded(inputs):
    model = Small()
    adapter = inject(model, 'first|second', rank=2)
    layer = adapter.layers['first']
    layer.centre.fill_(0.5)
    model(*inputs)
    expected = inputs[0] @ layer.A.T - 0.5
    torch.testing.assert_close(adapter.read_tokens()[:, :, 0], expected)
    torch.testing.assert_close(adapter.read_x()[:, 0], expected.mean(1))


def test_conv_x_is_the_mean_over_places(inputs):
    model = Small()
    adapter = inject(model, 'conv', rank=2)
    model(*inputs)
    layer = adapter.layers['conv']
    expected = nn.functional.conv2d(inputs[1], layer.A, stride=2, padding=1)
    torch.testing.assert_close(adapter.read_x()[:, 0], expected.mean((2, 3)))
    torch.testing.assert_close(adapter.read_tokens()[:, :, 0].mean(1), expected.mean((2, 3)))


def test_encode_stops_behind_the_last_site(inputs):
    model = Small()
    adapter = inject(model, 'first|second', rank=2)
    model(*inputs)
    whole = adapter.read_tokens()
    model.conv.forward = lambda x: pytest.fail('ran beyond the last site')
    torch.testing.assert_close(adapter.encode(*inputs), whole)


def test_encode_says_which_site_was_not_reached(inputs):
    model = Small()
    adapter = inject(model, '', rank=2)
    model.forward = lambda tokens, picture: model.first(tokens)
    with pytest.raises(RuntimeError, match='second'):
        adapter.encode(*inputs)


def test_gradient_reaches_the_state(inputs):
    model = Small()
    adapter = inject(model, 'first', rank=2)
    random_b(adapter)
    q = torch.zeros(3, 1, 2, requires_grad=True)
    adapter.set_state(q)
    model(*inputs)[0].square().sum().backward()
    assert (q.grad.abs().sum((1, 2)) > 0).all()


def test_saves_and_loads(inputs, tmp_path):
    model, other = Small(), Small()
    other.load_state_dict(model.state_dict())
    adapter = inject(model, 'first|conv', rank=2, name='m')
    random_b(adapter)
    adapter.save(tmp_path / 'a.safetensors')
    inject(other, 'first|conv', rank=2, name='m').load(tmp_path / 'a.safetensors')
    for ours, loaded in zip(model(*inputs), other(*inputs), strict=True):
        assert torch.equal(ours, loaded)


@pytest.mark.parametrize(('change', 'named'), [
    ({'rank': 3}, 'rank=3'), ({'name': 'other'}, 'other'), ({'pattern': 'second'}, 'second')])
def test_a_foreign_file_is_an_error_naming_both(tmp_path, change, named):
    asked = {'pattern': 'first', 'rank': 2, 'name': 'm'}
    inject(Small(), **asked).save(tmp_path / 'a.safetensors')
    adapter = inject(Small(), **{**asked, **change})
    before = adapter.state_dict()
    with pytest.raises(SchemaError) as error:
        adapter.load(tmp_path / 'a.safetensors')
    assert named in str(error.value)
    assert "('first',)" in str(error.value)
    assert "model='m'" in str(error.value)
    assert all(torch.equal(v, before[k]) for k, v in adapter.state_dict().items())


def test_no_site_found_names_what_there_is():
    with pytest.raises(ValueError, match='first'):
        inject(Small(), 'nothing_like_it')


def test_a_state_of_wrong_shape_is_refused():
    adapter = inject(Small(), 'first|second', rank=2)
    with pytest.raises(ValueError, match='expected .batch, 2 sites, rank 2'):
        adapter.set_state(torch.zeros(1, 3, 2))


def test_grouped_convolution_is_refused():
    with pytest.raises(ValueError, match='groups=2'):
        inject(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), '0', rank=2)


def test_remove_restores_the_model(inputs):
    model = Small()
    before = model(*inputs)
    adapter = inject(model, '', rank=2)
    random_b(adapter)
    adapter.remove()
    assert type(model.first) is nn.Linear
    for again, first in zip(model(*inputs), before, strict=True):
        assert torch.equal(again, first)


def test_x_pooled_by_place_tells_where_a_response_is(inputs):
    model = Small()
    adapter = inject(model, 'first', rank=2)
    layer = adapter.layers['first']
    layer.centre.fill_(0.5)
    weights = torch.linspace(-1, 1, 7)
    layer.pool_by(weights)
    model(*inputs)
    expected = torch.einsum('n,bnd->bd', weights, inputs[0]) @ layer.A.T - 0.5
    torch.testing.assert_close(adapter.read_x()[:, 0], expected)
    moved = torch.zeros(2, 7, 12)
    moved[0, 1], moved[1, 5] = 1.0, 1.0                   # the same thing, left and right
    model(moved, inputs[1][:2])
    left, right = adapter.read_x()[:, 0] + 0.5
    torch.testing.assert_close(left, -right)


def test_pooled_inputs_while_calibrating_are_those_of_x(inputs):
    model = Small()
    adapter = inject(model, 'first', rank=2)
    layer = adapter.layers['first']
    layer.centre.fill_(0.5)
    layer.pool_by(torch.linspace(-1, 1, 7))
    layer.calibrating = True
    model(*inputs)
    torch.testing.assert_close(adapter.read_x()[:, 0], layer.inputs @ layer.A.T - 0.5)
