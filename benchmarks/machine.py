"""Where and with what a result was measured; goes into every result file."""

from importlib.metadata import PackageNotFoundError, version
import os
from pathlib import Path
import platform
import subprocess


def machine() -> dict:
    """Return CPU, cores, load and the versions that matter."""
    names = ('torch', 'numpy', 'transformers', 'faiss-cpu')
    versions = {'python': platform.python_version()}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {'cpu': _cpu(), 'cores': os.cpu_count(), 'load': round(os.getloadavg()[0], 2),
            'versions': versions, 'commit': _commit()}


def _cpu() -> str:
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            return line.split(':')[1].strip()
    return platform.processor()


def _commit() -> str:
    out = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True,
                         cwd=Path(__file__).parent, check=False)
    return out.stdout.strip()
