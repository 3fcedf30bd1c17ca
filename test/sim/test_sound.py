"""Synthesized stereo: time and level between the ears, distance, continuity, impacts."""

import numpy as np
import pytest

from dylora_ros.sim.sound import Source, SPEED, Synthesizer, Voice

RATE = 16000
STEADY = Voice(300.0, (1.0, 0.4), 0.0)
LEFT, RIGHT = 0, 1


def source(left, forward=0.0, voice=STEADY, loudness=0.3):
    """Return a source at a place relative to the middle of a head that looks forward."""
    ears = np.array([[0, 0.09, 0], [0, -0.09, 0]])
    return Source(voice, loudness, np.array([forward, left, 0.0]) - ears, np.array([0, 1.0, 0]))


def hear(where, samples=1600, seed=0, **options):
    """Return a steady chunk: the first one fades in."""
    synthesizer = Synthesizer(RATE, seed)
    synthesizer.chunk(samples, [source(*where, **options)])
    return synthesizer.chunk(samples, [source(*where, **options)])


def lag(sound):
    """Return by how many seconds the right ear is later than the left one (under half a wave)."""
    fine = np.arange(0, sound.shape[1] - 1, 0.1)
    ears = [np.interp(fine, np.arange(sound.shape[1]), ear) for ear in sound]
    shifts = np.arange(-160, 161)
    middle = slice(200, -200)
    fit = [np.dot(ears[LEFT][middle], np.roll(ears[RIGHT], -s)[middle]) for s in shifts]
    return shifts[int(np.argmax(fit))] * 0.1 / RATE


@pytest.mark.parametrize('left', [1.5, -1.5, 0.4, -0.4])
def test_the_nearer_ear_hears_first_by_the_path_difference(left):
    where = (left, 1.0)
    distance = np.linalg.norm(source(*where).ears, axis=1)
    expected = (distance[RIGHT] - distance[LEFT]) / SPEED
    assert np.sign(expected) == np.sign(left)
    assert lag(hear(where)) == pytest.approx(expected, abs=1.5e-5)


@pytest.mark.parametrize(('left', 'near', 'far'), [(1.5, LEFT, RIGHT), (-1.5, RIGHT, LEFT)])
def test_the_nearer_ear_hears_louder(left, near, far):
    level = hear((left, 0.5)).std(1)
    assert level[near] > 1.3 * level[far]


def test_straight_ahead_both_ears_hear_the_same():
    sound = hear((0.0, 1.5))
    np.testing.assert_allclose(sound[LEFT], sound[RIGHT], atol=2e-3)


def test_twice_as_near_is_twice_as_loud():
    near, far = hear((0.0, 1.0)).std(), hear((0.0, 2.0)).std()
    assert near / far == pytest.approx(2, rel=0.05)      # the ears turn away a little less


def test_loudness_has_a_limit_at_the_ear():
    touching = Source(STEADY, 0.3, np.full((2, 3), 1e-3), np.array([0, 1.0, 0]))
    sound = Synthesizer(RATE).chunk(1600, [touching])
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() <= 1


def test_chunks_join_without_a_click():
    synthesizer = Synthesizer(RATE)
    sound = np.concatenate([synthesizer.chunk(100, [source(1.0 - 0.02 * i, 0.5)])
                            for i in range(20)], 1)
    steps = np.abs(np.diff(sound, axis=1))
    joints = steps[:, 99::100]
    assert joints.max() <= 1.05 * np.delete(steps, np.s_[99::100], 1).max()


def test_chunk_size_does_not_change_the_sound():
    whole = Synthesizer(RATE, 0)
    parts = Synthesizer(RATE, 0)
    for synthesizer in (whole, parts):
        synthesizer.chunk(400, [source(0.5, 1.0)])
    one = whole.chunk(800, [source(0.5, 1.0)])
    two = np.concatenate([parts.chunk(400, [source(0.5, 1.0)]) for _ in range(2)], 1)
    np.testing.assert_allclose(one, two, atol=3e-3)        # apart from the noise floor


def test_a_new_source_fades_in():
    first = np.abs(Synthesizer(RATE).chunk(1600, [source(0.0, 1.0)]))
    assert first[:, :160].max() < 0.2 * first[:, -160:].max()


def test_silence_is_a_faint_noise_never_zero():
    sound = Synthesizer(RATE).chunk(16000, [])
    assert sound.std() == pytest.approx(2e-4, rel=0.05)
    assert np.abs(sound).max() < 2e-3


def test_noise_repeats_by_seed():
    first, second, other = (Synthesizer(RATE, s).chunk(100, []) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_an_impact_knocks_in_both_ears_and_dies_away():
    synthesizer = Synthesizer(RATE)
    knock = np.abs(synthesizer.chunk(3200, [], impact=0.5))
    assert (knock[:, :160].max(1) > 0.3).all()
    assert knock[:, 2600:].max() < 2e-3
    assert np.abs(synthesizer.chunk(1600, [])).max() < 2e-3


def test_a_harder_impact_is_louder():
    soft, hard = (np.abs(Synthesizer(RATE).chunk(800, [], i)).max() for i in (0.1, 0.4))
    assert hard > 3 * soft


def test_a_knock_rings_on_into_the_next_chunk():
    cut, whole = Synthesizer(RATE), Synthesizer(RATE)
    parts = np.concatenate([cut.chunk(200, [], 0.5), cut.chunk(200, [])], 1)
    np.testing.assert_allclose(parts, whole.chunk(400, [], 0.5), atol=3e-3)
    assert np.abs(parts[:, 200:]).max() > 0.05


def test_voices_differ_in_pitch():
    def pitch(voice):
        sound = hear((0.0, 1.0), samples=16000, voice=voice)[LEFT]
        return int(np.argmax(np.abs(np.fft.rfft(sound))))
    assert pitch(Voice(200.0, (1.0,), 0.0)) == 200
    assert pitch(Voice(450.0, (1.0,), 0.0)) == 450


def test_output_never_leaves_one():
    loud = [source(0.0, 0.3, Voice(100.0 + i, (1.0,), 0.0), 1.0) for i in range(20)]
    synthesizer = Synthesizer(RATE)
    synthesizer.chunk(800, loud)
    assert np.abs(synthesizer.chunk(800, loud)).max() == 1
