"""The ring log when things go wrong: kills, damage, a full disk, racing readers."""

import errno
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from dylora_ros.core import context
from dylora_ros.core.context import ContextError, GlobalContext, RowSchema, SLACK

KILLS = 200
WRITER = """
import os
import sys
import time
import numpy as np
from dylora_ros.core.context import GlobalContext, RowSchema
schema, told = RowSchema({'body': (20, 5)}, 2), int(sys.argv[2])
for line in sys.stdin:
    if not (child := os.fork()):
        with GlobalContext.open(sys.argv[1], schema, 300) as log:
            n = log.committed
            # the life before may have ended between its commit and its word of it
            os.pwrite(told, n.to_bytes(8, 'little'), 0)
            while True:
                x = np.full(100, n % 1000, np.float32)
                log.append(stamp=n, x=x, q=x)
                n += 1
                os.pwrite(told, n.to_bytes(8, 'little'), 0)      # told only after the commit
    time.sleep(float(line))
    os.kill(child, 9)
    os.waitpid(child, 0)
    print('dead', flush=True)
"""


def damaged(path, at, value=0x55):
    """Flip bits of one byte of a file."""
    with open(path, 'r+b') as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ value]))


def start_writer(root, path, told):
    """Start the process that keeps starting (and killing) writers."""
    return subprocess.Popen([sys.executable, '-c', WRITER, str(path), str(told)], cwd=root,
                            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            pass_fds=(told,))


@pytest.fixture
def written(tmp_path, small_schema):
    """Return the path of a closed log of 100 rows with 50 in it."""
    path = tmp_path / 'a.gc'
    with GlobalContext.open(path, small_schema, 100) as log:
        for n in range(50):
            log.append(stamp=n, reward=float(n))
    return path


def row_at(path, n, offset):
    """Return the place of a byte of row n in the file."""
    with GlobalContext.read(path) as log:
        return context.HEADER + n % (log.capacity + SLACK) * log.schema.dtype.itemsize + offset


def test_kill_at_random_points_loses_nothing_committed(tmp_path, root):
    """A writer is killed 200 times; what it said it had committed is there, whole."""
    path = tmp_path / 'killed.gc'
    told = os.open(tmp_path / 'told', os.O_RDWR | os.O_CREAT)
    schema = RowSchema({'body': (20, 5)}, 2)
    rng = np.random.default_rng(0)
    counts = []
    with start_writer(root, path, told) as process:
        for _ in range(KILLS):
            process.stdin.write(f'{rng.uniform(0.0, 0.03)}\n')
            process.stdin.flush()
            assert process.stdout.readline() == 'dead\n'
            if not path.exists():                 # killed before the log was made
                continue
            with GlobalContext.open(path, schema, 300) as log:
                said = int.from_bytes(os.pread(told, 8, 0), 'little')
                assert said <= log.committed <= said + 1
                rows = log.rows(log.first, log.committed)
                assert rows['stamp'].tolist() == list(range(log.first, log.committed))
                assert (rows['x'] == (rows['stamp'] % 1000)[:, None]).all()
                assert log.verify() == []
                counts.append(log.committed)
        process.kill()
    assert counts[-1] > 300                       # the ring went round
    assert len(set(counts)) > KILLS // 4          # it really wrote between the kills


def test_reader_never_sees_a_torn_row(tmp_path, root):
    """A reader races a writing process at the edge that is being overwritten."""
    path, told = tmp_path / 'raced.gc', os.open(tmp_path / 'told', os.O_RDWR | os.O_CREAT)
    seen = late = 0
    with start_writer(root, path, told) as process:
        process.stdin.write('1.5\n')
        process.stdin.flush()
        until = time.monotonic() + 1.2
        while not path.exists():
            time.sleep(0.01)
        with GlobalContext.read(path) as reader:
            while time.monotonic() < until:
                rows = reader.rows(0, 1 << 40)
                assert (rows['x'] == (rows['stamp'] % 1000)[:, None]).all()
                assert (np.diff(rows['stamp']) == 1).all()
                numbers = np.arange(reader.first, reader.committed)[:5]
                try:
                    some = reader.take(numbers)
                except IndexError:            # it was too slow, and was told so
                    late += 1
                    continue
                assert some['stamp'].tolist() == numbers.tolist()
                seen += len(rows)
        assert process.stdout.readline() == 'dead\n'
        process.kill()
    assert seen > 10_000
    assert late < 100


