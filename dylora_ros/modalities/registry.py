"""The agent's senses by name, their shapes, and the weights that ship with the project."""

from collections.abc import Iterable
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from dylora_ros.core.context import RowSchema
from dylora_ros.modalities.specs import ORDER, specs

if TYPE_CHECKING:     # the nodes read shapes and digests without loading torch
    from dylora_ros.modalities.base import Modality

SHIPPED = Path(__file__).resolve().parents[1] / 'weights'


def make(name: str, joints: int = 2, weights: Path | None = SHIPPED, **kwargs) -> 'Modality':
    """Build a modality and load its low-rank weights.

    Args:
        name: one of ORDER.
        joints: of the body.
        weights: folder of ``<name>.safetensors``; None leaves it newborn.
        kwargs: of the modality's class.

    Raises:
        ValueError: unknown name.
        WeightsError: those of the frozen model are missing.
        FileNotFoundError, SchemaError: the low-rank ones are missing or do not fit.

    """
    if name == 'vision':
        from dylora_ros.modalities.vision import Vision
        modality: Modality = Vision(**kwargs)
    elif name == 'audio':
        from dylora_ros.modalities.audio import Audio
        modality = Audio(**kwargs)
    elif name == 'text':
        from dylora_ros.modalities.text import Text
        modality = Text(**kwargs)
    elif name == 'body':
        from dylora_ros.modalities.body import Body
        modality = Body(joints, **kwargs)
    else:
        raise ValueError(f'unknown modality {name!r}; there are {", ".join(ORDER)}')
    if weights is not None:
        modality.load(Path(weights) / f'{name}.safetensors')
    return modality


def digest(weights: Path = SHIPPED, names: Iterable[str] = ORDER) -> str:
    """Return a name of the low-rank weights in a folder: x of other weights is not comparable."""
    total = hashlib.sha256()
    for name in names:
        path = Path(weights) / f'{name}.safetensors'
        total.update(name.encode())
        if path.exists():
            total.update(path.read_bytes())
    return total.hexdigest()[:16]


def row_schema(joints: int, weights: Path = SHIPPED, rank: int = 4) -> RowSchema:
    """Return the log's row of an agent with this body and these low-rank weights."""
    shapes = {name: (spec.sites, spec.rank) for name, spec in specs(joints, rank).items()}
    return RowSchema(shapes, joints, adapters=digest(weights))
