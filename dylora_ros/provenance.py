"""Where a result comes from: command, versions and machine, to be kept beside its figures."""

from importlib.metadata import PackageNotFoundError, version
import os
from pathlib import Path
import platform
import time


def provenance(command: str, packages: tuple[str, ...] = ('torch', 'numpy'),
               **more) -> dict[str, object]:
    """Return what a committed result must say of itself.

    Args:
        command: that makes it again.
        packages: whose versions matter.
        more: seed and settings.

    """
    versions = {'python': platform.python_version()}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {'command': command, 'date': time.strftime('%Y-%m-%d'), **more, 'versions': versions,
            'machine': machine()}


def machine() -> dict[str, object]:
    """Return the processor's name, its cores that we may use, and the memory in GiB."""
    name = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith('model name'):
                name = line.split(':', 1)[1].strip()
                break
    pages, size = os.sysconf('SC_PHYS_PAGES'), os.sysconf('SC_PAGE_SIZE')
    return {'cpu': name, 'cores': len(os.sched_getaffinity(0)),
            'memory_gib': round(pages * size / 2**30, 1)}
