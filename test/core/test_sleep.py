"""NREM: which rows teach, and when new weights are kept. REM: what a dream writes."""

from dataclasses import dataclass
import math

import numpy as np
import pytest
import torch

from dylora_ros.core import sleep
from dylora_ros.core.context import FLAG_BOOT, FLAG_DREAM, FLAG_REJECTED
from dylora_ros.core.cycle import Prediction
from dylora_ros.core.dreamer import Dreamer
from dylora_ros.core.experience import DISCOUNT, DREAM_SHARE, Experience, MIN_ROWS
from dylora_ros.core.phases import Phase
from dylora_ros.core.predictor import QNetwork
from dylora_ros.core.sleep import evaluate, settle, train

PERIOD = 40_000_000     # ns


def rotating(schema, n=600, turn=0.3, still=()):
    """Return n log rows whose x rotates, pair by pair, by ``turn`` a row; not after ``still``."""
    rows = np.zeros(n, schema.dtype)
    rows['stamp'] = PERIOD * (1 + np.arange(n))
    rows['mask'] = 2 ** len(schema.modalities) - 1
    steps = np.full(n, turn)
    steps[np.asarray(still, int) + 1] = 0.0
    angle = np.cumsum(steps)[:, None] + np.arange(schema.width // 2)
    rows['x'][:, 0::2], rows['x'][:, 1::2] = np.cos(angle), np.sin(angle)
    return rows


def usable(data):
    return set(data.train) | set(data.validation) | set(data.held_out)


def test_a_plain_life_is_usable_to_its_last_but_one_row(small_schema):
    assert usable(Experience(rotating(small_schema), small_schema)) == set(range(599))


def test_too_few_rows_are_refused_with_the_number_needed(small_schema):
    with pytest.raises(ValueError, match=f'{MIN_ROWS - 1} rows.*{MIN_ROWS} needed'):
        Experience(rotating(small_schema, MIN_ROWS - 1), small_schema)


@pytest.mark.parametrize('flag', [FLAG_BOOT, FLAG_REJECTED])
def test_nothing_is_learned_across_the_step_into_a_flagged_row(small_schema, flag):
    rows = rotating(small_schema)
    rows['flags'][100] = flag
    assert set(range(599)) - usable(Experience(rows, small_schema)) == {99}


@pytest.mark.parametrize('shift', [10 * PERIOD, -10 * PERIOD])
def test_nothing_is_learned_across_a_gap_or_a_step_back_in_time(small_schema, shift):
    rows = rotating(small_schema)
    rows['stamp'][100:] += shift
    assert set(range(599)) - usable(Experience(rows, small_schema)) == {99}


def test_nothing_is_learned_between_waking_and_dreaming(small_schema):
    rows = rotating(small_schema)
    rows['flags'][200:300] = FLAG_DREAM
    assert set(range(599)) - usable(Experience(rows, small_schema)) == {199, 299}


def test_dreams_teach_but_are_never_held_out(small_schema):
    rows = rotating(small_schema)
    rows['flags'][100:400] = FLAG_DREAM
    data = Experience(rows, small_schema)
    dreams = set(range(100, 399))
    assert dreams <= set(data.train)
    assert not dreams & (set(data.validation) | set(data.held_out))


def test_training_validation_and_held_out_rows_are_disjoint(small_schema):
    data = Experience(rotating(small_schema), small_schema)
    parts = [set(data.train), set(data.validation), set(data.held_out)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))


def test_what_is_not_known_yet_is_hidden_from_q(small_schema):
    rows = rotating(small_schema)
    for name in ('q', 'action', 'aux'):
        rows[name] = 0.5
    data = Experience(rows, small_schema)
    w = small_schema.width
    hidden = slice(w, 2 * w + small_schema.actions + small_schema.aux)
    assert (data.features[:, hidden] == 0.5).all()
    assert not data.now[:, hidden].any()


def test_absent_modality_is_no_target(small_schema):
    rows = rotating(small_schema)
    rows['mask'][50] = 0b01                      # vision alone
    data = Experience(rows, small_schema)
    _, present = data.target(np.array([48, 49, 50]))
    vision, body = small_schema.slices['vision'], small_schema.slices['body']
    assert present[:, vision].all()
    assert present[:, body].any(1).tolist() == [True, False, False]


