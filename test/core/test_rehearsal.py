"""Rows for rehearsal: saved and loaded whole, and of the same agent only."""

import numpy as np
import pytest

from dylora_ros.core import rehearsal
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.rehearsal import as_late_as
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


def lives(schema):
    """Return rows of a childhood, and of a life in which sight comes two cycles later."""
    rng = np.random.default_rng(0)
    rows = np.zeros(60, schema.dtype)
    rows['stamp'] = (np.arange(60) + 1) * 40_000_000
    rows['mask'] = 3
    rows['x'] = rng.standard_normal(rows['x'].shape)
    rows['age'][:, 0] = np.arange(60) % 4 * 0.04
    own = rows.copy()
    own['age'][:, 0] += np.float16(0.08)
    return rows, own


def test_a_childhood_comes_as_late_as_the_senses_of_this_body(small_schema):
    rows, own = lives(small_schema)
    rows['mask'][10] = 2                                   # nothing was seen then
    late = as_late_as(own, rows, small_schema)
    seen, body = small_schema.slices['vision'], small_schema.slices['body']
    assert np.array_equal(late['x'][2:, seen], rows['x'][:-2, seen])
    assert np.array_equal(late['x'][:, body], rows['x'][:, body])
    assert late['age'][12, 0] == pytest.approx(float(rows['age'][10, 0]) + 0.08, abs=1e-3)
    assert [late['mask'][i] for i in (10, 12)] == [3, 2]
    assert rows['mask'][10] == 2, 'what ships stays what it was'


def test_where_the_senses_are_as_fast_or_faster_it_stays_what_it_was(small_schema):
    rows, own = lives(small_schema)
    assert as_late_as(rows, rows, small_schema) is rows
    assert as_late_as(rows, own, small_schema) is own


def test_a_childhood_without_a_sense_is_that_of_one_who_never_had_it(small_schema, rows):
    name = next(iter(small_schema.modalities))
    rows['mask'], rows['age'], rows['surprise'] = 3, 0.1, 2.0
    lacking = rehearsal.without(rows, small_schema, name)
    assert (lacking['mask'] == 2).all()
    assert not lacking['x'][:, small_schema.slices[name]].any()
    assert not lacking['age'][:, 0].any()
    assert not lacking['surprise'][:, 0].any()
    assert (lacking['age'][:, 1:] == rows['age'][:, 1:]).all()
    assert (rows['mask'] == 3).all(), 'the rows given stay what they were'
