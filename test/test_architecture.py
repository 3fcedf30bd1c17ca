"""Who may know whom: core nobody, modalities core, sim nobody; ROS only in ros/ and nodes/."""

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
import re

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'dylora_ros'
ROS = re.compile(r'^(rclpy|rcl_interfaces|lifecycle_msgs|launch|launch_ros|ament_\w+|\w+_msgs|'
                 r'std_srvs|builtin_interfaces)(\.|$)')
FREE = ('core', 'modalities', 'sim', 'experiments')
FILES = sorted(PACKAGE.rglob('*.py'))


def imports(path: Path) -> set[str]:
    """Return all modules that a file imports, wherever it does."""
    out = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            out |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            out.add(node.module)
            out |= {f'{node.module}.{a.name}' for a in node.names}
    return out


def files(*folders):
    return [p for folder in folders for p in sorted((PACKAGE / folder).rglob('*.py'))]


def name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize('path', files(*FREE), ids=name)
def test_algorithms_never_import_ros(path):
    assert not [m for m in imports(path) if ROS.match(m)]


@pytest.mark.parametrize('path', files('core'), ids=name)
def test_core_knows_nobody(path):
    inside = {m for m in imports(path) if m.startswith('dylora_ros.')}
    assert all(m.startswith('dylora_ros.core') for m in inside), inside


@pytest.mark.parametrize('path', files('modalities'), ids=name)
def test_modalities_know_core_only(path):
    inside = {m for m in imports(path) if m.startswith('dylora_ros.')}
    assert all(m.startswith(('dylora_ros.core', 'dylora_ros.modalities')) for m in inside), inside


@pytest.mark.parametrize('path', files('sim'), ids=name)
def test_sim_knows_neither_core_nor_modalities(path):
    inside = {m for m in imports(path) if m.startswith('dylora_ros.')}
    assert all(m.startswith(('dylora_ros.sim', 'dylora_ros.paths')) for m in inside), inside


@pytest.mark.parametrize('path', files('nodes'), ids=name)
def test_only_ros_folder_knows_message_fields(path):
    # nodes may name service and lifecycle types; topics' messages are built in ros/messages.py
    odd = [m for m in imports(path) if re.match(
        r'^(sensor_msgs|std_msgs|diagnostic_msgs|visualization_msgs|geometry_msgs)', m)]
    assert not odd


@pytest.mark.parametrize('path', [p for p in FILES if p.parent.name != 'ros'], ids=name)
def test_one_place_knows_qos(path):
    assert 'rclpy.qos' not in imports(path)


@pytest.mark.parametrize('path', FILES, ids=name)
def test_no_file_is_a_novel(path):
    lines = len(path.read_text().splitlines())
    assert lines <= 470, f'{lines} lines; split it'


@pytest.mark.parametrize('path', FILES, ids=name)
def test_nothing_is_ever_unpickled(path):
    text = path.read_text()
    assert 'torch.load' not in text
    assert not any(m.split('.')[0] in ('pickle', 'dill', 'joblib') for m in imports(path))


@pytest.mark.parametrize('path', sorted((ROOT / 'benchmarks').glob('*.py')), ids=name)
def test_benchmarks_import_what_is_there(path):
    # they are run by hand: a name that has moved would only be missed then
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith('dylora_ros'):
            module = import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or find_spec(
                    f'{node.module}.{alias.name}'), f'{node.module} has no {alias.name}'
