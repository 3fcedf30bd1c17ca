"""What every modality is: a frozen encoder with adapted sites, and (mostly) a decoder.

A modality says its shapes before any weight is loaded. ``observe`` turns a signal into the
LR state ``x`` under the bias ``q``; ``expect`` decodes the prediction of the next input, and the
error of that prediction against the next ``observe`` is the surprise.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from dylora_ros.core.lowrank import Adapter, SchemaError
from dylora_ros.modalities.specs import ModalitySpec, SignalError


class Surprise:
    """Prediction error relative to its own running mean: 1 is as usual, 2 twice as wrong."""

    def __init__(self, memory: float = 200.0):
        self._keep = 1.0 - 1.0 / memory
        self._mean = 0.0
        self._weight = 0.0

    def __call__(self, error: float) -> float:
        """Return the surprise of an error (>= 0) and take it into the statistics."""
        self._weight = self._keep * self._weight + 1.0
        self._mean += (error - self._mean) / self._weight
        return float(error / self._mean) if self._mean > 1e-12 else 1.0


@dataclass
class Percept:
    """What one observation gives.

    Attributes:
        x: (sites, rank) float32, the encoded input A x.
        error: raw prediction error of this input, None where nothing was predicted.
        surprise: the error over its running mean, None likewise.
    """

    x: np.ndarray
    error: float | None
    surprise: float | None


class Modality(ABC):
    """A sense. Subclasses load their weights in ``__init__`` and set :attr:`spec`."""

    spec: ModalitySpec
    adapter: Adapter
    decoder: nn.Module | None = None
    owned: tuple[str, ...] = ('decoder',)     # modules whose weights are this project's own

    def __init__(self):
        self._surprise = Surprise()
        self._expected: np.ndarray | None = None
        self._expecting = False
        self._q = np.zeros((self.spec.sites, self.spec.rank), np.float32)

    def bias(self, q: np.ndarray, body: np.ndarray | None = None):
        """Set the predicted LR state for the next passes, decoding and encoding.

        Args:
            q: (sites, rank) of this modality.
            body: the body's newest LR state (its sites, rank): senses that the body moves can
                tell its motion from the world's. None: it is not known.

        Raises:
            SignalError: wrong shape or NaN.

        """
        q = check(q, (self.spec.sites, self.spec.rank), f'{self.spec.name}/q')
        self._q = np.array(q, np.float32)       # a copy: the caller may reuse its array
        self._expected = None

    def observe(self, signal: np.ndarray) -> Percept:
        """Take a signal in: LR state, and surprise against what was expected until now.

        Raises:
            SignalError: wrong shape or NaN; the modality's state is unchanged.

        """
        signal = check(signal, self.spec.signal, self.spec.name)
        expected = self.expected
        error = surprise = None
        if expected is not None:
            error = float(np.mean((self.target(signal) - expected) ** 2))
            surprise = self._surprise(error)
        x = self._encode(signal)
        self._expected, self._expecting = None, self.spec.decodes
        return Percept(x, error, surprise)

    @property
    def expected(self) -> np.ndarray | None:
        """Prediction of the next input, in the decoder's own space.

        It is formed when it is asked for, from the local context and the newest bias: q says
        more of the next input the nearer that is (a frame is several cycles away).
        """
        if self._expected is None and self._expecting:
            self._expected = self._decode()
        return self._expected

    def forget_expectation(self):
        """Drop the prediction, as after a pause: what comes next is no surprise."""
        self._expected, self._expecting = None, False

    def save(self, path: str | Path):
        """Write the low-rank weights and the decoder as safetensors, with their schema."""
        save_file(self._tensors(), str(path), metadata={'schema': self._schema()})

    def load(self, path: str | Path):
        """Read what :meth:`save` wrote.

        Raises:
            SchemaError: the file belongs to another model, rank or set of sites.

        """
        with safe_open(str(path), 'pt') as file:
            found = (file.metadata() or {}).get('schema', '?')
            if found != self._schema():
                raise SchemaError(f'{path} holds {found}, this is {self._schema()}')
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        for part in ('adapter', *self.owned):
            module = getattr(self, part)
            if module is not None:
                module.load_state_dict({k.removeprefix(part + '.'): v
                                        for k, v in tensors.items() if k.startswith(part + '.')})

    def _tensors(self):
        return {f'{part}.{key}': value.contiguous().clone()
                for part in ('adapter', *self.owned) if getattr(self, part) is not None
                for key, value in getattr(self, part).state_dict().items()}

    def _schema(self) -> str:
        return json.dumps({'modality': self.spec.name, 'adapter': self.adapter.schema.digest(),
                           'rank': self.spec.rank, 'sites': self.spec.sites,
                           'shapes': {k: list(v.shape) for k, v in
                                      sorted(self._tensors().items()) if 'adapter' not in k}})

    def local_context(self) -> dict[str, np.ndarray]:
        """Return what a dream needs to start from here (arrays by name)."""
        return {}

    def resume(self, context: dict[str, np.ndarray]) -> Percept:
        """Perceive a remembered local context anew (see :meth:`local_context`)."""
        self.forget_expectation()
        return self.observe(context['signal'])

    @abstractmethod
    def _encode(self, signal: np.ndarray) -> np.ndarray:
        """Run the frozen encoder under the bias; return x (sites, rank)."""

    def _decode(self) -> np.ndarray:
        """Predict the next input from the local context and the bias."""
        raise NotImplementedError(f'{self.spec.name} does not decode')

    @property
    def present(self) -> np.ndarray:
        """The newest input, real or dreamt, in the decoder's space (see :meth:`target`)."""
        raise NotImplementedError(f'{self.spec.name} does not decode')

    def target(self, signal: np.ndarray) -> np.ndarray:
        """Map a signal into the decoder's space."""
        return signal

    def dream(self) -> Percept:
        """Feed the decoder's prediction back to the encoder, as in REM.

        Raises:
            RuntimeError: nothing is expected yet.

        """
        if self.expected is None:
            raise RuntimeError(f'{self.spec.name} has nothing to dream from')
        x = self._encode(self._as_signal(self.expected))
        self._expected = None
        return Percept(x, None, None)

    def _as_signal(self, expected: np.ndarray) -> np.ndarray:
        return expected


def check(value: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Return ``value`` as an array of this shape (-1 is free); raise :class:`SignalError`."""
    value = np.asarray(value)
    if value.ndim != len(shape) or any(
            want not in (-1, have) for want, have in zip(shape, value.shape, strict=True)):
        raise SignalError(f'{name} has shape {value.shape}, expected {shape}')
    if not value.size:
        raise SignalError(f'{name} is empty, shape {value.shape}')
    if value.dtype.kind not in 'fiub':
        raise SignalError(f'{name} holds {value.dtype}, expected real numbers')
    if value.dtype.kind == 'f' and not np.isfinite(value).all():
        raise SignalError(f'{name} holds NaN or infinity')
    return value
