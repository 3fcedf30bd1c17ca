"""The agent's senses as a Gymnasium environment: other learners live in its body.

They get what our Q gets without q: the composite LR state, its mask and ages (but for words), and
how far the body has turned since the last frame; they give commands and are rewarded by the same
statements (needs the optional package gymnasium).
"""

from types import SimpleNamespace

import gymnasium
from gymnasium import spaces
import numpy as np

from dylora_ros.core.cycle import Composer
from dylora_ros.core.rows import RowSchema
from dylora_ros.core.will import context_width, Lived, state_width
from dylora_ros.experiments.babble import guard_for, PERIOD
from dylora_ros.experiments.lives import Life, perceive, Shared
from dylora_ros.sim.worlds import make as make_world


class AgentEnv(gymnasium.Env):
    """One life in ``gaze``; an episode is a day, as in ``experiment life``.

    Args:
        senses: vision, audio and body with their weights.
        schema: of the rows.
        judge: (row, world) -> reward of that state.
        seed: of the life; its days begin as those of ``experiment life`` with this seed.
        day: cycles of a day.
        first: day to begin with.
    """

    def __init__(self, senses: dict, schema: RowSchema, judge, seed: int, day: int,
                 first: int = 0):
        self._senses, self._schema, self._judge = senses, schema, judge
        self._seed, self._day, self._next, self._life = seed, day, first, None
        size = state_width(schema) - context_width(schema)
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = spaces.Box(-1, 1, (schema.actions,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Begin the next day."""
        super().reset(seed=seed)
        old = self._life
        world = make_world('gaze', 100_000 + 1000 * self._seed + self._next,
                           twin=None if old is None else old.world)
        self._next += 1
        senses = {n: Shared(*self._schema.modalities[n]) for n in ('vision', 'audio')}
        self._life = Life(world, SimpleNamespace(senses=senses, guard=guard_for(world)),
                          self._judge)
        self._life.begin(self._senses['audio'])
        self._composer, self._cycle = Composer(self._schema), 0
        self._lived = Lived(self._schema)
        return self._observe()[0], {}

    def step(self, action: np.ndarray):
        """Live one cycle; -1 .. 1 is each joint's whole speed."""
        life = self._life
        life.world.apply(life.agent.guard.command(action))
        life.world.step(PERIOD)
        self._cycle += 1
        seen, row = self._observe()
        return (seen, float(self._judge(row, life.world)), False, self._cycle >= self._day,
                {'success': bool(life.world.success())})

    def close(self):
        """Free the renderers."""
        if self._life is not None:
            self._life.world.close()

    def _observe(self) -> tuple[np.ndarray, np.ndarray]:
        """Perceive; return the observation and its row."""
        life, stamp = self._life, round(self._life.world.time * 1e9)
        signals = perceive([life], self._senses['vision'], self._senses['audio'], self._cycle)[0]
        signals['body'] = self._senses['body'].observe(signals['body']).x
        for name, x in signals.items():
            self._composer.put(name, x, stamp)
        row = self._composer.compose(stamp)
        self._lived.take(row)
        return self._lived.felt(np.empty(0)), row
