"""Attempts leave lines that cannot be wiped; files that are touched are told at once."""

import json
import os
import resource
import time

import pytest

from dylora_ros.core import audit as module
from dylora_ros.core.audit import Audit
from dylora_ros.core.watch import locked, Watch


def kinds(path):
    return [json.loads(line)['kind'] for line in path.read_text().splitlines()]


def test_each_attempt_is_a_line_and_is_counted(tmp_path):
    audit = Audit(tmp_path / 'seal' / 'a.log')
    for _ in range(3):
        audit.note('row', 'forged')
    audit.check()
    assert kinds(audit.path) == ['row'] * 3
    assert audit.counts == {'row': 3}
    audit.close()


@pytest.mark.parametrize('wipe', [
    lambda p: p.write_text(''),
    lambda p: p.unlink(),
    lambda p: p.rename(p.with_suffix('.moved')),
    lambda p: p.write_text(p.read_text().replace('forged', 'honest')),
    lambda p: (p.unlink(), p.symlink_to('/dev/null')),
    lambda p: (p.unlink(), p.mkdir()),
    lambda p: p.parent.rename(p.parent.with_name('moved')),
], ids=['cut', 'deleted', 'moved', 'edited', 'linked', 'a folder', 'folder moved'])
def test_a_wiped_audit_is_written_again_and_tells_it(tmp_path, wipe):
    audit = Audit(tmp_path / 'seal' / 'a.log')
    audit.note('row', 'forged')
    wipe(audit.path)
    audit.check()
    assert kinds(audit.path) == ['row', 'audit']
    assert 'forged' in audit.path.read_text()
    audit.close()


def test_lines_of_before_a_restart_are_kept(tmp_path):
    path = tmp_path / 'a.log'
    first = Audit(path)
    first.note('row', 'forged')
    first.close()
    second = Audit(path)
    path.unlink()
    second.check()
    assert kinds(path) == ['row', 'audit']
    second.close()


def test_a_flood_is_counted_to_the_last_but_does_not_fill_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'MOST', 10)
    audit = Audit(tmp_path / 'a.log')
    for _ in range(2010):
        audit.note('row', 'forged')
    assert audit.counts['row'] == 2010
    lines = audit.path.read_text().splitlines()
    assert len(lines) == 12
    assert json.loads(lines[-1])['n'] == 2000
    audit.close()


@pytest.fixture
def watched(tmp_path):
    """Return a watched file and the growing list of what happened to it."""
    path, told = tmp_path / 'statements.yaml', []
    path.write_text('good: [a]')
    watch = Watch(lambda p, what: told.append((p, what)))
    watch.add(path)
    yield path, told, watch
    watch.close()


def soon(done, seconds=10.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not done():
        time.sleep(0.002)
    return done()


@pytest.mark.parametrize(('touch', 'words'), [
    (lambda p: p.write_text('good: [b]'), 'opened for writing'),
    (lambda p: os.truncate(p, 3), 'changed in place'),
    (lambda p: p.unlink(), 'deleted'),
    (lambda p: p.chmod(0o600), 'attributes'),
    (lambda p: p.rename(p.with_name('away')), 'moved away'),
    (lambda p: (p.unlink(), p.symlink_to('/dev/null')), 'made'),
], ids=['written', 'truncated', 'deleted', 'chmod', 'moved', 'linked'])
def test_a_touched_file_is_told(watched, touch, words):
    path, told, _ = watched
    touch(path)
    assert soon(lambda: any(p == path and words in what for p, what in told)), told


@pytest.fixture
def many_files_open():
    """Let every file that is opened now have a descriptor beyond 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        pytest.skip(f'this process may open {hard} files only')
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    files = [os.open(os.devnull, os.O_RDONLY)]
    while files[-1] < 1023:
        files.append(os.open(os.devnull, os.O_RDONLY))
    yield
    for fd in files:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_with_many_files_is_told_as_well(many_files_open, watched):
    path, told, _ = watched
    path.write_text('good: [b]')
    assert soon(lambda: told)


def test_reading_and_neighbours_are_not_told(watched):
    path, told, _ = watched
    path.read_text()
    path.with_name('neighbour').write_text('x')
    path.chmod(0o644)                   # comes after the others
    assert soon(lambda: told)
    assert [what for _, what in told] == ['given other attributes']


def test_our_own_replacement_is_not_told_but_the_next_one_is(watched):
    path, told, watch = watched
    watch.expect(path)
    for _ in range(2):
        path.with_name('part').write_text('x')
        path.with_name('part').replace(path)
    assert soon(lambda: told)
    time.sleep(0.05)
    assert [what for _, what in told] == ['put in place']


def test_a_replacement_in_a_folder_that_was_made_anew_hides_no_other(watched):
    path, told, watch = watched
    path.parent.rename(path.parent.with_name('moved'))
    assert soon(lambda: told)
    watch.expect(path)                       # as a node that repairs does
    path.parent.mkdir()
    path.with_name('part').write_text('x')
    path.with_name('part').replace(path)
    watch.add(path)
    told.clear()
    path.with_name('part').write_text('y')
    path.with_name('part').replace(path)
    assert soon(lambda: told == [(path, 'put in place')]), told


def test_a_lock_is_seen_without_touching_it(tmp_path):
    import fcntl
    path = tmp_path / 'log'
    with open(path, 'w') as file:
        assert not locked(path)
        fcntl.flock(file, fcntl.LOCK_EX)
        assert locked(path)


def test_a_folder_that_cannot_be_made_costs_no_count(tmp_path):
    (tmp_path / 'seal').write_text('a file')
    audit = Audit(tmp_path / 'seal' / 'a.log')
    audit.note('row', 'forged')
    (tmp_path / 'seal').unlink()
    audit.check()
    assert kinds(audit.path) == ['row', 'audit']
    audit.close()
