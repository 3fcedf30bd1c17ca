"""The reach world: an arm, and a humming ball to touch that jumps elsewhere from time to time."""

import mujoco
import numpy as np

from dylora_ros.sim import view
from dylora_ros.sim.sound import Source, Voice
from dylora_ros.sim.world import World

BALL = 'blue_ball'
VOICE = Voice(392.0, (1.0, 0.4, 0.5), 2.5)
REACH = 0.12            # m between the middles: fingertip (0.045) and ball (0.06) touch, or nearly
_STAY = 5.0, 12.0       # s at one place
_ABOVE = 0.1            # m over the table, at least
_CLEAR = 0.2            # m: a ball never appears nearer to the arm than this


class Reach(World):
    """See the module. The task: touch the ball with the fingertip."""

    def _on_reset(self):
        self._quiet = frozenset([self.model.geom('floor').id])
        self._mocap = self.model.body(BALL).mocapid[0]
        for name, low, high in (('waist', -1.2, 1.2), ('shoulder', -0.3, 0.5),
                                ('elbow', 0.4, 1.4)):
            self.data.joint(name).qpos[0] = self.rng.uniform(low, high)
        mujoco.mj_kinematics(self.model, self.data)      # where the arm is now
        self._jump()

    def _jump(self):
        """Move the ball to a place that the fingertip can reach, off the arm."""
        shoulder, elbow = self.data.body('upper_arm').xpos, self.data.body('forearm').xpos
        tip = self.data.site('fingertip').xpos
        while True:
            distance, azimuth = self.rng.uniform(0.3, 0.6), self.rng.uniform(-1.4, 1.4)
            elevation = self.rng.uniform(-0.25, 0.7)
            place = np.array([distance * np.cos(azimuth) * np.cos(elevation),
                              distance * np.sin(azimuth) * np.cos(elevation),
                              0.18 + distance * np.sin(elevation)])
            clear = min(_from_segment(place, shoulder, elbow), _from_segment(place, elbow, tip))
            if clear > _CLEAR and place[2] > _ABOVE:
                break
        self.data.mocap_pos[self._mocap] = place
        self._next_jump = self.time + self.rng.uniform(*_STAY)

    def _before_step(self):
        if self.time >= self._next_jump:
            self._jump()

    def _impact_now(self) -> float:
        return self._knock(self._quiet, 100.0)

    def distance(self) -> float:
        """Return the distance between the middles of fingertip and ball, m."""
        return float(np.linalg.norm(self.data.site('fingertip').xpos - self.data.body(BALL).xpos))

    def success(self) -> bool:
        """Whether the fingertip touches the ball."""
        return self.distance() <= REACH

    def score(self) -> float:
        """Return 1 at the ball, less (0.5 at most) with the distance from it."""
        away = self.distance() - REACH
        return 1.0 if away <= 0 else float(0.5 * np.exp(-4 * away))

    def sources(self) -> list[Source]:
        """Return the humming ball."""
        return [self._source(VOICE, 0.15, self.data.body(BALL).xpos)]

    def captions(self) -> list[str]:
        """Say where the ball is in the view and whence it sounds, and where the finger is."""
        name = BALL.replace('_', ' ')
        right, up = view.direction(self, BALL)
        out = [view.seen(BALL, right, up, view.hidden(self, BALL)), self._heard()]
        way = self.data.body(BALL).xpos - self.data.site('fingertip').xpos
        if self.success():
            out.append(f'I touch the {name}.')
            return out
        far = 'near' if self.distance() < 0.25 else 'far from'
        out.append(f'My finger is {far} the {name}.')
        # base frame after REP-103: y is to the left, z up
        if abs(way[1]) >= abs(way[2]):
            out.append(f'The {name} is to the {"left" if way[1] > 0 else "right"} of my finger.')
        else:
            out.append(f'The {name} is {"above" if way[2] > 0 else "below"} my finger.')
        return out

    def _heard(self) -> str:
        """Say whence the ball sounds; ears hear sides even where the eye sees all of the table."""
        way = self.data.body(BALL).xpos - self.data.body('head').xpos
        side = np.arctan2(way[1], way[0])
        return view.heard(BALL, 0.0 if abs(side) < 0.35 else -2.0 * np.sign(side))


def _from_segment(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Return the distance of a point from a segment."""
    along = end - start
    share = np.clip((point - start) @ along / max(along @ along, 1e-12), 0, 1)
    return float(np.linalg.norm(point - start - share * along))
