"""What the continuous Q learns from: consecutive rows as states, actions and rewards.

Legend: n rows, b batch, d state width, a action width.
"""

from dataclasses import dataclass

import numpy as np
import torch

_FRESH = 64            # batches drawn from one table of priorities
_OFTEN = 4             # times as often as it comes a favoured row is drawn, at most


@dataclass
class Batch:
    """Transitions of up to ``n_step`` rows.

    Attributes:
        state: (b, d) where the action was taken.
        action: (b, a).
        reward: (b,) discounted sum over the rows that followed.
        discount: (b,) of the value at ``after``.
        after: (b, d) the last of those rows.
        index: (b,) rows.
    """

    state: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    discount: torch.Tensor
    after: torch.Tensor
    index: np.ndarray


class Trajectory:
    """Rows in order, cut where time does not go on; grows up to its capacity.

    Row t holds the state, the action decided on it and the reward *of that state*; the reward of
    an action is therefore that of the rows after it (design, section 12).

    Args:
        capacity: most rows.
        state: d.
        action: a.
    """

    def __init__(self, capacity: int, state: int, action: int):
        self.states = np.zeros((capacity, state), np.float32)
        self.actions = np.zeros((capacity, action), np.float32)
        self.rewards = np.zeros(capacity, np.float32)
        self.follows = np.zeros(capacity, bool)      # row t + 1 is the next moment of row t
        self.dream = np.zeros(capacity, bool)
        self.priority = np.ones(capacity)
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def extend(self, states: np.ndarray, actions: np.ndarray, rewards: np.ndarray,
               follows: np.ndarray, dream: np.ndarray | None = None,
               surprise: np.ndarray | None = None):
        """Add rows.

        Args:
            states: (n, d).
            actions: (n, a) taken on them.
            rewards: (n,) of these states.
            follows: (n,) whether the next row added is the next moment.
            dream: (n,) whether they were dreamt.
            surprise: (n,) 1 is as usual; more is drawn more often (paper, 3.3).

        Raises:
            ValueError: it is full, or shapes do not fit, or a value is not finite.

        """
        n, end = len(states), self.count + len(states)
        if end > len(self.states):
            raise ValueError(f'{end} rows do not fit into a trajectory of {len(self.states)}')
        where = slice(self.count, end)
        for name, target, value in (('states', self.states, states),
                                    ('actions', self.actions, actions),
                                    ('rewards', self.rewards, rewards)):
            value = np.asarray(value)
            if value.shape != (n, *target.shape[1:]) or not np.isfinite(value).all():
                raise ValueError(f'{name} have shape {value.shape} (or are not finite), '
                                 f'expected {(n, *target.shape[1:])}')
            target[where] = value
        self.follows[where] = follows
        self.dream[where] = False if dream is None else dream
        news = np.zeros(n) if surprise is None else np.clip(np.asarray(surprise) - 1.0, 0.0, 4.0)
        self.priority[where] = 1.0 + news
        self.count = end

    @classmethod
    def joined(cls, parts: list['Trajectory']) -> 'Trajectory':
        """Return all rows of some trajectories; none of them goes on in the next."""
        out = cls(sum(map(len, parts)), parts[0].states.shape[1], parts[0].actions.shape[1])
        for part in parts:
            n, first = len(part), out.count
            out.extend(part.states[:n], part.actions[:n], part.rewards[:n], part.follows[:n],
                       part.dream[:n])
            out.priority[first:out.count] = part.priority[:n]
            out.follows[out.count - 1:out.count] = False
        return out

    def favour(self, share: float):
        """Let rows of a reward above the mean be drawn at least with this probability in all.

        Who does well will mostly be where it is good; who has learned little was hardly ever
        there. Drawn as they come, nearly all rows teach what to do where a good will never is. Few
        are not drawn over and over: ``_OFTEN`` times as often as they come, at most.
        """
        rewards, rows = self.rewards[:self.count], self.priority[:self.count]
        good = rewards > rewards.mean()
        now = float(good.mean())
        share = min(share, _OFTEN * now)
        if 0 < now < share:
            rows *= np.where(good, share / now, (1 - share) / (1 - now))

    def returns(self, discount: float) -> np.ndarray:
        """Return the mean discounted reward (n,) that really followed each row's action.

        Beyond a cut the mean reward of all rows is taken to go on.
        """
        mean = float(self.rewards[:self.count].mean())
        out = np.full(self.count, mean, np.float32)
        for t in range(self.count - 2, -1, -1):
            if self.follows[t]:
                out[t] = (1 - discount) * self.rewards[t + 1] + discount * out[t + 1]
        return out

    def batch(self, index: np.ndarray, n_step: int, discount: float) -> Batch:
        """Return the transitions that begin at the rows ``index`` (b,), each followed."""
        reward = np.zeros(len(index), np.float32)
        power = np.ones(len(index), np.float32)
        at, going = index.copy(), np.ones(len(index), bool)
        for _ in range(n_step):
            going &= self.follows[at] & (at + 1 < self.count)
            at = at + going
            reward += np.where(going, power * self.rewards[at], 0.0)
            power = np.where(going, power * discount, power)
        return Batch(*(torch.from_numpy(np.ascontiguousarray(v, np.float32)) for v in (
            self.states[index], self.actions[index], reward, power, self.states[at])), index)


