"""How a process of the graph ends."""

import pytest

from dylora_ros.nodes.process import SAME_REQUEST, Stop


@pytest.fixture
def stop():
    """Return a handler, the list of its forced ends, and its clock's one reading."""
    ends, now = [], [100.0]
    return Stop(lambda: now[0], lambda: ends.append(now[0])), ends, now


def test_no_signal_asks_for_nothing(stop):
    assert stop[0].asked is None


def test_a_ctrl_c_that_comes_twice_ends_in_order(stop):
    handler, ends, now = stop
    handler(2, None)
    now[0] += 0.5 * SAME_REQUEST
    handler(2, None)
    assert handler.asked == 100.0
    assert not ends


def test_a_second_ctrl_c_later_ends_at_once(stop):
    handler, ends, now = stop
    handler(2, None)
    now[0] += 2 * SAME_REQUEST
    handler(2, None)
    assert ends == [now[0]]
