"""What q read is kept on disk, and read anew where it no longer holds."""

import numpy as np
import pytest
import torch

from dylora_ros.core import reading
from dylora_ros.core.experience import Experience
from dylora_ros.core.qnetwork import QNetwork, WIDTH
from dylora_ros.core.reading import Reading
from dylora_ros.core.will import read_all

ROWS = 600


@pytest.fixture
def rows(small_schema):
    rng = np.random.default_rng(0)
    rows = np.zeros(ROWS, small_schema.dtype)
    rows['stamp'] = (np.arange(ROWS) + 1) * 40_000_000
    rows['mask'] = 3
    rows['x'] = rng.standard_normal(rows['x'].shape)
    return rows


@pytest.fixture
def network(small_schema):
    torch.manual_seed(0)
    return QNetwork(small_schema).eval()


@pytest.fixture
def counted(monkeypatch):
    """Return the (first, last) row of every real reading."""
    asked = []

    def watched(network, data, context=True, going=lambda: True, first=0, last=None):
        asked.append((first, last))
        return read_all(network, data, context, going, first, last)

    monkeypatch.setattr(reading, 'read_all', watched)
    return asked


def test_only_new_rows_are_read_by_the_same_q(tmp_path, rows, network, small_schema, counted):
    kept = Reading(tmp_path / 'r.safetensors')
    part = kept.read(network, Experience(rows[:400], small_schema))
    whole = kept.read(network, Experience(rows, small_schema))
    assert counted == [(0, None), (400, None)]
    assert np.array_equal(whole[:400], part)
    assert np.allclose(whole, read_all(network, Experience(rows, small_schema)), atol=1e-4)
    kept.read(network, Experience(rows, small_schema))
    assert len(counted) == 2, 'nothing is new'


def test_rows_that_are_no_longer_wanted_are_left_out(
        tmp_path, rows, network, small_schema, counted):
    kept = Reading(tmp_path / 'r.safetensors')
    whole = kept.read(network, Experience(rows[:500], small_schema))
    later = kept.read(network, Experience(rows[100:], small_schema), first=100)
    assert counted == [(0, None), (400, None)]
    assert np.array_equal(later[:400], whole[100:])
    assert later.shape == (500, WIDTH)


@pytest.mark.parametrize('what', ['weights', 'context', 'log', 'damage'])
def test_what_no_longer_holds_is_read_anew(
        tmp_path, rows, network, small_schema, counted, what):
    kept = Reading(tmp_path / 'r.safetensors')
    kept.read(network, Experience(rows, small_schema))
    if what == 'weights':
        with torch.no_grad():
            network.embed.bias += 0.1
    elif what == 'log':                      # another one, begun anew
        rows['stamp'] += 1
    elif what == 'damage':
        (tmp_path / 'r.safetensors').write_bytes(b'rubbish')
    found = kept.read(network, Experience(rows, small_schema), context=what != 'context')
    assert counted == [(0, None), (0, None)]
    assert np.array_equal(
        found, read_all(network, Experience(rows, small_schema), what != 'context'))


def test_what_there_was_no_time_for_is_read_another_night(
        tmp_path, rows, network, small_schema):
    kept = Reading(tmp_path / 'r.safetensors')
    newest = kept.read(network, Experience(rows, small_schema), going=lambda: False)
    assert 0 < len(newest) < ROWS
    assert np.array_equal(kept.read(network, Experience(rows, small_schema)),
                          read_all(network, Experience(rows, small_schema)))


def test_without_time_for_all_that_is_new_the_newest_are_read(
        tmp_path, rows, network, small_schema):
    kept = Reading(tmp_path / 'r.safetensors')
    rows = np.concatenate([rows, rows])
    rows['stamp'] = (np.arange(len(rows)) + 1) * 40_000_000
    kept.read(network, Experience(rows[:150], small_schema))
    found = kept.read(network, Experience(rows, small_schema), going=lambda: False)
    whole = read_all(network, Experience(rows, small_schema))
    assert len(found) < 1050
    assert np.allclose(found, whole[-len(found):], atol=1e-4)
