"""Senses by name, and the name of the weights behind the states."""

import shutil

import pytest

from dylora_ros.core.lowrank import SchemaError
from dylora_ros.modalities import registry


@pytest.fixture
def weights(tmp_path):
    """Return a copy of the shipped weights."""
    return shutil.copytree(registry.SHIPPED, tmp_path / 'weights')


def test_unknown_sense_names_the_known_ones():
    with pytest.raises(ValueError, match='smell.*vision, audio, text, body'):
        registry.make('smell')


@pytest.mark.parametrize('name', registry.ORDER)
def test_weights_of_every_sense_ship(name):
    assert (registry.SHIPPED / f'{name}.safetensors').stat().st_size > 1000


def test_digest_is_of_the_content_not_of_the_folder(weights):
    assert registry.digest(weights) == registry.digest()


@pytest.mark.parametrize('name', registry.ORDER)
def test_digest_changes_with_the_weights_of_any_sense(weights, name):
    path = weights / f'{name}.safetensors'
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert registry.digest(weights) != registry.digest()


def test_digest_changes_when_weights_are_missing(weights):
    (weights / 'text.safetensors').unlink()
    assert registry.digest(weights) != registry.digest()


def test_digest_ignores_other_files(weights):
    (weights / 'q.safetensors').write_bytes(b'newer')
    assert registry.digest(weights) == registry.digest()


def test_rows_of_other_weights_have_another_schema(weights):
    (weights / 'text.safetensors').write_bytes(b'other')
    ours, theirs = registry.row_schema(2), registry.row_schema(2, weights)
    assert ours.modalities == theirs.modalities
    assert ours.digest() != theirs.digest()


def test_row_has_the_shapes_of_the_specs():
    schema = registry.row_schema(3, rank=2)
    assert schema.actions == 3
    assert schema.modalities['body'] == (4, 2)
    assert tuple(schema.modalities) == registry.ORDER


def test_shipped_weights_of_another_body_are_refused():
    with pytest.raises(SchemaError, match='body.safetensors'):
        registry.make('body', joints=5)


def test_a_newborn_body_of_any_size_needs_no_weights():
    assert registry.make('body', joints=5, weights=None).joints == 5
