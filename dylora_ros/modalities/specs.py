"""Shapes of the modalities, known before any weight or framework is loaded."""

from dataclasses import dataclass

import numpy as np

ORDER = ('vision', 'audio', 'text', 'body')     # of the composite LR state
EARS = 2
RATE = 16000                                    # samples of sound a second


class SignalError(ValueError):
    """A signal of the wrong shape, type or with NaN; says what was expected."""


@dataclass(frozen=True)
class ModalitySpec:
    """Shapes of a modality, known before its weights are.

    Args:
        name: topic prefix and slot in the composite LR state.
        rate: how often its state is renewed, Hz (0: on arrival).
        signal: shape of one input, -1 where free.
        sites: adapted layers (rows of the LR state).
        rank: columns of the LR state.
        decodes: whether it predicts its next input.
    """

    name: str
    rate: float
    signal: tuple[int, ...]
    sites: int
    rank: int
    decodes: bool


def vision_spec(rate: float = 6.25, rank: int = 4) -> ModalitySpec:
    """Return vision's shapes."""
    return ModalitySpec('vision', rate, (-1, -1, 3), 8, rank, True)


def audio_spec(rate: float = 5.0, rank: int = 4) -> ModalitySpec:
    """Return hearing's shapes: four sites an ear."""
    return ModalitySpec('audio', rate, (EARS, -1), 4 * EARS, rank, True)


def text_spec(rank: int = 4) -> ModalitySpec:
    """Return the shapes of words."""
    return ModalitySpec('text', 0.0, (), 4, rank, False)


def body_spec(joints: int, rate: float = 25.0, rank: int = 4) -> ModalitySpec:
    """Return the body's shapes: position, velocity and last command of each joint, contact."""
    return ModalitySpec('body', rate, (3 * joints + 1,), 4, rank, True)


def specs(joints: int, rank: int = 4) -> dict[str, ModalitySpec]:
    """Return every modality's shapes, in the order of the composite."""
    return {'vision': vision_spec(rank=rank), 'audio': audio_spec(rank=rank),
            'text': text_spec(rank=rank), 'body': body_spec(joints, rank=rank)}


def body_signal(position: np.ndarray, velocity: np.ndarray, command: np.ndarray,
                contact: float = 0.0) -> np.ndarray:
    """Compose the body's input: positions (rad), velocities (rad/s), last command, contact."""
    return np.concatenate([position, velocity, command, [contact]]).astype(np.float32)
