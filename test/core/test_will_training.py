"""NREM: what the will learns, what of it is kept, what is left of a night cut short."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dylora_ros.core import will_training
from dylora_ros.core.context import FLAG_BOOT, FLAG_DREAM, RowSchema
from dylora_ros.core.dqn import ContinuousQ, LearnReport, Settings
from dylora_ros.core.experience import DREAM_SHARE, Experience
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.qnetwork import QNetwork, WIDTH
from dylora_ros.core.trajectory import Sampler
from dylora_ros.core.will import trajectory
from dylora_ros.core.will_training import BELIEVED, Budget, Chest, learn, practise

ROWS = 600
ALIKE = SimpleNamespace(rewards=lambda state: 0.3 + 0.1 * state[:, 0])    # as life() is judged


def life(schema, reward=True):
    """Return rows whose reward is what vision's first number says."""
    rng = np.random.default_rng(0)
    rows = np.zeros(ROWS, schema.dtype)
    rows['stamp'] = (np.arange(ROWS) + 1) * 40_000_000
    rows['mask'] = 3
    wave = np.sin(np.arange(ROWS + 1) / 5)
    rows['x'][:, :1], rows['x'][:, 1:2] = wave[:-1, None], wave[1:, None]
    rows['action'] = rng.uniform(-1, 1, (ROWS, schema.actions))
    if reward:
        rows['reward'] = 0.3 + 0.1 * wave[:-1]
        rows['reward_stamp'] = rows['stamp']
    return rows


@pytest.fixture
def chest(tmp_path, small_schema, monkeypatch):
    """Return an empty chest of small wills that learn fast."""
    monkeypatch.setattr(will_training, 'SETTINGS', Settings(
        width=32, actor_width=32, batch=64, discount=0.5, lr=3e-3, tau=0.05, dreams=DREAM_SHARE))
    torch.manual_seed(0)
    return Chest(tmp_path, small_schema)


@pytest.fixture
def night(chest, small_schema):
    """Return a function that lets the will learn from rows for a number of updates."""
    torch.manual_seed(0)
    network = QNetwork(small_schema)

    def run(rows, most=200, clock=lambda: 0.0, progress=lambda share, left: None,
            judge=ALIKE, **options):
        data = Experience(rows, small_schema)
        return learn(chest, network, data, rows, Budget(100.0, progress, clock), most=most,
                     judge=judge, **options)
    return run


def test_the_first_night_makes_a_will_that_foresees_better_than_the_mean(
        night, chest, small_schema):
    report = night(life(small_schema))
    assert report.kept
    assert report.after < 0.7 * report.before
    assert report.updates == 200
    assert int(chest.load().updates) == 200


def test_what_got_worse_on_held_out_rows_is_not_kept(night, chest, small_schema):
    """The negative twin: held-out rows are paid the other way round."""
    night(life(small_schema))
    good = chest.good.read_bytes()
    worse = Experience(life(small_schema), small_schema).held_out
    data = life(small_schema)
    data['reward'] += 0.4 * np.sin(np.arange(ROWS)).astype(np.float32)
    data['reward'][worse] = life(small_schema)['reward'][worse]
    report = night(data)
    assert report.after > report.before
    assert not report.kept
    assert chest.good.read_bytes() == good
    assert not chest.night.exists()


def test_where_all_is_rewarded_alike_there_is_nothing_to_wish(night, chest, small_schema):
    assert night(life(small_schema, reward=False)) is None
    assert chest.load() is None


def test_a_night_without_time_leaves_no_untaught_will(night, chest, small_schema):
    report = night(life(small_schema), most=0)
    assert report.updates == 0
    assert not report.kept
    assert chest.load() is None


def test_no_will_before_the_first_night(chest):
    assert chest.load() is None


