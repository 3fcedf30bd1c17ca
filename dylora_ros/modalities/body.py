"""The body: joints and the last command in, commands out.

Its small models are learned once by motor babbling and then frozen, like the foundation models
of the other senses: an encoder (whose adapted layers give the LR state), an inverse model, the
decoder that turns the *predicted* LR state of the body into the command that brings it about, and
a forward model: what the joints will be once that command is given. Its error is the body's
surprise.
"""

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from dylora_ros.core.lowrank import Adapter, inject
from dylora_ros.modalities.base import check, Modality
from dylora_ros.modalities.specs import body_spec

SITES = r'^layers\.[0-3]$'
HIDDEN = 48
MARGIN = 0.05         # of what the body was seen to do, by which its bounds are wider
_NOTHING = 1e-4       # rad or rad/s


class BodyEncoder(nn.Module):
    """Four layers over (position, velocity, last command, contact) of all joints."""

    def __init__(self, signal: int, outputs: int):
        super().__init__()
        sizes = (signal, HIDDEN, HIDDEN, HIDDEN, outputs)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:],
                                                                    strict=False))

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """Predict the change of the signal until the next cycle, whatever the command."""
        h = signal
        for layer in self.layers[:-1]:
            h = torch.tanh(layer(h))
        return self.layers[-1](h)


