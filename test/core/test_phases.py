"""Phases: what is up in which, in which order, and where one can go."""

from itertools import combinations

import pytest

from dylora_ros.core.phases import (
    OPTIONAL_NODES,
    Phase,
    PHASE_NODES,
    PhaseError,
    plan,
    sleep_seconds,
    Tiredness,
    TRANSITIONS,
)

ALL = frozenset(PHASE_NODES[Phase.AWAKE])
NEEDED = ALL - OPTIONAL_NODES
WAYS = [(source, target) for source in Phase for target in TRANSITIONS[source]]
NO_WAYS = [(source, target) for source in Phase for target in Phase
           if target not in TRANSITIONS[source]]
# every set of present nodes: all needed ones with any choice of optional ones
PRESENT = [NEEDED | set(some) for n in range(len(OPTIONAL_NODES) + 1)
           for some in combinations(sorted(OPTIONAL_NODES), n)]


def names(way):
    return f'{way[0].name}-{way[1].name}'


@pytest.mark.parametrize('phase', Phase)
def test_an_active_actuator_means_awake(phase):
    assert ('actuator' in PHASE_NODES[phase]) == (phase is Phase.AWAKE)


@pytest.mark.parametrize('way', WAYS, ids=names)
def test_no_plan_leaves_the_actuator_active_outside_awake(way):
    source, target = way
    for present in PRESENT:
        steps = plan(source, target, frozenset(present))
        active = set(PHASE_NODES[source]) & present
        active = active - set(steps.deactivate) | set(steps.activate)
        assert active == set(PHASE_NODES[target]) & present
        assert ('actuator' in active) == (target is Phase.AWAKE)


@pytest.mark.parametrize('way', [w for w in WAYS if w[0] is Phase.AWAKE], ids=names)
def test_the_actuator_goes_down_first(way):
    assert plan(*way, ALL).deactivate[0] == 'actuator'


@pytest.mark.parametrize('way', [w for w in WAYS if w[1] is Phase.AWAKE], ids=names)
def test_the_actuator_comes_up_last(way):
    assert plan(*way, ALL).activate[-1] == 'actuator'


@pytest.mark.parametrize('way', WAYS, ids=names)
def test_even_a_stray_active_node_is_taken_down(way):
    """A crash may have left anything up: all that the target does not name goes down."""
    steps = plan(*way, ALL)
    assert set(steps.deactivate) == ALL - set(PHASE_NODES[way[1]])


def test_absent_nodes_are_in_no_plan():
    steps = plan(Phase.SAFE, Phase.AWAKE, NEEDED)
    assert set(steps.activate) == NEEDED


@pytest.mark.parametrize('way', NO_WAYS, ids=names)
def test_impossible_transition_says_where_one_can_go(way):
    source, target = way
    with pytest.raises(PhaseError, match=f'{source.name} -> {target.name}') as error:
        plan(source, target, ALL)
    assert all(p.name in str(error.value) for p in TRANSITIONS[source])


def test_sleep_is_reached_from_waking_only():
    for asleep in (Phase.REM, Phase.NREM):
        with pytest.raises(PhaseError):
            plan(Phase.SAFE, asleep, ALL)


@pytest.mark.parametrize('phase', Phase)
def test_every_phase_leads_to_safe(phase):
    assert Phase.SAFE in TRANSITIONS[phase]


def test_tiredness_grows_with_rows_lived():
    tired = Tiredness(200, 1000)
    assert [tired.level(n) for n in (0, 100, 200, 300)] == [0, 0.5, 1, 1.5]


def test_sleep_takes_tiredness_away():
    tired = Tiredness(200, 1000)
    tired.slept(300)
    assert tired.level(300) == 0
    assert tired.level(400) == 0.5


def test_a_log_full_of_life_is_as_tiring():
    """The negative twin: with more room it is half as tired."""
    assert Tiredness(200, 50).level(50) == 1
    assert Tiredness(200, 1000).level(50) == 0.25


def test_a_newborn_tires_soon_and_the_grown_as_late_as_ever():
    tired = Tiredness(1000, 5000, young=100)
    assert tired.level(100) == 1
    limits = []
    for committed in (0, 300, 800, 4000, 9000):
        tired.slept(committed)
        limits.append(tired.limit)
    assert limits == [100, 100, 200, 1000, 1000]


def test_without_youth_the_first_sleep_is_as_late_as_any():
    """The negative twin."""
    assert Tiredness(1000, 5000).level(100) == 0.1


@pytest.mark.parametrize(('awake', 'seconds'), [(0, 10), (20, 10), (60, 30), (10_000, 300)])
def test_sleep_lasts_the_longer_the_longer_the_day_was_within_limits(awake, seconds):
    assert sleep_seconds(awake, 10, 0.5, 300) == seconds


def test_no_sleep_exceeds_its_budget_even_if_it_is_hardly_worth_it():
    assert sleep_seconds(60, 10, 0.5, 3) == 3
