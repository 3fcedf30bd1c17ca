"""The will: the continuous Q on q's reading of the global context (paper, 3.3 and 6).

State: what q's heads read (the moment in its context), what is recollected, and the senses as
perceived. Action: the body's next LR state. Of all LR states the body can reach few within a
cycle, those that some command brings about; the command is their coordinate, and what the critic
judges is the command really applied, after the guard.
"""

from collections.abc import Callable

import numpy as np
import torch

from dylora_ros.core.cycle import Prediction
from dylora_ros.core.dqn import ContinuousQ
from dylora_ros.core.experience import Experience, GAP
from dylora_ros.core.features import feature_width, features, inner_states, lived
from dylora_ros.core.judging import RewardModel
from dylora_ros.core.motor import commanded, Reachable
from dylora_ros.core.predictor import nothing
from dylora_ros.core.qnetwork import QNetwork, WIDTH
from dylora_ros.core.recollection import recollected, since
from dylora_ros.core.recollection import width as recollection_width
from dylora_ros.core.rows import (
    FLAG_BOOT,
    FLAG_DREAM,
    FLAG_FORGOTTEN,
    FLAG_REJECTED,
    RowSchema,
    WORDS,
)
from dylora_ros.core.trajectory import Trajectory

_PART = 256           # rows read at once
# Share of the actor's spread by which it varies its commands. Childhood was babbled and who is
# badly off searches, so that more of it only loses what it has in view (decision 090).
VARY = 0.5
SIGHT = 'vision'
BACK = 12             # rows in which the moment of a frame is looked for
NEAR = 30e6           # ns


def state_width(schema: RowSchema) -> int:
    """Return d of the continuous Q of an agent with this row."""
    sites, rank = schema.modalities['body']
    return context_width(schema) + len(_felt(schema)) + sites * rank


def context_width(schema: RowSchema) -> int:
    """Return how many of these numbers, the first ones, are read from the global context."""
    return WIDTH + recollection_width(schema)


def states(context: np.ndarray, rows: np.ndarray, schema: RowSchema) -> np.ndarray:
    """Return the states (n, d) of consecutive rows, of which ``context`` was read.

    That is what q's heads read and what is told of the recollection (n, context_width). Beside it
    the composite as perceived, with its mask and ages, but for words: they speak of another
    moment, and what is to be kept of them q has read. And how far the body has turned since what
    is seen was seen: a frame is a tenth of a second old when it is an LR state.
    """
    feats = features(rows, schema)
    body = feats[:, schema.slices['body']]
    turned = body - body[seen_at(rows, schema)]
    return np.concatenate([context, feats[:, _felt(schema)], turned], 1).astype(np.float32)


def seen_at(rows: np.ndarray, schema: RowSchema) -> np.ndarray:
    """Return the row (n,) of the moment in which what each of consecutive rows sees was seen.

    Rows that are too far from that moment (after a pause, at a beginning) are their own.
    """
    count, sight = len(rows), list(schema.modalities).index(SIGHT)
    when = rows['stamp'] - rows['age'][:, sight].astype(np.float64) * 1e9
    back = np.arange(count) - np.arange(BACK)[:, None]               # (BACK, n)
    away = np.where(back >= 0, np.abs(rows['stamp'][np.maximum(back, 0)] - when), np.inf)
    nearest = away.argmin(0)
    near = away[nearest, np.arange(count)] <= NEAR
    return np.arange(count) - np.where(near, nearest, 0)


def _felt(schema: RowSchema) -> np.ndarray:
    """Return the features that the will perceives itself: all senses but words."""
    senses = [n for n in schema.modalities if n != WORDS]
    m, names = len(schema.modalities), list(schema.modalities)
    at = np.array([names.index(n) for n in senses])
    mask = feature_width(schema) - 3 * m - 1
    return np.concatenate([np.r_[schema.slices[n]] for n in senses] + [mask + at, mask + m + at])


class Lived:
    """The newest rows of a life, as far back as :func:`states` looks.

    Args:
        schema: of the rows.
    """

    def __init__(self, schema: RowSchema):
        self._schema = schema
        self._rows = np.zeros(BACK, schema.dtype)
        self._count = 0

    def take(self, row: np.ndarray):
        """Take the next row."""
        self._rows[:-1] = self._rows[1:]
        self._rows[-1:] = row
        self._count = min(self._count + 1, BACK)

    def state(self, prediction: Prediction) -> np.ndarray:
        """Return the state (d,) of the newest row, of which q said ``prediction``."""
        now = self._rows[-1:]
        then, worth = prediction.recollected or (now, 0.0)
        told = since(now, then, np.array([worth]), self._schema)[0]
        return self.felt(np.concatenate([prediction.state, told]))

    def felt(self, context: np.ndarray) -> np.ndarray:
        """Return the state of the newest row with another context (or none at all)."""
        rows = self._rows[BACK - self._count:]
        # of all these it depends on two alone, and this is asked in every cycle
        pair = rows[[seen_at(rows, self._schema)[-1], -1]]
        return states(np.broadcast_to(context, (2, len(context))), pair, self._schema)[-1]


