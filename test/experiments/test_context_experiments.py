"""What recall and passkey rest on: streams, cues, texts and grading."""

import numpy as np
import pytest

from dylora_ros.core.context import GlobalContext, RowSchema
from dylora_ros.experiments.passkey_text import answers, chains, CITIES, filler
from dylora_ros.experiments.recall import Exam
from dylora_ros.experiments.recall_train import asked, Cues, Lessons, SIZE
from dylora_ros.experiments.statistics import wilson
from dylora_ros.experiments.stream import build, PERIOD, Stream

SCHEMA = RowSchema({'text': (4, 4), 'body': (2, 2)}, 1, 2)


@pytest.fixture
def recorded(tmp_path):
    """Return the path of a short recorded log with a word every 40 s."""
    path = tmp_path / 'life.gc'
    rng = np.random.default_rng(0)
    with GlobalContext.open(path, SCHEMA, 3000) as log:
        row = np.zeros((), SCHEMA.dtype)
        for n in range(2000):
            row['stamp'], row['x'] = n * PERIOD, rng.standard_normal(SCHEMA.width)
            row['mask'], row['age'][0] = 3, (n % 100) * 0.04
            log.append_row(row)
    return path


def test_stream_goes_on_with_even_stamps_and_never_repeats(recorded):
    rows = Stream(recorded, 0).rows(4000)
    assert (np.diff(rows['stamp']) == PERIOD).all()
    assert len(np.unique(rows['x'], axis=0)) == len(rows)


def test_parts_of_a_recording_do_not_overlap(recorded):
    a, b = (Stream(recorded, 0, part)._rows['stamp'] for part in ((0.0, 0.5), (0.5, 1.0)))
    assert a.max() < b.min()


def test_recording_that_is_too_short_is_refused(recorded):
    with pytest.raises(ValueError, match='record more'):
        Stream(recorded, 0, (0.0, 0.2))


def test_built_log_is_made_once(recorded, tmp_path):
    path = tmp_path / 'long.gc'
    with build(path, recorded, 3000) as log:
        assert log.committed == 3000
    before = path.stat().st_mtime_ns
    build(path, recorded, 3000).close()
    assert path.stat().st_mtime_ns == before


def test_cue_tells_name_and_side_and_question_the_name_only(recorded):
    cues = Cues(Stream(recorded, 0))
    rows = Stream(recorded, 1).segment()[:3]
    names, sides = cues.new(np.random.default_rng(0), 3)
    cues.write(rows, names, sides)
    assert (rows['x'][:, cues.side] == SIZE * sides).all()
    questions = asked(rows)
    cues.write(questions, names, np.zeros(3))
    assert (questions['x'][:, cues.side] == 0).all()
    assert (questions['x'][:, :15] == rows['x'][:, :15]).all()
    assert not questions['q'].any()


def test_lessons_stay_within_their_length_and_order(recorded):
    stream = Stream(recorded, 0)
    lessons = Lessons(stream, Cues(Stream(recorded, 1)), 0, pool=1)
    feats, marked, at, ask, questions, sides = lessons.draw(1000, 20)
    assert len(feats) == len(marked) == 1000
    assert (at < ask).all()
    assert ask.max() < 1000
    assert set(sides) <= {-1.0, 1.0}


def test_exam_hides_every_cue_at_its_distance(recorded, tmp_path):
    cues = Cues(Stream(recorded, 1))
    exam = Exam(tmp_path / 'exam.gc', Stream(recorded, 2), cues, [100, 1000], 3, 0)
    with GlobalContext.read(exam.path) as log:
        for j, t in enumerate(exam.times):
            for k, d in enumerate(exam.distances):
                row = log.take([int(t - d - exam.shift[k])])[0]
                assert row['x'][cues.side] == SIZE * exam.sides[j, k]
                assert (row['x'][:15] == SIZE * exam.names[j, k]).all()
            assert not exam.questions(log, j)['x'][:, cues.side].any()


def test_grading_counts_sides(recorded, tmp_path):
    exam = Exam(tmp_path / 'exam.gc', Stream(recorded, 2), Cues(Stream(recorded, 1)), [100], 4, 0)
    right = exam.grade(exam.sides)['100']
    assert (right['accuracy'], right['n']) == (1.0, 4)
    assert exam.grade(-exam.sides)['100']['accuracy'] == 0.0


def test_interval_covers_the_share_and_narrows():
    few, many = wilson(9, 10), wilson(900, 1000)
    assert few[0] < many[0] < 0.9 < many[1] < few[1]


def test_things_and_people_asked_for_were_never_trained():
    rng = np.random.default_rng(0)
    seen, unseen = chains(rng, 2000, False), chains(rng, 80, True)
    assert not {c.thing for c in seen} & {c.thing for c in unseen}
    assert not {c.person for c in seen} & {c.person for c in unseen}
    assert len({c.thing for c in unseen}) == 80


def test_a_fact_names_its_city_and_a_question_does_not():
    for chain in chains(np.random.default_rng(0), 50, False):
        assert CITIES[chain.city] in chain.place
        assert not any(city in chain.one + chain.two + chain.owner for city in CITIES)
        assert chain.thing not in chain.two
    assert len(answers()) == len(CITIES)


def test_filler_is_varied():
    rng = np.random.default_rng(0)
    assert len({filler(rng) for _ in range(3000)}) > 2950
