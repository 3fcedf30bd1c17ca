"""What recall and passkey rest on: streams, cues, texts and grading."""

import json

import numpy as np
import pytest
import torch

from dylora_ros.core.context import GlobalContext, RowSchema
from dylora_ros.core.features import features
from dylora_ros.core.qnetwork import QNetwork
from dylora_ros.experiments.exact import exact_logits
from dylora_ros.experiments.passkey_text import (
    answers,
    chains,
    CITIES,
    filler,
    mentions_held_out,
)
from dylora_ros.experiments.recall import ask_exact, Exam
from dylora_ros.experiments.recall_train import _Ages, Cues, DAY, Lessons, SIZE
from dylora_ros.experiments.statistics import wilson
from dylora_ros.experiments.stream import asked, build, PERIOD, Stream
from dylora_ros.provenance import publish

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


def test_no_name_stands_for_two_cues(recorded):
    names, _ = Cues(Stream(recorded, 0)).new(np.random.default_rng(0), 3000)
    assert len(np.unique(names, axis=0)) == 3000


def test_more_names_than_there_are_are_refused(recorded):
    with pytest.raises(ValueError, match='fewer questions'):
        Cues(Stream(recorded, 0)).new(np.random.default_rng(0), 40_000)


def test_names_alike_differ_in_one_to_three_signs(recorded):
    names, _ = Cues(Stream(recorded, 0)).new(np.random.default_rng(0), 20, alike=8)
    turned = (names[:8] != names[12:]).sum(1)
    assert ((turned >= 1) & (turned <= 3)).all()


def test_lessons_ask_within_the_reach(recorded):
    lessons = Lessons(Stream(recorded, 0), Cues(Stream(recorded, 1)), 0, pool=1)
    _, _, at, ask, questions, sides = lessons.draw(500, 10, asks=3, reach=20)
    assert len(at) == len(questions) == len(sides) == 30
    assert (ask - at).max() <= 20


def test_ages_grow_into_the_past_and_the_cue_is_before_the_pause():
    rng = np.random.default_rng(0)
    at, ask = np.full(200, 50), np.full(200, 100)
    age = _Ages(rng, at, ask).of(np.tile(np.arange(100), (200, 1)))
    assert (np.diff(age) < 0).all()
    assert age.min() > 0
    # often the cue is a hundred times older than what came right after the pause
    assert np.quantile(age[:, 50] / age[:, 99], 0.9) > 1e4
    assert age.max() < 2.1 * DAY * PERIOD * 1e-9


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


def test_cues_on_one_row_are_refused(recorded, tmp_path):
    with pytest.raises(ValueError, match='same rows'):
        Exam(tmp_path / 'exam.gc', Stream(recorded, 2), Cues(Stream(recorded, 1)), [100, 333], 3,
             0)


def test_exact_arm_is_attention_over_all_rows(recorded, tmp_path):
    torch.manual_seed(0)
    network = QNetwork(SCHEMA).eval()
    torch.nn.init.normal_(network.next.weight)
    with torch.no_grad():
        network.sharpness += 5.0           # weights far below the greatest must not be lost
    exam = Exam(tmp_path / 'exam.gc', Stream(recorded, 2), Cues(Stream(recorded, 1)), [100], 4, 0)
    said = {}
    exam.grade = lambda found: said.update(found=found)
    ask_exact(exam, network, 4)
    with GlobalContext.read(exam.path) as log, torch.inference_mode():
        for j, t in enumerate(exam.times):
            rows, past = exam.questions(log, j), log.rows(0, int(t))
            age = torch.from_numpy((rows['stamp'][0] - past['stamp']) * 1e-9).float()[None]
            want = network(torch.from_numpy(features(rows, SCHEMA)),
                           torch.from_numpy(features(past, SCHEMA))[None], age,
                           torch.ones_like(age, dtype=torch.bool)).q[:, exam.cues.side]
            np.testing.assert_allclose(said['found'][j], want, atol=1e-4)


def test_shared_logits_are_those_of_q():
    torch.manual_seed(0)
    network = QNetwork(SCHEMA)
    query, key = (torch.nn.functional.normalize(torch.randn(n, 96), dim=-1) for n in (3, 7))
    age = torch.rand(7) * 1000
    want = network.logits(query, key.expand(3, -1, -1), age.expand(3, -1))
    torch.testing.assert_close(exact_logits(network, query, key, age), want)


def test_published_result_stands_in_both_folders(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'picture')
    publish({'seed': 3}, tmp_path, tmp_path / 'out', 'a')
    assert json.loads((tmp_path / 'out' / 'a.json').read_text()) == {'seed': 3}
    assert (tmp_path / 'out' / 'a.png').read_bytes() == b'picture'


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


def test_filler_about_something_names_it():
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert 'Anna Quinn' in filler(rng, first='Anna', last='Quinn')
        assert 'rusty bell' in filler(rng, adjective='rusty', noun='bell')


def test_what_is_held_out_is_noticed_in_any_sentence():
    rng = np.random.default_rng(0)
    for chain in chains(rng, 80, True):
        assert mentions_held_out(chain.place)
        assert mentions_held_out(chain.owner)
        first, last = chain.person.split()
        assert mentions_held_out(filler(rng, first=first, last=last))
    assert not any(mentions_held_out(t) for c in chains(rng, 80, False)
                   for t in (c.place, c.owner, c.one, c.two))
