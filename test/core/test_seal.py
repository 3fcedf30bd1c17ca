"""Messages, rewards, rows and files that carry the seal of this life, and those that do not."""

import zlib

import numpy as np
import pytest

from dylora_ros.core.context import FLAG_FORGOTTEN, GlobalContext, HEADER, SLACK
from dylora_ros.core.rows import RowSchema
from dylora_ros.core.seal import (
    read_bundle,
    Receiver,
    RowTags,
    SealError,
    Secret,
    Sender,
    Ticket,
    Verdicts,
    write_bundle,
)

SECRET = Secret(bytes(range(32)))
OTHER = Secret(bytes(32))
SCHEMA = RowSchema({'body': (2, 2)}, 2)


def test_a_sealed_message_comes_in():
    sender = Sender(SECRET, 'context')
    ticket = Receiver(SECRET, 'context').open(sender.seal(b'row'), b'row')
    assert (ticket.session, ticket.number) == (sender.session, 1)


@pytest.mark.parametrize(('text', 'payload', 'words'), [
    (Sender(SECRET, 'context').seal(b'row'), b'another', 'not of this agent'),
    (Sender(OTHER, 'context').seal(b'row'), b'row', 'not of this agent'),
    (Sender(SECRET, 'dream').seal(b'row'), b'row', 'no seal'),
    ('context', b'row', 'no seal'),
    ('context/a/-1/00', b'row', 'no seal'),
    ('context/a/1/é', b'row', 'not of this agent'),
])
def test_what_is_not_sealed_stays_out(text, payload, words):
    with pytest.raises(SealError, match=words):
        Receiver(SECRET, 'context').open(text, payload)


def test_a_message_comes_in_once_and_the_next_one_still_does():
    sender, receiver = Sender(SECRET, 'context'), Receiver(SECRET, 'context')
    first, second = sender.seal(b'a'), sender.seal(b'b')
    receiver.open(first, b'a')
    with pytest.raises(SealError, match='already'):
        receiver.open(first, b'a')
    receiver.open(second, b'b')


def test_an_old_session_does_not_deafen_for_the_new_one():
    old, new = Sender(SECRET, 'context'), Sender(SECRET, 'context')
    receiver = Receiver(SECRET, 'context')
    receiver.open(new.seal(b'a'), b'a')
    receiver.open(old.seal(b'old'), b'old')
    receiver.open(new.seal(b'b'), b'b')


def verdict(value=0.5, secret=SECRET, session=None, number=1):
    rows = Sender(SECRET, 'context')
    for _ in range(3):
        rows.seal(b'')
    text = Verdicts(secret).seal(Ticket(session or rows.session, number), value, 40)
    return rows, text


def test_a_reward_of_a_sent_row_is_taken():
    rows, text = verdict()
    assert Verdicts(SECRET).open(text, 0.5, 40, rows).number == 1


@pytest.mark.parametrize(('change', 'value', 'stamp', 'words'), [
    ({}, 0.75, 40, 'not of this agent'),
    ({}, 0.5, 80, 'not of this agent'),
    ({'secret': OTHER}, 0.5, 40, 'not of this agent'),
    ({'session': 'another'}, 0.5, 40, 'no row of this log'),
    ({'number': 4}, 0.5, 40, 'no row of this log'),
])
def test_a_forged_reward_is_refused(change, value, stamp, words):
    rows, text = verdict(**change)
    with pytest.raises(SealError, match=words):
        Verdicts(SECRET).open(text, value, stamp, rows)


def test_a_row_is_judged_once():
    rows, text = verdict()
    verdicts = Verdicts(SECRET)
    verdicts.open(text, 0.5, 40, rows)
    with pytest.raises(SealError, match='judged already'):
        verdicts.open(text, 0.5, 40, rows)


@pytest.fixture
def log(tmp_path):
    """Return a log with tags and 40 rows."""
    with GlobalContext.open(tmp_path / 'context.gc', SCHEMA, 1000) as out:
        fill(out, None, 10)
        tags = RowTags.create(tmp_path / 'context.tags', SECRET, out, False)
        fill(out, tags, 30)
        yield out
        tags.close()


def fill(log, tags, count):
    for i in range(count):
        row = np.zeros((), SCHEMA.dtype)
        row['stamp'], row['reward'] = 40 * (log.next + 1), 0.01 * i
        if tags is not None:
            tags.put(log.next, row)
        log.append_row(row)


def forge(log, number, **values):
    """Write into the file as another process would, with a fitting checksum."""
    row = log.rows(number, number + 1)[0].copy()
    for name, value in values.items():
        row[name] = value
    raw = bytearray(row.tobytes())
    raw[:4] = zlib.crc32(memoryview(raw)[4:], number).to_bytes(4, 'little')
    with open(log.path, 'r+b') as file:
        file.seek(HEADER + number % (log.capacity + SLACK) * len(raw))
        file.write(raw)


def forged(log, secret=SECRET):
    tags = RowTags(log.path.with_name('context.tags'), secret, log)
    rows, numbers = tags.withhold(log.rows(0, log.committed), np.arange(log.committed))
    tags.close()
    return rows, numbers.tolist()


def test_rows_as_committed_are_learned(log):
    rows, numbers = forged(log)
    assert numbers == []
    assert (rows == log.rows(0, log.committed)).all()


@pytest.mark.parametrize('number', [3, 25], ids=['of an earlier life', 'of this life'])
def test_a_reward_written_by_another_hand_is_not_learned(log, number):
    forge(log, number, reward=100.0)
    assert log.verify() == [], 'the checksum of the log alone does not show it'
    rows, numbers = forged(log)
    assert numbers == [number]
    assert rows['reward'][number] == 0
    assert rows['flags'][number] == FLAG_FORGOTTEN


def test_tags_of_another_life_vouch_for_nothing(log):
    with pytest.raises(SealError, match='not of this life'):
        forged(log, OTHER)


def test_a_killed_writer_does_not_adopt_what_was_forged(log):
    path = log.path.with_name('context.tags')
    forge(log, 25, reward=100.0)
    RowTags.create(path, SECRET, log, again=True).close()
    assert forged(log)[1] == [25]
    path.unlink()
    RowTags.create(path, SECRET, log, again=True).close()
    assert forged(log)[1] == list(range(40)), 'without its tags no row is vouched for'


def test_the_head_of_the_tags_is_repaired(log, tmp_path):
    tags = RowTags.create(tmp_path / 'own.tags', SECRET, log, False)
    assert not tags.confirm()
    with open(tmp_path / 'own.tags', 'r+b') as file:
        file.write(bytes(24))
    assert tags.confirm()
    tags.first()
    tags.close()


def test_a_counter_set_back_takes_no_row(log):
    log._counter.set(7)
    fill(log, None, 1)
    assert log.committed == 41


def test_what_was_sealed_is_known_to_the_same_life_only(tmp_path):
    path = tmp_path / 'reward.seal'
    write_bundle(path, SECRET, b'content')
    assert read_bundle(path, SECRET) == b'content'
    with pytest.raises(SealError, match='not what was sealed'):
        read_bundle(path, OTHER)
    path.unlink()
    with pytest.raises(SealError, match='missing'):
        read_bundle(path, SECRET)
