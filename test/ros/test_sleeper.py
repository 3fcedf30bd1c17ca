"""The sleeping process: killed at any moment it leaves a memory that can be slept on again."""

import os
import signal
import time

import numpy as np
import pytest
import torch

from dylora_ros.core import rehearsal
from dylora_ros.core.context import GlobalContext
from dylora_ros.core.predictor import QNetwork
from dylora_ros.core.reward import DIGESTS, Projector, StatementReward
from dylora_ros.core.seal import RowTags, Secret, write_bundle
from dylora_ros.core.will_training import Chest
from dylora_ros.milestone import LEARNED, Milestone, SLEPT
from dylora_ros.modalities import registry
from dylora_ros.nodes import sleeper as module
from dylora_ros.nodes.sleeper import _childhood, _sealed, Sleeper

ROWS = 300
SECRET = bytes(range(32))


@pytest.fixture
def options(tmp_path):
    """Return what a predictor would ask for, over a short life whose reward swings."""
    schema = registry.row_schema(2, registry.SHIPPED)
    rng = np.random.default_rng(0)
    with GlobalContext.open(tmp_path / 'context.gc', schema, 1000) as log:
        for i in range(ROWS):
            row = np.zeros((), schema.dtype)
            row['stamp'] = row['reward_stamp'] = (i + 1) * 40_000_000
            row['mask'] = 15
            row['x'] = np.sin(i / 5 + np.arange(schema.width))
            row['action'] = rng.uniform(-1, 1, schema.actions)
            row['reward'] = np.sin(i / 5)
            log.append_row(row)
        RowTags.create(tmp_path / 'context.tags', Secret(SECRET), log, again=False).close()
    return {'memory': str(tmp_path), 'weights': str(tmp_path), 'joints': 2,    # no rehearsal
            'window': 1000, 'period': 0.04, 'REM': 1.0, 'NREM': 3.0, 'seed': 0,
            'train_rows': 1000, 'secret': SECRET.hex(),
            'q': str(registry.SHIPPED / 'q.safetensors')}


def night(sleeper, until, seconds=90.0):
    """Let it train until ``until(events)``; returns the last events."""
    sleeper.begin('NREM')
    end = time.monotonic() + seconds
    told = []
    while time.monotonic() < end:
        told += sleeper.events()
        if until(told):
            return told
        time.sleep(0.02)
    raise AssertionError(f'not within {seconds} s: {told[-3:]}')


def over(told):
    return any(kind == 'done' for kind, _ in told)


@pytest.mark.parametrize('share', [0.0, 0.7])
def test_killed_while_it_trains_it_leaves_what_can_be_loaded(options, tmp_path, share):
    sleeper = Sleeper({**options, 'NREM': 8.0})      # time enough on a busy machine
    night(sleeper, lambda told: any(k == 'progress' and v[0] >= share for k, v in told))
    os.kill(sleeper._process.pid, signal.SIGKILL)
    sleeper._process.join(5.0)
    schema = registry.row_schema(2, registry.SHIPPED)
    for path in tmp_path.glob('q.safetensors'):
        QNetwork.load(path, schema)
    chest = Chest(tmp_path, schema)
    chest.load()
    chest.load(chest.night)
    end = time.monotonic() + 5.0
    while not over(told := sleeper.events()) and time.monotonic() < end:
        time.sleep(0.02)
    assert told[-1][1]['error'] == 'the sleeping process died'
    sleeper.stop()


def test_after_a_kill_it_sleeps_again_and_reports_what_q_and_the_will_learned(
        options, tmp_path):
    schema = registry.row_schema(2, registry.SHIPPED)
    chest = Chest(tmp_path, schema)
    (tmp_path / SLEPT).write_text('rubbish')
    # what a kill leaves behind
    chest.night.with_name(chest.night.name + '.part').write_bytes(b'half')
    (tmp_path / 'q.safetensors.part').write_bytes(b'half')
    sleeper = Sleeper(options)
    report = night(sleeper, over)[-1][1]
    sleeper.stop()
    assert 'error' not in report
    assert {'before', 'after', 'kept'} <= set(report) & set(report['will'])
    assert (chest.load() is not None) == report['will']['kept']
    assert not chest.night.exists()


@pytest.fixture
def sealed(options, tmp_path):
    """A childhood in the weights folder, and a reward that was sealed in this life."""
    schema = registry.row_schema(2, registry.SHIPPED)
    with GlobalContext.read(tmp_path / 'context.gc') as log:
        rehearsal.save(tmp_path / rehearsal.FILE, log.rows(0, ROWS), schema)
    torch.manual_seed(0)
    reward = StatementReward(Projector(schema.width, len(schema.modalities)),
                             [np.eye(384, dtype=np.float32)[:1]], [])
    write_bundle(tmp_path / 'seal' / 'reward.seal', Secret(SECRET),
                 bytes(DIGESTS) + reward.to_bytes())
    return schema, reward


def test_the_sealed_reward_judges_the_childhood(options, sealed, tmp_path):
    schema, reward = sealed
    with GlobalContext.read(tmp_path / 'context.gc') as log:
        rows = _childhood(options, log.rows(0, ROWS), schema)
    judge = _sealed(options, schema)
    state = np.random.default_rng(0).normal(
        size=(5, schema.width + len(schema.modalities))).astype(np.float32)
    assert len(rows) == ROWS
    assert np.array_equal(judge.rewards(state), reward.rewards(state))


def test_what_another_hand_has_sealed_judges_nothing(options, sealed):
    assert _sealed({**options, 'secret': bytes(32).hex()}, sealed[0]) is None


def test_without_a_childhood_the_night_is_of_this_life_alone(options):
    assert _childhood(options, None, registry.row_schema(2, registry.SHIPPED)) is None


class Pipe:
    """Hears nothing."""

    def send(self, message):
        pass


@pytest.mark.parametrize(('rows', 'due'), [(ROWS, True), (ROWS + 1, False)])
def test_q_learns_when_enough_was_lived(options, tmp_path, monkeypatch, rows, due):
    monkeypatch.setattr(module, '_Q_ROWS', rows)
    report = module._train(options, Pipe())
    assert (report['steps'] > 0) == due
    assert Milestone(tmp_path / LEARNED).row(ROWS) == (ROWS if due else 0)


@pytest.mark.parametrize(('new', 'updates'), [(ROWS, 2 * ROWS), (50, 150)])
def test_a_night_ends_when_what_is_new_was_learned(
        options, tmp_path, monkeypatch, new, updates):
    told = []
    monkeypatch.setattr('dylora_ros.core.will_training.learn',
                        lambda chest, network, data, rows, budget, seed, most, **_:
                        told.append(most))
    monkeypatch.setattr('dylora_ros.core.will_training.ANEW', 150)
    Milestone(tmp_path / SLEPT).set(ROWS - new)
    module._train({**options, 'NREM': 300.0}, Pipe())
    assert told == [updates]


def test_in_a_night_between_q_stays_and_the_will_learns(options, tmp_path):
    sleeper = Sleeper(options)
    report = night(sleeper, over)[-1][1]
    sleeper.stop()
    assert report['steps'] == 0
    assert report['before'] == report['after']
    assert not report['kept']
    assert not (tmp_path / 'q.safetensors').exists()
    assert report['will']['updates'] > 0
