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
from dylora_ros.core.files import whole
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.rows import RowSchema, WORDS

MOST = 16_000         # rows; 7 MB
REHEARSED = 4000      # of them, the newest, in NREM
FILE = 'childhood.safetensors'


def save(path: Path, rows: np.ndarray, schema: RowSchema):
    """Write the newest ``MOST`` of the rows (n,) with their schema; whole or not at all."""
    rows = np.ascontiguousarray(rows[-MOST:])
    with whole(path) as part:
        save_file({'rows': rows.view(np.uint8).reshape(len(rows), -1)}, str(part),
                  metadata={'schema': schema.to_json()})


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


def without(rows: np.ndarray, schema: RowSchema, name: str) -> np.ndarray:
    """Return an older life (n,) of one that never had this sense, as its rows would be."""
    out, at = rows.copy(), list(schema.modalities).index(name)
    out['mask'] &= ~np.asarray(1 << at, out['mask'].dtype)
    out['x'][:, schema.slices[name]] = 0
    out['age'][:, at] = out['surprise'][:, at] = 0
    return out


def as_late_as(own: np.ndarray, rows: np.ndarray, schema: RowSchema) -> np.ndarray:
    """Return an older life (n,) whose senses come as late as in one's own.

    A frame is some tenths of a second old before it is an LR state, how many depends on the
    machine. What to do about what is seen is another thing if it was seen longer ago, and a
    childhood in which the senses were faster would teach it wrong.

    Args:
        own: (m,) rows of the own life.
        rows: (n,) consecutive rows of the older one.
        schema: of both.

    """
    period = float(np.median(np.diff(rows['stamp']))) * 1e-9
    out = rows
    for i, (name, part) in enumerate(schema.slices.items()):
        heard, known = (r['age'][(r['mask'] >> i) & 1 == 1, i].astype(np.float32)
                         for r in (own, rows))
        if name == WORDS or not len(heard) or not len(known):
            continue
        late = round(float(heard.mean() - known.mean()) / period)
        if not 0 < late < len(rows):
            continue
        out = rows.copy() if out is rows else out
        for field, at in (('x', part), ('surprise', i), ('age', i)):
            out[field][late:, at] = rows[field][:-late, at]
        out['age'][late:, i] += np.float16(late * period)
        bit = rows['mask'].dtype.type(1 << i)
        out['mask'][late:] = out['mask'][late:] & ~bit | rows['mask'][:-late] & bit
    return out


def experience(weights: Path, schema: RowSchema) -> Experience | None:
    """Return what to rehearse; None where the weights came without rows of this agent."""
    try:
        return Experience(load(weights / FILE, schema)[-REHEARSED:], schema)
    except (FileNotFoundError, SchemaError):
        return None
