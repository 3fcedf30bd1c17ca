"""The continuous DQN (paper, 3.3 and 6): q acts by value, learned from the log in sleep.

Actor and critics in the manner of soft actor-critic, with what makes few samples and a small
processor suffice: layer-normalised twin critics (as in DroQ and SimBa) stacked into one batched
product, observations normalised by the statistics of the log, several rows of reward per target,
rows drawn by surprise and error, and an actor that practises in a world model. On the agent the
state is q's reading of the global context and the action the body's next LR state; on plain
control tasks, the newest rows and the command.

Legend: b batch, d state width, a action width, k critics.
"""

from collections.abc import Callable
import copy
from dataclasses import asdict, dataclass, field
from functools import cached_property
import json
import math
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file
import torch
from torch import nn
import torch.nn.functional as F

from dylora_ros.core.actor_critic import Actor, CRITICS, Critics
from dylora_ros.core.files import whole
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.trajectory import Batch, Sampler, Trajectory
from dylora_ros.core.world_model import practised, WorldModel

_FORMAT = 'dylora-dqn-1'
_LIMIT = 8.0                   # states beyond this many standard deviations say nothing more
_TRUSTED = 300                 # updates after which the actor practises in the world model
_PRACTISED = 64                # rows of a batch from which it does


@dataclass(frozen=True)
class Settings:
    """How the continuous Q learns.

    Attributes:
        width: hidden units of the critics.
        actor_width: of the actor.
        discount: a row.
        n_step: rows of reward in a target.
        bound: rows after which what really followed bounds a target from below (0: nothing
            does): the best value is at least what the log shows can be had, so that what pays
            late is known long before it came back row by row (He et al. 2017, "Learning to play
            in a day").
        bounded: updates in which it does. What luck brought is no bound: later, when values have
            come back row by row, it only keeps them too high.
        batch: rows an update.
        lr: of the critics; the actor learns at ``actor_lr``.
        tau: share of the critics that enters their targets every update.
        actor_every: updates of the critics for one of the actor.
        entropy: wanted entropy of an action, a number of the action's (nats; negative: narrow).
        dreams: share of dreamt rows in a batch.
        good: share of rows whose reward is above the mean, at least (``Trajectory.favour``).
        alpha: how strongly the critic's error draws rows (see ``Sampler``).
        practice: rows for which the actor practises in a world model (0: there is none, and it
            learns from the critics' word alone).
        mean: share of the actor's running mean that its update keeps, at most; the mean is what
            acts (0: the actor itself).
    """

    width: int = 192
    actor_width: int = 128
    discount: float = 0.99
    n_step: int = 1
    bound: int = 0
    bounded: int = 20_000
    batch: int = 192
    lr: float = 1e-3
    actor_lr: float = 5e-4
    tau: float = 0.01
    actor_every: int = 2
    entropy: float = -0.5
    dreams: float = 0.0
    good: float = 0.0
    alpha: float = 0.4
    practice: int = 0
    mean: float = 0.0

    def __post_init__(self):
        if self.practice and self.n_step != 1:
            raise ValueError(f'practice in a world model of one row needs n_step 1, which is '
                             f'{self.n_step}')


@dataclass
class LearnReport:
    """What a session of learning did.

    Attributes:
        updates: gradient steps of the critics.
        error: mean absolute error of the critics, in standard deviations of reward, at its end.
        value: mean value ("happiness", see :meth:`ContinuousQ.value`) of the rows seen then.
        temperature: weight of the entropy at its end.
        dreams: share of dreamt rows among those drawn.
        foresight: squared error of the world model's next state over that of "nothing changes",
            of the last batch.
    """

    updates: int = 0
    error: float = math.nan
    value: float = math.nan
    temperature: float = math.nan
    dreams: float = 0.0
    foresight: float = math.nan

    def as_dict(self) -> dict:
        """Return plain values."""
        return asdict(self)


@dataclass
class _Tail:
    """Means over the last updates."""

    keep: float = 0.98
    values: dict[str, float] = field(default_factory=dict)

    def add(self, **values: float):
        for name, value in values.items():
            old = self.values.get(name, value)
            self.values[name] = self.keep * old + (1 - self.keep) * value


