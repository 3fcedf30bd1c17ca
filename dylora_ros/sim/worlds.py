"""Worlds by name; scene files found in the source tree or where the package was installed."""

from pathlib import Path
import sys

from dylora_ros.sim.gaze import Gaze
from dylora_ros.sim.world import World, WorldError

WORLDS: dict[str, type[World]] = {'gaze': Gaze}


def scene_path(name: str) -> Path:
    """Return the MJCF file of a world.

    Raises:
        WorldError: not found; names the places looked at.

    """
    package = Path(__file__).resolve().parents[2]
    places = [package / 'sim', Path(sys.prefix) / 'share/dylora_ros/sim']
    places += [p / 'share/dylora_ros/sim' for p in Path(__file__).resolve().parents]
    for place in places:
        if (place / f'{name}.xml').exists():
            return place / f'{name}.xml'
    raise WorldError(f'scene {name}.xml is in none of {", ".join(map(str, places[:2]))}')


def make(name: str, seed: int = 0, **kwargs) -> World:
    """Make a world by name.

    Raises:
        WorldError: unknown name.

    """
    if name not in WORLDS:
        raise WorldError(f'unknown scene {name!r}; there are: {", ".join(WORLDS)}')
    return WORLDS[name](scene_path(name), seed, **kwargs)
