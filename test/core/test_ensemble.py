"""An ensemble of continuous Qs: learns in turns, acts by the mean, is kept whole."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import save_file
import torch

from dylora_ros.core.dqn import ContinuousQ, Settings
from dylora_ros.core.ensemble import Ensemble
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.trajectory import Sampler, Trajectory

SMALL = Settings(width=16, actor_width=16, batch=32, discount=0.5)
STATE = np.array([0.3, -1.0, 2.0], np.float32)


def rows(count=200) -> Trajectory:
    """Return a random life of 3 numbers, in which 2 are decided."""
    rng = np.random.default_rng(0)
    data = Trajectory(count, 3, 2)
    data.extend(rng.standard_normal((count, 3)), rng.uniform(-1, 1, (count, 2)),
                rng.standard_normal(count), np.ones(count, bool))
    return data


def newborn(count=2) -> Ensemble:
    torch.manual_seed(0)
    return Ensemble.newborn(count, 3, 2, SMALL)


def learn(ensemble: Ensemble, updates: int, **options):
    data = rows()
    return ensemble.learn(data, Sampler(data, SMALL.batch), updates, **options)


@pytest.fixture
def taught():
    out = newborn()
    learn(out, 20)
    return out


@pytest.mark.parametrize('noise', [None, torch.tensor([0.5, -1.0])])
def test_the_mean_of_the_commands_acts(noise):
    ensemble = newborn(3)
    actions, values = zip(*(q.decide(STATE, noise) for q in ensemble.members), strict=True)
    assert not np.allclose(actions[0], actions[1]), 'the twin: each for itself acts otherwise'
    action, value = ensemble.decide(STATE, noise)
    np.testing.assert_allclose(action, np.mean(actions, 0))
    assert value == pytest.approx(np.mean(values))


def test_happiness_is_the_mean_of_the_members():
    ensemble = newborn()
    for q, mean in zip(ensemble.members, (0.2, 0.4), strict=True):
        q.expect(mean)
    np.testing.assert_allclose(ensemble.value(STATE[None]), 0.3, rtol=1e-5)
    np.testing.assert_allclose(ensemble.foretell(STATE[None], np.zeros((1, 2))), 0.3, rtol=1e-5)


def test_the_members_share_the_updates():
    ensemble = newborn()
    assert learn(ensemble, 120).updates == 120
    assert [int(q.updates) for q in ensemble.members] == [70, 50]
    assert ensemble.updates == 120


def test_who_was_cut_short_is_next():
    ensemble = newborn()
    report = learn(ensemble, 200, going=lambda done: done < 60)
    assert report.updates == 60
    assert [int(q.updates) for q in ensemble.members] == [50, 10]
    learn(ensemble, 40)
    assert [int(q.updates) for q in ensemble.members] == [50, 50]


def test_whoever_watches_is_told_of_all_updates():
    told = []
    learn(newborn(), 120, going=lambda done: told.append(done) or True)
    assert told == list(range(120))


def test_without_updates_nothing_is_reported():
    report = learn(newborn(), 0)
    assert report.updates == 0
    assert np.isnan(report.error)


def test_saved_and_loaded_it_goes_on_as_if_nothing_had_been(taught, tmp_path):
    taught.save(tmp_path / 'w.safetensors')
    again = Ensemble.load(tmp_path / 'w.safetensors', (3, 2))
    assert again.settings == SMALL
    for one in (taught, again):
        torch.manual_seed(1)
        learn(one, 70)
    for a, b in zip(taught.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_loaded_to_act_it_decides_the_same(taught, tmp_path):
    taught.save(tmp_path / 'w.safetensors', optimizers=False)
    again = Ensemble.load(tmp_path / 'w.safetensors', (3, 2), optimizers=False)
    np.testing.assert_array_equal(again.decide(STATE)[0], taught.decide(STATE)[0])


def test_as_many_members_as_were_saved(tmp_path):
    newborn(3).save(tmp_path / 'w.safetensors')
    assert len(Ensemble.load(tmp_path / 'w.safetensors', (3, 2)).members) == 3


def test_weights_of_another_body_are_refused(taught, tmp_path):
    taught.save(tmp_path / 'w.safetensors')
    with pytest.raises(SchemaError, match='3 state and 2 action'):
        Ensemble.load(tmp_path / 'w.safetensors', (3, 1))


def test_a_will_of_other_senses_is_refused(taught, tmp_path):
    taught.save(tmp_path / 'w.safetensors', owner='these')
    assert Ensemble.load(tmp_path / 'w.safetensors', (3, 2), 'these').sizes == (3, 2)
    with pytest.raises(SchemaError, match='these.*those'):
        Ensemble.load(tmp_path / 'w.safetensors', (3, 2), 'those')


def test_a_file_of_something_else_is_refused(tmp_path):
    save_file({'a': torch.zeros(1)}, str(tmp_path / 'x.safetensors'))
    with pytest.raises(SchemaError, match='expected dylora-ensemble'):
        Ensemble.load(tmp_path / 'x.safetensors', (1, 1))


def test_what_acts_of_each_member_is_kept(tmp_path):
    q = ContinuousQ(3, 2, replace(SMALL, mean=0.9))
    with torch.no_grad():
        q.mean_actor.out.bias.fill_(1.0)
    Ensemble([q]).save(tmp_path / 'w.safetensors')
    again = Ensemble.load(tmp_path / 'w.safetensors', (3, 2))
    np.testing.assert_array_equal(again.decide(STATE)[0], q.decide(STATE)[0])
