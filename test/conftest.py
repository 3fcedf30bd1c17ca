"""Settings for the whole suite: strict messages, a domain of its own, this machine only."""

import os
from pathlib import Path
import sys

import pytest

# before rclpy or torch is imported anywhere
os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ.setdefault('ROS_DOMAIN_ID', str(20 + os.getpid() % 80))
os.environ['HF_HUB_OFFLINE'] = '1'
for _name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ.setdefault(_name, '1')
os.environ.setdefault('MUJOCO_GL', 'egl')

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


@pytest.fixture(autouse=True)
def _one_thread():
    import torch
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def root() -> Path:
    """Return the root of the repository."""
    return ROOT


@pytest.fixture
def small_schema():
    """Return a row schema of two small modalities."""
    from dylora_ros.core.context import RowSchema
    return RowSchema({'vision': (2, 3), 'body': (2, 2)}, actions=2, aux=4)


@pytest.fixture
def log(tmp_path, small_schema):
    """Return an empty log of 100 rows, writable."""
    from dylora_ros.core.context import GlobalContext
    with GlobalContext.open(tmp_path / 'context.gc', small_schema, 100) as opened:
        yield opened
