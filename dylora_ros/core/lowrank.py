"""Dynamic low-rank adaptation of frozen layers (Eq. 1 and Eq. 2 of the paper).

For a frozen ``W`` at an adapted *site* ``s``::

    h = W x + (alpha / r) * B (gamma_s * (A x - c_s) + q_s)          (Eq. 2)

``q_s`` is the low-rank (LR) state predicted by the network q from the global context,
``gamma_s`` scales the layer's own low-rank input. ``gamma = 1, q = 0, c = 0`` is LoRA (Eq. 1);
``gamma = 0`` is Eq. 2 read literally; ``B = 0`` is exactly the frozen model. ``c_s`` centres the
encoded input, so that an LR state of zero means "nothing unusual".

Legend: b batch, n tokens, s sites, r rank.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
import hashlib
import json
from pathlib import Path
import re

from safetensors import safe_open
from safetensors.torch import save_file
import torch
from torch import nn
import torch.nn.functional as F

SCHEMA_VERSION = '1'


class SchemaError(ValueError):
    """Saved low-rank weights do not belong to this model, these sites or this rank."""


class _Encoded(Exception):
    """Every site has seen its input; unwinds :meth:`Adapter.encode`."""


class DyLoRALayer(nn.Module):
    """A frozen layer plus its dynamic low-rank path; see the module's equation.

    Args:
        base: the frozen layer; its parameters are set to ``requires_grad=False``.
        rank: r.
        alpha: LoRA's scaling numerator; the low-rank path is multiplied by ``alpha / rank``.
    """

    def __init__(self, base: nn.Module, rank: int, alpha: float):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.rank = rank
        self.scaling = alpha / rank
        self.register_buffer('centre', torch.zeros(rank))
        self.q: torch.Tensor | None = None       # (b, r) or (b, n, r)
        self.gamma: torch.Tensor | None = None   # like q; None means 1 (LoRA)
        self.encoded: torch.Tensor | None = None     # A x - c of the last forward, every place
        self.calibrating = False
        self.inputs: torch.Tensor | None = None  # (b, d_in), pooled input while calibrating
        self.seen: Callable[[], None] | None = None  # called once the input is encoded
        self.register_buffer('place', None, persistent=False)   # (n,), see pool_by

    def _record(self, encoded: torch.Tensor):
        """Keep the encoded input; pooling waits until somebody reads it."""
        self.__dict__['encoded'] = encoded       # see Adapter.set_state
        if self.seen is not None:
            self.seen()

    def _state(self, encoded: torch.Tensor) -> torch.Tensor:
        """Return ``gamma * (A x - c) + q``, broadcast over tokens where the state is pooled."""
        gamma, q = self._align(self.gamma, encoded), self._align(self.q, encoded)
        if gamma is None:
            return encoded if q is None else encoded + q
        return encoded * gamma if q is None else torch.addcmul(q, encoded, gamma)

    def _align(self, state: torch.Tensor | None, encoded: torch.Tensor) -> torch.Tensor | None:
        while state is not None and state.dim() < encoded.dim():
            state = state.unsqueeze(1)
        return state

    def pool_by(self, weights: torch.Tensor):
        """Pool over tokens by weights (n,) instead of by the mean.

        Weights that rise from left to right tell where a thing is that A responds to: the mean
        forgets places.
        """
        self.place = weights

    def _pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """Pool (b, n, d) over tokens to (b, d)."""
        if self.place is None:
            return tokens.mean(1)
        return torch.einsum('n,bnd->bd', self.place.to(tokens.dtype), tokens)

    def pooled(self) -> torch.Tensor:
        """Return ``x_s`` of the last forward, pooled over tokens or places, (b, r)."""
        if self.place is None:                       # the mean of one place is that place
            return self.encoded if self.encoded.dim() == 2 else self._pool(self.tokens())
        # every token had the centre taken off, which weights that sum to zero would undo
        return self._pool(self.tokens()) + (self.place.sum() - 1) * self.centre

    def tokens(self) -> torch.Tensor:
        """Return ``x_s`` of the last forward at every token or place, (b, n, r)."""
        raise NotImplementedError


class DyLoRALinear(DyLoRALayer):
    """Dynamic low-rank adaptation of an ``nn.Linear``."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float):
        super().__init__(base, rank, alpha)
        self.A = nn.Parameter(torch.empty(rank, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.A, a=5 ** 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, n, d_in) or (b, d_in) to the adapted output."""
        encoded = F.linear(x, self.A, -self.centre)
        self._record(encoded)
        if self.calibrating:
            self.inputs = (x if x.dim() == 2 else self._pool(x.flatten(1, -2))).detach()
        out = self.base(x)
        state = self._state(encoded).flatten(0, -2)
        # one fused product instead of product, scaling and sum: the output is the big tensor
        return torch.addmm(out.flatten(0, -2), state, self.B.T,
                           alpha=self.scaling).view(out.shape)

    def tokens(self) -> torch.Tensor:
        """Return (b, n, r); see the base class."""
        return self.encoded.unsqueeze(1) if self.encoded.dim() == 2 else \
            self.encoded.flatten(1, -2)


class DyLoRAConv2d(DyLoRALayer):
    """Dynamic low-rank adaptation of an ``nn.Conv2d`` (1x1 or kxk, as LoRA does it)."""

    def __init__(self, base: nn.Conv2d, rank: int, alpha: float):
        super().__init__(base, rank, alpha)
        if base.groups != 1:
            raise ValueError(f'grouped convolutions cannot be adapted (groups={base.groups})')
        self.A = nn.Parameter(torch.empty(rank, base.in_channels, *base.kernel_size))
        self.B = nn.Parameter(torch.zeros(base.out_channels, rank, 1, 1))
        nn.init.kaiming_uniform_(self.A, a=5 ** 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, c, h, w) to the adapted output."""
        base = self.base
        encoded = F.conv2d(x, self.A, -self.centre, base.stride, base.padding, base.dilation)
        self._record(encoded)
        return base(x) + F.conv2d(self._state(encoded), self.B) * self.scaling

    def _align(self, state: torch.Tensor | None, encoded: torch.Tensor) -> torch.Tensor | None:
        return state[:, :, None, None] if state is not None and state.dim() == 2 else state

    def tokens(self) -> torch.Tensor:
        """Return (b, places, r); see the base class."""
        return self.encoded.flatten(2).transpose(1, 2)


_LAYERS = {nn.Linear: DyLoRALinear, nn.Conv2d: DyLoRAConv2d}


@dataclass(frozen=True)
class Schema:
    """What saved low-rank weights belong to; compared on load."""

    model: str
    rank: int
    sites: tuple[str, ...]

    def digest(self) -> str:
        """Return a short stable name of this schema."""
        text = json.dumps([SCHEMA_VERSION, self.model, self.rank, list(self.sites)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Adapter:
    """The adapted sites of one frozen model, addressed together.

    The LR state of a model is a matrix sites x rank; a batch of them is (b, s, r).
    """

    def __init__(self, model: nn.Module, layers: dict[str, DyLoRALayer], name: str):
        self.model = model
        self.layers = layers
        self.rank = next(iter(layers.values())).rank
        self.schema = Schema(name, self.rank, tuple(layers))

    def set_state(self, q: torch.Tensor | None, gamma: torch.Tensor | float | None = None):
        """Give every site its state for the next forward passes.

        Args:
            q: (b, s, r), or None for no additive state.
            gamma: (b, s, r), one number for all, or None for 1.

        Raises:
            ValueError: the shape does not fit sites x rank.

        """
        expected = (len(self.layers), self.rank)
        for name, value in (('q', q), ('gamma', gamma)):
            if torch.is_tensor(value) and tuple(value.shape[-2:]) != expected:
                raise ValueError(f'{name} has shape {tuple(value.shape)}, expected (batch, '
                                 f'{expected[0]} sites, rank {expected[1]})')
        for i, layer in enumerate(self.layers.values()):
            if torch.is_tensor(gamma):
                scale = gamma[..., i, :]
            else:
                scale = None if gamma is None else layer.A.new_full((1, self.rank), float(gamma))
            # past torch's bookkeeping of modules, which costs more than a layer of the body
            layer.__dict__.update(q=None if q is None else q[..., i, :], gamma=scale)

    def read_x(self) -> torch.Tensor:
        """Return the encoded inputs ``x_s`` of the last forward pass, (b, s, r)."""
        return torch.stack([layer.pooled() for layer in self.layers.values()], 1)

    def read_tokens(self) -> torch.Tensor:
        """Return the encoded inputs of the last pass at every token, (b, n, s, r).

        All sites must have seen the same tokens (true of a transformer's layers).
        """
        return torch.stack([layer.tokens() for layer in self.layers.values()], 2)

    def encode(self, *args, **kwargs) -> torch.Tensor:
        """Run the model just far enough to encode its input at every site (see :meth:`reach`).

        Args:
            args: of the model.
            kwargs: of the model.

        Returns:
            (b, n, s, r) as :meth:`read_tokens`; gradients reach A and B.

        """
        self.reach(lambda: self.model(*args, **kwargs))
        return self.read_tokens()

    def reach(self, run: Callable[[], object]):
        """Run a pass of the model, but no further than its last site.

        What lies behind the last site's ``A`` cannot influence any ``x`` and is not computed.

        Raises:
            RuntimeError: the pass ended without visiting every site.

        """
        missing = dict.fromkeys(self.layers)

        def visit(site: str):
            missing.pop(site, None)
            if not missing:
                raise _Encoded

        for site, layer in self.layers.items():
            layer.seen = partial(visit, site)
        try:
            run()
        except _Encoded:
            return
        finally:
            for layer in self.layers.values():
                layer.seen = None
        raise RuntimeError(f'the pass never reached the sites {list(missing)[:4]}')

    def parameters(self):
        """Yield A and B of every site: all that training may change."""
        for layer in self.layers.values():
            yield layer.A
            yield layer.B

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return A, B and centre of every site by ``<site>.<name>``."""
        return {f'{name}.{key}': getattr(layer, key).detach().contiguous().clone()
                for name, layer in self.layers.items() for key in ('A', 'B', 'centre')}

    @torch.no_grad()
    def load_state_dict(self, tensors: dict[str, torch.Tensor]):
        """Copy A, B and centre in; a missing or misshapen tensor is a :class:`SchemaError`."""
        expected = self.state_dict()
        if set(expected) != set(tensors):
            odd = sorted(set(expected) ^ set(tensors))
            raise SchemaError(f'low-rank weights do not fit {self.schema.model}: '
                              f'missing or unknown {odd[:4]}')
        for key, value in tensors.items():
            if value.shape != expected[key].shape:
                raise SchemaError(f'{key} has shape {tuple(value.shape)}, '
                                  f'expected {tuple(expected[key].shape)}')
            site, _, name = key.rpartition('.')
            getattr(self.layers[site], name).copy_(value)

    def save(self, path: str | Path):
        """Write the low-rank weights as safetensors with their schema."""
        meta = {'format': 'dylora', 'version': SCHEMA_VERSION, 'model': self.schema.model,
                'rank': str(self.rank), 'sites': json.dumps(self.schema.sites)}
        save_file(self.state_dict(), str(path), metadata=meta)

    def load(self, path: str | Path):
        """Read what :meth:`save` wrote.

        Raises:
            SchemaError: the file is of another model, rank or set of sites; names both.

        """
        with safe_open(str(path), 'pt') as file:
            meta = file.metadata() or {}
            found = Schema(meta.get('model', '?'), int(meta.get('rank', 0)),
                           tuple(json.loads(meta.get('sites', '[]'))))
            if meta.get('version') != SCHEMA_VERSION or found != self.schema:
                raise SchemaError(f'{path} holds {found} (version {meta.get("version")}), '
                                  f'this adapter is {self.schema} (version {SCHEMA_VERSION})')
            self.load_state_dict({key: file.get_tensor(key) for key in file.keys()})

    def remove(self):
        """Put the frozen layers back; the model is as it was before :func:`inject`."""
        for name, layer in self.layers.items():
            _set_module(self.model, name, layer.base)


def _set_module(model: nn.Module, name: str, module: nn.Module):
    parent, _, leaf = name.rpartition('.')
    setattr(model.get_submodule(parent), leaf, module)


def inject(model: nn.Module, pattern: str, rank: int = 4, alpha: float | None = None,
           name: str | None = None) -> Adapter:
    """Freeze a model and adapt the layers whose names match a regular expression.

    Args:
        model: any torch model; Linear and Conv2d layers can be adapted.
        pattern: searched (``re.search``) in the dotted names of the model's layers.
        rank: r of every site.
        alpha: LoRA's alpha; the rank when None (a scaling of 1).
        name: what the schema calls the model; its class name when None.

    Returns:
        The :class:`Adapter` that addresses the sites, in the model's own order.

    Raises:
        ValueError: no layer matches.

    """
    model.requires_grad_(False)
    found = {n: m for n, m in model.named_modules()
             if type(m) in _LAYERS and re.search(pattern, n)}
    if not found:
        known = [n for n, m in model.named_modules() if type(m) in _LAYERS]
        raise ValueError(f'no layer of {type(model).__name__} matches {pattern!r}; '
                         f'there are {known[:6]} ... ({len(known)})')
    layers = {}
    for site, module in found.items():
        layers[site] = _LAYERS[type(module)](module, rank, float(alpha or rank))
        _set_module(model, site, layers[site])
    return Adapter(model, layers, name or type(model).__name__)
