"""Looking elsewhere when it has been bad for a while."""

from types import SimpleNamespace

import numpy as np
import pytest

from dylora_ros.core.search import LONGEST, PATIENCE, Search

SCHEMA = SimpleNamespace(slices={'vision': slice(0, 2), 'body': slice(2, 3)})
WISH = np.float32([0.1, 0.2, 7.0])        # of a body that no search wishes for


class Arm:
    """One joint: it moves a tenth a cycle, unless it is stuck."""

    def __init__(self, stuck=False):
        self.at, self.poses, self._stuck = 0.0, [], stuck

    def anywhere(self, rng):
        self.poses.append(rng.uniform(-1, 1, 1))
        return self.poses[-1]

    def towards(self, pose):
        return np.clip((pose - self.at) / 0.1, -1, 1)

    def reachable(self, command):
        return command[None]

    def go(self, command):
        self.at += 0.0 if self._stuck or command is None else 0.1 * float(command[0])


def searched(arm, rewards):
    """Return the commands of a search that is told these rewards; None: what was wished."""
    search, out = Search(arm, SCHEMA), []
    for reward in rewards:
        q = search(WISH, reward)
        out.append(None if np.array_equal(q, WISH) else q[2:])
        arm.go(out[-1])
    return out


def test_it_waits_before_it_searches():
    commands = searched(Arm(), [-0.9] * (PATIENCE + 1))
    assert commands[:PATIENCE] == [None] * PATIENCE
    assert commands[PATIENCE] is not None


def test_it_moves_the_body_alone():
    search = Search(Arm(), SCHEMA)
    for _ in range(PATIENCE + 1):
        q = search(WISH, -0.9)
    assert np.array_equal(q[:2], WISH[:2])
    assert WISH[2] == 7.0, 'the wish itself stays'


@pytest.mark.parametrize('reward', [-0.4, None])
def test_what_is_not_bad_ends_a_search(reward):
    bad = [-0.9] * (PATIENCE + 1)
    commands = searched(Arm(), [*bad, reward, *bad])
    assert commands[PATIENCE + 1:-1] == [None] * (PATIENCE + 1)
    assert commands[-1] is not None


def test_it_goes_to_pose_after_pose():
    arm = Arm()
    commands = searched(arm, [-0.9] * (PATIENCE + 200))[PATIENCE:]
    assert len(arm.poses) > 10
    assert all(np.abs(c).max() >= 0.1 for c in commands), 'never stands still'


def test_a_pose_that_cannot_be_reached_is_given_up():
    arm = Arm(stuck=True)
    searched(arm, [-0.9] * (PATIENCE + 3 * LONGEST))
    assert len(arm.poses) == pytest.approx(3, abs=1)
