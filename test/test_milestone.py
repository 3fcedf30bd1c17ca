"""When something last happened, by the rows of the log."""

import pytest

from dylora_ros.milestone import Milestone


@pytest.fixture
def milestone(tmp_path):
    return Milestone(tmp_path / 'slept.json')


def test_what_never_happened_was_at_row_0(milestone):
    assert milestone.row(100) == 0


def test_the_row_is_found_again(milestone):
    milestone.set(70)
    assert Milestone(milestone.path).row(100) == 70
    assert milestone.row(70) == 70


def test_a_row_of_another_log_is_none_of_this(milestone):
    milestone.set(70)
    assert milestone.row(69) == 0


@pytest.mark.parametrize('content', ['', '{"ro', '[]', '{"row": null}', '{}', 'rubbish'])
def test_a_damaged_file_counts_as_never_and_is_told(milestone, content):
    milestone.path.write_text(content)
    told = []
    assert milestone.row(100, told.append) == 0
    assert len(told) == 1
