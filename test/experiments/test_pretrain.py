"""What pretraining rests on: the babble and the LR states that are made of it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dylora_ros.experiments.babble import babble_in_worlds, log_states, States, windows
from dylora_ros.experiments.pretrain_fit import FrameData
from dylora_ros.experiments.pretrain_states import feel, Seen
from dylora_ros.modalities.body import Body


@pytest.fixture(scope='module')
def babbled():
    return babble_in_worlds(80, 2, seed=3)


def test_babble_repeats_by_seed(babbled):
    again = babble_in_worlds(80, 2, seed=3)
    for key, value in babbled.items():
        np.testing.assert_array_equal(value, again[key])


def test_babble_is_made_of_lives_that_differ(babbled):
    assert np.bincount(babbled['life']).tolist() == [40, 40]
    assert len(babbled['frames']) == 20
    assert not np.array_equal(babbled['commands'][:40], babbled['commands'][40:])


def test_the_signal_holds_the_command_before_and_the_command_is_the_one_given_then(babbled):
    np.testing.assert_allclose(babbled['signals'][1:40, 4:6], babbled['commands'][:39], atol=1e-6)


def test_states_from_kept_inputs_are_what_the_sense_perceives(babbled):
    torch.manual_seed(0)
    body = Body(2)
    x = feel(body, babbled['signals'])
    for i in (0, 17, 79):
        np.testing.assert_allclose(body.observe(babbled['signals'][i]).x, x[i], atol=1e-3)


def test_first_states_are_centred_and_of_unit_size(babbled):
    x = feel(Body(2), babbled['signals'])
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-2)
    assert np.abs(x[:, 0].std(0) - 1).max() < 0.1


def test_no_window_of_sound_reaches_into_another_life(babbled):
    audio = SimpleNamespace(samples=7680, log_mel=lambda sound: sound)
    found = dict(windows(audio, babbled))
    assert list(found) == [14, 19, 24, 29, 34, 39, 54, 59, 64, 69, 74, 79]
    wave = babbled['sounds'][43:55].astype(np.float32).transpose(1, 0, 2).reshape(2, -1)
    np.testing.assert_array_equal(found[54].numpy(), wave)


def test_frames_to_start_from_never_reach_into_another_life(babbled):
    seen = Seen(torch.zeros(20, 3, 4, 4), torch.zeros(20, 2, 2), torch.zeros(20, 1, 2))
    states = np.zeros((80, 2, 2), np.float32)
    data = FrameData(seen, babbled, states[:20], states, states)
    assert data.starts(3).tolist() == [2, 3, 4, 5, 6, 12, 13, 14, 15, 16]


def test_the_body_told_with_a_frame_is_that_of_the_cycle_before(babbled):
    seen = Seen(torch.zeros(20, 3, 4, 4), torch.zeros(20, 2, 2), torch.zeros(20, 1, 2))
    number = np.arange(80, dtype=np.float32)[:, None, None].repeat(4, 1).repeat(4, 2)
    data = FrameData(seen, babbled, number[:20], number, number)
    assert data.body[:4, 0].tolist() == [0, 3, 7, 11]


def test_lives_are_apart_in_the_log(babbled, tmp_path):
    body = np.ones((80, 4, 4), np.float32)
    log = log_states({'body': States(np.arange(80), body)}, babbled, tmp_path)
    rows = log.rows(0, 80)
    log.close()
    step = np.diff(rows['stamp']) * 1e-9
    assert step[39] > 1
    assert np.delete(step, 39) == pytest.approx(0.04)
    assert (rows['mask'] == 0b1000).all()
    np.testing.assert_allclose(rows['action'], babbled['commands'], atol=1e-3)
