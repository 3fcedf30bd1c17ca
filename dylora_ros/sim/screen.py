"""A noisy screen: coloured tiles that no model can predict, to tempt a curious agent."""

import mujoco
import numpy as np

RATE = 25.0           # new colours a second: each cycle's frame differs from the last
_ROWS, _COLUMNS = 6, 9


class Screen:
    """Tiles in front of the wall at y > 0; only the camera notices them.

    Colours are a function of seed and time alone: they do not depend on how often somebody looks,
    and take nothing from the world's own random numbers.

    Args:
        at: (x, y, z) of the middle, m.
        size: half width and half height, m.
    """

    def __init__(self, at: tuple[float, float, float], size: tuple[float, float]):
        self._at, self._size = at, size
        self._tiles: list[int] | None = None

    def add(self, spec: mujoco.MjSpec):
        """Put the tiles into a scene that is not compiled yet."""
        wide, high = self._size[0] / _COLUMNS, self._size[1] / _ROWS
        x, y, z = self._at
        for i in range(_ROWS * _COLUMNS):
            row, column = divmod(i, _COLUMNS)
            spec.worldbody.add_geom(
                name=f'screen_{i}', type=mujoco.mjtGeom.mjGEOM_BOX, contype=0, conaffinity=0,
                pos=[x + (2 * column + 1 - _COLUMNS) * wide, y, z + (2 * row + 1 - _ROWS) * high],
                size=[wide, 0.01, high], rgba=[0, 0, 0, 1])

    def show(self, model: mujoco.MjModel, seed: int, time: float):
        """Colour the tiles for this moment.

        Args:
            model: compiled from the scene.
            seed: of the colours.
            time: simulated seconds.

        """
        if self._tiles is None:
            self._tiles = [model.geom(f'screen_{i}').id for i in range(_ROWS * _COLUMNS)]
        frame = int(time * RATE + 1e-6)
        colours = np.random.default_rng([seed, frame]).random((len(self._tiles), 3))
        model.geom_rgba[self._tiles, :3] = colours
