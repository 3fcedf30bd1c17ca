"""Passkey: lessons, states, and contexts of the examination (no text model)."""

import numpy as np
import pytest
import torch

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.qnetwork import QNetwork
from dylora_ros.experiments import passkey, passkey_train
from dylora_ros.experiments.passkey import Exam, question, think
from dylora_ros.experiments.passkey_read import BLOCKS, RANK, row_features, SCHEMA, States, WIDTH


def codes(texts, path):
    """Stand for the text model: every sentence gets numbers of its own."""
    rng = np.random.default_rng(len(texts))
    return rng.standard_normal((len(texts), BLOCKS * WIDTH)).astype(np.float16), 14 * len(texts)


@pytest.fixture
def states():
    torch.manual_seed(0)
    return States(torch.randn(400, BLOCKS * WIDTH))


def test_newborn_sites_do_not_say_the_same(states):
    torch.manual_seed(1)
    shared = torch.randn(2000, 150) * torch.linspace(3, 0.3, 150)
    inputs = torch.cat([shared @ torch.randn(150, WIDTH) for _ in range(BLOCKS)], 1)
    x = States(inputs)(inputs).detach()
    assert x.std(0).sub(1).abs().max() < 0.05
    likeness = torch.corrcoef(x.T).abs()
    likeness.fill_diagonal_(0)
    # a few of the 150 directions are left over: what one site tells no other tells again
    assert likeness.mean() < 0.1
    assert torch.linalg.matrix_rank(x, rtol=0.05) == BLOCKS * RANK


def test_states_in_parts_are_states(states):
    inputs = np.random.default_rng(0).standard_normal((5000, BLOCKS * WIDTH)).astype(np.float16)
    want = states(torch.from_numpy(inputs.astype(np.float32))).detach()
    np.testing.assert_allclose(states.of(inputs), want, rtol=1e-4, atol=1e-4)


def test_no_context_has_two_facts_of_a_thing_or_person(monkeypatch, tmp_path):
    monkeypatch.setattr(passkey_train, 'read_all', codes)
    course = passkey_train.Course(tmp_path, 0)
    lesson = course.draw(200)
    for told in (lesson.thing, lesson.person):
        facts = told.sort(1).values
        assert (told >= 0).sum(1).eq(3).all()
        assert not ((facts[:, 1:] == facts[:, :-1]) & (facts[:, 1:] >= 0)).any()
    age = course.age(200, lesson.inputs.shape[1])
    assert age.min() > 0
    assert age.max() <= passkey_train.LONGEST


def test_a_step_of_the_lessons_moves_states_and_q(monkeypatch, tmp_path):
    monkeypatch.setattr(passkey_train, 'read_all', codes)
    course = passkey_train.Course(tmp_path, 0)
    torch.manual_seed(0)
    newborn = QNetwork(SCHEMA)
    torch.manual_seed(0)
    states, network = passkey_train.train(course, 2, batch=4)
    assert not torch.equal(network.key.weight, newborn.key.weight)
    assert torch.isfinite(states.A).all()


def test_exam_hides_facts_and_asks_everything_once(monkeypatch, tmp_path, states):
    monkeypatch.setattr(passkey, 'read_all', codes)
    exam = Exam(tmp_path, states, 90, 14 * 100, 1)
    some = np.arange(2)
    path, places = exam.context(some, 100, np.random.default_rng(0))
    with GlobalContext.read(path) as log:
        assert log.committed == 100
        np.testing.assert_allclose(log.take(places)['x'],
                                   np.clip(np.concatenate([exam.place[some], exam.owner[some]]),
                                           -8, 8), atol=0.01)
    found = exam.run(QNetwork(SCHEMA).eval(), 14 * 100)
    assert found['lsh']['one_fact']['n'] == found['none']['two_facts']['n'] == 90


def test_thinking_puts_the_prediction_in_the_place_of_the_input():
    class Counting:
        def __init__(self):
            self.seen = []

        def observe(self, row):
            self.seen.append(row['x'].copy())
            return type('', (), {'q': np.full(SCHEMA.width, 100.0 + len(self.seen))})

    counting = Counting()
    assert think(counting, np.ones(SCHEMA.width), 1, 2)[0] == 103
    assert [x[0] for x in counting.seen] == [1, 8, 8]


def test_a_thought_in_lessons_is_clipped_as_in_a_row():
    x = torch.linspace(-20, 20, SCHEMA.width)[None]
    row = question(x[0].numpy(), 1)
    np.testing.assert_allclose(row_features(x)[0, :SCHEMA.width], row['x'].astype(np.float32),
                               atol=0.01)
