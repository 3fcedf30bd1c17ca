"""Worlds by name; scene files found in the source tree or where the package was installed."""

from pathlib import Path

from dylora_ros.paths import share_file
from dylora_ros.sim.custom import Custom
from dylora_ros.sim.forage import Forage
from dylora_ros.sim.gaze import Gaze
from dylora_ros.sim.reach import Reach
from dylora_ros.sim.world import World, WorldError

WORLDS: dict[str, type[World]] = {'gaze': Gaze, 'forage': Forage, 'reach': Reach}


def scene_path(name: str) -> Path:
    """Return the MJCF file of a world."""
    return share_file(f'sim/{name}.xml')


def make(name: str, seed: int = 0, **kwargs) -> World:
    """Make a world by name, or one of your own from a YAML file (see ``custom.py``).

    Args:
        name: one of ``WORLDS``, or a path that ends in .yaml or .yml.
        seed: of everything random.
        kwargs: of the world.

    Raises:
        WorldError: unknown name, or a faulty file.

    """
    if str(name).endswith(('.yaml', '.yml')):
        return Custom(name, seed, **kwargs)
    if name not in WORLDS:
        raise WorldError(f'unknown scene {name!r}; there are: {", ".join(WORLDS)}, or the path of '
                         'a .yaml file that describes your own (docs/worlds.md)')
    return WORLDS[name](scene_path(name), seed, **kwargs)
