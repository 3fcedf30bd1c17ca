"""How a lost toy is found again: what hearing and remembering are for when sight is no help."""

from dataclasses import dataclass, field

import numpy as np

from dylora_ros.experiments.babble import PERIOD

SOON = 3.0            # s


@dataclass
class Search:
    """Where the named toy is in the view, cycle by cycle (see ``view.direction``).

    Attributes:
        right, up: in half views; beyond 1 it is out of the view.
        sounding: whether it is the one that sounds.
    """

    right: list[float] = field(default_factory=list)
    up: list[float] = field(default_factory=list)
    sounding: list[bool] = field(default_factory=list)

    def look(self, world):
        """Take down one cycle of a ``gaze`` world."""
        right, up = world.direction(world.toy)
        self.right.append(right)
        self.up.append(up)
        self.sounding.append(world.sounding == world.toy)

    def summary(self) -> dict:
        """Return how often the toy is lost, and how it is found.

        ``found_soon``: share of the times out of view that end within ``SOON`` seconds (those
        that began too near the end are left out); ``sounding`` and ``silent``: by what the toy
        did when it was lost. None where there were none.
        """
        right, up, sounding = map(np.array, (self.right, self.up, self.sounding))
        out = (np.abs(right) > 1) | (np.abs(up) > 1)
        edge = np.diff(out.astype(int))
        begins, ends = np.flatnonzero(edge == 1) + 1, np.flatnonzero(edge == -1) + 1
        soon = round(SOON / PERIOD)
        counted = begins[begins <= len(out) - soon]
        after = np.searchsorted(ends, counted)
        end = np.append(ends, len(out) + soon)[after]
        found = end - counted <= soon

        def share(which: np.ndarray) -> dict:
            return {'times': int(which.sum()),
                    'found_soon': round(float(found[which].mean()), 4) if which.any() else None}

        heard = sounding[counted] if len(counted) else np.zeros(0, bool)
        return {'out_of_view': round(float(out.mean()), 4), **share(np.ones(len(counted), bool)),
                'sounding': share(heard), 'silent': share(~heard)}
