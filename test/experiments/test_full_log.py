"""The full memory that benchmarks/loop.py lives on is one that the agent takes as its own."""

import json
from pathlib import Path
import sys
import time

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'benchmarks'))

from dylora_ros.core.context import GlobalContext, RowSchema  # noqa: E402
from dylora_ros.experiments.stream import PERIOD  # noqa: E402
from dylora_ros.modalities import registry  # noqa: E402


def record(path, schema):
    """Write a recording of 1200 rows."""
    with GlobalContext.open(path, schema, 1200) as log:
        for n in range(1200):
            log.append(stamp=n * PERIOD, mask=1, x=np.full(schema.width, n % 7))
    return path


def test_full_memory_ends_now_and_has_slept(tmp_path):
    from loop import remember
    folder, schema = tmp_path / 'memory', registry.row_schema(2)
    remember(folder, record(tmp_path / 'life.gc', schema), 1500)
    with GlobalContext.open(folder / 'context.gc', schema, 1500, 1500) as log:
        assert (log.committed, log.fill) == (1500, 1.0)
        rows = log.rows(0, 1500)
        assert log.verify() == []
    assert (np.diff(rows['stamp']) == PERIOD).all()
    assert 0 <= time.time_ns() - rows['stamp'][-1] < 60e9
    assert json.loads((folder / 'slept.json').read_text()) == {'row': 1500}


def test_recording_of_other_weights_is_refused(tmp_path):
    from loop import remember
    mine = registry.row_schema(2)
    other = RowSchema(mine.modalities, mine.actions, mine.aux, 'others')
    with pytest.raises(SystemExit, match='other weights'):
        remember(tmp_path / 'memory', record(tmp_path / 'life.gc', other), 1500)
