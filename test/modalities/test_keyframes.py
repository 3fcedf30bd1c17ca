"""Remembered moments: one every two seconds, the newest only, kept on disk."""

import numpy as np
import pytest

from dylora_ros.modalities.keyframes import forget, KEEP, Keyframes, load, SPACING

STEP = int(SPACING * 1e9)


def moment(value):
    return {'signal': np.full((2, 3), value, np.uint8), 'age': np.float32([value])}


def test_the_first_signal_of_every_two_seconds_is_due():
    kept = Keyframes()
    assert kept.due(0)
    kept.put(0, moment(1))
    assert not kept.due(STEP - 1_000_000)
    assert kept.due(STEP + 1_000_000)


def test_moments_come_back_from_disk_with_their_types(tmp_path):
    kept = Keyframes()
    kept.put(0, moment(1))
    kept.put(STEP, moment(2))
    kept.save(tmp_path / 'deep/er/vision.safetensors')
    found = load(tmp_path / 'deep/er/vision.safetensors')
    assert sorted(found) == [0, 1]
    np.testing.assert_array_equal(found[1]['signal'], moment(2)['signal'])
    assert found[1]['signal'].dtype == np.uint8
    assert found[1]['age'].dtype == np.float32


def test_only_the_newest_moments_are_kept(tmp_path):
    kept = Keyframes()
    for i in range(KEEP + 5):
        kept.put(i * STEP, moment(i))
    kept.save(tmp_path / 'a.safetensors')
    assert sorted(load(tmp_path / 'a.safetensors')) == list(range(5, KEEP + 5))


def test_senses_with_other_rates_remember_the_same_moments(tmp_path):
    found = []
    for name, period in (('fast', 0.04), ('slow', 0.2)):
        kept = Keyframes()
        for i in range(int(10 / period)):
            stamp = int(i * period * 1e9)
            if kept.due(stamp):
                kept.put(stamp, moment(1))
        kept.save(tmp_path / f'{name}.safetensors')
        found.append(set(load(tmp_path / f'{name}.safetensors')))
    assert found[0] == found[1] == {0, 1, 2, 3, 4}


def test_an_empty_context_is_no_moment():
    kept = Keyframes()
    kept.put(0, {})
    assert kept.due(0)


def test_no_file_is_no_moments(tmp_path):
    assert load(tmp_path / 'none.safetensors') == {}


def test_no_moments_can_be_saved(tmp_path):
    Keyframes().save(tmp_path / 'a.safetensors')
    assert load(tmp_path / 'a.safetensors') == {}


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'a.safetensors'
    kept = Keyframes()
    kept.put(0, moment(1))
    kept.save(path)
    kept.put(STEP, moment(2))

    def fail(tensors, name):
        raise OSError('disk full')
    monkeypatch.setattr('dylora_ros.modalities.keyframes.save_file', fail)
    with pytest.raises(OSError, match='disk full'):
        kept.save(path)
    assert list(load(path)) == [0]


def test_a_strided_array_is_saved_as_it_looks(tmp_path):
    kept = Keyframes()
    array = np.arange(12).reshape(3, 4)[:, ::2]
    kept.put(0, {'signal': array})
    kept.save(tmp_path / 'a.safetensors')
    np.testing.assert_array_equal(load(tmp_path / 'a.safetensors')[0]['signal'], array)


def test_what_all_senses_kept_of_a_span_of_time_is_erased(tmp_path):
    kept = Keyframes()
    for i in range(5):
        kept.put(i * STEP, moment(i))
    for name in 'vision', 'audio':
        kept.save(tmp_path / f'{name}.safetensors')
    assert forget(tmp_path, STEP + 1, 3 * STEP) == 2
    for name in 'vision', 'audio':
        assert sorted(load(tmp_path / f'{name}.safetensors')) == [0, 3, 4]
    assert forget(tmp_path / 'nowhere', 0, STEP) == 0
