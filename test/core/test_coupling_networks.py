"""Coupling networks: alone, coupled, with senses missing, and when a new one joins."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dylora_ros.core.coupling import CoupledNetwork, Coupling
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.rows import FLAG_DREAM, RowSchema
from dylora_ros.core.window import LAGS, Window, window_of

SHAPES = {'vision': 6, 'audio': 4, 'body': 4}


def some_window(b=5, k=4, shapes=SHAPES, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Window({n: torch.randn(b, k, w, generator=draw) for n, w in shapes.items()},
                  {n: torch.ones(b, k, dtype=torch.bool) for n in shapes},
                  {n: torch.rand(b, k, generator=draw) for n in shapes},
                  torch.arange(k).float().expand(b, k))


@pytest.fixture
def coupling():
    made = Coupling(SHAPES, SHAPES, 16)
    made.add(('audio',), 'vision')
    made.add(('body',), 'vision')
    made.add(('vision', 'body'), 'audio')
    made.couple('vision')
    return made


def changed(window, name, lag=None):
    """Return the window with other numbers where a modality is masked or does not matter."""
    x = {n: v.clone() for n, v in window.x.items()}
    x[name] = torch.full_like(x[name], 3.0) if lag is None else x[name]
    return Window(x, window.present, window.age, window.lag)


def test_a_pair_needs_nothing_but_its_own_modalities(coupling):
    window = some_window()
    pair = coupling.pairs['audio>vision']
    assert torch.equal(pair(window.only(['audio'])), pair(window))


def test_training_a_pair_alone_leaves_all_others_as_they_were(coupling):
    before = {k: v.clone() for k, v in coupling.state_dict().items()}
    optimizer = torch.optim.SGD(coupling.pairs['audio>vision'].parameters(), 0.1)
    F.mse_loss(coupling.pairs['audio>vision'](some_window().only(['audio'])),
               torch.ones(5, 6)).backward()
    optimizer.step()
    moved = {k for k, v in coupling.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert all(k.startswith('pairs.audio>vision.') for k in moved)


def test_a_new_modality_joins_and_nothing_old_changes_by_a_bit(coupling):
    window = some_window()
    old = {n: pair(window) for n, pair in coupling.pairs.items()}
    said = coupling(window, 'vision')
    coupling.join('touch', 3)
    touched = some_window(shapes={**SHAPES, 'touch': 3})
    window = Window({**window.x, 'touch': touched.x['touch']},
                    {**window.present, 'touch': touched.present['touch']},
                    {**window.age, 'touch': touched.age['touch']}, window.lag)
    coupling.add(('touch',), 'vision')
    coupling.add(('vision',), 'touch')
    assert torch.equal(coupling(window, 'vision'), said)
    coupling.couple('vision')                      # the coupled network is made anew
    for name, value in old.items():
        assert torch.equal(coupling.pairs[name](window), value)
    assert coupling.heard['vision'] == ('audio>vision', 'body>vision', 'touch>vision')
    assert not torch.equal(coupling(window, 'vision'),
                           coupling(window.without('touch'), 'vision'))


def test_the_coupled_network_trains_with_its_pairs_frozen(coupling):
    coupling.pairs.requires_grad_(False)
    coupling(some_window(), 'vision').square().mean().backward()
    assert all(p.grad is None for p in coupling.pairs.parameters())
    assert coupling.coupled['vision'].trust.grad.abs().sum() > 0


def test_or_with_its_pairs_tuned(coupling):
    coupling(some_window(), 'vision').square().mean().backward()
    assert all(p.grad is not None for p in coupling.pairs['body>vision'].parameters())


def test_untrained_it_trusts_pairs_by_their_inverse_errors():
    network = Coupling(SHAPES, {'vision': 2}, 16)
    for source, error in (('audio', 1.0), ('body', 3.0)):
        network.add((source,), 'vision').error.fill_(error)
    network.couple('vision')
    window = some_window()
    said, _ = network.say(window, 'vision')
    torch.testing.assert_close(network(window, 'vision'), 0.75 * said[:, 0] + 0.25 * said[:, 1])
    torch.testing.assert_close(network.pairs_only(window, 'vision'), network(window, 'vision'))


def test_the_numbers_of_a_masked_state_are_never_read(coupling):
    window = some_window().without('audio')
    assert torch.equal(coupling(changed(window, 'audio'), 'vision'), coupling(window, 'vision'))


def test_a_pair_without_any_of_its_states_has_no_say(coupling):
    window = some_window().without('audio')
    said, heard = coupling.say(window, 'vision')
    assert heard.tolist() == [[False, True]] * 5
    coupled: CoupledNetwork = coupling.coupled['vision']
    other = said.clone()
    other[:, 0] = 7.0
    assert torch.equal(coupled(window, other, heard), coupled(window, said, heard))


def test_with_everything_missing_it_still_answers_with_numbers(coupling):
    window = some_window()
    for name in SHAPES:
        window = window.without(name)
    assert torch.isfinite(coupling(window, 'vision')).all()
    assert coupling.pairs_only(window, 'vision').eq(0).all()


def test_switched_off_some_time_ago_leaves_the_older_rows():
    window = some_window().without('audio', torch.tensor([0.0, 1.0, 2.0, 2.5, np.inf]))
    assert window.present['audio'].sum(1).tolist() == [4, 3, 2, 1, 0]
    assert window.present['body'].all()


def test_unknown_and_double_pairs_are_refused(coupling):
    with pytest.raises(ValueError, match='smell'):
        coupling.add(('smell',), 'vision')
    with pytest.raises(ValueError, match='exists'):
        coupling.add(('audio',), 'vision')
    with pytest.raises(ValueError, match='no pair'):
        coupling.couple('body')
    with pytest.raises(ValueError, match='coupled already'):
        coupling.join('audio', 4)


def test_saved_and_loaded_it_says_the_same_up_to_half_precision(tmp_path, coupling):
    schema = RowSchema({'vision': (2, 3), 'audio': (1, 4), 'body': (2, 2)}, 2, adapters='abc')
    coupling.save(tmp_path / 'coupling.safetensors', 'abc')
    loaded = Coupling.load(tmp_path / 'coupling.safetensors', schema)
    window = some_window()
    torch.testing.assert_close(loaded(window, 'vision'), coupling(window, 'vision'),
                               atol=0.02, rtol=0.01)
    with pytest.raises(SchemaError, match='xyz'):
        Coupling.load(tmp_path / 'coupling.safetensors',
                      RowSchema(schema.modalities, 2, adapters='xyz'))


def test_a_window_of_log_rows_masks_what_is_missing_and_what_is_no_memory(small_schema):
    rows = np.zeros((1, 4), small_schema.dtype)
    rows['stamp'] = 100_000_000_000 - np.array([0, 1, 2, 90]) * 1_000_000_000
    rows['mask'] = [3, 1, 3, 3]
    rows['x'] = np.arange(10)
    rows['age'] = 0.5
    rows['flags'][0, 2] = FLAG_DREAM
    window = window_of(rows, rows['flags'] & FLAG_DREAM == 0, small_schema)
    assert window.present['vision'].tolist() == [[True, True, False, False]]
    assert window.present['body'].tolist() == [[True, False, False, False]]
    assert window.lag.tolist() == [[0, 1, 0, 0]]
    assert window.x['body'][0, 0].tolist() == [6, 7, 8, 9]


def test_lags_begin_with_now_and_grow():
    assert LAGS[0] == 0
    assert (np.diff(LAGS) > 0).all()
