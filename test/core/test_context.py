"""The ring log: append, read, overwrite, reopen."""

import os

import numpy as np
import pytest

from dylora_ros.core.context import (
    AHEAD,
    ContextError,
    FLAG_FORGOTTEN,
    GlobalContext,
    RowSchema,
    SLACK,
)


def fill(log, start, stop):
    """Append rows whose content is a function of their number."""
    for n in range(start, stop):
        x = np.full(log.schema.width, n % 100, np.float32)
        log.append(stamp=n * 40_000_000, x=x, reward=float(n))


def test_appended_row_reads_back(log):
    x = np.arange(log.schema.width, dtype=np.float32)
    assert log.append(x=x, stamp=7, action=np.array([0.5, -0.5])) == 0
    row = log.take([0])[0]
    assert row['stamp'] == 7
    np.testing.assert_array_equal(row['x'], x)
    np.testing.assert_array_equal(row['action'], [0.5, -0.5])


def test_range_is_clipped_to_what_is_there(log):
    fill(log, 0, 10)
    assert log.rows(-5, 99)['reward'].tolist() == list(range(10))
    assert len(log.rows(20, 30)) == 0


def test_oldest_rows_leave_the_ring(log):
    fill(log, 0, 250)
    assert (log.first, log.committed) == (150, 250)
    assert log.rows(0, 999)['reward'].tolist() == list(range(150, 250))


def test_range_across_the_seam_of_the_ring(log):
    slots = log.capacity + SLACK
    fill(log, 0, slots + 50)
    assert log.rows(slots - 5, slots + 5)['reward'].tolist() == list(range(slots - 5, slots + 5))


def test_scattered_rows_and_a_row_that_left(log):
    fill(log, 0, 250)
    assert log.take([249, 150, 200])['reward'].tolist() == [249, 150, 200]
    with pytest.raises(IndexError, match=r'150 \.\. 249 are there'):
        log.take([0])
    with pytest.raises(IndexError, match='asked'):
        log.take([250])


def test_window_and_fill(tmp_path, small_schema):
    with GlobalContext.open(tmp_path / 'w.gc', small_schema, 100, window=20) as log:
        fill(log, 0, 10)
        assert (log.window_first, log.fill) == (0, 0.5)
        fill(log, 10, 50)
        assert (log.window_first, log.fill, log.first) == (30, 1.0, 0)


def test_reopened_log_goes_on(tmp_path, small_schema):
    path = tmp_path / 'a.gc'
    with GlobalContext.open(path, small_schema, 100) as log:
        fill(log, 0, 30)
    with GlobalContext.open(path, small_schema, 100) as log:
        fill(log, 30, 40)
        assert log.rows(0, 99)['reward'].tolist() == list(range(40))
        assert log.verify() == []


@pytest.mark.parametrize('values', [
    {'x': np.zeros(3)}, {'nonsense': 1}, {'crc': 1}, {'reward': np.nan},
    {'q': np.full(10, np.inf)}])
def test_bad_values_are_refused_and_nothing_is_written(log, values):
    with pytest.raises(ValueError, match=r'shape|no field|NaN'):
        log.append(**values)
    assert log.committed == 0


def test_row_of_another_layout_is_refused(log):
    other = RowSchema({'body': (1, 1)}, 1)
    with pytest.raises(ValueError, match='layout'):
        log.append_row(np.zeros((), other.dtype))


def test_agents_row_is_small_enough():
    schema = RowSchema({'vision': (8, 4), 'audio': (8, 4), 'text': (4, 4), 'body': (4, 4)}, 2)
    assert schema.dtype.itemsize <= 640


def test_reader_follows_the_writer(log):
    with GlobalContext.read(log.path) as reader:
        assert reader.committed == 0
        fill(log, 0, 130)
        assert reader.committed == 130
        assert reader.take([129])['reward'][0] == 129


def test_reader_cannot_write(log):
    with GlobalContext.read(log.path) as reader, pytest.raises(TypeError):
        fill(reader, 0, 1)


def test_second_writer_is_refused(log):
    with pytest.raises(ContextError, match='another process'):
        GlobalContext.open(log.path, log.schema, 100)


def test_log_of_another_schema_is_kept_aside_every_time(tmp_path, small_schema):
    path = tmp_path / 'a.gc'
    other = RowSchema(small_schema.modalities, 2, aux=4, adapters='others')
    for schema in (small_schema, other, small_schema, other):
        with GlobalContext.open(path, schema, 50) as log:
            fill(log, 0, 3)
    assert len(list(tmp_path.glob('a-*.gc'))) == 3
    for kept in tmp_path.glob('a*.gc'):
        with GlobalContext.read(kept) as log:
            assert log.committed == 3


def test_forgotten_rows_are_gone_from_the_file(log):
    fill(log, 0, 50)
    log.append(stamp=50 * 40_000_000, x=np.full(log.schema.width, 321.0))
    secret = np.full(log.schema.width, 321.0, '<f2').tobytes()
    assert secret in log.path.read_bytes()
    assert log.forget(20 * 40_000_000, 51 * 40_000_000) == 31
    assert secret not in log.path.read_bytes()
    rows = log.rows(0, 51)
    assert (rows['flags'][20:] == FLAG_FORGOTTEN).all()
    assert (rows['flags'][:20] == 0).all()
    assert not rows['x'][20:].any()
    assert rows['stamp'].tolist() == [n * 40_000_000 for n in range(51)]
    assert log.verify() == []


def test_forgetting_reaches_rows_that_left_the_log(log):
    fill(log, 0, 120)                       # rows 0..19 left the log, the file still holds them
    assert log.forget(0, 5 * 40_000_000) == 5


def test_fields_that_overflow_half_precision_are_clipped(log):
    log.append(x=np.full(log.schema.width, 1e6))
    assert np.isfinite(log.take([0])['x']).all()


def test_pages_are_fetched_before_the_writer_comes(tmp_path, small_schema, monkeypatch):
    """A slot was last touched a ring ago; waiting for the disk then would be a late cycle."""
    capacity, size = 3 * AHEAD, small_schema.dtype.itemsize
    asked = []
    monkeypatch.setattr(os, 'posix_fadvise', lambda file, start, length, advice: asked.extend(
        range((start - 4096) // size, (start - 4096 + length) // size)))
    with GlobalContext.open(tmp_path / 'a.gc', small_schema, capacity) as log:
        slots = capacity + SLACK
        for n in range(2 * slots):
            ahead = [(n + i) % slots for i in range(AHEAD)]
            assert set(ahead) <= set(asked[-4 * AHEAD:])
            log.append(stamp=n)
        assert len(asked) < 2 * slots + 4 * AHEAD        # every page once a round
        assert max(asked) < slots


def test_layout_of_a_row_is_made_once(small_schema):
    assert small_schema.dtype is small_schema.dtype
