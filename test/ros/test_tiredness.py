"""When the agent last slept: written whole, and a damaged file does not keep it from waking."""

import json
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from dylora_ros import graph  # noqa: E402
from dylora_ros.paths import write_whole  # noqa: E402
from dylora_ros.ros import messages  # noqa: E402


def heart(bench, rows=0):
    """Return an active global_context with rows in its log."""
    node = bench.up(graph.node_class('global_context'), capacity=1000, window=500)
    for _ in range(rows):
        node.log.append()
    return node


def sleep_through(bench, node, report, waking=('AWAKE',)):
    """Let a node hear of NREM, of its report (None: none comes) and of waking."""
    phase, told = bench.voice('phase'), bench.voice('sleep/report')
    phase.publish(messages.text_msg('NREM'))
    assert bench.spin_until(lambda: node.phase.name == 'NREM')
    if report is not None:
        told.publish(messages.text_msg(json.dumps(report)))
        bench.spin(0.3)
    for word in waking:
        phase.publish(messages.text_msg(word))
        assert bench.spin_until(lambda word=word: node.phase.name == word)


def test_death_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'slept.json'
    write_whole(path, 'old')

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, 'replace', die)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, 'new')
    assert path.read_text() == 'old'


def test_sleep_is_remembered_by_replacing_the_file(bench):
    node = heart(bench, 7)
    path = bench.memory / 'slept.json'
    path.write_text('{"row": 3}')
    before = path.stat().st_ino
    sleep_through(bench, node, {'phase': 'NREM'})
    assert path.stat().st_ino != before
    assert json.loads(path.read_text()) == {'row': 7}
    assert node.tired.since == 7


@pytest.mark.parametrize('report', [{'phase': 'NREM', 'error': 'the disk is full'}, None])
def test_what_a_night_in_vain_did_not_teach_is_still_new(bench, report):
    """It rests, or it would fall asleep again at once; but its rows were not learned from."""
    node = heart(bench, 7)
    sleep_through(bench, node, report)
    assert node.tired.since == 7
    assert not (bench.memory / 'slept.json').exists()


def test_a_good_night_counts_though_something_was_lost_before_it_woke(bench):
    node = heart(bench, 7)
    sleep_through(bench, node, {'phase': 'NREM'}, ('SAFE', 'AWAKE'))
    assert json.loads((bench.memory / 'slept.json').read_text()) == {'row': 7}
    assert node.tired.since == 7


def test_a_sleep_that_was_cut_short_leaves_it_tired(bench):
    """The negative twin: a lost process, or a kill, between NREM and waking."""
    node = heart(bench, 7)
    phase = bench.voice('phase')
    for word in ('NREM', 'SAFE', 'AWAKE'):
        phase.publish(messages.text_msg(word))
        assert bench.spin_until(lambda word=word: node.phase.name == word)
    assert node.tired.since == 0
    assert not (bench.memory / 'slept.json').exists()


def test_a_newborn_is_tired_after_the_rows_it_is_told(bench):
    node = bench.up(graph.node_class('global_context'), capacity=1000, window=500,
                    young_tired_after=100)
    assert node.tired.level(100) == 1.0


@pytest.mark.parametrize('capacity', [1000, 2000])
def test_a_log_that_was_made_for_another_number_of_rows_is_told(bench, capacity, capfd):
    heart(bench).close()
    bench.up(graph.node_class('global_context'), capacity=capacity, window=500)
    assert ('was made for 1000 rows' in capfd.readouterr().err) == (capacity != 1000)


def test_a_log_full_of_life_is_tiring(bench):
    node = heart(bench, 1000)                    # capacity 1000, tired_after 90,000
    levels = bench.hear('context/tiredness')
    assert bench.spin_until(lambda: levels and levels[-1].data >= 1.0)
    assert node.tired.most == 1000


@pytest.mark.parametrize('content', ['', '{"ro', '[]', '{"row": null}', '{}'])
def test_damaged_memory_of_sleep_is_told_and_not_fatal(bench, content):
    bench.memory.mkdir()
    (bench.memory / 'slept.json').write_text(content)
    assert heart(bench).tired.since == 0


def test_sleep_after_a_row_that_a_new_log_does_not_have(bench):
    bench.memory.mkdir()
    (bench.memory / 'slept.json').write_text('{"row": 5000}')
    assert heart(bench).tired.since == 0
