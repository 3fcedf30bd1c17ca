"""Package description for colcon (ament_python) and pip."""

from pathlib import Path
import sys

from setuptools import find_packages, setup

NAME = 'dylora_ros'
NODES = ('simulator', 'camera', 'microphone', 'text', 'actuator', 'global_context', 'predictor',
         'reward', 'lifecycle_manager', 'monitor')
SCRIPTS = (*(f'{node}_node' for node in NODES), 'agent_process')
HERE = Path(__file__).resolve().parent


def requirements(name: str) -> list[str]:
    """Return the lines of a requirements file."""
    lines = (HERE / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def shared(folder: str, pattern: str) -> list[tuple[str, list[str]]]:
    """Return data files of a folder and all below, in the same structure under share/."""
    out: dict[str, list[str]] = {}
    for path in sorted((HERE / folder).rglob(pattern)):
        relative = path.relative_to(HERE)
        out.setdefault(f'share/{NAME}/{relative.parent}', []).append(str(relative))
    return list(out.items())


def shims() -> list[tuple[str, list[str]]]:
    """Return what makes `ros2 run` find a pip-installed node.

    colcon puts the entry points themselves into lib/dylora_ros (setup.cfg); pip puts them into
    bin, where ros2 does not look.
    """
    if 'bdist_wheel' not in sys.argv:
        return []
    folder = HERE / 'build' / 'shims'
    folder.mkdir(parents=True, exist_ok=True)
    for name in SCRIPTS:
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec "$(dirname "$0")/../../bin/{name}" "$@"\n')
        path.chmod(0o755)
    return [(f'lib/{NAME}', [f'build/shims/{name}' for name in SCRIPTS])]


setup(
    name=NAME,
    version='0.1.0',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['weights/*']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        *shared('launch', '*.launch.py'), *shared('config', '*.*'), *shared('sim', '*.xml'),
        *shims(),
    ],
    python_requires='>=3.10',
    install_requires=['setuptools', 'torch>=2.4', *requirements('run')],
    extras_require={'ros': requirements('ros'), 'test': requirements('test')},
    zip_safe=False,
    maintainer='dylora_ros maintainers',
    maintainer_email='maintainers@dylora-ros.example',
    description='A free-running, self-learning robot agent: frozen foundation models coupled by '
                'predicted low-rank states in a global context.',
    license='Apache-2.0',
    entry_points={'console_scripts': [
        'dylora = dylora_ros.__main__:main',
        *(f'{script} = dylora_ros.nodes.process:main' for script in SCRIPTS)]},
)
