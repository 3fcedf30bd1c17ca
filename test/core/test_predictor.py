"""q over the log: bounded reads, the same rows in training, three kinds behind one interface."""

import numpy as np
import pytest
import torch

from dylora_ros.core.context import FLAG_DREAM, GlobalContext
from dylora_ros.core.experience import Experience
from dylora_ros.core.features import feature_width, features, lived, perceived, remarkable
from dylora_ros.core.gru import GRUNetwork, GRUPredictor
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.memory import Memory, MOST, Past, RECENT
from dylora_ros.core.predictor import Forgetful, Predictor, rewarded
from dylora_ros.core.qnetwork import QNetwork

PERIOD = 40_000_000


def random_rows(schema, n, seed=0, start=0):
    """Return n rows that wander, with an action, surprises and a reward."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(n, schema.dtype)
    rows['stamp'] = (start + np.arange(n)) * PERIOD
    walk = np.cumsum(0.3 * rng.standard_normal((n, schema.width)), 0)
    rows['x'] = np.sin(walk) + 0.1 * rng.standard_normal(walk.shape)
    rows['q'] = rows['x']
    rows['aux'] = rng.standard_normal(rows['aux'].shape)
    rows['mask'] = 3
    rows['surprise'] = rng.exponential(1.0, rows['surprise'].shape)
    rows['reward'] = rng.standard_normal(n)
    return rows


def extend(log, rows):
    for row in rows:
        log.append_row(row)


@pytest.fixture
def long_log(tmp_path, small_schema):
    with GlobalContext.open(tmp_path / 'long.gc', small_schema, 2000) as log:
        extend(log, random_rows(small_schema, 1500))
        yield log


@pytest.fixture
def network(small_schema):
    network = QNetwork(small_schema).eval()
    torch.nn.init.normal_(network.next.weight, 0.0, 0.1)     # a newborn's is zero
    return network


def observed(log, row):
    """Return a row as it is when q is asked: nothing decided yet."""
    row = row.copy()
    for name in ('q', 'aux', 'action', 'reward'):
        row[name] = 0
    return row


def test_features_have_their_width_and_limits(small_schema):
    rows = random_rows(small_schema, 5)
    rows['x'][0, 0] = 1000
    out = features(rows, small_schema)
    assert out.shape == (5, feature_width(small_schema))
    assert np.abs(out).max() <= 8
    np.testing.assert_allclose(out[1, :small_schema.width], rows['x'][1].astype(np.float32))


def test_key_of_a_row_is_that_of_its_moment(small_schema, network):
    rows = random_rows(small_schema, 5)
    full = torch.from_numpy(features(rows, small_schema))
    asked = torch.from_numpy(features(observed(None, rows), small_schema))
    assert not torch.equal(full, asked)
    torch.testing.assert_close(network.keys(full), network.keys(asked))
    assert (asked[:, ~torch.from_numpy(perceived(small_schema))] == 0).all()


def test_surprise_counts_only_when_it_is_news(small_schema):
    rows = np.zeros(4, small_schema.dtype)
    rows['mask'] = [1, 1, 0, 1]
    rows['surprise'][:, 0] = [5, 5, 5, 1]
    rows['age'][:, 0] = [0, 1, 0, 0]
    assert remarkable(rows).tolist() == [True, False, False, False]


def test_training_attends_the_rows_that_streaming_attended(tmp_path, small_schema, network):
    rows = random_rows(small_schema, 400)
    rows['flags'][100:130] = FLAG_DREAM
    data = Experience(rows, small_schema)
    data.refresh(network)
    with GlobalContext.open(tmp_path / 'a.gc', small_schema, 1000) as log:
        memory = Memory(network, log)
        past = Past(network, rows, data.features)
        for i, row in enumerate(rows):
            if i and i % 7 == 0:
                memory.catch_up()
                got = memory.find(past.keys[i], int(row['stamp']))
                got = got[lived(rows[got])]
                want = past.find(np.array([i]))[0]
                np.testing.assert_array_equal(got, want[want >= 0])
            log.append_row(row)


def test_training_and_streaming_predict_the_same(long_log, small_schema, network):
    rows = long_log.rows(0, 1500)
    data = Experience(rows, small_schema)
    data.refresh(network)
    heads = network(*data.batch(np.array([1499])))
    with GlobalContext.open(long_log.path.with_name('b.gc'), small_schema, 2000) as log:
        extend(log, rows[:1499])
        got = Predictor(network, log).observe(observed(log, rows[1499]))
    np.testing.assert_allclose(got.q, heads.q[0].detach().numpy(), atol=1e-4)


def test_rebuilt_index_answers_as_the_grown_one(long_log, small_schema, network):
    with GlobalContext.open(long_log.path.with_name('b.gc'), small_schema, 2000) as log:
        grown = Predictor(network, log)
        for row in long_log.rows(0, 1500):
            log.append_row(row)
            grown.catch_up()
        row = observed(log, random_rows(small_schema, 1, 5, 1500)[0])
        np.testing.assert_array_equal(grown.observe(row).q,
                                      Predictor(network, log).observe(row).q)


def test_read_is_bounded_and_inside_the_window(tmp_path, small_schema, network):
    with GlobalContext.open(tmp_path / 'a.gc', small_schema, 2000, window=300) as log:
        rows = random_rows(small_schema, 1500)
        extend(log, rows)
        memory = Memory(network, log)
        key = network.keys(torch.from_numpy(features(rows[-1:], small_schema)))[0]
        found = memory.find(key.detach().numpy(), int(rows['stamp'][-1]))
        assert RECENT < len(found) <= RECENT + MOST
        assert found.min() >= log.window_first
        np.testing.assert_array_equal(found[-RECENT:], np.arange(1500 - RECENT, 1500))


def test_building_the_index_shows_progress(long_log, network, monkeypatch):
    monkeypatch.setattr('dylora_ros.core.memory._CHUNK', 400)
    shares = []
    Memory(network, long_log, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_forgotten_and_damaged_rows_are_not_read(long_log, small_schema, network):
    predictor = Predictor(network, long_log)
    row = observed(long_log, random_rows(small_schema, 1, 5, 1500)[0])
    long_log.forget(0, 1499 * PERIOD)
    got = predictor.observe(row)
    size = small_schema.dtype.itemsize
    with GlobalContext.open(long_log.path.with_name('b.gc'), small_schema, 2000) as only:
        only.append_row(long_log.take([1499])[0])
        want = Predictor(network, only).observe(row)
    np.testing.assert_allclose(got.q, want.q, atol=1e-5)
    at = 4096 + 1499 * size + size - 1
    long_log._map[at] ^= 0x40                     # the last row's content changes under us
    np.testing.assert_allclose(predictor.observe(row).q,
                               Forgetful(network, long_log).observe(row).q, atol=1e-5)


def test_empty_context_is_answered(log, small_schema, network):
    row = observed(log, random_rows(small_schema, 1)[0])
    assert np.isfinite(Predictor(network, log).observe(row).q).all()


def test_new_weights_take_over_in_the_background(long_log, small_schema, network):
    predictor = Predictor(network, long_log)
    other = QNetwork(small_schema).eval()
    torch.nn.init.normal_(other.next.weight, 0.0, 0.1)
    row = observed(long_log, random_rows(small_schema, 1, 5, 1500)[0])
    predictor.adopt(other, background=True)
    predictor._builder.join()
    np.testing.assert_array_equal(predictor.observe(row).q,
                                  Predictor(other, long_log).observe(row).q)


@pytest.mark.parametrize('kind', ['lsh', 'gru', 'none'])
def test_every_kind_answers_and_takes_new_weights(kind, long_log, small_schema):
    make = {'lsh': (QNetwork, Predictor), 'gru': (GRUNetwork, GRUPredictor),
            'none': (QNetwork, Forgetful)}[kind]
    predictor = make[1](make[0](small_schema), long_log)
    row = observed(long_log, random_rows(small_schema, 1, 5, 1500)[0])
    before = predictor.observe(row)
    assert before.q.shape == (small_schema.width,)
    assert before.aux.shape == (small_schema.aux,)
    other = make[0](small_schema)
    torch.nn.init.normal_(other.next.weight)
    predictor.adopt(other)
    assert not np.allclose(predictor.observe(row).q, before.q)


def test_context_matters_to_lsh_and_gru_only(long_log, small_schema):
    row = observed(long_log, random_rows(small_schema, 1, 5, 1500)[0])
    for network, kind, matters in ((QNetwork, Predictor, True), (GRUNetwork, GRUPredictor, True),
                                   (QNetwork, Forgetful, False)):
        torch.manual_seed(0)
        predictor = kind(network(small_schema), long_log)
        before = predictor.observe(row).aux
        assert np.allclose(predictor.observe(row).aux, before)     # asking changes nothing
        long_log.append_row(random_rows(small_schema, 1, 9, 1500)[0])
        assert np.allclose(predictor.observe(row).aux, before) != matters


def test_weights_of_another_kind_or_schema_are_refused(tmp_path, small_schema, network):
    network.save(tmp_path / 'q.safetensors')
    again = QNetwork.load(tmp_path / 'q.safetensors', small_schema)
    assert torch.equal(again.next.weight, network.next.weight)
    with pytest.raises(SchemaError, match='expected dylora-q-gru'):
        GRUNetwork.load(tmp_path / 'q.safetensors', small_schema)


def test_the_reading_loss_brings_attention_into_the_read_and_keys_apart(small_schema):
    torch.manual_seed(0)
    network = QNetwork(small_schema)
    data = Experience(random_rows(small_schema, 600), small_schema)
    index = data.train[data.train > RECENT][::10]
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)

    def measure():
        data.refresh(network)
        with torch.inference_mode():
            mass = network(*data.batch(index)).mass
            keys = network.keys(data.now[index])
            leak = data.leak(network, index, mass, np.random.default_rng(0))
            return float(leak.mean()), float((keys @ keys.T).square().mean())

    before = measure()
    for step in range(15):
        loss = data.readable(network, index, network(*data.batch(index)).mass,
                             np.random.default_rng(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = measure()
    assert after[0] < before[0] - 0.5
    assert after[1] < before[1]


@pytest.mark.parametrize(('change', 'told'), [
    ({}, -0.75), ({'flags': FLAG_DREAM}, None), ({'reward_stamp': 0}, None),
    ({'reward_stamp': 90 * PERIOD}, None)])
def test_the_newest_reward_is_told_while_it_is_new(log, small_schema, change, told):
    row = random_rows(small_schema, 1, start=50)[0]
    row['reward'], row['reward_stamp'] = -0.75, 49 * PERIOD
    for name, value in change.items():
        row[name] = value
    log.append_row(row)
    assert rewarded(log, 51 * PERIOD) == told


def test_an_empty_log_tells_no_reward(log):
    assert rewarded(log, PERIOD) is None


@pytest.mark.parametrize('kind', [Predictor, Forgetful])
def test_who_predicts_tells_the_newest_reward(kind, log, small_schema, network):
    row = random_rows(small_schema, 1, start=50)[0]
    row['reward'], row['reward_stamp'] = 0.5, 49 * PERIOD
    log.append_row(row)
    after = random_rows(small_schema, 1, start=51)[0]
    assert kind(network, log).observe(observed(log, after)).rewarded == 0.5
