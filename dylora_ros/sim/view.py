"""Where things are in the agent's view, and plain sentences about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

if TYPE_CHECKING:
    from dylora_ros.sim.world import World


def direction(world: World, body: str) -> tuple[float, float]:
    """Return (right, up) of a body as the camera sees it, in half views; |.| <= 1 is inside.

    Behind the camera, the horizontal value is at least 2 in size, with the side's sign.
    """
    return direction_to(world, world.data.body(body).xpos)


def direction_to(world: World, point: np.ndarray) -> tuple[float, float]:
    """Return :func:`direction` of a point (3,) in the world, m."""
    camera = world.data.camera(world.camera)
    local = camera.xmat.reshape(3, 3).T @ (np.asarray(point) - camera.xpos)
    return direction_of(local, world.model.camera(world.camera).fovy[0])


def direction_of(local: np.ndarray, fovy: float) -> tuple[float, float]:
    """Return (right, up) in half views of a point in the camera's frame.

    Args:
        local: (3,) right, up, backwards, in m.
        fovy: of the camera, degrees.

    """
    half = np.tan(np.radians(fovy) / 2)
    if local[2] > -0.05:
        return float(np.copysign(2.0 + local[2], local[0])), 0.0
    return float(local[0] / -local[2] / half), float(local[1] / -local[2] / half)


def hidden(world: World, geom: str, point: np.ndarray | None = None) -> bool:
    """Whether something stands between the camera and the middle of a geom.

    Args:
        world: looked at.
        geom: name.
        point: (3,) to look at instead of the geom's middle, world frame, m.

    """
    camera = world.data.camera(world.camera)
    wanted = world.data.geom(geom)
    ray = (wanted.xpos if point is None else point) - camera.xpos
    found = np.full((1, 1), -1, np.int32)
    mujoco.mj_ray(world.model, world.data, camera.xpos, ray, None, 1,
                  int(world.model.camera(world.camera).bodyid[0]), found)
    return int(found[0, 0]) not in (-1, wanted.id)


def in_view(right: float, up: float) -> bool:
    """Whether a direction is within the view."""
    return abs(right) <= 1 and abs(up) <= 1


def in_the_middle(right: float, up: float) -> bool:
    """Whether a direction is within the central third of the view."""
    return abs(right) <= 1 / 3 and abs(up) <= 1 / 3


def seen(thing: str, right: float, up: float, covered: bool = False) -> str:
    """Say where a thing is in the view.

    Args:
        thing: its name; underscores are read as spaces.
        right: direction in half views.
        up: direction in half views.
        covered: something stands in front of it.

    """
    name = thing.replace('_', ' ')
    if not in_view(right, up):
        return f'The {name} is out of my view.'
    if covered:
        return f'The {name} is hidden.'
    if in_the_middle(right, up):
        return f'The {name} is in the middle of my view.'
    if abs(right) > abs(up):
        return f'The {name} is on the {"right" if right > 0 else "left"} side of my view.'
    return f'The {name} is at the {"top" if up > 0 else "bottom"} of my view.'


def heard(thing: str, right: float) -> str:
    """Say from where a thing sounds."""
    side = 'in front of me'
    if abs(right) > 1:
        side = f'from the {"right" if right > 0 else "left"}'
    return f'I hear the {thing.replace("_", " ")} {side}.'
