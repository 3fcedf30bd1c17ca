"""The childhood: rows of the life that the shipped weights learned from.

A short life alone teaches q its accidents by heart; rows of an older life beside it keep what
is true of both (rehearsal in NREM, Robins 1995). Judged by the statements of today, the same rows
teach the will (:func:`dylora_ros.core.will.judged_anew`).
"""

from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from dylora_ros.core.experience import Experience
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.rows import RowSchema

MOST = 16_000         # rows; 7 MB
REHEARSED = 4000      # of them, the newest, in NREM
FILE = 'childhood.safetensors'


def save(path: Path, rows: np.ndarray, schema: RowSchema):
    """Write the newest ``MOST`` of the rows (n,) with their schema; whole or not at all."""
    part = path.with_suffix('.part')
    rows = np.ascontiguousarray(rows[-MOST:])
    save_file({'rows': rows.view(np.uint8).reshape(len(rows), -1)}, str(part),
              metadata={'schema': schema.to_json()})
    part.replace(path)


def load(path: Path, schema: RowSchema) -> np.ndarray:
    """Return the rows (n,) that :func:`save` wrote.

    Raises:
        SchemaError: the rows belong to another agent.
        FileNotFoundError: there is no such file.

    """
    with safe_open(str(path), 'np') as file:
        found = (file.metadata() or {}).get('schema')
        if found != schema.to_json():
            raise SchemaError(f'{path} holds rows of schema {found}, this agent has '
                              f'{schema.to_json()}; make both with '
                              '"python -m dylora_ros pretrain"')
        return np.ascontiguousarray(file.get_tensor('rows')).view(schema.dtype)[:, 0]


def experience(weights: Path, schema: RowSchema) -> Experience | None:
    """Return what to rehearse; None where the weights came without rows of this agent."""
    try:
        return Experience(load(weights / FILE, schema)[-REHEARSED:], schema)
    except (FileNotFoundError, SchemaError):
        return None
