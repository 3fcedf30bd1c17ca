"""The context command and the export."""

import json

import numpy as np
import pytest

from dylora_ros.context_tool import main
from dylora_ros.core.context import FLAG_FORGOTTEN, GlobalContext, HEADER
from dylora_ros.modalities.keyframes import Keyframes, load


@pytest.fixture
def path(tmp_path, small_schema):
    """Return the path of a closed log with ten seconds of simulated time."""
    path = tmp_path / 'a.gc'
    with GlobalContext.open(path, small_schema, 1000) as log:
        for n in range(250):
            log.append(stamp=n * 40_000_000, reward_stamp=n * 40_000_000, reward=n / 10, phase=1,
                       mask=3, x=np.full(small_schema.width, n / 100))
    return path


def test_info_is_json(path, capsys):
    assert main(['info', str(path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told['committed'] == 250
    assert told['to'] == '9.96s'
    assert told['flags']['forgotten'] == 0


def test_info_of_an_empty_log(log, capsys):
    assert main(['info', str(log.path)]) == 0
    assert json.loads(capsys.readouterr().out)['from'] is None


def test_verify_names_damaged_rows(path, small_schema, capsys):
    assert main(['verify', str(path)]) == 0
    with open(path, 'r+b') as file:
        file.seek(HEADER + 7 * small_schema.dtype.itemsize + 50)
        file.write(b'\xff')
    assert main(['verify', str(path)]) == 1
    assert '1 of 250 rows are damaged: [7]' in capsys.readouterr().err


def test_what_q_read_at_forgotten_rows_is_erased_too(path):
    kept = path.with_name('reading.safetensors')
    kept.write_bytes(b'read')
    assert main(['forget', str(path), '--from', '2', '--to', '4.0']) == 0
    assert not kept.exists()


def test_what_dreams_would_start_from_is_erased_too(path, capsys):
    kept = Keyframes()
    for seconds in (1, 3, 5):
        kept.put(seconds * 10**9, {'signal': np.zeros(2)})
    kept.save(path.with_name('keyframes') / 'vision.safetensors')
    assert main(['forget', str(path), '--from', '2', '--to', '4.0']) == 0
    assert sorted(load(path.with_name('keyframes') / 'vision.safetensors')) == [0, 2]
    assert '50 rows erased, and 1 moments' in capsys.readouterr().out


def test_forget_erases_a_span(path):
    assert main(['forget', str(path), '--from', '2', '--to', '4.0']) == 0
    with GlobalContext.read(path) as log:
        gone = np.flatnonzero(log.rows(0, 250)['flags'] & FLAG_FORGOTTEN)
    assert gone.tolist() == list(range(50, 100))


@pytest.mark.parametrize(('arguments', 'said'), [
    (['--from', 'yesterday', '--to', '4'], 'cannot read the time'),
    (['--from', '4', '--to', '2'], 'not before')])
def test_forget_refuses_times_that_make_no_sense(path, capsys, arguments, said):
    assert main(['forget', str(path), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_forget_refuses_while_the_agent_runs(log, capsys):
    assert main(['forget', str(log.path), '--from', '0', '--to', '1']) == 2
    assert 'stop that agent' in capsys.readouterr().err


def test_missing_file_is_named(tmp_path, capsys):
    assert main(['info', str(tmp_path / 'none.gc')]) == 2
    assert 'none.gc' in capsys.readouterr().err


def test_exported_rows_read_back_with_the_mcap_tools(path):
    reader = pytest.importorskip('mcap.reader')
    main(['forget', str(path), '--from', '0', '--to', '1'])
    assert main(['export', str(path), '--last', '240', '--every', '2']) == 0
    with open(path.with_suffix('.mcap'), 'rb') as file:
        read = reader.make_reader(file)
        assert read.get_summary().statistics.message_count == 112
        schema, channel, message = next(read.iter_messages())
    row = json.loads(message.data)
    assert (schema.encoding, channel.message_encoding) == ('jsonschema', 'json')
    assert message.log_time == row['number'] * 40_000_000
    assert row['number'] == 26
    assert row['phase'] == 'AWAKE'
    assert row['present'] == {'vision': True, 'body': True}
    assert row['x']['body'] == pytest.approx([0.26] * 4, abs=1e-3)
    assert set(json.loads(schema.data)['properties']) == set(row)


def test_export_does_not_overwrite(path, capsys):
    path.with_suffix('.mcap').write_text('precious')
    assert main(['export', str(path)]) == 2
    assert path.with_suffix('.mcap').read_text() == 'precious'
