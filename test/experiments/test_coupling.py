"""Tasks and statistics of the coupling experiment, on made-up lives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.coupling import Coupling
from dylora_ros.core.imagine import Imagination
from dylora_ros.core.rows import RowSchema
from dylora_ros.core.window import LAGS, window_of
from dylora_ros.experiments import coupling_fit, coupling_report, coupling_weights
from dylora_ros.experiments.coupling_data import compose, CYCLES, Lives
from dylora_ros.experiments.coupling_fit import (
    disturb,
    fit_coupled,
    fit_pairs,
    loss_of,
    predict_all,
    seen,
    settle,
)
from dylora_ros.experiments.coupling_tasks import (
    arrivals,
    Moments,
    nameable,
    tasks,
    toward,
    whitened,
)
from dylora_ros.modalities.specs import ORDER

SCHEMA = RowSchema(dict.fromkeys(ORDER, (1, 4)), 2, adapters='test')


@pytest.fixture(scope='module')
def lives():
    """Two lives; vision is a sum of what sound and body say, a toy wanders through the view."""
    rng = np.random.default_rng(0)
    rows, body = [], []
    for _ in range(2):
        audio = rng.standard_normal((CYCLES // 5, 1, 4)).astype(np.float32)
        felt = rng.standard_normal((CYCLES, 1, 4)).astype(np.float32)
        sight = np.repeat(audio, 5, 0) + felt
        rows.append(compose({'vision': (np.arange(CYCLES), sight),
                             'audio': (np.arange(0, CYCLES, 5), audio),
                             'text': (np.array([7]), rng.standard_normal((1, 1, 4))),
                             'body': (np.arange(CYCLES), felt)}, SCHEMA))
        body.append(np.zeros((CYCLES, 7), np.float32))
    truth = np.zeros((2 * CYCLES, 13), np.float32)
    truth[:, 2] = 1.5 * np.sin(np.arange(2 * CYCLES) / 40)        # the red ball comes and goes
    truth[:, 6], truth[:, 10] = 3.0, -3.0
    sentences = nameable()
    return Lives(np.repeat([0, 1], CYCLES), np.concatenate(rows), truth,
                 {n: np.zeros((2 * CYCLES, 3), np.float32) for n in ('vision', 'audio', 'text')}
                 | {'body': np.concatenate(body)},
                 {n: np.arange(2 * CYCLES) for n in ORDER}, sentences,
                 rng.standard_normal((len(sentences), 1, 4)).astype(np.float32))


@pytest.fixture(scope='module')
def todo(lives):
    return {t.name: t for t in tasks(lives, SCHEMA)}


def test_windows_in_training_are_those_of_the_running_agent(lives):
    moment = 230
    ours = Moments(lives, SCHEMA).window(np.array([moment]))
    agents = window_of(lives.rows[moment - LAGS][None], np.ones((1, len(LAGS)), bool), SCHEMA)
    torch.testing.assert_close(ours.lag, agents.lag)
    for name in ORDER:
        assert torch.equal(ours.present[name], agents.present[name])
        assert torch.equal(ours.x[name], agents.x[name])
        assert torch.equal(ours.age[name], agents.age[name])


def test_no_window_reaches_into_the_life_before(lives):
    window = Moments(lives, SCHEMA).window(np.array([CYCLES + 10]))
    assert window.present['body'].sum() == (LAGS <= 10).sum()


def test_toward_is_right_and_up_of_the_head():
    right, up = toward(np.array([-0.5, 0.2]), np.array([0.0, 0.3]), np.array([0.0, 0.2]),
                       np.array([0.0, -0.3])).T
    np.testing.assert_allclose(right, [np.sin(0.5), 0], atol=1e-6)
    np.testing.assert_allclose(up, [0, 0], atol=1e-6)


def test_arrivals_come_into_view_within_the_time_and_in_the_same_life(lives):
    inside = np.zeros((2 * CYCLES, 3), bool)
    inside[110:130, 1] = inside[CYCLES:CYCLES + 20, 1] = True
    cycle = np.tile(np.arange(CYCLES), 2)
    row, then = arrivals(lives, np.array([60, 100, 105, CYCLES - 3]),
                         np.ones(2 * CYCLES, int), inside, cycle)
    assert row.tolist() == [100, 105]
    assert then.tolist() == [112, 112]              # the first frame that shows it


def test_the_named_sentence_is_true(lives, todo):
    task = todo['name']
    right = lives.truth[task.row, 2]
    assert (np.abs(right) <= 1).all()
    assert {nameable()[i] for i in task.answer[right > 0.4]} == {
        'The red ball is on the right side of my view.'}
    assert 'text' not in task.sources


def test_a_right_answer_scores_one_and_the_mean_zero(todo):
    for task in todo.values():
        index = np.arange(len(task.row))
        wrong, spread = task.quality(task.truth, index).sum(1)
        assert wrong == 0
        if task.candidates is None:
            mean = task.truth.mean(0).expand_as(task.truth)
            wrong, spread = task.quality(mean, index).sum(1)
            assert wrong == pytest.approx(spread)


def test_a_sense_to_be_filled_in_is_not_seen_since_it_was_switched_off(lives, todo):
    task = todo['fill audio']
    index = np.arange(50, 60)
    window = seen(task, Moments(lives, SCHEMA), index, ORDER)
    young = window.lag < task.since[index][:, None]
    assert not window.present['audio'][young].any()
    assert window.present['body'].all()


def test_dropout_leaves_some_samples_whole_and_hides_senses_in_others(lives):
    window = Moments(lives, SCHEMA).window(np.full(400, 500), ('audio', 'body'))
    hidden = disturb(window, ('audio',), np.random.default_rng(0))
    share = hidden.available(('audio',)).float().mean().item()
    assert share == pytest.approx(1 - coupling_fit.DROP[0], abs=0.06)
    assert hidden.present['body'].all()


def test_coupled_beats_each_pair_where_only_both_know(lives, todo, monkeypatch):
    monkeypatch.setattr(coupling_fit, 'NOISE', 0.0)
    monkeypatch.setattr(coupling_fit, 'DROP', (0.0, 0.0))
    monkeypatch.setattr(coupling_fit, 'PATIENCE', 2)
    moments = Moments(lives, SCHEMA)
    task = replace(todo['fill vision'], sources=('audio', 'body'), off=None)
    coupling = Coupling(moments.shapes, {'vision': 4}, 16)
    life = lives.life[task.row]
    split = np.flatnonzero(life == 0), np.flatnonzero(life == 1)
    fit_pairs(coupling, task, moments, split, seed=1)
    before = {k: v.clone() for k, v in coupling.pairs.state_dict().items()}
    fit_coupled(coupling, task, moments, split, seed=1)
    assert all(torch.equal(v, before[k]) for k, v in coupling.pairs.state_dict().items())

    def score(predict, names):
        said = predict_all(predict, task, moments, names, split[1])
        return 1 - np.divide(*task.quality(said, split[1]).sum(1))

    both = score(lambda w: coupling(w, 'vision'), task.sources)
    for name in task.sources:
        assert both > score(coupling.pairs[f'{name}>vision'], (name,)) + 0.1


def test_what_is_linear_is_found_in_closed_form(lives, todo):
    moments = Moments(lives, SCHEMA)
    task = replace(todo['fill vision'], sources=('audio', 'body'), off=None)
    pair = Coupling(moments.shapes, {'vision': 4}, 16).add(task.sources, 'vision')
    torch.nn.init.zeros_(pair.head[-1].weight)
    index = np.arange(len(task.row))
    window = seen(task, moments, index, task.sources)
    before = loss_of(task, pair(window), index).item()
    after = settle((pair.straight, pair.reader.newest), pair, task,
                   lambda part: seen(task, moments, part, task.sources), index,
                   lambda: loss_of(task, pair(window), index).item())
    assert after == pytest.approx(loss_of(task, pair(window), index).item())
    assert after < 0.02 * before


def test_closed_form_changes_nothing_where_it_would_make_it_worse(lives, todo):
    moments = Moments(lives, SCHEMA)
    task = replace(todo['fill vision'], off=None)
    pair = Coupling(moments.shapes, {'vision': 4}, 16).add(('body',), 'vision')

    def judge():                                  # whoever moves away from zero does worse
        return pair.straight.weight.abs().sum().item()

    settle((pair.straight, pair.reader.newest), pair, task,
           lambda part: seen(task, moments, part, ('body',)), np.arange(200), judge)
    assert judge() == 0


def test_coupled_begins_no_worse_than_its_best_pair(lives, todo, monkeypatch):
    monkeypatch.setattr(coupling_fit, 'DROP', (0.0, 0.0))
    monkeypatch.setattr(coupling_fit, 'PATIENCE', 0)            # no gradient step
    moments = Moments(lives, SCHEMA)
    task = replace(todo['fill vision'], sources=('vision', 'text'), off=None)
    coupling = Coupling(moments.shapes, {'vision': 4}, 16)
    index = np.arange(0, len(task.row), 4)
    fit_pairs(coupling, task, moments, (index, index), seed=0)
    fit_coupled(coupling, task, moments, (index, index), seed=0)
    window = seen(task, moments, index, task.sources)
    best = min(loss_of(task, coupling.pairs[f'{n}>vision'](window), index).item()
               for n in task.sources)
    assert loss_of(task, coupling(window, 'vision'), index).item() <= 1.01 * best


def test_whitened_points_are_equally_far_apart():
    points = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    points[:, 0] *= 100
    far = torch.cdist(*2 * [whitened(points)])
    torch.testing.assert_close(far, 10 ** 0.5 * (1 - torch.eye(5)), atol=1e-3, rtol=0)


def test_the_coupling_of_pretraining_can_be_loaded_by_an_agent(lives, tmp_path, monkeypatch):
    monkeypatch.setattr(coupling_fit, 'CHECK', 3)
    monkeypatch.setattr(coupling_fit, 'PATIENCE', 1)
    monkeypatch.setattr(coupling_weights, 'collect', lambda *arguments: [])
    monkeypatch.setattr(coupling_weights, 'load', lambda *arguments: lives)
    monkeypatch.setattr(coupling_weights.registry, 'row_schema', lambda *arguments: SCHEMA)
    report = coupling_weights.fit_coupling(tmp_path, tmp_path, tmp_path / 'coupling.safetensors',
                                           lives=2)
    assert set(report) == {'vision', 'audio', 'body'}
    with GlobalContext.open(tmp_path / 'context.gc', SCHEMA, 10) as log:
        imagination = Imagination.shipped(tmp_path, log)
        row = lives.rows[100].copy()
        row['mask'] = 0b1000                                    # the body alone
        q = imagination.fill(row, np.full(16, 9.0, np.float32))
    assert (q[:8] != 9).all()
    assert (q[8:] == 9).all()


def test_paired_difference_is_known_better_than_each_score():
    rng = np.random.default_rng(0)
    spread = np.ones((3, 40))
    hard = rng.uniform(0, 0.8, 40)                      # some lives are harder, for both arms
    found = [{'scores': {'a': {'full': [(hard + 0.1).tolist(), spread[i].tolist()]},
                         'b': {'full': [(hard + 0.2).tolist(), spread[i].tolist()]}}}
             for i in range(3)]
    low, high = coupling_report.difference(found, 'a', 'b')['interval_95']
    assert low == pytest.approx(0.1, abs=1e-3)
    assert high == pytest.approx(0.1, abs=1e-3)
    wide = coupling_report.band(coupling_report.table(found, 'a'))['interval_95']
    assert wide[1] - wide[0] > 0.05


def test_filling_in_any_sense_is_scored_by_all_of_them():
    sums = {'coupled': [0.2, 0.4], 'late': [0.5, 0.5], 'one vision': [0.9, 0.2],
            'one body': [0.2, 1.0]}          # shares of the error, of the first and second task
    found = {f'fill {i}': [{'scores': {arm: {'full': [[e[i], e[i]], [1.0, 1.0]]}
                                       for arm, e in sums.items()}}] * 2 for i in range(2)}
    told = coupling_report.any_sense(found)
    assert told['best_single'] == 'vision'               # 0.45 on the mean, body 0.4
    assert told['arms']['coupled'] == {'score': 0.7, 'by_seed': [0.7, 0.7]}
    assert told['coupled_minus_best_single']['difference'] == pytest.approx(0.25)
    assert told['bands_apart']
