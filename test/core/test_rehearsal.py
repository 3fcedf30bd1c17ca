"""Rows for rehearsal: saved and loaded whole, and of the same agent only."""

import numpy as np
import pytest

from dylora_ros.core import rehearsal
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.rows import RowSchema


@pytest.fixture
def rows(small_schema):
    rows = np.zeros(10, small_schema.dtype)
    rows['stamp'] = np.arange(10)
    rows['x'] = 0.5
    return rows


def test_rows_come_back_as_they_were(tmp_path, small_schema, rows):
    rehearsal.save(tmp_path / 'c.safetensors', rows, small_schema)
    assert rehearsal.load(tmp_path / 'c.safetensors', small_schema).tobytes() == rows.tobytes()


def test_the_newest_rows_are_kept(tmp_path, small_schema, rows, monkeypatch):
    monkeypatch.setattr(rehearsal, 'MOST', 4)
    rehearsal.save(tmp_path / 'c.safetensors', rows, small_schema)
    loaded = rehearsal.load(tmp_path / 'c.safetensors', small_schema)
    assert loaded['stamp'].tolist() == [6, 7, 8, 9]


def test_rows_of_another_agent_are_refused(tmp_path, small_schema, rows):
    rehearsal.save(tmp_path / 'c.safetensors', rows, small_schema)
    other = RowSchema(small_schema.modalities, actions=small_schema.actions + 1,
                      aux=small_schema.aux)
    with pytest.raises(SchemaError, match='pretrain'):
        rehearsal.load(tmp_path / 'c.safetensors', other)


def test_weights_without_rows_of_this_agent_give_nothing_to_rehearse(tmp_path, small_schema):
    assert rehearsal.experience(tmp_path, small_schema) is None


def test_rows_of_this_agent_are_rehearsed(tmp_path, small_schema):
    rows = np.zeros(200, small_schema.dtype)
    rows['stamp'] = 40_000_000 * np.arange(200)
    rehearsal.save(tmp_path / rehearsal.FILE, rows, small_schema)
    assert len(rehearsal.experience(tmp_path, small_schema).features) == 200
