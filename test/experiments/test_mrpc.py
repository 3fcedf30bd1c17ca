"""The MRPC experiment: data, arms, training, statistics, and a small run of the whole."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dylora_ros.experiments import EXPERIMENTS, mrpc, pairs
from dylora_ros.experiments import main as experiment
from dylora_ros.experiments.paraphrase import (
    Arm,
    ARMS,
    Budget,
    evaluate,
    initialise,
    Paraphrase,
    Training,
)
from dylora_ros.experiments.statistics import f1_score, interval

transformers = pytest.importorskip('transformers')
SITES = r'(query|value)$'
HEADER = 'Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n'


def tiny():
    torch.manual_seed(0)
    return transformers.BertModel(transformers.BertConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=32)).eval().requires_grad_(False)


def sentences(count, seed=0):
    """Return texts whose label is whether token 7 is in them."""
    rng = np.random.default_rng(seed)
    rows, labels = [], rng.integers(0, 2, count)
    for label in labels:
        ids = rng.integers(8, 40, rng.integers(6, 12))
        if label:
            ids[rng.integers(0, len(ids))] = 7
        rows.append({'input_ids': ids.tolist(), 'attention_mask': [1] * len(ids)})
    return pairs.Pairs(rows, labels.astype(np.int64), 0)


def model_of(arm, data=None, bfloat16=False):
    torch.manual_seed(0)
    model = Paraphrase(tiny(), SITES, 4, ARMS[arm], bfloat16)
    initialise(model, data or sentences(64))
    return model


@pytest.fixture
def text():
    return sentences(8).batch(np.arange(8))[0]


def test_batches_hold_every_pair_once_in_a_seeded_order():
    data = sentences(100)
    groups = list(data.batches(16, np.random.default_rng(1)))
    assert sorted(np.concatenate(groups)) == list(range(100))
    again = list(data.batches(16, np.random.default_rng(1)))
    other = list(data.batches(16, np.random.default_rng(2)))
    assert all((a == b).all() for a, b in zip(groups, again, strict=True))
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(groups, other, strict=True))


def test_a_batch_is_padded_and_masked():
    data = sentences(20)
    found, labels = data.batch(np.arange(20))
    lengths = [len(row['input_ids']) for row in data.encoded]
    assert found['attention_mask'].sum(1).tolist() == lengths
    assert (found['input_ids'][found['attention_mask'] == 0] == 0).all()
    assert labels.tolist() == data.labels.tolist()


def test_the_held_out_part_is_apart():
    data = sentences(40)
    data.encoded = list(range(40))
    rest, held = pairs.split(data, 0.25)
    assert len(held) == 10
    assert not set(rest.encoded) & set(held.encoded)


def test_reads_the_corpus(tmp_path):
    path = tmp_path / 'msr_paraphrase_test.txt'
    path.write_text('\ufeff' + HEADER + '1\t2\t3\tHe said "hi.\tHe said: "hi".\n', 'utf-8')
    rows, labels = pairs.load(str(tmp_path), 'test')
    assert rows == [('He said "hi.', 'He said: "hi".')]
    assert labels.tolist() == [1]


def test_a_broken_line_is_named(tmp_path):
    (tmp_path / 'msr_paraphrase_train.txt').write_text(HEADER + '1\t2\t3\ta\tb\n2\tx\n')
    with pytest.raises(pairs.DataError, match='line 3: expected label'):
        pairs.load(str(tmp_path), 'train')


@pytest.mark.parametrize('source', ['/no/such folder', 'no such hub'])
def test_missing_data_says_what_is_expected(source):
    with pytest.raises(pairs.DataError, match='neither a folder nor a hub name'):
        pairs.load(source, 'train')


def test_an_empty_folder_says_which_file(tmp_path):
    with pytest.raises(pairs.DataError, match='msr_paraphrase_train'):
        pairs.load(str(tmp_path), 'train')


def test_nothing_but_the_context_reaches_a_blinded_answer(text):
    model = model_of('blinded_gc')
    context = model.write(text)
    before = model.answer(text, context, 0)
    text['input_ids'].fill_(9)
    assert torch.equal(model.answer(text, context, 0), before)
    assert (model.answer(text, model.write(text), 0) - before).abs().max() > 1e-5


@pytest.mark.parametrize(('arm', 'without'), [('gc', 'lora'), ('blinded_gc', 'blinded_no_gc')])
def test_an_emptied_context_is_the_arm_without(text, arm, without):
    model = model_of(arm)
    emptied = model.answer(text, model.encoder.empty(8), 0)
    assert (model(text, 0) - emptied).abs().max() > 1e-5
    model.arm, model.encoder.capacity = Arm(ARMS[without].blinded, 0), 0
    assert torch.equal(model(text, 0), emptied)


def test_blinded_without_context_says_the_same_to_everything(text):
    answers = model_of('blinded_no_gc')(text, 0)
    assert (answers == answers[0]).all()


def test_start_is_whitened_and_centred():
    data = sentences(64)
    model = model_of('lora', data)
    found, _ = data.batch(np.arange(64))
    with torch.no_grad():
        for layer in model.encoder.adapter.layers.values():
            layer.B.zero_()
        model.encoder.model(**found)
    x = model.encoder.adapter.read_tokens()[found['attention_mask'].bool()]
    assert x.mean(0).abs().max() < 1e-4
    torch.testing.assert_close(x.std(0), torch.ones(4, 4), atol=0.05, rtol=0)


@pytest.mark.parametrize('arm', ['lora', 'gc', 'blinded_gc'])
def test_a_step_trains_low_rank_weights_and_leaves_the_frozen(arm):
    data = sentences(16)
    model = model_of(arm, data)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    Training(model, data, Budget(epochs=1, batch=8), 1e-2, 0).run_epoch()
    after = model.state_dict()
    changed = {k for k, v in after.items() if not torch.equal(v, before[k])}
    assert all('.A' in k or '.B' in k or 'head' in k or '.reader.' in k for k in changed)
    assert any('.reader.' in k for k in changed) == (arm != 'lora')
    assert any(k.endswith('.A') for k in changed)
    assert any(k.endswith('.B') for k in changed)


def test_resumes_to_the_same_weights(tmp_path):
    data, budget = sentences(32), Budget(epochs=2, batch=8)
    straight = Training(model_of('blinded_gc', data), data, budget, 1e-2, 3)
    straight.run_epoch()
    straight.save(tmp_path / 'c.safetensors')
    straight.run_epoch()
    resumed = Training(model_of('blinded_gc', data), data, budget, 1e-2, 3)
    resumed.load(tmp_path / 'c.safetensors')
    resumed.run_epoch()
    for name, p in straight.named.items():
        assert torch.equal(p, resumed.named[name]), name


def test_the_context_carries_the_answer_to_the_blind():
    data, judged = sentences(512), sentences(200, seed=1)
    found = {}
    for arm in ('blinded_gc', 'blinded_no_gc'):
        model = model_of(arm, data)
        training = Training(model, data, Budget(epochs=4, batch=16), 1e-2, 0)
        for _ in range(4):
            training.run_epoch()
        found[arm] = evaluate(model, judged)['accuracy']
    majority = max(judged.labels.mean(), 1 - judged.labels.mean())
    assert found['blinded_no_gc'] <= majority + 1e-9
    assert found['blinded_gc'] > 0.8


def test_f1():
    assert f1_score(np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0])) == 0.5
    assert f1_score(np.zeros(3), np.zeros(3)) == 0


def test_interval_covers_chance_of_seeds_and_items():
    rng = np.random.default_rng(0)
    table = (rng.random((3, 1000)) < 0.7).astype(float)
    found = interval(table)
    assert found['low'] < 0.7 < found['high']
    assert found['mean'] == pytest.approx(table.mean())
    assert 0.02 < found['high'] - found['low'] < 0.08
    unsteady = table.copy()
    unsteady[0] = 1.0                                   # one seed unlike the others
    assert interval(unsteady)['high'] - interval(unsteady)['low'] > 0.1


def test_a_paired_difference_is_tighter_than_its_parts():
    rng = np.random.default_rng(0)
    one = (rng.random((3, 1000)) < 0.7).astype(float)
    other = one.copy()
    other[:, :20] = 1 - other[:, :20]
    found = interval(one - other)
    assert found['high'] - found['low'] < 0.5 * (interval(one)['high'] - interval(one)['low'])


@pytest.mark.parametrize(('losses', 'more'), [
    ({1e-3: 0.3, 2e-3: 0.2, 4e-3: 0.4}, []), ({1e-3: 0.3, 2e-3: 0.2}, [4e-3]),
    ({1e-3: 0.1, 2e-3: 0.2}, [5e-4])])
def test_a_search_goes_on_while_the_best_is_at_its_edge(losses, more):
    assert mrpc.beyond(losses) == more


def runner_in(folder):
    options = SimpleNamespace(work=folder, epochs=1, encoder='tiny', sites=SITES, rank=4,
                              precision='float32')
    return mrpc.Runner(options, sentences(16), sentences(8, seed=1), tiny())


def test_a_run_of_other_settings_is_not_taken_for_ours(tmp_path):
    runner = runner_in(tmp_path)
    first = runner.train_run(mrpc.Run('lora-0', 'lora', 1e-3, 0, 1))
    assert runner.train_run(mrpc.Run('lora-0', 'lora', 1e-3, 0, 1)) == first
    with pytest.raises(mrpc.WorkError, match='lora-0.json was made with lr 0.001; asked for 0.00'):
        runner.train_run(mrpc.Run('lora-0', 'lora', 2e-3, 0, 1))


def test_processes_share_the_runs_out(tmp_path):
    ours, theirs = runner_in(tmp_path), runner_in(tmp_path)
    plan = [mrpc.Run(name, 'lora', 1e-3, 0, 1) for name in ('a', 'b')]
    trained = []
    other = theirs.claim('a', wait=False)
    assert other.__enter__()

    def train_run(run):
        trained.append(run.name)
        if trained == ['b']:
            other.__exit__(None, None, None)        # theirs is finished
        return run.name
    ours.train_run = train_run
    assert ours.share(plan) == ['a', 'b']
    assert trained == ['b', 'a', 'b']               # the second time they are only read


def test_experiments_are_found_by_name(capsys):
    assert 'mrpc' in EXPERIMENTS
    assert experiment(['no-such']) == 2
    assert 'mrpc' in capsys.readouterr().err


@pytest.mark.weights
def test_small_run_publishes_and_resumes(tmp_path, monkeypatch):
    from dylora_ros.modalities.encoders import load_encoder
    from dylora_ros.modalities.weights import WeightsError
    try:
        load_encoder()
    except WeightsError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(mrpc, 'EXTENSIONS', 0)
    words = 'the cat sat on a red mat while it rained'.split()
    rng = np.random.default_rng(0)
    for part, count in (('train', 16), ('test', 6)):
        lines = [f'{i % 2}\t1\t2\t{" ".join(rng.permutation(words)[:5])}\t'
                 f'{" ".join(rng.permutation(words)[:5])}\n' for i in range(count)]
        (tmp_path / f'msr_paraphrase_{part}.txt').write_text(HEADER + ''.join(lines))
    arguments = ['--data', str(tmp_path), '--work', str(tmp_path / 'work'), '--output',
                 str(tmp_path / 'out'), '--seeds', '2', '--epochs', '1', '--no-ranks',
                 '--rates', '1e-3', '2e-3']
    assert mrpc.main(arguments) == 0
    result = json.loads((tmp_path / 'out' / 'mrpc.json').read_text())
    assert set(result['arms']) == {'lora', 'gc', 'blinded_gc', 'blinded_no_gc'}
    for arm in result['arms'].values():
        assert len(arm['test_accuracy']) == len(arm['test_f1']) == 2
    assert result['differences']['gc-lora']['low'] <= result['differences']['gc-lora']['high']
    for name, short in result['search']['short'].items():
        found = result['search']['full'][name] or short
        least = min(found, key=lambda lr: found[lr]['loss'])
        assert result['arms'][name]['learning_rate'] == float(least)
    assert (tmp_path / 'out' / 'mrpc.png').stat().st_size > 1000
    monkeypatch.setattr(Training, 'run_epoch', lambda *_: pytest.fail('trained again'))
    assert mrpc.main(arguments) == 0
    assert json.loads((tmp_path / 'out' / 'mrpc.json').read_text()) == result
