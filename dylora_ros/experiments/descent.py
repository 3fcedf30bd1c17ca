"""How the experiments train a q: one optimiser, one schedule, one line of progress."""

from collections import defaultdict

import numpy as np
import torch
from torch import nn

from dylora_ros.experiments.progress import Left, say

_FAST = {'sharpness', 'decay.rate'}      # a few numbers in logs: they may move faster
_WARM = 50
_SHOWN = 100


class Descent:
    """Adam with bounded gradients; its rate rises at once and falls linearly.

    Args:
        label: named in the progress.
        network: the q.
        steps: of the whole training.
        lr: peak rate of the q, ten times as much for sharpness and decay.
        more: other parameters and their peak rate.
    """

    def __init__(self, label: str, network: nn.Module, steps: int, lr: float,
                 more: tuple[list[nn.Parameter], float] | None = None):
        named = dict(network.named_parameters())
        groups = [{'params': [p for n, p in named.items() if n not in _FAST], 'peak': lr},
                  {'params': [p for n, p in named.items() if n in _FAST], 'peak': 10 * lr}]
        if more:
            groups.append({'params': more[0], 'peak': more[1]})
        self._optimizer = torch.optim.Adam([g for g in groups if g['params']], lr)
        self._network, self._label, self._steps = network, label, steps
        self._shown, self._left = defaultdict(list), Left(steps)
        self.done = 0

    @property
    def share(self) -> float:
        """Share of the steps done."""
        return self.done / self._steps

    def step(self, loss: torch.Tensor, **shown: float):
        """Take a step; the means of ``shown`` over a hundred steps are printed."""
        for group in self._optimizer.param_groups:
            group['lr'] = group['peak'] * min(1.0, (self.done + 1) / _WARM) \
                * (1 - 0.96 * self.share)
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimizer.step()
        self.done += 1
        for name, value in {'loss': loss.item(), **shown}.items():
            self._shown[name].append(float(torch.as_tensor(value).detach()))
        if self.done % _SHOWN == 0 or self.done == self._steps:
            means = ', '.join(f'{n} {np.mean(v):.3f}' for n, v in self._shown.items())
            say(f'{self._label} {self.done}/{self._steps}: {means}, {self._left.after(self.done)}')
            self._shown.clear()
