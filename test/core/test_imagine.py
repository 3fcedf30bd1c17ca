"""What a missing sense would say, as a term of q."""

import numpy as np
import pytest
import torch

from dylora_ros.core.coupling import Coupling
from dylora_ros.core.imagine import Imagination
from dylora_ros.core.predictor import Predictor, QNetwork
from dylora_ros.core.rows import FLAG_DREAM

SHAPES = {'vision': 6, 'body': 4}


@pytest.fixture
def imagination(log):
    coupling = Coupling(SHAPES, SHAPES, 16)
    coupling.add(('body',), 'vision')
    coupling.add(('vision',), 'vision')
    coupling.couple('vision')
    return Imagination(coupling.eval(), log)


def row(log, cycle, mask, seed):
    out = np.zeros((), log.schema.dtype)
    out['stamp'], out['mask'] = int((cycle + 1) * 4e7), mask
    out['x'] = np.random.default_rng(seed).standard_normal(log.schema.width)
    for i, part in enumerate(log.schema.slices.values()):
        if not mask >> i & 1:
            out['x'][part] = 0
    return out


def live(log, cycles, mask=3, flags=0):
    for i in range(cycles):
        lived = row(log, i, mask, i)
        lived['flags'] = flags
        log.append_row(lived)


def test_while_all_senses_are_there_q_is_left_alone(log, imagination):
    live(log, 20)
    q = np.arange(log.schema.width, dtype=np.float32)
    assert imagination.fill(row(log, 20, 3, 99), q) is q


def test_only_the_part_of_the_missing_sense_is_filled_in(log, imagination):
    live(log, 20)
    q = np.full(log.schema.width, 9.0, np.float32)
    filled = imagination.fill(row(log, 20, 2, 99), q)
    part = log.schema.slices['vision']
    assert (filled[part] != 9).all()
    filled[part] = 9
    assert (filled == 9).all()


def test_what_the_missing_sense_said_before_counts(log, imagination):
    live(log, 25)
    q = np.zeros(log.schema.width, np.float32)
    with_past = imagination.fill(row(log, 25, 2, 99), q)
    window = imagination._window(row(log, 25, 2, 99))
    assert window.present['vision'].tolist()[0][:6] == [False, True, True, True, True, True]
    without = imagination.coupling(window.without('vision'), 'vision')[0].detach().numpy()
    assert not np.allclose(with_past[log.schema.slices['vision']], without)


def test_dreams_are_not_taken_for_what_was_lived(log, imagination):
    live(log, 20, flags=FLAG_DREAM)
    window = imagination._window(row(log, 20, 2, 99))
    assert window.present['body'][0].tolist() == [True] + [False] * 11


def test_an_empty_log_and_a_blank_row_are_no_error(log, imagination):
    q = np.zeros(log.schema.width, np.float32)
    assert np.isfinite(imagination.fill(row(log, 0, 2, 1), q)).all()
    assert imagination.fill(row(log, 0, 0, 1), q) is q


def test_the_predictor_uses_it(log, imagination):
    live(log, 40)
    torch.manual_seed(0)
    network = QNetwork(log.schema)
    now = row(log, 40, 2, 99)
    plain = Predictor(network, log).observe(now).q
    filled = Predictor(network, log, imagination=imagination).observe(now).q
    part = log.schema.slices['body']
    np.testing.assert_array_equal(filled[part], plain[part])
    np.testing.assert_array_equal(filled, imagination.fill(now, plain))


def test_targets_that_are_no_modality_are_refused(log):
    coupling = Coupling(SHAPES, {'azimuth': 1}, 16)
    coupling.add(('body',), 'azimuth')
    coupling.couple('azimuth')
    with pytest.raises(ValueError, match='azimuth'):
        Imagination(coupling, log)


def test_a_folder_without_coupling_weights_has_no_imagination(log, tmp_path):
    assert Imagination.shipped(tmp_path, log) is None
