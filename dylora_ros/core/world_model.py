"""What follows from what the agent does, learned in sleep; in it the actor practises.

A cycle of 40 ms changes so little that what one action is worth more than another drowns in what
the critics do not know ("action gap"): of a toy seen aside they hardly tell that turning to it at
once pays. A model foresees a few cycles of consequences, and the actor learns by the gradient of
what it gets in them and of the critics' value at their end (stochastic value gradients, Heess et
al. 2015): dreams of what it would do now, from moments that it really lived.

Legend: b batch, d state width, a action width.
"""

import torch
from torch import nn
import torch.nn.functional as F

from dylora_ros.core.actor_critic import Actor, Critics

WIDTH = 256
_REWARD = 0.1          # weight of the error in reward beside that in the d numbers of the state


class WorldModel(nn.Module):
    """The next state and its reward; both, as the states, in the continuous Q's units.

    Args:
        state: d.
        action: a.
    """

    def __init__(self, state: int, action: int):
        super().__init__()
        self.inside = nn.Linear(state + action, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.change = nn.Linear(WIDTH, state)
        self.reward = nn.Linear(WIDTH, 1)

    def forward(self, state: torch.Tensor, action: torch.Tensor,
                ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the next state (b, d) and its reward (b,)."""
        h = F.relu(F.layer_norm(self.inside(torch.cat([state, action], 1)), (WIDTH,)))
        h = F.relu(F.layer_norm(self.mix(h), (WIDTH,)))
        return state + self.change(h), self.reward(h)[:, 0]

    def loss(self, state: torch.Tensor, action: torch.Tensor, after: torch.Tensor,
             reward: torch.Tensor) -> torch.Tensor:
        """Return how wrong it is of what really followed."""
        foreseen, promised = self(state, action)
        return F.huber_loss(foreseen, after) + _REWARD * F.huber_loss(promised, reward)

    @torch.inference_mode()
    def foresight(self, state: torch.Tensor, action: torch.Tensor, after: torch.Tensor) -> float:
        """Return the squared error of the next state over that of "nothing changes"."""
        wrong = F.mse_loss(self(state, action)[0], after)
        return float(wrong / F.mse_loss(state, after).clamp_min(1e-9))

    def rescale(self, ratio: torch.Tensor):
        """Promise the same rewards in a unit that is ``1 / ratio`` of the old one."""
        with torch.no_grad():
            self.reward.weight.mul_(ratio)
            self.reward.bias.mul_(ratio)


def practised(model: WorldModel, actor: Actor, critics: Critics, state: torch.Tensor, rows: int,
              discount: float, temperature: torch.Tensor, limit: float,
              ) -> tuple[torch.Tensor, torch.Tensor]:
    """Let the actor act for some rows in the model, from states that were lived.

    Args:
        model: is not changed: gradient passes through it to the actor.
        actor: of the actions.
        critics: of what comes after; not changed either.
        state: (b, d) to begin with.
        rows: how many.
        discount: a row.
        temperature: weight of the entropy.
        limit: size of the numbers of a state, at most.

    Returns:
        What it gets: discounted rewards and entropy, and the critics' mean value at the end (b,);
        the log probabilities of its actions (rows + 1, b).

    """
    worth, weight, logs = torch.zeros(len(state)), 1.0, []
    model.requires_grad_(False)          # gradient passes through it, none is left in it
    for _ in range(rows):
        action, log = actor.sample(state)
        state, reward = model(state, action)
        state = state.clamp(-limit, limit)
        worth = worth + weight * (reward - temperature * log)
        weight *= discount
        logs.append(log)
    model.requires_grad_(True)
    action, log = actor.sample(state)
    value = critics(state, action, frozen=True).mean(0)
    return worth + weight * (value - temperature * log), torch.stack([*logs, log])