@pytest.fixture
def newborn(small_schema):
    torch.manual_seed(0)
    return QNetwork(small_schema).eval()


def test_a_batch_reads_the_past_alone_and_each_row_once(small_schema, newborn):
    data = Experience(rotating(small_schema), small_schema)
    data.refresh(newborn)
    _, _, age, valid, _ = data.batch(np.array([3, 200, 598]))
    assert (age[valid] > 0).all()
    for ages, real in zip(age, valid, strict=True):
        assert len(set(ages[real].tolist())) == int(real.sum())


def test_waking_rows_do_not_remember_dreams(small_schema, newborn):
    rows = rotating(small_schema)
    rows['flags'][300:320] = FLAG_DREAM
    data = Experience(rows, small_schema)
    data.refresh(newborn)
    _, _, age, valid, _ = data.batch(np.array([320]))
    rows_back = (age / (PERIOD * 1e-9)).round()
    assert rows_back[valid].min() == 21          # 300 .. 319 are skipped


def test_returns_are_discounted_and_end_at_gaps(small_schema):
    rows = rotating(small_schema)
    rows['reward'][100] = 1.0
    rows['stamp'][98:] += 10 * PERIOD
    returns = Experience(rows, small_schema).returns
    assert returns[99] == pytest.approx(1 - DISCOUNT)
    assert returns[98] == pytest.approx(DISCOUNT * (1 - DISCOUNT))
    assert returns[97] == returns[100] == 0


def test_loss_of_the_newborn_is_that_of_nothing_changes(small_schema, newborn):
    data = Experience(rotating(small_schema), small_schema)
    wrong, same = evaluate(newborn, data, data.held_out)
    assert wrong == pytest.approx(same)
    assert same == pytest.approx(1 - np.cos(0.3), rel=1e-2)      # half of |e^0.3i - 1|^2


def nrem(network, data, **options):
    return train(network, data, seconds=1e9, seed=3, clock=lambda: 0.0, **options)


def test_training_lowers_the_held_out_loss(small_schema, newborn):
    report = nrem(newborn, Experience(rotating(small_schema), small_schema), most_steps=80)
    assert report.kept
    assert report.steps == 80
    assert report.after < 0.5 * report.before
    assert report.after < 0.5 * report.unchanged


