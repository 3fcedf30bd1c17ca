"""Awake, REM and NREM as a pure state machine (paper, section 6: need for sleep).

Phase is what the agent does; a node's lifecycle state is whether its resources are up. Each
phase names the nodes that are active in it, in activation order. Invariant: an active actuator
means AWAKE.
"""

from dataclasses import dataclass
from enum import IntEnum


class Phase(IntEnum):
    """What the agent does. SAFE: actuators and senses are down, nothing moves."""

    SAFE = 0
    AWAKE = 1
    REM = 2
    NREM = 3


# order matters: brought up left to right, taken down right to left (actuators first)
_ALWAYS = ('global_context', 'predictor', 'reward', 'monitor')
_SENSES = ('camera', 'microphone', 'text')
PHASE_NODES: dict[Phase, tuple[str, ...]] = {
    Phase.SAFE: _ALWAYS,
    Phase.AWAKE: (*_ALWAYS, *_SENSES, 'actuator'),
    Phase.REM: _ALWAYS,
    Phase.NREM: _ALWAYS,
}
OPTIONAL_NODES = frozenset({'camera', 'microphone', 'text', 'reward', 'monitor'})

TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.SAFE: frozenset({Phase.AWAKE, Phase.SAFE}),
    Phase.AWAKE: frozenset({Phase.REM, Phase.NREM, Phase.SAFE}),
    Phase.REM: frozenset({Phase.NREM, Phase.AWAKE, Phase.SAFE}),
    Phase.NREM: frozenset({Phase.AWAKE, Phase.SAFE}),
}

GROWTH = 0.25         # of all that was lived: so much new is worth a sleep


class PhaseError(ValueError):
    """A transition that the agent does not know."""


@dataclass(frozen=True)
class Plan:
    """Nodes to take down, then to bring up, each in order."""

    deactivate: tuple[str, ...]
    activate: tuple[str, ...]


def plan(source: Phase, target: Phase, present: frozenset[str]) -> Plan:
    """Return what a transition does to the nodes that are present.

    Raises:
        PhaseError: there is no way from source to target.

    """
    if target not in TRANSITIONS[source]:
        ways = ', '.join(sorted(p.name for p in TRANSITIONS[source]))
        raise PhaseError(f'no transition {source.name} -> {target.name}; from {source.name} '
                         f'the agent can go to {ways}')
    keep = set(PHASE_NODES[target])
    everything = PHASE_NODES[Phase.AWAKE]
    down = tuple(n for n in reversed(everything) if n not in keep and n in present)
    up = tuple(n for n in PHASE_NODES[target] if n in present)
    return Plan(down, up)


def sleep_seconds(awake: float, least: float, share: float, most: float) -> float:
    """Return how long a phase of sleep lasts, s: the longer the agent was awake, within limits.

    Args:
        awake: s since the last sleep.
        least: s that are worth falling asleep for.
        share: of the time awake.
        most: s, the budget of the phase; it is never exceeded.

    """
    return min(most, max(least, share * awake))


class Tiredness:
    """When to fall asleep: rows lived since the last sleep, against a limit.

    A newborn tires soon, as it learns much from little: its limit is ``young`` rows, and grows
    with what it has lived (by ``GROWTH`` of it) until it is that of the grown.

    Args:
        rows: rows of waking life after which the grown agent is tired (1.0).
        full: rows in the log; a log full of life that was not slept on is as tiring (paper,
            section 6), for more of it would overwrite what was not learned from.
        young: rows after which a newborn is tired; None: as the grown.
    """

    def __init__(self, rows: int, full: int, young: int | None = None):
        self.most = min(rows, full)
        self.least = self.most if young is None else min(young, self.most)
        self.since = 0

    @property
    def limit(self) -> int:
        """Rows after the last sleep that make it tired."""
        return min(max(self.least, round(GROWTH * self.since)), self.most)

    def slept(self, committed: int):
        """Start counting anew after a sleep."""
        self.since = committed

    def level(self, committed: int) -> float:
        """Return how tired, 0 .. 1 and beyond."""
        return (committed - self.since) / self.limit
