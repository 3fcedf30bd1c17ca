"""An ensemble of continuous Qs: each learns for itself, the mean of their commands acts.

What a newborn will makes of a log depends on the luck of its birth and of its draws. These errors
are its own, so that the mean of some wills, each with its share of the gradient steps, is nearer
to what they have in common than one will with all of them (bagging, Breiman 1996; of actors,
Anschel et al. 2017, "Averaged-DQN"; decision 091).

Legend: b batch, n rows, d state width, a action width.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file
import torch
from torch import nn

from dylora_ros.core.dqn import ContinuousQ, LearnReport, Settings
from dylora_ros.core.files import whole
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.trajectory import Sampler, Trajectory

_FORMAT = 'dylora-ensemble-1'
_TURN = 50                     # updates of one member before the next one's turn


class Ensemble(nn.Module):
    """Some continuous Qs that act as one.

    Args:
        members: at least one, of the same sizes and settings.
    """

    def __init__(self, members: Sequence[ContinuousQ]):
        super().__init__()
        self.members = nn.ModuleList(members)

    @classmethod
    def newborn(cls, count: int, state: int, action: int,
                settings: Settings | None = None) -> 'Ensemble':
        """Return ``count`` newborn members of d states and a actions."""
        return cls([ContinuousQ(state, action, settings) for _ in range(count)])

    @property
    def settings(self) -> Settings:
        """How each member learns."""
        return self.members[0].settings

    @property
    def sizes(self) -> tuple[int, int]:
        """State and action width."""
        return self.members[0].sizes

    @property
    def updates(self) -> int:
        """Gradient steps of all members together."""
        return sum(int(q.updates) for q in self.members)

    def normalise(self, states: np.ndarray, rewards: np.ndarray | None = None):
        """Take the input's unit from states (n, d); see ``ContinuousQ.normalise``."""
        for q in self.members:
            q.normalise(states, rewards)

    def expect(self, reward: float):
        """Let newborns expect this reward for ever; see ``ContinuousQ.expect``."""
        for q in self.members:
            q.expect(reward)

    def decide(self, state: np.ndarray,
               noise: torch.Tensor | None = None) -> tuple[np.ndarray, float]:
        """Return the mean action (a,) and value in a state (d,); see ``ContinuousQ.decide``."""
        actions, values = zip(*(q.decide(state, noise) for q in self.members), strict=True)
        return np.mean(actions, 0), float(np.mean(values))

    def value(self, states: np.ndarray) -> np.ndarray:
        """Return the mean happiness (b,) of states (b, d)."""
        return np.mean([q.value(states) for q in self.members], 0)

    def foretell(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return the mean reward a row (n,) expected after actions (n, a) in states (n, d)."""
        return np.mean([q.foretell(states, actions) for q in self.members], 0)

    def learn(self, data: Trajectory, sampler: Sampler, updates: int,
              going: Callable[[int], bool] = lambda done: True) -> LearnReport:
        """Let the members learn in turns; who has learned least is next.

        Args:
            data: rows.
            sampler: of them.
            updates: of all members together, at most.
            going: called with the updates done before each; False ends it.

        Returns:
            The mean of what the members last told, and the updates of all.

        """
        told: dict[int, LearnReport] = {}
        done, ended = 0, False
        while done < updates and not ended:
            turn = min(range(len(self.members)), key=lambda k: int(self.members[k].updates))
            most = min(_TURN, updates - done)
            report = self.members[turn].learn(data, sampler, most,
                                              lambda more, before=done: going(before + more))
            ended = report.updates < most
            done += report.updates
            if report.updates:
                told[turn] = report
        means = {field.name: float(np.mean([getattr(r, field.name) for r in told.values()]))
                 for field in fields(LearnReport) if field.name != 'updates'} if told else {}
        return LearnReport(done, **means)

    def save(self, path: str | Path, optimizers: bool = True, owner: str = ''):
        """Write everything as safetensors, whole or not at all.

        Args:
            path: of the file.
            optimizers: with their state, to go on learning exactly where it stopped.
            owner: whose states these are; :meth:`load` refuses those of another.

        """
        tensors = {f'{k}.{name}': tensor for k, q in enumerate(self.members)
                   for name, tensor in q.tensors(optimizers).items()}
        with whole(path) as part:
            save_file(tensors, str(part), metadata={
                'format': _FORMAT, 'sizes': json.dumps(self.sizes), 'owner': owner,
                'members': str(len(self.members)), 'settings': json.dumps(asdict(self.settings))})

    @classmethod
    def load(cls, path: str | Path, sizes: tuple[int, int], owner: str = '',
             optimizers: bool = True) -> 'Ensemble':
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
        out = cls.newborn(int(meta['members']), *sizes, Settings(**json.loads(meta['settings'])))
        for k, q in enumerate(out.members):
            q.restore({name.removeprefix(f'{k}.'): tensor for name, tensor in tensors.items()
                       if name.startswith(f'{k}.')}, optimizers)
        return out
