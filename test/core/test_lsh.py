"""The index: near keys are found, old rows leave, training sees what streaming sees."""

import numpy as np
import pytest

from dylora_ros.core.lsh import AngularHash, SequenceIndex, StreamingIndex, strongest


def unit(rng, n, dim=32):
    keys = rng.standard_normal((n, dim)).astype(np.float32)
    return keys / np.linalg.norm(keys, axis=1, keepdims=True)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_hash_depends_on_direction_only(rng):
    hasher, keys = AngularHash(32), unit(rng, 50)
    np.testing.assert_array_equal(hasher(keys), hasher(3.0 * keys))
    assert hasher(keys).max() < hasher.buckets


def test_hash_names_the_nearest_signed_axes(rng, monkeypatch):
    monkeypatch.setattr('dylora_ros.core.lsh._PIECE', 7)
    hasher, keys = AngularHash(32, rounds=2, polytopes=2, axes=3), unit(rng, 20)
    planes = hasher.planes.reshape(32, 2, 2, 3)
    for key, bucket in zip(keys, hasher(keys), strict=True):
        for r in range(2):
            nearest = [np.argmax([*(key @ planes[:, r, p]), *-(key @ planes[:, r, p])])
                       for p in range(2)]
            assert bucket[r] == 6 * nearest[0] + nearest[1]


def test_near_keys_share_buckets_more_often_than_far_ones(rng):
    hasher, keys = AngularHash(32), unit(rng, 400)
    near = keys + 0.05 * rng.standard_normal(keys.shape).astype(np.float32)
    same_near = (hasher(keys) == hasher(near)).mean()
    same_far = (hasher(keys) == hasher(unit(rng, 400))).mean()
    assert same_near > 0.3
    assert same_far < 0.02


def test_own_bucket_is_the_first_probe_and_probes_differ(rng):
    hasher, keys = AngularHash(32, axes=6), unit(rng, 20)
    probes = hasher.probes(keys)
    np.testing.assert_array_equal(probes[..., 0], hasher(keys))
    assert all(len(set(p)) == 4 for p in probes.reshape(-1, 4))
    assert 0 <= probes.min() <= probes.max() < hasher.buckets


def test_bulk_insert_equals_one_by_one(rng):
    hasher, keys = AngularHash(32, rounds=3, polytopes=2, axes=2), unit(rng, 500)
    marked = rng.random(500) < 0.1
    bulk, single = (StreamingIndex(hasher, 4, 2) for _ in range(2))
    bulk.insert(keys[:100], np.arange(100), marked[:100])
    bulk.insert(keys[100:], np.arange(100, 500), marked[100:])
    for i in range(500):
        single.insert(keys[i:i + 1], np.array([i]), marked[i:i + 1])
    for key in unit(rng, 50):
        np.testing.assert_array_equal(bulk.query(key, 0), single.query(key, 0))


def test_rows_that_left_the_window_are_not_found(rng):
    index, key = StreamingIndex(AngularHash(32)), unit(rng, 1)
    index.insert(np.repeat(key, 3, 0), np.array([5, 6, 7]), np.zeros(3, bool))
    assert index.query(key[0], 0).tolist() == [5, 6, 7]
    assert index.query(key[0], 7).tolist() == [7]


def test_index_memory_does_not_grow(rng):
    index = StreamingIndex(AngularHash(32))
    before = index.nbytes
    index.insert(unit(rng, 5000), np.arange(5000), np.zeros(5000, bool))
    assert index.nbytes == before
    assert len(index.query(unit(rng, 1)[0], 0)) <= 8 * 4 * 8


def test_remarkable_row_outlives_everyday_ones(rng):
    key = unit(rng, 1)
    crowd = np.repeat(key, 1000, 0)
    for is_remarkable, stays in ((False, False), (True, True)):
        index = StreamingIndex(AngularHash(32))
        index.insert(key, np.array([0]), np.array([is_remarkable]))
        index.insert(crowd, np.arange(1, 1001), np.zeros(1000, bool))
        assert (0 in index.query(key[0], 0)) == stays


def test_training_sees_what_streaming_saw(rng):
    hasher = AngularHash(32, rounds=3, polytopes=2, axes=2)
    keys = unit(rng, 600)
    member, marked = rng.random(600) < 0.9, rng.random(600) < 0.1
    sequence = SequenceIndex(hasher, keys, member, marked, 4, 2)
    streaming = StreamingIndex(hasher, 4, 2)
    for i in range(600):
        want = streaming.query(keys[i], 0)
        got = sequence.query(keys[i:i + 1], np.array([i]))[0]
        np.testing.assert_array_equal(np.unique(got[got >= 0]), want)
        if member[i]:
            streaming.insert(keys[i:i + 1], np.array([i]), marked[i:i + 1])


def test_every_row_is_found_once(rng):
    keys = np.repeat(unit(rng, 1), 20, 0)
    found = SequenceIndex(AngularHash(32), keys).query(keys[:1], np.array([15]))[0]
    found = found[found >= 0]
    assert found.tolist() == list(range(7, 15))


def test_strongest_keeps_the_best_and_the_padding():
    found = np.array([[-1, 2, 5, 7, 9]])
    score = np.array([[9.0, 0.1, 0.4, 0.2, 0.3]])
    assert strongest(found, score, 2).tolist() == [[5, 9]]
    assert strongest(found, score, 9).tolist() == [[-1, 2, 5, 7, 9]]