class BodyForward(nn.Module):
    """Forward model: the next signal, given the command that was just decided.

    Joints are nearly linear in state and command; a small network adds the rest, under the bias
    of the LR state.
    """

    def __init__(self, signal: int, joints: int, sites: int, rank: int):
        super().__init__()
        self.joints = joints
        self.straight = nn.Linear(signal + joints, signal)
        self.inside = nn.Linear(2 * signal + joints, 64)
        self.bias = nn.Linear(sites * rank, 64)
        self.out = nn.Linear(64, signal)
        for layer in (self.straight, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        # what the body was ever seen to do: no dream leaves it
        self.register_buffer('low', torch.full((signal,), -torch.inf))
        self.register_buffer('high', torch.full((signal,), torch.inf))

    def forward(self, signal: torch.Tensor, change: torch.Tensor, command: torch.Tensor,
                q: torch.Tensor) -> torch.Tensor:
        """Predict (b, signal) from signal, the encoder's change, the command (b, j) and q."""
        driven = torch.cat([signal, command], 1)
        h = F.gelu(self.inside(torch.cat([driven, change], 1)) + self.bias(q.flatten(1)))
        after = signal + self.straight(driven) + self.out(h)
        j = self.joints
        after = torch.cat([after[:, :2 * j], command, after[:, 3 * j:]], 1)
        return torch.minimum(torch.maximum(after, self.low), self.high)


class BodyDecoder(nn.Module):
    """Inverse model: joints now and the LR state to reach, to the command (b, joints)."""

    def __init__(self, signal: int, joints: int, sites: int, rank: int):
        super().__init__()
        self.inside = nn.Linear(signal + sites * rank, 64)
        self.mix = nn.Linear(64, 64)
        self.out = nn.Linear(64, joints)

    def forward(self, signal: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        """Return commands in -1 .. 1 of each joint's range."""
        h = F.gelu(self.inside(torch.cat([signal, q.flatten(1)], 1)))
        return torch.tanh(self.out(F.gelu(self.mix(h))))


class Body(Modality):
    """Proprioception and the motor decoder.

    Learned once by babbling, then frozen: the encoder is this project's own as well.

    Args:
        joints: number of joints (each with one command).
        rate: Hz of observations.
        rank: r.
    """

    owned = ('encoder', 'decoder', 'forward_model')

    def __init__(self, joints: int, rate: float = 25.0, rank: int = 4):
        self.spec = body_spec(joints, rate, rank)
        super().__init__()
        self.joints = joints
        width = self.spec.signal[0]
        self.encoder = BodyEncoder(width, width).requires_grad_(False)
        self.adapter: Adapter = inject(self.encoder, SITES, rank, name=f'body:{joints}')
        self.decoder = BodyDecoder(width, joints, self.spec.sites, rank).requires_grad_(False)
        self.forward_model = BodyForward(width, joints, self.spec.sites,
                                         rank).requires_grad_(False)
        self._signal = torch.zeros(1, width)
        self._command = torch.zeros(1, joints)

    @torch.inference_mode()
    def _encode(self, signal: np.ndarray) -> np.ndarray:
        self._signal = torch.from_numpy(np.asarray(signal, np.float32))[None]
        self._command = self._signal[:, 2 * self.joints:3 * self.joints]   # until told otherwise
        self.adapter.set_state(torch.from_numpy(self._q)[None], gamma=0.0)
        self._change = self.encoder(self._signal)
        return self.adapter.read_x()[0].numpy()

    @torch.inference_mode()
    def _decode(self) -> np.ndarray:
        return self.forward_model(self._signal, self._change, self._command,
                                  torch.from_numpy(self._q)[None])[0].numpy()

    def acted(self, command: np.ndarray):
        """Take note of the command really applied: the expectation is of what follows from it.

        Args:
            command: (joints,) in -1 .. 1 of each joint's range, as in the signal.

        Raises:
            SignalError: wrong shape or NaN.

        """
        command = check(command, (self.joints,), 'body/command')
        self._command = torch.from_numpy(np.array(command, np.float32))[None]
        self._expected = None

    @property
    def present(self) -> np.ndarray:
        """The last signal."""
        return self._signal[0].numpy()

    def local_context(self) -> dict[str, np.ndarray]:
        """Return the last signal."""
        return {'signal': self._signal[0].numpy().copy()}

    @torch.inference_mode()
    def reachable(self, command: np.ndarray) -> np.ndarray:
        """Return the LR state (sites, rank) that the forward model expects after a command.

        Commands (joints,) in -1 .. 1 are coordinates of the LR states that the body can reach
        within a cycle; the continuous Q chooses among these, and :meth:`act` brings the chosen
        one about.
        """
        command = check(command, (self.joints,), 'body/command')
        after = self.forward_model(self._signal, self._change, torch.from_numpy(
            np.array(command, np.float32))[None], torch.from_numpy(self._q)[None])
        self.encoder(after)
        return self.adapter.read_x()[0].numpy().copy()

    def anywhere(self, rng: np.random.Generator) -> np.ndarray:
        """Return a pose (joints,) among all that the body was ever seen in.

        A pose holds the position of each joint, rad; of one that turns for ever, and so is
        nowhere, its velocity, rad/s.
        """
        low, high = (bound.numpy()[self._posed()] for bound in (
            self.forward_model.low, self.forward_model.high))
        margin = MARGIN / (1 + 2 * MARGIN) * (high - low)
        return rng.uniform(low + margin, high - margin).astype(np.float32)

    @torch.inference_mode()
    def towards(self, pose: np.ndarray) -> np.ndarray:
        """Return the command (joints,) in -1 .. 1 that comes nearest to a pose within a cycle.

        What a command does to its joint is nearly linear (:class:`BodyForward`), so the least
        and the greatest tell of all.

        Args:
            pose: (joints,), see :meth:`anywhere`.

        """
        pose = check(pose, (self.joints,), 'body/pose')
        least, greatest = self.forward_model(
            self._signal.expand(2, -1), self._change.expand(2, -1),
            torch.tensor([[-1.0], [1.0]]).expand(2, self.joints),
            torch.from_numpy(self._q).expand(2, -1, -1)).numpy()[:, self._posed()]
        does, still = (greatest - least) / 2, (greatest + least) / 2
        does = np.where(np.abs(does) > _NOTHING, does, np.inf)
        return np.clip((pose - still) / does, -1, 1).astype(np.float32)

    def _posed(self) -> np.ndarray:
        """Where in the signal what a pose holds is, (joints,)."""
        low, high = self.forward_model.low.numpy(), self.forward_model.high.numpy()
        turns = (high - low)[:self.joints] < _NOTHING
        return np.arange(self.joints) + self.joints * turns

    @torch.inference_mode()
    def act(self, q: np.ndarray) -> np.ndarray:
        """Decode the predicted LR state (sites, rank) to commands (joints,) in -1 .. 1."""
        q = torch.from_numpy(np.asarray(q, np.float32))[None]
        return self.decoder(self._signal, q)[0].numpy()
