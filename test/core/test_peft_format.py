"""Low-rank weights in PEFT's format, with PEFT as the reference."""

import copy
import json

import pytest
import torch
from torch import nn

from dylora_ros.core.lowrank import inject, SchemaError
from dylora_ros.core.peft_format import export_peft, import_peft, import_tensors

peft = pytest.importorskip('peft')


def small():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))


@pytest.fixture
def picture():
    return torch.randn(2, 3, 4, 4)


def adapted(rank=2, alpha=None):
    model = small()
    adapter = inject(model, '0|3', rank, alpha)
    for layer in adapter.layers.values():
        nn.init.normal_(layer.B, std=0.3)
    return model, adapter


def test_peft_reads_what_we_write(picture, tmp_path):
    model, adapter = adapted(alpha=6)
    export_peft(adapter, tmp_path)
    theirs = peft.PeftModel.from_pretrained(small(), tmp_path)
    assert (model(picture) - small()(picture)).abs().max() > 0.05
    torch.testing.assert_close(theirs(picture), model(picture), atol=1e-5, rtol=0)


def test_we_read_what_peft_writes(picture, tmp_path):
    theirs = peft.get_peft_model(small(), peft.LoraConfig(
        r=2, lora_alpha=4, target_modules=['0', '3'], init_lora_weights=False))
    theirs.save_pretrained(tmp_path)
    model = small()
    import_peft(inject(model, '0|3', 2, alpha=4), tmp_path)
    assert (model(picture) - small()(picture)).abs().max() > 0.05
    torch.testing.assert_close(model(picture), theirs(picture), atol=1e-5, rtol=0)


@pytest.mark.parametrize(('rank', 'alpha', 'message'), [
    (3, 3, 'rank 2 and scaling 1, this adapter rank 3'),
    (2, 4, 'scaling 1, this adapter rank 2 and scaling 2')])
def test_other_rank_or_scaling_names_both(tmp_path, rank, alpha, message):
    export_peft(adapted()[1], tmp_path)
    with pytest.raises(SchemaError, match=message):
        import_peft(inject(small(), '0|3', rank, alpha), tmp_path)


def test_other_sites_are_refused(tmp_path):
    export_peft(adapted()[1], tmp_path)
    with pytest.raises(SchemaError, match='0.A'):
        import_peft(inject(small(), '3', 2), tmp_path)


@pytest.mark.parametrize(('change', 'message'), [
    ({'peft_type': 'IA3'}, 'IA3'), ({'use_dora': True}, 'use_dora'), ({'bias': 'all'}, 'bias')])
def test_what_is_no_plain_lora_is_refused(tmp_path, change, message):
    _, adapter = adapted()
    export_peft(adapter, tmp_path)
    path = tmp_path / 'adapter_config.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    before = copy.deepcopy(adapter.state_dict())
    with pytest.raises(SchemaError, match=message):
        import_peft(adapter, tmp_path)
    assert all(torch.equal(v, before[k]) for k, v in adapter.state_dict().items())


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(SchemaError, match='adapter_config.json'):
        import_peft(adapted()[1], tmp_path)


def centred():
    model, adapter = adapted()
    for layer in adapter.layers.values():
        layer.centre.normal_()
    return model, adapter


def test_peft_reads_a_centred_adapter(picture, tmp_path):
    model, adapter = centred()
    export_peft(adapter, tmp_path)
    theirs = peft.PeftModel.from_pretrained(small(), tmp_path)
    torch.testing.assert_close(theirs(picture), model(picture), atol=1e-5, rtol=0)


def test_the_centre_comes_back(tmp_path):
    _, adapter = centred()
    export_peft(adapter, tmp_path)
    _, other = adapted()
    import_peft(other, tmp_path)
    for name, layer in adapter.layers.items():
        torch.testing.assert_close(other.layers[name].centre, layer.centre, atol=1e-4, rtol=0)


def test_a_bias_that_is_no_centre_is_refused():
    _, adapter = adapted()
    tensors = {f'{site}.lora_{key}.weight': getattr(layer, key).detach()
               for site, layer in adapter.layers.items() for key in 'AB'}
    tensors['3.lora_B.bias'] = torch.ones(5)
    with pytest.raises(SchemaError, match='site 3'):
        import_tensors(adapter, tensors)
