"""The package as colcon and pip see it."""

import ast
from pathlib import Path
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile

import pytest

import dylora_ros
from dylora_ros import graph

ROOT = Path(__file__).resolve().parents[1]
# import name -> name in package.xml or on the package index, where they differ
NAMES = {'cv2': 'opencv-python-headless', 'yaml': 'PyYAML', 'tf2_msgs': 'tf2_msgs'}
OPTIONAL = {'peft', 'matplotlib', 'scipy', 'gguf', 'accelerate', 'mcap', 'faiss', 'datasets',
            'gymnasium', 'dm_control', 'stable_baselines3', 'rosbags', 'mcap_ros2', 'pandas',
            'ament_index_python'}


@pytest.fixture(scope='module')
def manifest():
    return ElementTree.parse(ROOT / 'package.xml').getroot()


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Return the contents of the wheel that pip would install."""
    out = tmp_path_factory.mktemp('wheel')
    copy = tmp_path_factory.mktemp('source') / 'dylora_ros'
    tracked = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others',
                              '--exclude-standard'], cwd=ROOT, capture_output=True, check=False)
    if tracked.returncode:
        pytest.skip('not a git checkout')
    for file in filter(None, tracked.stdout.decode().split('\0')):
        if not (ROOT / file).exists():
            continue
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        (copy / file).write_bytes((ROOT / file).read_bytes())
    done = subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps',
                           '--no-build-isolation', '-w', str(out), str(copy)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(out.glob('*.whl'))) as file:
        yield {i.filename: i for i in file.infolist()}


def test_versions_agree(manifest):
    setup = re.search(r"version='([^']+)'", (ROOT / 'setup.py').read_text())[1]
    assert manifest.findtext('version') == setup == dylora_ros.__version__


def test_manifest_is_format_3_ament_python(manifest):
    assert manifest.get('format') == '3'
    assert manifest.findtext('export/build_type') == 'ament_python'
    assert (ROOT / manifest.find('license').get('file')).exists()


def test_every_import_is_declared(manifest):
    declared = {d.text for kind in ('exec_depend', 'depend') for d in manifest.findall(kind)}
    run = (ROOT / 'requirements' / 'run.txt').read_text() + '\ntorch\n'
    declared |= {re.split(r'[<>=\s]', line)[0] for line in run.splitlines()}
    used = set()
    for path in [*(ROOT / 'dylora_ros').rglob('*.py'), *(ROOT / 'launch').glob('*.py')]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                used |= {a.name.split('.')[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                used.add(node.module.split('.')[0])
    used -= set(sys.stdlib_module_names) | {'dylora_ros'} | OPTIONAL
    assert not {u for u in used if NAMES.get(u, u) not in declared}


def test_scripts_are_one_a_node():
    text = (ROOT / 'setup.py').read_text()
    for node in graph.NODES:
        assert f"'{node}'" in text


def test_wheel_holds_what_ros2_looks_for(wheel):
    data = {n.split('.data/data/')[1] for n in wheel if '.data/data/' in n}
    assert 'share/ament_index/resource_index/packages/dylora_ros' in data
    assert 'share/dylora_ros/package.xml' in data
    assert 'share/dylora_ros/launch/agent.launch.py' in data
    for path in (ROOT / 'config').iterdir():
        assert f'share/dylora_ros/config/{path.name}' in data
    for path in (ROOT / 'sim').rglob('*.xml'):
        assert f'share/dylora_ros/{path.relative_to(ROOT)}' in data
    for node in graph.NODES:
        assert f'lib/dylora_ros/{node}_node' in data


def test_nodes_of_the_wheel_are_executable(wheel):
    modes = [i.external_attr >> 16 for n, i in wheel.items() if '/lib/dylora_ros/' in n]
    assert modes
    assert all(mode & 0o111 for mode in modes)


def test_wheel_holds_the_shipped_weights_and_no_tests(wheel):
    shipped = {p.name for p in (ROOT / 'dylora_ros' / 'weights').iterdir()}
    assert shipped <= {Path(n).name for n in wheel if n.startswith('dylora_ros/weights/')}
    assert not [n for n in wheel if n.startswith('test')]


def test_command_line_lists_its_commands():
    done = subprocess.run([sys.executable, '-m', 'dylora_ros', '--help'], capture_output=True,
                          text=True, cwd=ROOT, check=False)
    assert done.returncode == 0
    assert 'run' in done.stdout


def test_unknown_command_is_an_error_that_names_the_known():
    done = subprocess.run([sys.executable, '-m', 'dylora_ros', 'dance'], capture_output=True,
                          text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert 'run' in done.stderr


@pytest.mark.parametrize(('options', 'words'), [
    (['--scene', 'moon'], 'gaze'), (['--params-file', '/nowhere.yaml'], '/nowhere.yaml')])
def test_run_refuses_wrong_options_with_a_clear_word(options, words):
    pytest.importorskip('rclpy')
    done = subprocess.run([sys.executable, '-m', 'dylora_ros', 'run', '--headless', *options],
                          capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 2
    assert words in done.stderr


def test_misspelt_parameter_ends_a_node_with_a_clear_word(tmp_path):
    pytest.importorskip('rclpy')
    done = subprocess.run([sys.executable, '-m', 'dylora_ros.nodes.process', '--nodes', 'monitor',
                           '--ros-args', '-p', 'dashbord_rate:=2.0'],
                          capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 2
    assert 'dashbord_rate' in done.stderr


def test_readme_links_exist():
    text = (ROOT / 'README.md').read_text()
    for target in re.findall(r'\]\(([^)#:]+)\)', text):
        assert (ROOT / target).exists(), target


def test_code_is_ruff_clean():
    pytest.importorskip('ruff')
    done = subprocess.run([sys.executable, '-m', 'ruff', 'check', '.'], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