def test_stale_row_in_the_place_of_a_new_one_is_noticed(written):
    """After a power cut a slot may still hold the row of the round before."""
    with GlobalContext.open(written, RowSchema({'vision': (2, 3), 'body': (2, 2)}, 2, aux=4),
                            100) as log:
        row = log.take([10])
        assert log.intact(row, [10]).all()
        assert not log.intact(row, [10 + log.capacity + SLACK]).any()


def test_flipped_bit_in_a_row_is_found(written):
    damaged(written, row_at(written, 17, 40))
    with GlobalContext.read(written) as log:
        assert log.verify() == [17]
        numbers = np.arange(50)
        assert np.flatnonzero(~log.intact(log.rows(0, 50), numbers)).tolist() == [17]


def test_rows_that_a_power_cut_left_unwritten_at_the_end_are_given_up(written, small_schema):
    for n in (47, 48, 49):
        damaged(written, row_at(written, n, 30))
    with GlobalContext.open(written, small_schema, 100) as log:
        assert log.committed == 47
        assert log.verify() == []


def test_damaged_counter_is_rebuilt_from_its_copy(written, small_schema):
    damaged(written, 130)
    with GlobalContext.read(written) as log:
        assert log.committed == 50
    damaged(written, 130)                          # undo; now the copy is damaged too, later
    damaged(written, 128)
    with GlobalContext.open(written, small_schema, 100) as log:
        assert log.committed == 50
    damaged(written, 194)                          # the first word alone says it again
    with GlobalContext.read(written) as log:
        assert log.committed == 50


def test_counter_without_a_good_copy_is_refused(written):
    damaged(written, 130)
    damaged(written, 194)
    with GlobalContext.read(written) as log, pytest.raises(ContextError, match='restore a copy'):
        _ = log.committed


@pytest.mark.parametrize('at', [0, 9, 13, 17, 21, 25, 33, 260, 330])
def test_damaged_header_is_refused_with_advice(written, small_schema, at):
    damaged(written, at)
    with pytest.raises(ContextError, match='move it away'):
        GlobalContext.read(written)
    assert written.exists()


def test_damaged_header_is_never_silently_replaced(written, small_schema):
    damaged(written, 330)
    with pytest.raises(ContextError, match='damaged header'):
        GlobalContext.open(written, small_schema, 100)


@pytest.mark.parametrize('keep', [0, 100, 4096, 5000])
def test_truncated_file_is_refused(written, keep):
    os.truncate(written, keep)
    with pytest.raises(ContextError, match=r'bad header|truncated'):
        GlobalContext.read(written)


def test_log_of_an_older_version_is_kept_aside(written, small_schema):
    with open(written, 'r+b') as file:
        file.seek(8)
        file.write((1).to_bytes(4, 'little'))
    with GlobalContext.open(written, small_schema, 100) as log:
        assert log.committed == 0
    assert written.with_name('a-older.gc').exists()


def test_full_disk_shows_at_creation_and_leaves_nothing(tmp_path, small_schema, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'posix_fallocate', full)
    with pytest.raises(ContextError, match=r'needs .* MiB.*lower capacity'):
        GlobalContext.create(tmp_path / 'a.gc', small_schema, 1000)
    assert list(tmp_path.iterdir()) == []


def test_file_size_limit_shows_at_creation(tmp_path, root):
    """The same with the kernel saying no."""
    script = """
import resource, sys
from dylora_ros.core.context import ContextError, GlobalContext, RowSchema
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    GlobalContext.open(sys.argv[1], RowSchema({'body': (2, 2)}, 1), 100_000)
except ContextError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, '-c', script, str(tmp_path / 'a.gc')], cwd=root,
                         capture_output=True, text=True, check=True).stdout
    assert 'lower capacity' in out
    assert list(tmp_path.iterdir()) == []


def test_existing_log_is_not_created_over(written, small_schema):
    with pytest.raises(ContextError, match='exists already'):
        GlobalContext.create(written, small_schema, 10)
    with GlobalContext.read(written) as log:
        assert log.committed == 50
