"""The composite of one cycle: presence, age, and what it refuses."""

import numpy as np
import pytest

from dylora_ros.core.context import RowSchema
from dylora_ros.core.cycle import Composer

SECOND = 1_000_000_000


@pytest.fixture
def composer(small_schema):
    return Composer(small_schema)


def test_nothing_heard_is_an_empty_mask_and_zeros(composer):
    row = composer.compose(SECOND)
    assert row['mask'] == 0
    assert not row['x'].any()


def test_mask_names_the_modalities_that_spoke(composer):
    composer.put('body', np.ones((2, 2)), 0)
    assert composer.compose(0)['mask'] == 0b10
    composer.put('vision', np.ones((2, 3)), 0)
    assert composer.compose(0)['mask'] == 0b11


def test_states_lie_in_their_own_slices(composer, small_schema):
    composer.put('vision', np.arange(6).reshape(2, 3), 0)
    composer.put('body', 10 + np.arange(4).reshape(2, 2), 0)
    np.testing.assert_array_equal(composer.compose(0)['x'],
                                  [0, 1, 2, 3, 4, 5, 10, 11, 12, 13])


def test_newest_state_replaces_the_older_one(composer, small_schema):
    composer.put('body', np.full((2, 2), 1.0), 0)
    composer.put('body', np.full((2, 2), 2.0), 1)
    assert (composer.compose(1)['x'][small_schema.slices['body']] == 2).all()


def test_age_counts_from_the_signal_in_seconds(composer):
    composer.put('vision', np.ones((2, 3)), 0)
    composer.put('body', np.ones((2, 2)), SECOND // 4)
    row = composer.compose(SECOND // 2)
    np.testing.assert_allclose(row['age'], [0.5, 0.25], atol=1e-3)


def test_state_from_the_future_has_no_age(composer):
    composer.put('body', np.ones((2, 2)), SECOND)
    assert composer.compose(0)['age'][1] == 0


def test_state_older_than_a_second_is_masked(composer, small_schema):
    composer.put('body', np.ones((2, 2)), 0)
    assert composer.compose(SECOND)['mask'] == 0b10
    late = composer.compose(SECOND + SECOND // 10)
    assert late['mask'] == 0
    assert not late['x'].any()


def test_words_stay_for_half_a_minute():
    composer = Composer(RowSchema({'text': (1, 2), 'body': (1, 2)}, actions=1))
    composer.put('text', np.ones((1, 2)), 0)
    assert composer.compose(29 * SECOND)['mask'] == 0b01
    assert composer.compose(31 * SECOND)['mask'] == 0


def test_unheard_surprise_is_zero_and_huge_surprise_is_cut(composer):
    composer.put('body', np.ones((2, 2)), 0)
    assert composer.compose(0)['surprise'][1] == 0
    composer.put('body', np.ones((2, 2)), 0, 1e9)
    assert composer.compose(0)['surprise'][1] == 1000


def test_surprise_that_is_not_a_number_is_ignored(composer):
    composer.put('body', np.ones((2, 2)), 0, float('nan'))
    assert composer.compose(0)['surprise'][1] == 0


@pytest.mark.parametrize(('name', 'x', 'message'), [
    ('smell', np.ones((2, 2)), 'smell.*vision, body'),
    ('body', np.ones((2, 3)), r'body/x has shape \(2, 3\), expected \(2, 2\)'),
    ('body', np.ones(4), 'shape'),
    ('body', np.full((2, 2), np.nan), 'NaN'),
    ('body', np.full((2, 2), np.inf), 'NaN or infinity'),
])
def test_bad_state_is_refused_and_the_old_one_stays(composer, name, x, message):
    composer.put('body', np.full((2, 2), 3.0), 5)
    before = composer.compose(6)
    with pytest.raises(ValueError, match=message):
        composer.put(name, x, 6)
    assert composer.compose(6) == before


def test_later_changes_of_the_callers_array_do_not_reach_the_row(composer, small_schema):
    x = np.ones((2, 2), np.float32)
    composer.put('body', x, 0)
    x[:] = 7
    assert (composer.compose(0)['x'][small_schema.slices['body']] == 1).all()


def test_values_beyond_half_precision_are_clipped_not_infinite(composer):
    composer.put('body', np.full((2, 2), 1e9), 0)
    assert np.isfinite(composer.compose(0)['x']).all()


def test_clear_forgets_everything(composer):
    composer.put('body', np.ones((2, 2)), 0)
    composer.clear()
    assert composer.compose(0)['mask'] == 0
    assert composer.newest() is None


def test_newest_is_the_latest_stamp_of_all_modalities(composer):
    composer.put('vision', np.ones((2, 3)), 7)
    composer.put('body', np.ones((2, 2)), 5)
    assert composer.newest() == 7