class Sampler:
    """Draws rows by priority: surprise of the senses times the critic's own error.

    Args:
        trajectory: drawn from.
        size: b.
        dreams: share of dreamt rows in each batch, as far as there are any.
        alpha: exponent of the critic's error (0: drawn by surprise alone).
        seed: of the draws.
    """

    def __init__(self, trajectory: Trajectory, size: int, dreams: float = 0.0,
                 alpha: float = 0.4, seed: int = 0):
        if not 0 <= dreams < 1:
            raise ValueError(f'the share of dreams is {dreams}, expected 0 <= share < 1')
        self._trajectory, self._size, self._alpha = trajectory, size, alpha
        self._rng = np.random.default_rng(seed)
        self._dreams = dreams
        self._error = np.ones(len(trajectory.states))
        self._drawn: list[np.ndarray] = []
        self.rows = self.dreamt = 0            # drawn so far

    def draw(self) -> np.ndarray:
        """Return rows (b,), all followed.

        Raises:
            ValueError: there is no followed row.

        """
        if not self._drawn:
            self._drawn = self._refresh()
        index = self._drawn.pop()
        self.rows += len(index)
        self.dreamt += int(self._trajectory.dream[index].sum())
        return index

    def told(self, index: np.ndarray, error: np.ndarray):
        """Take the critic's absolute errors (b,) of rows it saw (at least 1, as in LAP)."""
        self._error[index] = np.maximum(error, 1.0) ** self._alpha

    def new_rows(self, first: int):
        """Give rows from ``first`` on the greatest priority so far, so that they are seen."""
        self._error[first:self._trajectory.count] = self._error[:max(first, 1)].max()
        self._drawn = []

    def _refresh(self) -> list[np.ndarray]:
        t = self._trajectory
        usable = np.flatnonzero(t.follows[:max(t.count - 1, 0)])
        if not len(usable):
            raise ValueError('no row is followed by another: nothing to learn from')
        dreamt = t.dream[usable]
        pools = [(usable[~dreamt], 1.0 - self._dreams), (usable[dreamt], self._dreams)]
        pools = [(rows, share) for rows, share in pools if len(rows) and share > 0]
        if not pools:                                    # dreams alone, and none wanted
            raise ValueError('there are only dreams, and their share is 0')
        total, parts, left = sum(s for _, s in pools), [], self._size
        for i, (rows, share) in enumerate(pools):
            count = left if i == len(pools) - 1 else round(self._size * share / total)
            left -= count
            table = np.cumsum(t.priority[rows] * self._error[rows])
            at = np.searchsorted(table, self._rng.random((_FRESH, count)) * table[-1])
            parts.append(rows[np.minimum(at, len(rows) - 1)])
        return list(np.concatenate(parts, 1))