class Will:
    """Chooses the body's next LR state; the other senses keep what q predicts for them.

    It explores by varying its commands.

    Args:
        dqn: of :func:`state_width` states and a command's actions.
        schema: of the rows.
        body: whose LR states it chooses.
        seed: of its exploration.
    """

    def __init__(self, dqn: ContinuousQ, schema: RowSchema, body: Reachable, seed: int = 0):
        self.dqn, self._schema, self._body = dqn, schema, body
        self.explore = True
        self._noise = torch.Generator().manual_seed(seed)
        self._lived = Lived(schema)

    def __call__(self, row: np.ndarray, prediction: Prediction) -> tuple[np.ndarray, float]:
        """Return the composite (w,) to bring about at a row, and the happiness; every row once."""
        self._lived.take(row)
        command, value = self.dqn.decide(self._lived.state(prediction),
                                         VARY if self.explore else 0.0, self._noise)
        part = self._schema.slices['body']
        return commanded(prediction.q, command, self._body, part), value


@torch.inference_mode()
def read_all(network: QNetwork, data: Experience, context: bool = True,
             going: Callable[[], bool] = lambda: True, first: int = 0,
             last: int | None = None) -> np.ndarray:
    """Return what q's heads read at rows (last - first, WIDTH), found as in waking life.

    Args:
        network: q.
        data: rows.
        context: False: as an agent without global context reads them.
        going: asked before each part, the newest first; False: the older rows are left out.
        first: rows before this one are left out.
        last: this one and those after it are left out.

    """
    network.eval()
    if context:
        data.refresh(network)
    index, out = np.arange(first, len(data.features) if last is None else last), []
    for part in reversed(np.array_split(index, max(1, len(index) // _PART))):
        if out and not going():
            break
        heads = network(*data.batch(part)) if context else nothing(network, data.now[part])
        out.append(heads.state.numpy())
    return np.concatenate(out[::-1])


def aligned(rows: np.ndarray) -> np.ndarray:
    """Return the reward *of* each row's state (n,): it arrives later, with that state's stamp.

    Rows that nobody judged get the reward before them (0 at first). Stamps need not be in order:
    a dream's run ahead of the waking rows after it.
    """
    reward = np.full(len(rows), np.nan, np.float32)
    order = np.argsort(rows['stamp'], kind='stable')
    at = np.searchsorted(rows['stamp'], rows['reward_stamp'], sorter=order)
    known = (at < len(rows)) & (rows['reward_stamp'] > 0)
    at[known] = order[at[known]]
    known[known] &= rows['stamp'][at[known]] == rows['reward_stamp'][known]
    reward[at[known]] = rows['reward'][known]
    filled = np.maximum.accumulate(np.where(np.isnan(reward), -1, np.arange(len(rows))))
    return np.where(filled >= 0, reward[np.maximum(filled, 0)], 0.0).astype(np.float32)


def judged_anew(rows: np.ndarray, read: np.ndarray, schema: RowSchema, reward: RewardModel,
                recollects: bool = True) -> Trajectory:
    """Return what the Q learns from rows that were lived before anybody judged them.

    Reward is a function of the inner state, so an older life (the childhood that ships) teaches
    how to reach whatever the statements call good, which it did not know then (as hindsight
    relabelling, Andrychowicz et al. 2017).

    Args:
        rows: (n,) consecutive.
        read: (n, WIDTH) what q read at them.
        schema: of the rows.
        reward: of the statements.
        recollects: False: as an agent without global context.

    """
    return trajectory(rows, read, schema, recollects, reward.rewards(inner_states(rows, schema)))


def trajectory(rows: np.ndarray, read: np.ndarray, schema: RowSchema, recollects: bool = True,
               rewards: np.ndarray | None = None) -> Trajectory:
    """Turn consecutive log rows (n,) and what q read at them into what the Q learns from.

    Args:
        rows: (n,).
        read: (n, WIDTH).
        schema: of the rows.
        recollects: False: as an agent without global context.
        rewards: (n,) of their states, where those that the log knows do not count.

    """
    step = np.diff(rows['stamp'], append=rows['stamp'][-1:]) * 1e-9
    flags, next_flags = rows['flags'], np.roll(rows['flags'], -1)
    follows = (step > 0) & (step < GAP)
    follows &= (next_flags & (FLAG_BOOT | FLAG_REJECTED)) == 0
    follows &= (flags & FLAG_DREAM) == (next_flags & FLAG_DREAM)
    follows &= ((flags | next_flags) & FLAG_FORGOTTEN) == 0
    mask = (rows['mask'][:, None] >> np.arange(len(schema.modalities))) & 1
    surprise = np.where(mask == 1, rows['surprise'].astype(np.float32), 1.0).max(1)
    at, worth = np.zeros(len(rows), int), np.zeros(len(rows))       # worth nothing: none
    if recollects:
        at, worth = recollected(rows, rewards)
    told = since(rows, rows[at], worth, schema)
    known = states(np.concatenate([read, told], 1), rows, schema)
    out = Trajectory(len(rows), known.shape[1], schema.actions)
    out.extend(known, rows['action'].astype(np.float32),
               aligned(rows) if rewards is None else rewards, follows, ~lived(rows), surprise)
    return out