def test_a_short_life_is_read_a_few_times_only(small_schema, newborn):
    data = Experience(rotating(small_schema), small_schema)
    report = nrem(newborn, data, passes=2, batch=32)
    assert report.steps == -(-2 * len(data.waking) // 32)


def test_a_budget_of_steps_holds_with_passes_too(small_schema, newborn):
    data = Experience(rotating(small_schema), small_schema)
    assert nrem(newborn, data, passes=100, most_steps=3).steps == 3


@pytest.mark.parametrize('rehearse', [True, False])
def test_rehearsal_keeps_what_was_known(small_schema, newborn, rehearse):
    """The negative twin: without rehearsal the new life overwrites the old."""
    old = Experience(rotating(small_schema, turn=-0.6), small_schema)
    nrem(newborn, old, most_steps=40)
    own = Experience(rotating(small_schema), small_schema)
    nrem(newborn, own, most_steps=60, childhood=old if rehearse else None)
    wrong, same = evaluate(newborn, old, old.held_out)
    assert (wrong < 0.7 * same) == rehearse


def test_few_of_the_rows_drawn_are_dreams(small_schema):
    rows = rotating(small_schema)
    rows['flags'][100:500] = FLAG_DREAM
    data = Experience(rows, small_schema)
    drawn = data.draw(np.random.default_rng(0), 4000)
    share = (rows['flags'][drawn] & FLAG_DREAM != 0).mean()
    assert share == pytest.approx(DREAM_SHARE, abs=0.03)


def test_the_last_layer_settles_in_closed_form(small_schema, newborn):
    data = Experience(rotating(small_schema), small_schema)
    settle(newborn, data, np.random.default_rng(0))
    wrong, same = evaluate(newborn, data, data.held_out)
    assert wrong < 0.9 * same


def test_what_validation_does_not_confirm_changes_no_layer(small_schema, newborn):
    """The negative twin: in the validation rows nothing moves."""
    still = Experience(rotating(small_schema), small_schema).validation
    settle(newborn, Experience(rotating(small_schema, still=still), small_schema),
           np.random.default_rng(0))
    assert not newborn.next.weight.any()


def test_training_repeats_by_seed(small_schema):
    data = Experience(rotating(small_schema, 200), small_schema)
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        network = QNetwork(small_schema)
        nrem(network, data, most_steps=8)
        weights.append(network.next.weight.detach().clone())
    assert weights[0].any()
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_old_weights_stay_when_the_new_ones_are_worse(small_schema, newborn):
    """The negative twin: what training and validation teach is wrong on the held-out rows."""
    held_out = Experience(rotating(small_schema), small_schema).held_out
    data = Experience(rotating(small_schema, still=held_out), small_schema)
    old = {k: v.clone() for k, v in newborn.state_dict().items()}
    report = nrem(newborn, data, most_steps=40)
    assert report.after > report.before
    assert not report.kept
    assert all(torch.equal(v, old[k]) for k, v in newborn.state_dict().items())


def test_weights_that_validate_worse_are_dropped(small_schema, newborn):
    """What training teaches is right on the held-out rows, but validation chooses."""
    chooses = Experience(rotating(small_schema), small_schema).validation
    data = Experience(rotating(small_schema, still=chooses), small_schema)
    report = nrem(newborn, data, most_steps=40)
    assert report.after == report.before
    assert not newborn.next.weight.any()


@pytest.mark.parametrize('judged', [True, False])
def test_weights_that_are_not_finite_are_never_kept(small_schema, newborn, monkeypatch, judged):
    """One bad step: its loss is NaN, and so are all weights after it."""
    monkeypatch.setattr(sleep, '_loss', lambda network, *_: sum(
        p.sum() for p in network.parameters()) * math.nan)
    data = Experience(rotating(small_schema), small_schema)
    if not judged:
        data.held_out = data.validation = data.held_out[:0]
    old = {k: v.clone() for k, v in newborn.state_dict().items()}
    report = nrem(newborn, data, most_steps=8)
    assert all(bool(v.isfinite().all()) for v in newborn.state_dict().values())
    assert report.kept or all(torch.equal(v, old[k]) for k, v in newborn.state_dict().items())


def test_training_ends_with_its_seconds(small_schema, newborn):
    seconds = iter(range(10_000))
    report = train(newborn, Experience(rotating(small_schema, 200), small_schema), 20.0,
                   clock=lambda: float(next(seconds)))
    assert 0 < report.steps < 20


@dataclass
class Seen:
    x: np.ndarray


class DreamSense:
    """A sense whose dreams are states of a given size."""

    def __init__(self, shape, size=0.5):
        self.shape, self.size = shape, size
        self.expected = np.zeros(1)
        self.biased, self.commands, self.dreams = [], [], 0

    def dream(self):
        self.dreams += 1
        return Seen(np.full(self.shape, self.size, np.float32))

    def bias(self, q, body=None):
        self.biased.append((q, body))

    def acted(self, command):
        self.commands.append(command)

    def act(self, q):
        return np.array([0.25, -0.25], np.float32)


class Still:
    """A predictor that says what it sees."""

    def observe(self, row):
        return Prediction(row['x'].astype(np.float32), 0.3, 0.7, np.full(4, 0.1, np.float32))


@pytest.fixture
def dream(log, small_schema):
    """Return a function that dreams over a log of one waking row: report, rows, recalls."""
    log.append(stamp=5 * PERIOD, phase=Phase.AWAKE)

    def run(size=0.5, seconds=1e9, moment=0.1, clock=lambda: 0.0, **options):
        senses = {n: DreamSense(s, size) for n, s in small_schema.modalities.items()}
        rows, recalled = [], []

        def remember():
            recalled.append(len(rows))
            return {n: np.full(s, moment, np.float32)
                    for n, s in small_schema.modalities.items()}

        dreamer = Dreamer(senses, log, Still(), rows.append, 0.04,
                          {'vision': 4, 'body': 1}, remember)
        run.senses = senses
        return dreamer.run(seconds, clock=clock, **options), np.array(rows), recalled
    return run


def test_every_dreamt_row_is_flagged_and_of_rem(dream):
    report, rows, _ = dream(most=30, episode=10)
    assert report.cycles == len(rows) == 30
    assert (rows['flags'] & FLAG_DREAM).all()
    assert (rows['phase'] == Phase.REM).all()


def test_a_dream_holds_what_q_said(dream):
    _, rows, _ = dream(most=5)
    np.testing.assert_array_equal(rows['q'], rows['x'])
    np.testing.assert_allclose(rows['reward'], 0.3)
    np.testing.assert_allclose(rows['action'], [[0.25, -0.25]] * 5)


def test_every_episode_starts_from_a_remembered_moment(dream):
    report, rows, recalled = dream(most=30, episode=10)
    assert report.episodes == 3
    assert recalled == [0, 10, 20]
    assert np.flatnonzero(rows['flags'] & FLAG_BOOT).tolist() == recalled


def test_an_episode_begins_with_the_state_of_its_moment(dream):
    _, rows, _ = dream(most=12, episode=6)
    np.testing.assert_allclose(rows['x'][[0, 6]], 0.1, atol=1e-4)
    np.testing.assert_allclose(rows['x'][[4, 10]], 0.5)


def test_the_dreamt_body_is_told_its_command_and_the_senses_its_state(dream):
    _, rows, _ = dream(most=5)
    body, vision = dream.senses['body'], dream.senses['vision']
    np.testing.assert_allclose(body.commands, rows['action'])
    told = np.stack([b.ravel() for _, b in vision.biased])
    np.testing.assert_allclose(told, rows['x'][:, -4:], atol=1e-4)


def test_a_sense_without_a_moment_is_masked(log, small_schema):
    senses = {n: DreamSense(s) for n, s in small_schema.modalities.items()}
    senses['vision'].expected = None
    log.append(stamp=5 * PERIOD, phase=Phase.AWAKE)
    rows = []
    dreamer = Dreamer(senses, log, Still(), rows.append, 0.04, {'vision': 4, 'body': 1},
                      lambda: {'body': np.zeros((2, 2), np.float32)})
    dreamer.run(1e9, clock=lambda: 0.0, most=6)
    assert {int(r['mask']) for r in rows} == {0b10}


def test_episodes_are_apart_in_time_and_cycles_are_not(dream):
    _, rows, _ = dream(most=30, episode=10)
    step = np.diff(rows['stamp'])
    assert rows['stamp'][0] > 5 * PERIOD
    assert (step[[9, 19]] >= 1e9).all()
    assert (np.delete(step, [9, 19]) == PERIOD).all()


def test_the_waking_log_is_left_alone(dream, log):
    dream(most=10)
    assert log.committed == 1


def test_slow_senses_dream_at_their_own_rate(dream):
    _, rows, _ = dream(most=8, episode=8)
    np.testing.assert_allclose(rows['age'][:, 0], 0.04 * np.array([0, 1, 2, 3, 0, 1, 2, 3]),
                               atol=1e-3)
    assert not rows['age'][:, 1].any()


def test_an_insane_row_is_rejected_and_ends_its_episode(dream):
    report, rows, recalled = dream(size=25.0, most=4, episode=10)    # insane from its 2nd cycle
    assert report.rejected == report.episodes == 2
    assert ((rows['flags'] & FLAG_REJECTED) != 0).tolist() == [False, True, False, True]
    assert recalled == [0, 2]


def test_sane_rows_are_not_rejected(dream):
    report, rows, _ = dream(size=15.0, most=4)
    assert report.rejected == 0
    assert not (rows['flags'] & FLAG_REJECTED).any()


def test_dreaming_ends_with_its_seconds(dream):
    seconds = iter(range(10_000))
    report, rows, _ = dream(seconds=20.0, clock=lambda: float(next(seconds)))
    assert 0 < report.cycles <= 20


def test_states_as_large_as_waking_life_had_are_sane(dream, log, small_schema):
    log.append(stamp=6 * PERIOD, phase=Phase.AWAKE, x=np.full(small_schema.width, 12.0))
    report, _, _ = dream(size=25.0, most=4)
    assert report.rejected == 0
