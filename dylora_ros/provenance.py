"""Published results: their origin (command, versions, machine), and how they are written."""

from importlib.metadata import PackageNotFoundError, version
import json
import os
from pathlib import Path
import platform
import time

from dylora_ros.paths import write_whole


def provenance(command: str, packages: tuple[str, ...] = ('torch', 'numpy'),
               **more) -> dict[str, object]:
    """Return what a committed result must say of itself.

    Args:
        command: that makes it again.
        packages: whose versions matter.
        more: seed and settings.

    """
    return {'command': command, 'date': time.strftime('%Y-%m-%d'), **more,
            'machine': machine(packages)}


def publish(result: dict, work: Path, out: Path | None, name: str):
    """Write NAME.json beside NAME.png in ``work``, and copy both to ``out`` if there is one."""
    write(work / f'{name}.json', result)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        for file in (f'{name}.json', f'{name}.png'):
            (out / file).write_bytes((work / file).read_bytes())


def machine(packages: tuple[str, ...] = ('torch', 'numpy', 'transformers')) -> dict[str, object]:
    """Return processor, cores that we may use, memory (GiB) and versions."""
    versions = {'python': platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    name = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith('model name'):
                name = line.split(':', 1)[1].strip()
                break
    pages, size = os.sysconf('SC_PHYS_PAGES'), os.sysconf('SC_PAGE_SIZE')
    return {'cpu': name, 'cores': len(os.sched_getaffinity(0)),
            'memory_gib': round(pages * size / 2**30, 1),
            'versions': versions}


def write(path: Path, content: dict):
    """Write JSON; a reader sees the old file or the new one."""
    write_whole(path, json.dumps(content, indent=1) + '\n')
