"""Files are there whole or not at all."""

import os

import pytest

from dylora_ros.core.files import whole


def test_what_is_written_takes_the_place_of_what_was_there(tmp_path):
    (tmp_path / 'a.json').write_text('old')
    with whole(tmp_path / 'a.json') as part:
        part.write_text('new')
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [('a.json', 'new')]


def test_until_the_end_a_reader_finds_what_was_there(tmp_path):
    (tmp_path / 'a.json').write_text('old')
    with whole(tmp_path / 'a.json') as part:
        part.write_text('new')
        assert (tmp_path / 'a.json').read_text() == 'old'


def test_a_writer_that_fails_changes_nothing(tmp_path):
    (tmp_path / 'a.json').write_text('old')

    def fail():
        with whole(tmp_path / 'a.json') as part:
            part.write_text('ne')
            raise OSError('full')

    with pytest.raises(OSError, match='full'):
        fail()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [('a.json', 'old')]


def test_what_a_kill_left_is_written_over(tmp_path):
    (tmp_path / 'a.json.part').write_text('half')
    with whole(str(tmp_path / 'a.json')) as part:
        part.write_text('new')
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [('a.json', 'new')]


def test_files_that_differ_by_their_suffix_are_written_apart(tmp_path):
    with whole(tmp_path / 'a.json') as one, whole(tmp_path / 'a.log') as other:
        one.write_text('one')
        other.write_text('other')
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {'a.json': 'one',
                                                                   'a.log': 'other'}


def test_it_is_on_the_disk_before_it_takes_the_place(tmp_path, monkeypatch):
    path, synced = tmp_path / 'a.json', []
    path.write_text('old')
    monkeypatch.setattr(os, 'fsync', lambda number: synced.append(
        (os.readlink(f'/proc/self/fd/{number}'), path.read_text())))
    with whole(path) as part:
        part.write_text('new')
    assert synced == [(str(tmp_path / 'a.json.part'), 'old')]
