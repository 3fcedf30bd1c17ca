"""The continuous Q on the agent."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dylora_ros.core.context import FLAG_BOOT, FLAG_DREAM
from dylora_ros.core.cycle import Prediction
from dylora_ros.core.dqn import ContinuousQ
from dylora_ros.core.experience import Experience, MIN_ROWS
from dylora_ros.core.predictor import Predictor
from dylora_ros.core.qnetwork import QNetwork
from dylora_ros.core.recollection import Recollecting
from dylora_ros.core.rows import RowSchema
from dylora_ros.core.will import (
    aligned,
    context_width,
    judged_anew,
    read_all,
    seen_at,
    state_width,
    states,
    trajectory,
    VARY,
    Will,
)

WITH = 96 + 4 + 1         # read by q, and told of a recollection, of the small schema


def some_rows(schema, n=MIN_ROWS + 40):
    rng = np.random.default_rng(0)
    rows = np.zeros(n, schema.dtype)
    rows['stamp'] = (np.arange(n) + 1) * 40_000_000
    rows['x'] = rng.standard_normal((n, schema.width))
    rows['mask'] = 3
    rows['action'] = rng.uniform(-1, 1, (n, schema.actions))
    return rows


def test_it_chooses_the_body_and_leaves_the_other_senses_to_q(small_schema):
    torch.manual_seed(0)
    dqn, motor = ContinuousQ(state_width(small_schema), 2), Motor(0.5)

    row = some_rows(small_schema, 1)[0]
    predicted = np.arange(10, dtype=np.float32) / 10
    will = Will(dqn, small_schema, motor)
    q, value = will(row, Prediction(predicted, 0.0, 0.0, np.zeros(4), np.zeros(96, np.float32)))
    assert np.array_equal(q[:6], predicted[:6])
    assert np.array_equal(q[6:], np.full(4, 0.5))
    assert motor.commands[0].shape == (2,)
    state = states(np.zeros((1, WITH)), row.reshape(1), small_schema)
    assert value == pytest.approx(float(dqn.value(state)[0]))


def test_a_late_reward_goes_to_the_state_it_judges(small_schema):
    rows = some_rows(small_schema, 6)
    rows['reward'][3:] = 0.7, 0.8, 0.9
    rows['reward_stamp'][3:] = rows['stamp'][1:4]
    assert aligned(rows).tolist() == pytest.approx([0, 0.7, 0.8, 0.9, 0.9, 0.9])


def test_a_reward_of_a_state_that_is_gone_is_left_out(small_schema):
    rows = some_rows(small_schema, 4)
    rows['reward'], rows['reward_stamp'] = 5.0, 17
    assert not aligned(rows).any()


def test_training_reads_what_waking_life_read(log):
    torch.manual_seed(0)
    rows = some_rows(log.schema)[:99]
    network = QNetwork(log.schema).eval()
    torch.nn.init.normal_(network.next.weight, std=0.1)
    for row in rows:
        log.append_row(row)
    last = some_rows(log.schema, 100)[99]
    composed = last.copy()
    composed['action'] = 0                     # not decided yet
    lived = Predictor(network, log).observe(composed).state
    log.append_row(last)
    # long enough to be learned from: the oldest rows are repeated in front, out of reach
    data = Experience(np.concatenate([_long_ago(rows), log.rows(0, 100)]), log.schema)
    assert np.allclose(read_all(network, data)[-1], lived, atol=2e-3)


def _long_ago(rows):
    old = rows[:60].copy()
    old['stamp'] -= int(1e12)
    old['flags'] |= FLAG_DREAM                 # no memories: neither finds them
    return old


def test_without_context_only_the_present_counts(small_schema):
    torch.manual_seed(0)
    rows = some_rows(small_schema)
    changed = rows.copy()
    changed['x'][:-1] += 1
    network = QNetwork(small_schema)
    a, b = (read_all(network, Experience(r, small_schema), context=False)[-1]
            for r in (rows, changed))
    c, d = (read_all(network, Experience(r, small_schema))[-1] for r in (rows, changed))
    assert np.allclose(a, b)
    assert not np.allclose(c, d)


def test_how_far_the_body_turned_since_the_last_frame_is_known(small_schema):
    rows = some_rows(small_schema, 40)
    rows['age'][:, 0] = np.arange(40) % 4 * 0.04          # a frame every four cycles
    assert seen_at(rows, small_schema).tolist() == [t - t % 4 for t in range(40)]
    known = states(np.zeros((40, 96)), rows, small_schema)
    body = rows['x'][:, small_schema.slices['body']].astype(np.float32)
    assert np.allclose(known[7, -body.shape[1]:], body[7] - body[4])
    assert not known[8, -body.shape[1]:].any(), 'the twin: at the frame itself'


def test_after_a_pause_a_row_is_its_own_moment(small_schema):
    rows = some_rows(small_schema, 8)
    rows['stamp'][4:] += int(1e9)
    rows['age'][4, 0] = 0.08
    assert seen_at(rows, small_schema)[4] == 4
    rows['age'][6, 0] = 0.08
    assert seen_at(rows, small_schema)[6] == 4, 'the twin: within the time awake'


def test_acting_and_learning_know_the_same_state(log):
    small_schema, recollecting = log.schema, Recollecting(log)
    rows = some_rows(small_schema, 30)
    rows['age'][:, 0] = np.arange(30) % 4 * 0.04
    rows['reward'], rows['reward_stamp'][1:] = np.sin(np.arange(30) / 3), rows['stamp'][:-1]
    seen = []
    dqn = SimpleNamespace(
        decide=lambda state, vary, rng: seen.append(state) or (np.zeros(2), 0.0))
    will = Will(dqn, small_schema, Motor())
    for row in rows:
        will(row, Prediction(np.zeros(10), 0.0, 0.0, np.zeros(4), np.zeros(96, np.float32),
                             recollecting.at(int(row['stamp']))))
        log.append_row(row.copy())
    known = trajectory(rows, np.zeros((30, 96)), small_schema).states
    assert np.allclose(seen, known)
    assert not np.allclose(known, trajectory(rows, np.zeros((30, 96)), small_schema,
                                             recollects=False).states), 'the twin'


def test_words_are_not_what_the_will_perceives():
    schema = RowSchema({'vision': (2, 3), 'text': (2, 2), 'body': (2, 2)}, 2, 4)
    rows = some_rows(schema, 3)
    rows['mask'] = 7
    said = rows.copy()
    said['x'][:, schema.slices['text']] += 1
    said['age'][:, 1] = 3.0
    said['mask'] = 5
    context = np.zeros((3, context_width(schema)))
    a, b = (states(context, r, schema) for r in (rows, said))
    assert np.array_equal(a, b)
    assert a.shape == (3, state_width(schema)) == (3, 96 + 4 + 1 + 6 + 4 + 2 * 2 + 4)
    said['x'][:, schema.slices['body']] += 1
    said['age'][:, 2] = 0.5
    assert (states(context, said, schema) != a).sum() == 3 * 5, 'the twin: the body is'


def test_dreams_and_new_beginnings_cut_a_trajectory(small_schema):
    rows = some_rows(small_schema)
    rows['flags'][10] = FLAG_BOOT
    rows['flags'][20:25] = FLAG_DREAM
    data = trajectory(rows, np.zeros((len(rows), 96)), small_schema)
    cut = np.flatnonzero(~data.follows[:len(rows)])
    assert cut.tolist() == [9, 19, 24, len(rows) - 1]
    assert np.flatnonzero(data.dream).tolist() == list(range(20, 25))


def test_surprise_is_the_priority(small_schema):
    rows = some_rows(small_schema)
    rows['surprise'][5] = 3.0
    rows['surprise'][6] = 0.2
    data = trajectory(rows, np.zeros((len(rows), 96)), small_schema)
    assert data.priority[5] == pytest.approx(3.0)
    assert data.priority[6] == 1.0


def test_a_reward_finds_its_state_past_a_dream_that_runs_ahead_in_time(small_schema):
    rows = some_rows(small_schema, 8)
    rows['stamp'][2:4] += int(1e12)
    rows['reward'][5:] = 0.7, 0.8, 0.9
    rows['reward_stamp'][5:] = rows['stamp'][4:7]
    assert aligned(rows)[4:7].tolist() == pytest.approx([0.7, 0.8, 0.9])


def test_reading_that_is_cut_short_leaves_out_the_oldest_rows(small_schema):
    torch.manual_seed(0)
    data, network = Experience(some_rows(small_schema, 600), small_schema), \
        QNetwork(small_schema)
    whole = read_all(network, data)
    part = read_all(network, data, going=lambda: False)
    assert 0 < len(part) < len(whole) == 600
    np.testing.assert_allclose(part, whole[-len(part):], atol=1e-5)


@pytest.mark.parametrize(('explore', 'varied'), [(True, VARY), (False, 0.0)])
def test_who_explores_varies_its_commands(small_schema, explore, varied):
    asked = []
    dqn = SimpleNamespace(
        decide=lambda state, vary, rng: asked.append(vary) or (np.zeros(2), 0.0))
    will = Will(dqn, small_schema, Motor())
    will.explore = explore
    will(some_rows(small_schema, 1)[0],
         Prediction(np.zeros(10), 0.0, 0.0, np.zeros(4), np.zeros(96, np.float32)))
    assert asked == [varied]


class Motor:
    """A body that takes note of what is asked of it."""

    def __init__(self, state=0.0):
        self.commands, self._state = [], state

    def reachable(self, command):
        self.commands.append(command)
        return np.full((2, 2), self._state)


def test_an_older_life_is_judged_by_the_statements_of_today(small_schema):
    rows = some_rows(small_schema, 50)
    rows['reward'] = 9.0                                 # what another wish made of it
    reward = SimpleNamespace(rewards=lambda state: state[:, 0] + state[:, -1])
    past = judged_anew(rows, np.zeros((50, 96), np.float32), small_schema, reward)
    mask = (rows['mask'] >> len(small_schema.modalities) - 1) & 1
    assert np.allclose(past.rewards, rows['x'][:, 0] + mask, atol=1e-3)


@pytest.mark.parametrize(('seed', 'same'), [(1, True), (2, False)])
def test_what_it_tries_depends_on_its_seed_not_on_who_draws_beside_it(small_schema, seed, same):
    def tried(seed, beside):
        torch.manual_seed(0)
        motor = Motor()
        will = Will(ContinuousQ(state_width(small_schema), 2), small_schema, motor, seed)
        torch.rand(beside)
        will(some_rows(small_schema, 1)[0],
             Prediction(np.zeros(10, np.float32), 0.0, 0.0, np.zeros(4), np.zeros(96, np.float32)))
        return motor.commands[0]

    assert np.array_equal(tried(1, 0), tried(seed, 3)) == same
