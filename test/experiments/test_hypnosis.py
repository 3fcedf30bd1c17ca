"""A will at the noisy screen: what it is paid, and what is told of its days."""

import json
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest

from dylora_ros.core.experience import MIN_ROWS
from dylora_ros.experiments import hypnosis as module
from dylora_ros.experiments.hypnosis import main, Pay, screen_in_view
from dylora_ros.sim.worlds import make as make_world


def row(surprise):
    out = np.zeros((), [('mask', 'i8'), ('surprise', 'f2', len(surprise))])
    out['mask'], out['surprise'] = 2 ** len(surprise) - 1, surprise
    return out


def sight(expected):
    return SimpleNamespace(expected=expected, target=lambda signal: signal)


def test_curiosity_is_paid_for_surprise_however_wrong_sight_is():
    pay = Pay('news', sight(np.zeros(4)))
    pay.look({'vision': np.full(4, 100.0)})
    assert pay(row([1.0, 1.0]), 2) == 0.0
    assert pay(row([2.0, 1.0]), 2) == 0.5


def test_the_naive_are_paid_for_the_error_however_usual_it_is():
    pay = Pay('error', sight(np.zeros(4)))
    assert pay(row([9.0, 9.0]), 2) == 0.0
    pay.look({'vision': np.full(4, 0.1)})
    assert pay(row([1.0, 1.0]), 2) == pytest.approx(1.0)
    pay.look({})                                   # no frame in this cycle
    assert pay(row([1.0, 1.0]), 2) == pytest.approx(1.0)


def test_the_screen_is_on_the_left():
    world = make_world('gaze', 3, screen=True)
    try:
        assert not screen_in_view(world)
        world.data.joint('pan').qpos = 1.3
        mujoco.mj_forward(world.model, world.data)
        assert screen_in_view(world)
    finally:
        world.close()


def test_lives_that_are_over_are_not_lived_again(tmp_path, monkeypatch, capsys):
    def live(kind, seed, folder):
        lived.append((kind, seed))
        return {'screen': [0.1, {'news': 0.2, 'error': 0.9}[kind]], 'pay': [0.0, 0.0]}

    lived: list = []
    monkeypatch.setattr(module, 'live', live)
    ask = ['--work', str(tmp_path), '--out', str(tmp_path / 'told.json'), '--seeds', '0', '1',
           '--pays', 'news', 'error']
    main(ask)
    main(ask)
    assert lived == [('news', 0), ('error', 0), ('news', 1), ('error', 1)]
    told = json.loads((tmp_path / 'told.json').read_text())
    assert told['screen_on_the_last_day'] == {'news': [0.2, 0.2], 'error': [0.9, 0.9]}
    assert json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_night_teaches_what_was_paid(tmp_path, monkeypatch):
    for name, value in (('DAY', MIN_ROWS), ('HELD', 10), ('DAYS', 1), ('A_NEW_ROW', 0.1)):
        monkeypatch.setattr(module, name, value)
    told = module.live('error', 0, tmp_path / 'life')
    assert len(told['screen']) == 1
    assert told['pay'][0] > 0
    assert (tmp_path / 'life' / 'will.safetensors').exists()
