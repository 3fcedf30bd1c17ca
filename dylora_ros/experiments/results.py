"""Writing published results: whole or not at all, with the machine and versions inside."""

import json
import os
from pathlib import Path
import platform


def machine() -> dict:
    """Return what a measurement was made on."""
    import torch
    import transformers
    cpu = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.exists():
        names = [line.split(':', 1)[1].strip() for line in info.read_text().splitlines()
                 if line.startswith('model name')]
        cpu = names[0] if names else cpu
    return {'cpu': cpu, 'cores': os.cpu_count(), 'threads': torch.get_num_threads(),
            'python': platform.python_version(), 'torch': torch.__version__,
            'transformers': transformers.__version__}


def write(path: Path, content: dict):
    """Write JSON; a reader sees the old file or the new one."""
    part = path.with_suffix('.part')
    part.write_text(json.dumps(content, indent=1) + '\n')
    part.replace(path)
