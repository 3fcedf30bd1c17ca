"""Worlds by name; scene files found in the source tree or where the package was installed."""

from pathlib import Path

from dylora_ros.paths import share_file
from dylora_ros.sim.custom import Custom
from dylora_ros.sim.forage import Forage
from dylora_ros.sim.gaze import Gaze
from dylora_ros.sim.nudged import Nudged
from dylora_ros.sim.reach import Reach
from dylora_ros.sim.world import World, WorldError

WORLDS: dict[str, type[World]] = {'gaze': Gaze, 'nudged': Nudged, 'forage': Forage,
                                  'reach': Reach}
_FILES = {'nudged': 'gaze'}     # worlds that share another's scene


def scene_path(name: str) -> Path:
    """Return the MJCF file of a world."""
    return share_file(f'sim/{_FILES.get(name, name)}.xml')


def has_toys(name: str) -> bool:
    """Whether it is gaze, or differs from it in what happens alone: same body, sights, task."""
    return issubclass(WORLDS.get(name, World), Gaze)


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
