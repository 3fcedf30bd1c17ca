"""Times at which the named toy is lost, and whether it is found soon."""

from types import SimpleNamespace

import pytest

from dylora_ros.experiments.searching import Search


def searched(pieces):
    """Return the summary of (cycles, right, sounding) one after the other."""
    search = Search()
    for cycles, right, sounding in pieces:
        world = SimpleNamespace(toy='red_ball', sounding='red_ball' if sounding else 'other',
                                direction=lambda toy, right=right: (right, 0.0))
        for _ in range(cycles):
            search.look(world)
    return search.summary()


def test_a_toy_found_within_three_seconds_counts_as_found_soon():
    told = searched([(10, 0.0, False), (75, 1.5, True), (10, 0.5, False),
                     (76, -2.0, False), (100, 0.0, False)])
    assert told['times'] == 2
    assert told['found_soon'] == 0.5
    assert told['sounding'] == {'times': 1, 'found_soon': 1.0}
    assert told['silent'] == {'times': 1, 'found_soon': 0.0}
    assert told['out_of_view'] == pytest.approx(151 / 271, abs=1e-4)


def test_a_toy_lost_near_the_end_is_not_counted_and_one_never_found_is():
    assert searched([(10, 0.0, True), (74, 1.5, True)])['times'] == 0
    told = searched([(10, 0.0, True), (75, 1.5, True)])
    assert (told['times'], told['found_soon']) == (1, 0.0)


def test_who_never_loses_it_has_nothing_to_find():
    told = searched([(50, 0.0, True)])
    assert (told['times'], told['found_soon'], told['out_of_view']) == (0, None, 0.0)