def test_a_night_goes_on_where_it_was_cut_short(night, chest, small_schema, monkeypatch):
    """A kill after the last copy on disk: the next night starts with it, not anew."""
    seconds = iter(range(0, 100_000))
    monkeypatch.setattr(Chest, 'morning', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        night(life(small_schema), clock=lambda: next(seconds) / 10, most=150)
    monkeypatch.undo()
    assert chest.load() is None
    done = int(chest.load(chest.night).updates)
    assert done > 0
    assert night(life(small_schema), most=done + 7).updates == 7
    assert int(chest.load().updates) == done + 7
    assert not chest.night.exists()


@pytest.mark.parametrize('moment', ['good', 'night'])
def test_death_while_writing_leaves_what_was_there(
        night, chest, small_schema, moment, monkeypatch):
    night(life(small_schema), most=5)
    good = chest.good.read_bytes()
    from dylora_ros.core import dqn

    def half(tensors, path, **_):
        with open(path, 'wb') as file:
            file.write(b'half')
        raise KeyboardInterrupt

    monkeypatch.setattr(dqn, 'save_file', half)
    with pytest.raises(KeyboardInterrupt):
        (chest.morning if moment == 'good' else chest.save_night)(chest.load())
    monkeypatch.undo()
    assert chest.good.read_bytes() == good
    assert int(chest.load().updates) == 5
    assert night(life(small_schema), most=3).updates == 3


def test_damaged_or_foreign_files_are_named(night, chest, tmp_path, small_schema):
    night(life(small_schema), most=3)
    other = Chest(tmp_path, RowSchema(small_schema.modalities, 2, 4, adapters='other'))
    with pytest.raises(SchemaError, match='other weights'):
        other.load()
    chest.good.write_bytes(b'rubbish')
    with pytest.raises(SchemaError, match='damaged.*delete'):
        chest.load()


def test_a_foreign_will_does_not_keep_a_night_from_making_its_own(night, chest, small_schema):
    chest.good.write_bytes(b'rubbish')
    night(life(small_schema), most=200)
    assert int(chest.load().updates) == 200


def test_a_night_ends_with_its_seconds_and_tells_what_is_left(night, small_schema):
    seconds, told = iter(range(100_000)), []
    report = night(life(small_schema), most=None, clock=lambda: float(next(seconds)),
                   progress=lambda share, left: told.append((share, left)))
    assert 0 < report.updates < 100
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert told[-1] == (1.0, 0.0)


def test_the_share_of_dreams_is_measured_and_no_more_than_wanted(night, small_schema):
    rows = life(small_schema)
    rows['flags'][300:500] = FLAG_DREAM
    rows['flags'][300:500:5] |= FLAG_BOOT
    assert night(rows, most=20).dreams == pytest.approx(DREAM_SHARE, abs=0.02)


def test_few_dreams_are_not_dreamt_over_and_over(night, small_schema):
    """The negative twin: 12 of 600 rows with a next one, in the log as in what is drawn."""
    rows = life(small_schema)
    rows['flags'][300:315] = FLAG_DREAM
    rows['flags'][300:315:5] |= FLAG_BOOT
    assert night(rows, most=20).dreams == pytest.approx(0.02, abs=0.01)


def test_few_dreams_are_not_dreamt_over_and_over_beside_a_long_childhood(night, small_schema):
    """60 of 600 own rows, and 600 of a childhood that nobody dreamt."""
    rows = life(small_schema)
    rows['flags'][300:375] = FLAG_DREAM
    rows['flags'][300:375:5] |= FLAG_BOOT
    report = night(rows, most=20, childhood=life(small_schema))
    assert report.dreams == pytest.approx(0.05, abs=0.01)


def test_held_out_rows_do_not_teach(night, chest, small_schema):
    held = Experience(life(small_schema), small_schema).held_out
    seen = []
    sampler = will_training.Sampler

    class Watched(sampler):
        def draw(self):
            seen.extend(index := super().draw())
            return index

    will_training.Sampler = Watched
    try:
        night(life(small_schema), most=20)
    finally:
        will_training.Sampler = sampler
    assert seen
    assert not set(seen) & set(held)


def test_good_moments_of_a_bad_life_teach_more(chest, small_schema, monkeypatch):
    monkeypatch.setattr(will_training, 'SETTINGS', Settings(width=32, actor_width=32, good=0.5))
    rows = life(small_schema)
    rows['reward'] = np.where(np.arange(ROWS) % 5, -1.0, 1.0)
    past = trajectory(rows, np.zeros((ROWS, WIDTH), np.float32), small_schema)
    drawn = []
    draw = Sampler.draw
    monkeypatch.setattr(Sampler, 'draw', lambda self: drawn.append(draw(self)) or drawn[-1])
    practise(chest, past, None, np.arange(0), Budget(100.0), most=30)
    assert 0.45 < (past.rewards[np.concatenate(drawn)] > 0).mean() < 0.55


def test_a_childhood_teaches_too_and_judges_nothing(night, small_schema, monkeypatch):
    seen = []
    monkeypatch.setattr(will_training, 'Sampler', lambda data, *args: seen.append(data)
                        or Sampler(data, *args))
    older = life(small_schema)[:400]
    older['reward'] = 0.0                                # nobody judged it then
    report = night(life(small_schema), childhood=older)
    assert report.rows == ROWS
    assert len(seen[0]) == ROWS + 400
    assert np.allclose(seen[0].rewards[ROWS:], 0.3 + 0.1 * older['x'][:, 0], atol=1e-3)
    held = Experience(life(small_schema), small_schema).held_out
    assert not seen[0].follows[held].any()
    assert report.kept


def test_of_a_childhood_the_newest_is_read_in_time(night, small_schema, monkeypatch):
    seen = []
    monkeypatch.setattr(will_training, 'Sampler', lambda data, *args: seen.append(data)
                        or Sampler(data, *args))
    older = np.concatenate([life(small_schema)] * 2)
    older['stamp'] = (np.arange(len(older)) + 1) * 40_000_000
    hours = iter(np.arange(0, 1e6, 20.0))
    night(life(small_schema), clock=lambda: next(hours), childhood=older)
    assert 0 < len(seen[0]) < ROWS + len(older)


def test_a_dream_is_worth_what_the_sealed_reward_says_not_what_q_guessed(
        night, small_schema, monkeypatch):
    seen = []
    monkeypatch.setattr(will_training, 'Sampler', lambda data, *args: seen.append(data)
                        or Sampler(data, *args))
    rows = life(small_schema)
    rows['flags'][300:500] = FLAG_DREAM
    rows['flags'][300:500:20] |= FLAG_BOOT
    rows['reward'][300:500] = 5.0                        # q's guess
    night(rows, most=5)
    assert np.allclose(seen[0].rewards[:ROWS], 0.3 + 0.1 * rows['x'][:, 0], atol=1e-3)
    taught = seen[0].follows[300:500].reshape(10, 20)
    assert taught[:, :BELIEVED].all()
    assert not taught[:, BELIEVED:].any(), 'what a dream goes on to say is not believed'


def test_dreams_that_nobody_judges_do_not_teach(night, small_schema, monkeypatch):
    seen = []
    monkeypatch.setattr(will_training, 'Sampler', lambda data, *args: seen.append(data)
                        or Sampler(data, *args))
    rows = life(small_schema)
    rows['flags'][300:500] = FLAG_DREAM
    assert night(rows, most=5, judge=None).dreams == 0.0
    assert not seen[0].follows[300:500].any()
    assert seen[0].follows[:200].any(), 'the twin: waking rows do'


def test_a_night_is_not_in_vain_for_errors_as_large_as_before(night, chest, small_schema,
                                                              monkeypatch):
    night(life(small_schema))
    monkeypatch.setattr(will_training, '_judge', lambda dqn, *_: (
        0.100 if int(dqn.updates) == 200 else 0.149, 0.0))
    assert night(life(small_schema), most=5).kept
    monkeypatch.setattr(will_training, '_judge', lambda dqn, *_: (
        0.100 if int(dqn.updates) == 5 else 0.151, 0.0))
    assert not night(life(small_schema), most=6).kept


@pytest.mark.parametrize(('anew', 'updates'), [(True, 4), (False, 7)])
def test_a_night_begins_anew_and_who_is_awake_goes_on(chest, small_schema, anew, updates):
    past = trajectory(life(small_schema), np.zeros((ROWS, WIDTH), np.float32), small_schema)
    for most in (3, 4):
        practise(chest, past, None, np.arange(0), Budget(math.inf), most=most, anew=anew)
    assert int(chest.load().updates) == updates


def test_a_night_too_short_to_begin_anew_goes_on_in_the_next(
        night, chest, small_schema, monkeypatch):
    monkeypatch.setattr(will_training, 'ANEW', 60)
    night(life(small_schema), most=50)
    good = chest.good.read_bytes()
    seconds = iter(np.arange(0, 1e6, 2.0))               # of a night of 100
    short = night(life(small_schema), most=None, clock=lambda: next(seconds))
    assert 0 < short.updates < 60
    assert not short.kept
    assert chest.good.read_bytes() == good
    assert night(life(small_schema), most=60).updates == 60 - short.updates
    assert int(chest.load().updates) == 60


def test_without_rows_that_judge_what_was_learned_is_kept(chest, small_schema):
    rows = life(small_schema)
    past = trajectory(rows, np.zeros((ROWS, WIDTH), np.float32), small_schema)
    report = practise(chest, past, None, np.arange(0), Budget(math.inf), most=5)
    assert report.kept
    assert math.isnan(report.after)
    assert int(chest.load().updates) == 5


def test_a_will_that_is_not_finite_is_not_kept_even_where_nothing_judges(
        chest, small_schema, monkeypatch):
    def broken(self, data, sampler, updates, going):
        self.updates += 1
        with torch.no_grad():
            self.actor.out.bias.fill_(math.nan)
        return LearnReport(1)

    monkeypatch.setattr(ContinuousQ, 'learn', broken)
    past = trajectory(life(small_schema), np.zeros((ROWS, WIDTH), np.float32), small_schema)
    assert not practise(chest, past, None, np.arange(0), Budget(math.inf), most=5).kept
    assert chest.load() is None


def test_a_newborn_keeps_what_it_learned_though_its_own_life_was_always_the_same(
        night, chest, small_schema):
    """To expect the mean for ever errs little in such a life, and says nothing of how to act."""
    dull = life(small_schema)
    dull['reward'] = -0.97
    dull['reward'][::97] = -0.9
    report = night(dull, childhood=life(small_schema))
    assert report.after > report.before
    assert report.kept
    assert chest.load() is not None