class ContinuousQ(nn.Module):
    """Actor, critics, their targets and how they learn.

    Args:
        state: d.
        action: a.
        settings: see :class:`Settings`.
    """

    def __init__(self, state: int, action: int, settings: Settings | None = None):
        super().__init__()
        self.settings = s = settings or Settings()
        self.actor = Actor(state, action, s.actor_width)
        self.mean_actor = copy.deepcopy(self.actor).requires_grad_(False) if s.mean else None
        self.critics = Critics(state + action, s.width)
        self.targets = Critics(state + action, s.width).requires_grad_(False)
        self.targets.load_state_dict(self.critics.state_dict())
        self.model = WorldModel(state, action) if s.practice else None
        self.log_temperature = nn.Parameter(torch.tensor(math.log(0.1)))
        self.register_buffer('mean', torch.zeros(state))
        self.register_buffer('scale', torch.ones(state))
        self.register_buffer('unit', torch.ones(()))         # of reward
        self.register_buffer('updates', torch.zeros((), dtype=torch.long))

    @cached_property      # torch's first optimizer takes a second, which a control loop has not
    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        s = self.settings
        out = {'critic_optimizer': torch.optim.AdamW(self.critics.parameters(), s.lr,
                                                     weight_decay=1e-4, fused=True),
               'actor_optimizer': torch.optim.Adam(
                   [{'params': self.actor.parameters()},
                    {'params': [self.log_temperature], 'lr': s.lr}], s.actor_lr, fused=True)}
        if self.model is not None:
            out['model_optimizer'] = torch.optim.AdamW(self.model.parameters(), s.lr,
                                                       weight_decay=1e-4, fused=True)
        return out

    @property
    def acting(self) -> Actor:
        """What acts: an actor's last updates swing about what it has learned."""
        return self.mean_actor or self.actor

    @property
    def sizes(self) -> tuple[int, int]:
        """State and action width."""
        return len(self.mean), self.actor.out.out_features // 2

    def normalise(self, states: np.ndarray, rewards: np.ndarray | None = None):
        """Take the mean and spread of states (n, d) as the input's unit, likewise of rewards (n,).

        Networks are not adapted to new units of the states: call it before learning, and again
        while the first rows are few. The critics' last layer is, to that of the rewards (as in
        PopArt, van Hasselt et al. 2016), so their values stay what they were.
        """
        self.mean.copy_(torch.from_numpy(states.mean(0)))
        self.scale.copy_(torch.from_numpy(1.0 / np.maximum(states.std(0), 1e-2)))
        if rewards is None:
            return
        unit = torch.tensor(max(float(rewards.std()), 1e-3))
        with torch.no_grad():
            for critics in (self.critics, self.targets):
                critics.weights[-1].mul_(self.unit / unit)
                critics.biases[-1].mul_(self.unit / unit)
        if self.model is not None:
            self.model.rescale(self.unit / unit)
        self.unit.copy_(unit)

    def _read(self, state: torch.Tensor) -> torch.Tensor:
        return ((state - self.mean) * self.scale).clamp(-_LIMIT, _LIMIT)

    @torch.inference_mode()
    def act(self, state: np.ndarray, explore: bool = True) -> np.ndarray:
        """Return the action (a,), or (b, a), in -1 .. 1 for a state (d,), or states (b, d)."""
        batch = torch.from_numpy(np.atleast_2d(np.asarray(state, np.float32)))
        read = self._read(batch)
        out = self.acting.sample(read)[0] if explore else torch.tanh(self.acting(read)[0])
        return out.numpy().reshape(*np.shape(state)[:-1], -1)

    @torch.inference_mode()
    def decide(self, state: np.ndarray, vary: float = 1.0,
               rng: torch.Generator | None = None) -> tuple[np.ndarray, float]:
        """Return an action (a,) and the :meth:`value` of one state (d,), at once.

        Args:
            state: (d,).
            vary: share of the actor's spread by which the action varies; 0: the best is taken.
            rng: of that.

        """
        read = self._read(torch.from_numpy(np.asarray(state, np.float32))[None])
        mean, log_std = self.acting(read)
        best = torch.tanh(mean)
        value = float(self.critics(read, best).amin()) * float(self.unit)
        if vary:
            noise = torch.randn(mean.shape, generator=rng)
            best = torch.tanh(mean + vary * log_std.exp() * noise)
        return best[0].numpy(), value * (1 - self.settings.discount)

    @torch.inference_mode()
    def value(self, state: np.ndarray) -> np.ndarray:
        """Return the happiness of states (b, d): the mean reward a row expected from there, (b,).

        It is the critics' least value of the actor's own choice, times (1 - discount), which is
        what q's value head says as well.
        """
        read = self._read(torch.from_numpy(np.atleast_2d(np.asarray(state, np.float32))))
        values = self.critics(read, torch.tanh(self.acting(read)[0]))
        return (values.amin(0) * self.unit * (1 - self.settings.discount)).numpy()

    @torch.no_grad()
    def expect(self, reward: float):
        """Let a newborn expect this reward at every row for ever, whatever it does.

        Otherwise the first nights go into learning the mean reward, which says nothing of how
        to act (as reward centering, Naik et al. 2024).
        """
        ever = reward / float(self.unit) / (1 - self.settings.discount)
        for critics in (self.critics, self.targets):
            critics.weights[-1].zero_()
            critics.biases[-1].fill_(ever)

    @torch.inference_mode()
    def foretell(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return the mean reward a row (n,) expected after actions (n, a) in states (n, d)."""
        read = self._read(torch.from_numpy(np.asarray(states, np.float32)))
        values = self.critics(read, torch.from_numpy(np.asarray(actions, np.float32))).mean(0)
        return (values * self.unit * (1 - self.settings.discount)).numpy()

    def update(self, batch: Batch, longer: Batch | None = None) -> np.ndarray:
        """Learn from a batch; returns the critics' absolute errors (b,).

        Args:
            batch: of the rows.
            longer: of the same rows, with what followed for longer; no target is below that.

        """
        state, after = self._read(batch.state), self._read(batch.after)
        target = self._target(batch, after)
        if longer is not None:
            target = torch.maximum(target, self._target(longer, self._read(longer.after)))
        if self.model is not None:
            self._foresee(state, batch, after)
        error = self.critics(state, batch.action) - target
        # with rows drawn by error beyond 1, Huber's loss is the unbiased one (LAP)
        F.huber_loss(error, torch.zeros_like(error)).mul(CRITICS).backward()
        self._step('critic_optimizer')
        if int(self.updates) % self.settings.actor_every == 0:
            self._improve(state)
        self.updates += 1
        torch._foreach_lerp_(list(self.targets.parameters()), list(self.critics.parameters()),
                             self.settings.tau)
        return error.detach().abs().amax(0).numpy()

    @torch.no_grad()
    def _target(self, batch: Batch, after: torch.Tensor) -> torch.Tensor:
        """Return what a batch says its actions are worth, in units of reward, (b,)."""
        action, log = self.actor.sample(after)
        value = self.targets(after, action).amin(0) - self.log_temperature.exp() * log
        return batch.reward / self.unit + batch.discount * value

    def _foresee(self, state: torch.Tensor, batch: Batch, after: torch.Tensor):
        """Let the world model learn what followed."""
        self.model.loss(state, batch.action, after, batch.reward / self.unit).backward()
        self._step('model_optimizer')

    def _improve(self, state: torch.Tensor):
        """Move the actor towards value and wanted entropy, the temperature to the latter."""
        heat, s = self.log_temperature.detach().exp(), self.settings
        if self.model is not None and int(self.updates) >= _TRUSTED:
            worth, log = practised(self.model, self.actor, self.critics, state[:_PRACTISED],
                                   s.practice, s.discount, heat, _LIMIT)
        else:
            action, log = self.actor.sample(state)
            worth = self.critics(state, action, frozen=True).mean(0) - heat * log
        wanted = s.entropy * self.sizes[1]
        surplus = (-log.detach() - wanted).mean()
        (self.log_temperature * surplus - worth.mean()).backward()
        self._step('actor_optimizer')
        if self.mean_actor is not None:
            taken = 1 + int(self.updates) // s.actor_every
            torch._foreach_lerp_(list(self.mean_actor.parameters()),
                                 list(self.actor.parameters()),
                                 1 - min(s.mean, taken / (9 + taken)))

    def _step(self, name: str):
        self._optimizers[name].step()
        self._optimizers[name].zero_grad()

    def learn(self, data: Trajectory, sampler: Sampler, updates: int,
              going: Callable[[int], bool] = lambda done: True) -> LearnReport:
        """Learn from a trajectory.

        Args:
            data: rows.
            sampler: of them.
            updates: at most so many.
            going: called with the updates done before each; False ends it.

        """
        s, tail, done = self.settings, _Tail(), 0
        while done < updates and going(done):
            index = sampler.draw()
            longer = data.batch(index, s.bound, s.discount) \
                if s.bound and self.updates < s.bounded else None
            batch = data.batch(index, s.n_step, s.discount)
            error = self.update(batch, longer)
            sampler.told(index, error)
            if done % 20 == 0:
                tail.add(error=float(error.mean()),
                         value=float(self.value(data.states[index]).mean()))
            done += 1
        foresight = math.nan if self.model is None or not done else self.model.foresight(
            self._read(batch.state), batch.action, self._read(batch.after))
        return LearnReport(done, tail.values.get('error', math.nan),
                           tail.values.get('value', math.nan),
                           float(self.log_temperature.detach().exp()),
                           sampler.dreamt / max(sampler.rows, 1),
                           foresight)

    def save(self, path: str | Path, optimizers: bool = True, owner: str = ''):
        """Write everything as safetensors, whole or not at all.

        Args:
            path: of the file.
            optimizers: with their state, to go on learning exactly where it stopped.
            owner: whose states these are; :meth:`load` refuses those of another.

        """
        tensors = dict(self.state_dict())
        if optimizers:
            for name, optimizer in self._optimizers.items():
                for i, state in optimizer.state_dict()['state'].items():
                    tensors |= {f'{name}.{i}.{k}': v for k, v in state.items()}
        tensors = {k: v.detach().contiguous().clone() for k, v in tensors.items()}
        with whole(path) as part:
            save_file(tensors, str(part), metadata={
                'format': _FORMAT, 'sizes': json.dumps(self.sizes), 'owner': owner,
                'settings': json.dumps(asdict(self.settings))})

    @classmethod
    def load(cls, path: str | Path, sizes: tuple[int, int], owner: str = '',
             optimizers: bool = True) -> 'ContinuousQ':
        """Read what :meth:`save` wrote; without ``optimizers`` it acts at once and learns anew.

        Raises:
            SchemaError: the file is something else, or of other states and actions.
            SafetensorError: the file is damaged.

        """
        with safe_open(str(path), 'pt') as file:
            meta = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}
        if meta.get('format') != _FORMAT:
            raise SchemaError(f'{path} holds {meta.get("format")}, expected {_FORMAT}; delete '
                              'it to begin with a newborn one')
        found = tuple(json.loads(meta['sizes']))
        if found != tuple(sizes):
            raise SchemaError(f'{path} is of {found[0]} state and {found[1]} action numbers, '
                              f'this agent has {sizes[0]} and {sizes[1]}')
        if meta.get('owner', '') != owner:
            raise SchemaError(f'{path} was learned on the states of {meta.get("owner", "")!r}, '
                              f'this agent\'s are {owner!r}: other senses or other weights')
        out = cls(*sizes, Settings(**json.loads(meta['settings'])))
        own = out.state_dict().keys()
        out.load_state_dict({k: v for k, v in tensors.items() if k in own})
        for name, optimizer in out._optimizers.items() if optimizers else ():
            state: dict[int, dict] = {}
            for key, value in tensors.items():
                if key.startswith(name + '.'):
                    number, field_ = key.removeprefix(name + '.').split('.')
                    state.setdefault(int(number), {})[field_] = value
            if state:
                optimizer.load_state_dict({**optimizer.state_dict(), 'state': state})
        return out
