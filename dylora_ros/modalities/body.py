"""The body: joints and the last command in, commands out.

Its small models are learned once by motor babbling and then frozen, like the foundation models
of the other senses: an encoder (whose adapted layers give the LR state), a forward model (what
the joints will be: its error is the body's surprise) and an inverse model, the decoder that
turns the *predicted* LR state of the body into the command that brings it about.
"""

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from dylora_ros.core.lowrank import Adapter, inject
from dylora_ros.modalities.base import Modality
from dylora_ros.modalities.specs import body_spec

SITES = r'^layers\.[0-3]$'
HIDDEN = 48


class BodyEncoder(nn.Module):
    """Four layers over (position, velocity, last command, contact) of all joints."""

    def __init__(self, signal: int, outputs: int):
        super().__init__()
        sizes = (signal, HIDDEN, HIDDEN, HIDDEN, outputs)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:],
                                                                    strict=False))

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """Predict the change of the signal until the next cycle, (b, signal)."""
        h = signal
        for layer in self.layers[:-1]:
            h = torch.tanh(layer(h))
        return self.layers[-1](h)


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

    owned = ('encoder', 'decoder')

    def __init__(self, joints: int, rate: float = 25.0, rank: int = 4):
        self.spec = body_spec(joints, rate, rank)
        super().__init__()
        self.joints = joints
        width = self.spec.signal[0]
        self.encoder = BodyEncoder(width, width).requires_grad_(False)
        self.adapter: Adapter = inject(self.encoder, SITES, rank, name=f'body:{joints}')
        self.decoder = BodyDecoder(width, joints, self.spec.sites, rank).requires_grad_(False)
        self._signal = torch.zeros(1, width)

    @torch.inference_mode()
    def _encode(self, signal: np.ndarray) -> np.ndarray:
        self._signal = torch.from_numpy(np.asarray(signal, np.float32))[None]
        self.adapter.set_state(torch.from_numpy(self._q)[None], gamma=0.0)
        self._change = self.encoder(self._signal)
        return self.adapter.read_x()[0].numpy()

    @torch.inference_mode()
    def _decode(self) -> np.ndarray:
        return (self._signal + self._change)[0].numpy()

    def local_context(self) -> dict[str, np.ndarray]:
        """Return the last signal."""
        return {'signal': self._signal[0].numpy().copy()}

    @torch.inference_mode()
    def act(self, q: np.ndarray) -> np.ndarray:
        """Decode the predicted LR state (sites, rank) to commands (joints,) in -1 .. 1."""
        q = torch.from_numpy(np.asarray(q, np.float32))[None]
        return self.decoder(self._signal, q)[0].numpy()
