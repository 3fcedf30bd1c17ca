"""The forage world: a rover looks for the post that sounds, and is fed where it touches it."""

import numpy as np

from dylora_ros.sim import view
from dylora_ros.sim.sound import Source, Voice
from dylora_ros.sim.world import World

POSTS = ('red_post', 'green_post', 'blue_post', 'yellow_post')
VOICES = {
    'red_post': Voice(330.0, (1.0, 0.2, 0.5), 3.0),
    'green_post': Voice(196.0, (0.7, 1.0, 0.3, 0.6), 1.3),
    'blue_post': Voice(587.0, (1.0, 0.6), 5.0),
    'yellow_post': Voice(440.0, (0.8, 0.3, 0.6, 0.2), 2.0),
}
REACH = 0.41            # m from axis to axis: rover and post touch, or nearly so
COST, FOOD = 0.01, 0.06      # energy a second: of living, and of a touched sounding post
RATION = 0.48           # energy a post has before it falls silent
_CORNER = 1.55          # m: posts stand around the middles of the room's quarters
_QUIET = ('floor', 'wheel_left', 'wheel_right', 'caster_front', 'caster_back')


class Forage(World):
    """See the module. The task: touch the post that sounds.

    A post sounds for 15 to 30 s, or until its ration is eaten; then another one does. ``energy``
    (0 .. 1) is the ground truth of how well the rover has lived.
    """

    def _on_reset(self):
        self._quiet = frozenset(self.model.geom(name).id for name in _QUIET)
        quarters = self.rng.permutation([(1, 1), (1, -1), (-1, 1), (-1, -1)])
        for post, quarter in zip(POSTS, quarters, strict=True):
            mocap = self.model.body(post).mocapid[0]
            self.data.mocap_pos[mocap, :2] = _CORNER * quarter + self.rng.uniform(-0.6, 0.6, 2)
        heading = self.rng.uniform(-np.pi, np.pi)
        rover = self.data.joint('rover').qpos
        rover[:2] = self.rng.uniform(-0.3, 0.3, 2)
        rover[3:] = np.cos(heading / 2), 0, 0, np.sin(heading / 2)
        self.energy = 0.7
        self.sounding = POSTS[self.rng.integers(len(POSTS))]
        self._start_spell()

    def _start_spell(self):
        self._left = RATION
        self._next_voice = self.time + self.rng.uniform(15.0, 30.0)

    def _before_step(self):
        seconds = self.model.opt.timestep
        gain = FOOD * seconds if self.success() else 0.0
        self._left -= gain
        self.energy = float(np.clip(self.energy + gain - COST * seconds, 0, 1))
        if self.time >= self._next_voice or self._left <= 0:
            others = [p for p in POSTS if p != self.sounding]
            self.sounding = others[self.rng.integers(len(others))]
            self._start_spell()

    def _impact_now(self) -> float:
        return self._knock(self._quiet, 800.0)

    def distance(self, post: str) -> float:
        """Return the distance on the floor from the rover's axis to a post's, m."""
        way = self.data.body(post).xpos - self.data.body('base_link').xpos
        return float(np.hypot(way[0], way[1]))

    def success(self) -> bool:
        """Whether the rover touches the sounding post."""
        return self.distance(self.sounding) <= REACH

    def score(self) -> float:
        """Return 1 at the sounding post, less (0.3 at most) with the distance from it."""
        away = self.distance(self.sounding) - REACH
        return 1.0 if away <= 0 else float(0.3 * np.exp(-away))

    def sources(self) -> list[Source]:
        """Return the sounding post, heard from its middle."""
        return [self._source(VOICES[self.sounding], 0.3, self.data.geom(self.sounding).xpos)]

    def direction(self, post: str) -> tuple[float, float]:
        """Return (right, up) of a post at the height of the eye, in half views."""
        return view.direction_to(self, self._look_at(post))

    def _look_at(self, post: str) -> np.ndarray:
        return np.array([*self.data.body(post).xpos[:2], self.data.camera(self.camera).xpos[2]])

    def captions(self) -> list[str]:
        """Say of each post where it is in the view, what sounds, what is touched, the energy."""
        out = [view.seen(post, *self.direction(post), view.hidden(self, post, self._look_at(post)))
               for post in POSTS]
        out.append(view.heard(self.sounding, self.direction(self.sounding)[0]))
        for post in POSTS:
            if self.distance(post) <= REACH:
                name = post.replace('_', ' ')
                out.append(f'I touch the {name} and it feeds me.' if post == self.sounding
                           else f'I touch the {name} but it is silent.')
        if self.energy < 0.3:
            out.append('I am hungry.')
        elif self.energy > 0.9:
            out.append('I am full.')
        return out
