"""Searches for a toy out of the view: which worlds they begin in, and what is told of them."""

from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from dylora_ros.experiments.babble import PERIOD
from dylora_ros.experiments.lost_toy import (
    ASIDE,
    beginnings,
    HELD,
    in_view,
    KINDS,
    LENGTH,
    main,
    Searching,
    SEEN,
    summary,
)
from dylora_ros.experiments.statistics import interval_of_groups
from dylora_ros.sim.worlds import make as make_world


@pytest.fixture(scope='module')
def gaze():
    world = make_world('gaze')
    yield world
    world.close()


@pytest.mark.parametrize('kind', KINDS)
def test_episodes_begin_as_their_kind_says(gaze, kind):
    for seed in islice(beginnings(gaze, kind, 0), 3):
        gaze.reset(seed)
        gaze.step(PERIOD)
        assert in_view(gaze) == (kind == 'remembered')
        assert (gaze.sounding == gaze.toy) == (kind == 'heard')
        if kind == 'aside':
            assert ASIDE[0] <= abs(gaze.bearing()) <= ASIDE[1]


def searched(kind, rights):
    """Return what is told of an episode in which the toy is at these places to the right."""
    world = SimpleNamespace(toy='red_ball', turned=0)
    world.turn_away = lambda: setattr(world, 'turned', world.turned + 1)
    search = Searching(SimpleNamespace(world=world), kind)
    for done, right in enumerate(rights, 1):
        world.direction = lambda toy, right=right: (right, 0.0)
        world.success = lambda right=right: abs(right) < 1 / 3
        search.look(done)
    return search.told(), world.turned


def test_a_toy_that_comes_into_the_view_within_three_seconds_is_found_soon():
    told, turned = searched('heard', [2.0] * 75 + [0.5] * 25)
    assert (told['found_soon'], told['seconds'], told['middle']) == (True, 3.0, 0.0)
    assert searched('heard', [2.0] * 76 + [0.0] * 24)[0]['found_soon'] is False
    assert turned == 0


def test_a_toy_never_found_counts_with_the_whole_episode():
    told, _ = searched('silent', [2.0] * LENGTH)
    assert (told['found_soon'], told['seconds']) == (False, LENGTH * PERIOD)


def test_what_was_seen_is_searched_from_when_a_hand_turns_the_head():
    told, turned = searched('remembered', [0.0] * SEEN + [2.0] * 10 + [0.0] * 10)
    assert turned == 1
    assert told == {'counts': True, 'found_soon': True, 'seconds': 0.4, 'middle': 0.5}


def test_of_a_toy_aside_neither_motion_nor_sight_tells_the_side_when_the_hand_lets_go():
    pans, rights = [], [0.0] * SEEN + [2.0] * (HELD + 10)
    world = SimpleNamespace(toy='red_ball', bearing=lambda: 1.2, turn_to=pans.append)
    search = Searching(SimpleNamespace(world=world), 'aside')
    for done, right in enumerate(rights, 1):
        world.direction = lambda toy, right=right: (right, 0.0)
        world.success = lambda: False
        search.look(done)
        if done == SEEN + HELD:
            assert pans == [1.2] + [0.0] * (HELD + 1)
    assert search.told() == {'counts': True, 'found_soon': True, 'seconds': 0.4, 'middle': 0.0}


def test_a_toy_that_is_straight_ahead_by_then_was_not_lost():
    """The negative twin."""
    world = SimpleNamespace(toy='red_ball', bearing=lambda: 1.2, turn_to=lambda pan: None,
                            direction=lambda toy: (0.0, 0.0), success=lambda: True)
    search = Searching(SimpleNamespace(world=world), 'aside')
    for done in range(1, SEEN + HELD + 5):
        search.look(done)
    assert not search.told()['counts']


def test_what_was_hardly_seen_cannot_be_remembered():
    """The negative twin."""
    told, _ = searched('remembered', [0.0] * 20 + [2.0] * 40)
    assert not told['counts']


def test_arms_are_compared_in_the_episodes_that_count_for_both():
    def one(found, counts=True):
        return {'counts': counts, 'found_soon': found, 'seconds': 1.0, 'middle': 0.0}

    told = summary({'heard': {'full': {0: [one(True), one(True), one(True, False)]},
                              'deaf': {0: [one(True), one(False), one(False)]}}})
    assert told['heard']['full'] == {'episodes': 2, 'found_soon': 1.0, 'seconds': 1.0,
                                     'middle': 0.0}
    assert told['heard']['deaf']['found_soon'] == pytest.approx(1 / 3, abs=1e-4)
    minus = told['heard']['deaf']['minus_full']
    assert minus['episodes'] == 2
    assert minus['found_soon']['mean'] == -0.5
    assert minus['seconds'] == {'mean': 0.0, 'low': 0.0, 'high': 0.0}


def test_a_kind_in_which_nothing_counts_has_no_means():
    told = summary({'remembered': {'full': {0: [{'counts': False}]},
                                   'deaf': {0: [{'counts': False}]}}})
    assert told['remembered'] == {'full': {'episodes': 0},
                                  'deaf': {'episodes': 0, 'minus_full': {'episodes': 0}}}


def test_arms_are_compared_by_the_seeds_that_both_have_lived():
    def one(found):
        return {'counts': True, 'found_soon': found, 'seconds': 1.0, 'middle': 0.0}

    told = summary({'heard': {'full': {0: [one(False)], 1: [one(True)]},
                              'deaf': {1: [one(True)]}}})
    assert told['heard']['deaf']['minus_full']['episodes'] == 1
    assert told['heard']['deaf']['minus_full']['found_soon']['mean'] == 0.0


def test_the_chance_of_seeds_is_in_the_band():
    """Episodes of one seed that are all alike say no more than the seed."""
    alike = interval_of_groups([np.zeros(50), np.ones(50), np.ones(50)])
    assert (alike['low'], alike['high']) == (0.0, 1.0)
    apart = interval_of_groups([np.tile([0.0, 1.0, 1.0], 17)] * 3)
    assert 0.5 < apart['low'] < apart['mean'] < apart['high'] < 0.8


def test_a_mute_toy_cannot_be_heard(capsys):
    with pytest.raises(SystemExit):
        main(['--scene', 'nudged', '--kinds', 'heard'])
    assert 'mute' in capsys.readouterr().err
