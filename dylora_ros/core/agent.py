"""The agent in one process: observe, remember, predict, act. No ROS, no wall clock.

The ROS graph runs the same objects in nodes; this class runs them in lockstep, as fast as they
go, for training, experiments and tests.
"""

from collections.abc import Mapping
from typing import Protocol, TYPE_CHECKING

import numpy as np

from dylora_ros.core.context import FLAG_BOOT, GlobalContext
from dylora_ros.core.cycle import Composer
from dylora_ros.core.motor import bounded, Exploration, Guard
from dylora_ros.core.phases import Phase

if TYPE_CHECKING:
    from dylora_ros.core.predictor import Predictor
    from dylora_ros.core.search import Search
    from dylora_ros.core.will import Will


class Sense(Protocol):
    """What the agent needs of a modality (see ``modalities.base.Modality``)."""

    def bias(self, q: np.ndarray, body: np.ndarray | None = None): ...
    def observe(self, signal): ...


class Agent:
    """One life in lockstep.

    Args:
        senses: modality name -> its frozen encoder and decoder; ``body`` also acts.
        log: the global context, writable.
        predictor: q over that log.
        guard: of the commands.
        exploration: noise on the body's predicted LR state, while there is no will.
        will: the continuous Q, which chooses the body's next LR state.
        search: what the body does when it has been badly off for a while; None: nothing else.
    """

    def __init__(self, senses: Mapping[str, Sense], log: GlobalContext, predictor: 'Predictor',
                 guard: Guard, exploration: Exploration, will: 'Will | None' = None,
                 search: 'Search | None' = None):
        self.senses = senses
        self.log = log
        self.predictor = predictor
        self.guard = guard
        self.exploration = exploration
        self.will, self.search = will, search
        self.composer = Composer(log.schema)
        self._boot = True

    def wake(self):
        """Begin anew after a sleep: the senses have perceived nothing yet."""
        self.composer.clear()
        self._boot = True

    def step(self, stamp: int, signals: Mapping[str, object],
             reward: float = 0.0, reward_stamp: int | None = None) -> np.ndarray:
        """Live one cycle.

        Args:
            stamp: ns, when the signals were acquired.
            signals: modality -> its input, those that have a new one.
            reward: that has arrived.
            reward_stamp: ns, of the state that it judges; this one's when None.

        Returns:
            The command applied, in the actuators' units.

        """
        for name, signal in signals.items():
            percept = self.senses[name].observe(signal)
            self.composer.put(name, percept.x, stamp, percept.surprise)
        row = self.composer.compose(stamp)
        prediction = self.predictor.observe(row)
        if self.will is None:
            q = act_on(prediction.q, self.log.schema, self.exploration)
        else:
            q, prediction.value = self.will(row, prediction)
        if self.search is not None:
            q = self.search(q, prediction.rewarded)
        bias_all(self.senses, q, row, self.log.schema)
        wanted = self.senses['body'].act(split(q, self.log.schema, 'body'))
        command = self.guard.command(wanted)
        self.senses['body'].acted(self.guard.normalise(command))
        finish(row, q, prediction, command=self.guard.normalise(command), reward=reward,
               reward_stamp=stamp if reward_stamp is None else reward_stamp,
               phase=Phase.AWAKE, flags=FLAG_BOOT if self._boot else 0)
        self._boot = False
        self.log.append_row(row)
        return command


def split(composite: np.ndarray, schema, name: str) -> np.ndarray:
    """Return one modality's part (sites, rank) of a composite (w,)."""
    return np.ascontiguousarray(
        composite[schema.slices[name]].reshape(schema.modalities[name]), np.float32)


def bias_all(senses: Mapping[str, Sense], q: np.ndarray, row: np.ndarray, schema):
    """Give every sense its part of q (w,) and the body's state in the row that q answers."""
    felt = row['mask'] >> list(schema.modalities).index('body') & 1
    body = split(row['x'], schema, 'body') if felt else None
    for name, sense in senses.items():
        sense.bias(split(q, schema, name), body)


def act_on(q: np.ndarray, schema, exploration: Exploration) -> np.ndarray:
    """Return the action: q with exploration on the body's part (design: body alone explores)."""
    q, part = bounded(q), schema.slices['body']
    q[part] = bounded(q[part] + exploration())
    return q


def finish(row: np.ndarray, q: np.ndarray, prediction, command: np.ndarray, reward: float,
           reward_stamp: int, phase: Phase, flags: int):
    """Fill in what a cycle decided; the row can be committed then."""
    row['q'] = q
    row['aux'] = prediction.aux
    row['value'] = prediction.value
    row['action'] = command
    row['reward'] = reward
    row['reward_stamp'] = reward_stamp
    row['phase'] = phase
    row['flags'] = flags
