"""Log rows as the numbers that q reads."""

import numpy as np

from dylora_ros.core.rows import FLAG_DREAM, FLAG_FORGOTTEN, RowSchema

REMARKABLE = 3.0      # times a sense's usual prediction error
NEWS = 0.06           # s; an older state's surprise is no longer news
_LIMIT = 8.0          # features beyond this many standard deviations say nothing more


def feature_width(schema: RowSchema) -> int:
    """Return f."""
    return 2 * schema.width + schema.actions + schema.aux + 3 * len(schema.modalities) + 1


def perceived(schema: RowSchema) -> np.ndarray:
    """Return (f,) bool: features known when q is asked; not q, action, aux and reward."""
    out = np.ones(feature_width(schema), bool)
    out[schema.width:2 * schema.width + schema.actions + schema.aux] = False
    out[-1] = False
    return out


def features(rows: np.ndarray, schema: RowSchema) -> np.ndarray:
    """Turn log rows (n,) into (n, f) float32."""
    w, a, t, m = schema.width, schema.actions, schema.aux, len(schema.modalities)
    out = np.empty((len(rows), feature_width(schema)), np.float32)
    at = 0
    for value, width in ((rows['x'], w), (rows['q'], w), (rows['action'], a), (rows['aux'], t),
                         ((rows['mask'][:, None] >> np.arange(m)) & 1, m), (rows['age'], m),
                         (rows['surprise'], m), (rows['reward'][:, None], 1)):
        out[:, at:at + width] = value
        at += width
    age, surprise = out[:, -2 * m - 1:-m - 1], out[:, -m - 1:-1]
    np.minimum(age, 2.0, out=age)
    np.log1p(np.maximum(surprise, 0, out=surprise), out=surprise)
    return np.clip(out, -_LIMIT, _LIMIT, out=out)


def encoded(rows: np.ndarray, schema: RowSchema, name: str) -> np.ndarray:
    """Return one modality's LR states of rows (n,) as in :func:`features`, (n, sites * rank)."""
    return np.clip(rows['x'][:, schema.slices[name]].astype(np.float32), -_LIMIT, _LIMIT)


def inner_states(rows: np.ndarray, schema: RowSchema) -> np.ndarray:
    """Return composite LR state and presence of rows (n,): what is judged, (n, w + m) float32."""
    mask = (rows['mask'][:, None] >> np.arange(len(schema.modalities))) & 1
    return np.concatenate([rows['x'], mask], 1).astype(np.float32)


def lived(rows: np.ndarray) -> np.ndarray:
    """Tell which rows (n,) are memories: neither dreamt nor forgotten; (n,) bool."""
    return (rows['flags'] & (FLAG_DREAM | FLAG_FORGOTTEN)) == 0


def remarkable(rows: np.ndarray) -> np.ndarray:
    """Tell at which rows (n,) a sense had a surprising new input; (n,) bool."""
    present = (rows['mask'][:, None] >> np.arange(rows['age'].shape[1])) & 1
    return ((rows['surprise'] >= REMARKABLE) & (rows['age'] < NEWS) & (present == 1)).any(1)
