"""NREM, second half: the will learns from the log (paper, section 6).

q has learned first. What it reads at every row of the log is the state that the continuous Q
learns on, from rows drawn by surprise and error, a share of them dreamt. A night begins with a
newborn will, so that all that is remembered counts alike. Everything on disk is whole at any
moment: what is good, and beside it what this night has learned so far.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
import math
from pathlib import Path
import time

import numpy as np
from safetensors import SafetensorError

from dylora_ros.core.dqn import ContinuousQ, LearnReport, Settings
from dylora_ros.core.experience import DREAM_SHARE, Experience
from dylora_ros.core.features import inner_states
from dylora_ros.core.judging import RewardModel
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.motor import Reachable
from dylora_ros.core.qnetwork import QNetwork
from dylora_ros.core.reading import FILE, Reading
from dylora_ros.core.rows import FLAG_BOOT, RowSchema
from dylora_ros.core.sleep import finite
from dylora_ros.core.trajectory import Sampler, Trajectory
from dylora_ros.core.will import judged_anew, state_width, trajectory, Will

# One row of reward a target, and rows drawn by surprise alone: with three, and drawn also by the
# critic's error, it learned several times slower (decision 073). Without the bound it did not
# learn to turn to what is heard but not seen (078); with it for ever it stays mediocre (080). With
# practice in a world model the actor learns from the same rows what takes it much longer without;
# of less than three rows, or of ten, it has less (083). The mean of the actor holds what it sees
# better than the actor as the night happens to end (088). Good moments teach as much as all others
# do: a childhood hardly knows them, and a good will is mostly there (092).
SETTINGS = Settings(width=192, actor_width=128, batch=128, discount=0.97, bound=20, entropy=-1.0,
                    dreams=DREAM_SHARE, good=0.5, alpha=0.0, practice=5, mean=0.998)
UPDATES = 4           # a row of the log and night, at most
A_NEW_ROW = 2         # updates wanted in a night for each row that was not slept on
# and at least, for a night begins anew: what was learned from few rows is in the way of what many
# say ("primacy bias", Nikishin et al. 2022), and while it sleeps nobody needs the will (084)
ANEW = 3000
SETTLED = 20_000      # updates in which the units still follow the few rows there are
# Times the error of before at which a night was in vain. A wide margin: what followed was done by
# older wills, of which a better one foretells too much, the more the better it is. Without it
# every third night of an hour was thrown away (decision 076).
WORSE = 1.5
BELIEVED = 8          # cycles of a dream that are learned from
_READING = 0.3        # share of the budget for q's reading of the log, at most
_SAVED = 10.0         # s between two times that a night's work is put on disk
_SHOWN = 50           # updates between two words on progress
_JUDGED = 1500        # held-out rows, at most


@dataclass
class WillReport:
    """What the will learned in a night.

    Attributes:
        rows: of the log that it learned from (the childhood is not counted).
        updates: gradient steps.
        before, after: on held-out rows, how far what it foretold was from what really followed
            (mean absolute difference of discounted mean rewards). Before a first night: of
            expecting the mean reward for ever. Not the Bellman error: that grows while the
            values become right, since a constant has hardly any.
        value_before, value: mean happiness on the held-out rows.
        loss: error on the rows drawn at the end, in standard deviations of reward.
        temperature: weight of the entropy at the end.
        dreams: share of dreamt rows among those drawn.
        foresight: of the world model in which the actor practises (``LearnReport``).
        kept: whether it is what the agent wakes with (not, if it got worse).
    """

    rows: int
    updates: int
    before: float
    after: float
    value_before: float
    value: float
    loss: float
    temperature: float
    dreams: float
    foresight: float
    kept: bool

    def as_dict(self) -> dict:
        """Return plain values."""
        return asdict(self)


class Chest:
    """Where the will lies on disk: the good one, and the work of a night not yet over.

    Args:
        folder: of the agent's memory.
        schema: of its rows; a will of other senses or other weights is not its own.
    """

    def __init__(self, folder: Path, schema: RowSchema):
        self.good, self.night = folder / 'will.safetensors', folder / 'will_night.safetensors'
        self.reading = Reading(folder / FILE)
        self.childhood = Reading(folder / 'childhood_reading.safetensors')
        self._sizes = state_width(schema), schema.actions
        self._owner = schema.digest().hex()[:16]
        self._schema = schema

    def load(self, path: Path | None = None, learning: bool = False) -> ContinuousQ | None:
        """Return the good will (or that in ``path``), to act or to go on ``learning``, or None.

        Raises:
            SchemaError: what is there is not this agent's, or damaged.

        """
        path = path or self.good
        try:
            return ContinuousQ.load(path, self._sizes, self._owner, learning)
        except FileNotFoundError:
            return None
        except SafetensorError as error:
            raise SchemaError(f'{path} is damaged ({error}); delete it') from error

    def will(self, body: Reachable, seed: int = 0) -> Will | None:
        """Return what acts by the good one (see :class:`Will`); None where there is none.

        Raises:
            SchemaError: what is there is not this agent's, or damaged.

        """
        dqn = self.load()
        return None if dqn is None else Will(dqn, self._schema, body, seed)

    def _own(self, path: Path) -> ContinuousQ | None:
        try:
            return self.load(path, learning=True)
        except SchemaError:               # of an earlier body: the next good one replaces it
            return None

    def evening(self, anew: bool) -> tuple[ContinuousQ, ContinuousQ, bool]:
        """Return the good will, the one that learns, and whether there was no good one.

        The latter is that of a night which was cut short, a newborn (``anew``), or a copy of the
        good one.
        """
        good, night = self._own(self.good), self._own(self.night)
        newborn = good is None
        good = good or ContinuousQ(*self._sizes, SETTINGS)
        if night is None:
            night = ContinuousQ(*self._sizes, SETTINGS) if anew and not newborn \
                else self._own(self.good) or self._twin(good)
        return good, night, newborn

    def _twin(self, dqn: ContinuousQ) -> ContinuousQ:
        out = ContinuousQ(*self._sizes, dqn.settings)
        out.load_state_dict(dqn.state_dict())
        return out

    def save_night(self, dqn: ContinuousQ):
        """Keep what was learned so far, should the night be cut short."""
        dqn.save(self.night, owner=self._owner)

    def morning(self, dqn: ContinuousQ | None):
        """End the night: take a new good will, or none."""
        if dqn is not None:
            dqn.save(self.good, owner=self._owner)
        self.night.unlink(missing_ok=True)


@dataclass
class Budget:
    """Seconds of a night, and who is told of them.

    Args:
        seconds: in all.
        progress: called with (share done, seconds left).
        clock: seconds; replaced in tests.
    """

    seconds: float
    progress: Callable[[float, float], None] = lambda share, left: None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self):
        self.start = self.clock()

    def within(self, share: float = 1.0, done: float = 0.0) -> bool:
        """Tell whether less than ``share`` of it is spent; ``done`` is the share of the work."""
        spent = self.clock() - self.start
        self.progress(min(max(done, spent / max(self.seconds, 1e-6)), 1.0),
                      max(0.0, self.seconds - spent))
        return spent < share * self.seconds


def wanted(new: int) -> int:
    """Return the updates after which a night has learned what ``new`` rows can teach."""
    return max(ANEW, A_NEW_ROW * new)


def learn(chest: Chest, network: QNetwork, data: Experience, rows: np.ndarray, budget: Budget,
          seed: int = 0, most: int | None = None, first: int = 0,
          judge: RewardModel | None = None,
          childhood: np.ndarray | None = None) -> WillReport | None:
    """Let the will learn from the log.

    Args:
        chest: its place on disk.
        network: q, as the agent will wake with it.
        data: the rows, as q learns from them.
        rows: (n,) the same rows.
        budget: of time, reading and judging included.
        seed: of the draws.
        most: end earlier after this many updates (reproducible runs).
        first: number in the log of the first row.
        judge: what rewards dreams and childhood today. Without it neither teaches: nobody
            awake has judged them, and q's own guess of a dream's reward is no judgement.
        childhood: rows of an older life; they teach as well (as many of the newest as can be
            read in time), but judge nothing.

    Returns:
        What it did; None when all rewards are the same, so that nothing is worth wishing.

    """
    read = chest.reading.read(network, data, first, going=lambda: budget.within(_READING))
    begin = len(rows) - len(read)
    past = trajectory(rows[begin:], read, data.schema)
    judge_dreams(past, rows[begin:], data.schema, judge)
    if not np.ptp(past.rewards[:len(past)]):
        return None
    older = None
    if judge is not None and childhood is not None:
        older = _judged(chest, childhood, judge, network, data.schema,
                        lambda: budget.within(2 * _READING))
    held = data.held_out[data.held_out >= begin] - begin
    return practise(chest, past, older, held[past.follows[held]], budget, seed, most)


def judge_dreams(past: Trajectory, rows: np.ndarray, schema: RowSchema,
                 judge: RewardModel | None):
    """Give dreams the rewards of their states; without a judge they are not learned from.

    In a dream the row holds q's own guess, which says hardly anything; and what happens after
    ``BELIEVED`` cycles of it says no more (decision 076).
    """
    dreamt = past.dream[:len(past)]
    begun = np.maximum.accumulate(np.where((rows['flags'] & FLAG_BOOT) != 0,
                                           np.arange(len(rows)), 0))
    past.follows[:len(past)] &= ~dreamt | (np.arange(len(rows)) - begun < BELIEVED)
    if judge is None:
        past.follows[:len(past)] &= ~dreamt
    elif dreamt.any():
        past.rewards[np.flatnonzero(dreamt)] = judge.rewards(inner_states(rows[dreamt], schema))


def practise(chest: Chest, past: Trajectory, older: Trajectory | None, held: np.ndarray,
             budget: Budget, seed: int = 0, most: int | None = None,
             anew: bool = True) -> WillReport:
    """Let the will learn from what was read; see :func:`learn`.

    A night begins with a newborn will, which learns from all that is remembered; one that was cut
    short goes on where its last copy on disk stands.

    Args:
        chest: its place on disk.
        past: the own life.
        older: the childhood.
        held: (k,) rows of the own life that judge and do not teach; without any, what was
            learned is kept unseen.
        budget: of time.
        seed: of the draws.
        most: end earlier after this many updates, those before it was cut short included.
        anew: False: the good will goes on learning, as who is awake meanwhile has to.

    """
    count, saved = len(past), budget.clock()
    everything = Trajectory.joined([past] if older is None else [past, older])
    good, will, newborn = chest.evening(anew)
    begun = 0 if anew else int(good.updates)
    for dqn in (good, will):
        if not int(dqn.updates):
            dqn.normalise(everything.states, everything.rewards)
            dqn.expect(float(past.rewards[:count].mean()))
    s = will.settings
    everything.favour(s.good)
    judged = held[:: max(1, len(held) // _JUDGED)]
    really = past.returns(s.discount)[judged]
    everything.follows[held] = False                 # what judges does not teach
    before, value_before = _judge(good, past, judged, really)
    if 0 < int(will.updates) < SETTLED:
        will.normalise(everything.states, everything.rewards)
    goal = UPDATES * len(everything)
    if most is not None:
        goal = min(goal, most)
    left = max(0, goal - (int(will.updates) - begun))

    def going(done: int) -> bool:
        nonlocal saved
        now = budget.clock()
        if now - saved > _SAVED:
            saved = now
            chest.save_night(will)
        if done % _SHOWN == 0:
            return budget.within(done=done / max(left, 1))
        return now - budget.start < budget.seconds

    # of a young life, whose few dreams would be dreamt over and over, no more than there are
    share = min(s.dreams, float((everything.dream & everything.follows).mean()))
    sampler = Sampler(everything, s.batch, share, s.alpha, seed)
    learned = will.learn(everything, sampler, left, going) if everything.follows.any() \
        else LearnReport()
    after, value = _judge(will, past, judged, really)
    sound = finite(will.state_dict())
    # What nobody taught is no will, however little it errs; NaN is not better. A newborn has
    # nothing to lose: where life is always the same the mean errs least, and never acts.
    kept = int(will.updates) > begun and sound and \
        (newborn or not len(judged) or after <= WORSE * before)
    if anew and not newborn and sound and int(will.updates) < min(goal, ANEW):
        kept = False                     # too little time to begin anew: the next night goes on
        chest.save_night(will)
    else:
        chest.morning(will if kept else None)
    budget.progress(1.0, 0.0)
    return WillReport(count, learned.updates, before, after, value_before, value, learned.error,
                      float(will.log_temperature.detach().exp()), learned.dreams,
                      learned.foresight, kept)


def _judged(chest: Chest, rows: np.ndarray, reward: RewardModel, network: QNetwork,
            schema: RowSchema, going: Callable[[], bool]) -> Trajectory:
    """Return the newest of an older life's rows that can be read in time, judged as of today."""
    read = chest.childhood.read(network, Experience(rows, schema), going=going)
    return judged_anew(rows[len(rows) - len(read):], read, schema, reward)


def _judge(dqn: ContinuousQ, past: Trajectory, index: np.ndarray,
           really: np.ndarray) -> tuple[float, float]:
    """Return the error against what really followed, and the mean happiness; NaN without rows."""
    if not len(index):
        return math.nan, math.nan
    foretold = dqn.foretell(past.states[index], past.actions[index])
    return (float(np.abs(foretold - really).mean()),
            float(dqn.value(past.states[index]).mean()))
