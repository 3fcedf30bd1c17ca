"""Make the shipped weights: babble in worlds, fit A, B, decoders, q and the reward projector.

1. Babble: random smooth commands in several worlds; record frames, sound, joints and captions.
2. A and centre of every site: the principal directions of its pooled input, whitened; of half
   of vision's sites, the directions that tell most about the captions.
3. q on the LR states of the babble.
4. Decoders, and B of vision and hearing, to predict the next input under q's predictions;
   vision also of its own predictions, several frames ahead.
5. A babbled life with everything in the loop, in several worlds; q is fitted on its log, the
   projector on that, the babble and lives in which things are shown. Other worlds judge it.
6. The coupling of the senses, on lives of its own.

Another ``--scene`` than gaze has no lives in which things are shown and no coupling; give it an
``--out`` of its own, the folder that its agents take for ``weights``.

Resumable: every step leaves files in the work folder and is skipped when they are there. The
same seed and versions give the same weights, however long it takes.
"""

import argparse
import json
from pathlib import Path
import time

import numpy as np
from safetensors.torch import load_file, save_file
import torch

from dylora_ros.core import rehearsal
from dylora_ros.core.context import GlobalContext
from dylora_ros.core.experience import Experience
from dylora_ros.core.features import inner_states
from dylora_ros.core.files import whole
from dylora_ros.core.predictor import QNetwork
from dylora_ros.core.reward import Projector
from dylora_ros.core.sleep import train
from dylora_ros.experiments import pretrain_states as states
from dylora_ros.experiments.agreement import things
from dylora_ros.experiments.babble import (
    babble_in_worlds,
    babbler_for,
    log_states,
    PERIOD,
    States,
    VISION_EVERY,
)
from dylora_ros.experiments.coupling_weights import fit_coupling
from dylora_ros.experiments.life import agent_on, live
from dylora_ros.experiments.pretrain_fit import (
    fit_audio,
    fit_body,
    fit_body_encoder,
    fit_vision,
    FrameData,
)
from dylora_ros.experiments.progress import say
from dylora_ros.experiments.shown import record, recorded
from dylora_ros.experiments.teaching import (
    fit_projector,
    judge_things,
    paraphrased,
    said,
    teach,
    understanding,
)
from dylora_ros.modalities import registry
from dylora_ros.modalities.specs import ORDER
from dylora_ros.provenance import write
from dylora_ros.sim.worlds import make as make_world

BODY_NOISE = 0.7      # on what the forward model is told of q: more than exploration adds
Q_STEPS = 1000, 3000  # on the babble, on the life
PROJECTOR_STEPS = 6000
SHOWN_WORLDS, SHOWN_JUDGES, SHOWN_CYCLES = 20, 6, 1000
LIFE_WORLDS, JUDGES = 8, 2     # to learn from, to judge


def babbled(options) -> dict[str, np.ndarray]:
    """Step 1."""
    path = options.work / 'babble.npz'
    if not path.exists():
        say('babbling')
        with whole(path) as part, part.open('wb') as file:
            np.savez(file, **babble_in_worlds(options.cycles, options.lives, options.seed,
                                              options.scene))
    with np.load(path) as data:
        return dict(data)


def first(senses: dict, data: dict, folder: Path, rng) -> dict[str, torch.Tensor]:
    """Step 2: whitened senses; return the caches of their frozen parts."""
    done = folder / 'caches.safetensors'
    if not done.exists():
        folder.mkdir(exist_ok=True)
        fit_body_encoder(senses['body'], data, rng)
        body = states.feel(senses['body'], data['signals'])
        say(f'vision: {len(data["frames"])} frames')
        captions = [[s for s in json.loads(c) if 'view' in s]
                    for c in data['captions'][::VISION_EVERY]]
        truth = said(captions)[1]
        seen, vision = states.see(senses['vision'], data['frames'],
                                  lambda adapter, inputs: teach(adapter, inputs, truth))
        say('hearing')
        heard, audio = states.hear(senses['audio'], data, states.whiten)
        states.read(senses['text'], data)
        for name, sense in senses.items():
            sense.save(folder / f'{name}.safetensors')
        tensors = {'body.x': body, 'vision.x': vision, 'audio.x': audio,
                   **{f'seen.{k}': v for k, v in vars(seen).items()},
                   **{f'heard.{k}': v for k, v in vars(heard).items()}}
        with whole(done) as part:
            save_file({k: torch.as_tensor(v).contiguous() for k, v in tensors.items()}, str(part))
    for name, sense in senses.items():
        sense.load(folder / f'{name}.safetensors')
    return load_file(str(done))


def first_q(data: dict, caches: dict, options) -> tuple[dict, dict[str, np.ndarray]]:
    """Step 3: q on the LR states of the babble; return its weights and its predictions."""
    done = options.work / 'first' / 'q.safetensors'
    schema = registry.row_schema(data['commands'].shape[1], options.work / 'first')
    if not done.exists():
        every = np.arange(len(data['signals']))
        log = log_states({
            'vision': States(every[::VISION_EVERY], caches['vision.x'].numpy()),
            'audio': States(caches['heard.cycles'].numpy(), caches['audio.x'].numpy()),
            'body': States(every, caches['body.x'].numpy())}, data, options.work / 'first')
        rows = log.rows(0, log.committed)
        torch.manual_seed(options.seed)
        network = QNetwork(schema)
        report = fit_q(network, rows, schema, Q_STEPS[0], options.seed)
        say(f'q on babble: {report}')
        q = torch.from_numpy(predict_all(network, rows, schema))
        log.close()
        with whole(done) as part:
            save_file({**network.state_dict(), 'predicted': q}, str(part))
    weights = load_file(str(done))
    q = weights.pop('predicted').numpy()
    return weights, {name: np.ascontiguousarray(q[:, schema.slices[name]]).reshape(
        len(q), *schema.modalities[name]) for name in ('vision', 'audio', 'body')}


def decoders(senses: dict, data: dict, caches: dict, q: dict, options):
    """Step 4, a sense at a time."""
    folder = options.work / 'second'
    folder.mkdir(exist_ok=True)

    def fit_body_models(body, rng):
        fit_body(body, data, caches['body.x'].numpy(), q['body'], BODY_NOISE, rng)

    def fit_sight(vision, rng):
        seen = states.Seen(*(caches[f'seen.{k}'] for k in ('frames', 'hidden', 'tokens')))
        fit_vision(vision, FrameData(seen, data, caches['vision.x'].numpy(), q['vision'],
                                     caches['body.x'].numpy()), rng)

    def fit_hearing(audio, rng):
        heard = states.Heard(caches['heard.cycles'].numpy(),
                             *(caches[f'heard.{k}'] for k in ('embedded', 'pooled', 'means')))
        fit_audio(audio, heard, data, caches['audio.x'].numpy(), q['audio'], rng)

    steps = {'body': fit_body_models, 'vision': fit_sight, 'audio': fit_hearing,
             'text': lambda text, rng: None}          # no decoder
    for i, (name, step) in enumerate(steps.items()):
        path = folder / f'{name}.safetensors'
        if not path.exists():
            torch.manual_seed(options.seed + i)
            step(senses[name], np.random.default_rng(options.seed + i))
            with whole(path) as part:
                senses[name].save(part)
        senses[name].load(path)


class Babbling:
    """A body that babbles whatever q wants, so that q learns to look around as the babble does."""

    def __init__(self, body, world, seed: int):
        self._body, self._babbler = body, babbler_for(world, seed)

    def __getattr__(self, name: str):
        return getattr(self._body, name)

    def act(self, q: np.ndarray) -> np.ndarray:
        """Return the babbled command."""
        return self._babbler()


def lived(senses: dict, weights: dict, options) -> tuple[np.ndarray, list[list[str]], dict]:
    """Step 5: the rows of a life in several worlds, their captions, the last world's errors.

    The first ``options.life`` rows are to learn from; those after them, of other worlds, judge.
    """
    done = options.work / 'life.json'
    path, each = options.work / 'life.gc', options.life // LIFE_WORLDS
    schema = registry.row_schema(senses['body'].joints, options.work / 'second')
    if not done.exists():
        network = QNetwork(schema)
        network.load_state_dict(weights)
        path.unlink(missing_ok=True)
        log = GlobalContext.open(path, schema, each * (LIFE_WORLDS + JUDGES))
        captions: list[list[str]] = []
        for n in range(LIFE_WORLDS + JUDGES):
            seed = 1000 * options.seed + 900 + n
            torch.manual_seed(seed)
            world = make_world(options.scene, seed)
            agent = agent_on(log, {**senses, 'body': Babbling(senses['body'], world, seed)},
                             network, world, 0.0, seed)
            born = int(n * (each * PERIOD + 10) * 1e9)
            errors = live(agent, world, each, captions, say, born)
            world.close()
        log.close()
        write(done, {'captions': captions, 'errors': errors})
    told = json.loads(done.read_text())
    with GlobalContext.read(path) as log:
        return log.rows(0, log.committed), told['captions'], told['errors']


def ship(senses: dict, weights: dict, rows: np.ndarray, captions: list[list[str]],
         told: list[list[str]], errors: dict, options):
    """Fit q and the projector on the life, and write all but the coupling to ``options.out``."""
    options.out.mkdir(parents=True, exist_ok=True)
    for name, sense in senses.items():
        sense.save(options.out / f'{name}.safetensors')
    schema = registry.row_schema(senses['body'].joints, options.out)
    cut = len(rows) * LIFE_WORLDS // (LIFE_WORLDS + JUDGES)
    network = QNetwork(schema)
    network.load_state_dict(weights)
    report = fit_q(network, rows[:cut], schema, Q_STEPS[1], options.seed)
    say(f'q on life: {report}')
    network.save(options.out / 'q.safetensors')
    rehearsal.save(options.out / rehearsal.FILE, rows[:cut], schema)
    projector, judged = fit_to_sentences(senses['text'].sentences, rows, captions, cut, told,
                                         options)
    save_file(projector.state_dict(), str(options.out / 'projector.safetensors'))
    say(f'projector: {json.dumps(judged)}')
    write(options.out / 'pretrain.json',
          {'command': 'python -m dylora_ros pretrain', 'scene': options.scene,
           'seed': options.seed,
           'cycles': options.cycles, 'life': options.life, 'q': report,
           'next_input_errors': errors, 'projector': judged})


def fit_to_sentences(sentences, rows: np.ndarray, captions: list[list[str]], cut: int,
                     told: list[list[str]], options) -> tuple[Projector, dict]:
    """Fit the projector on babble, life and lives in which things are shown; judge it.

    In gaze babble and life alone have a thing in the middle of the view in one of fifty moments;
    a rover's babble is drawn to things as it is.

    Args:
        sentences: the sentence model.
        rows: of the life.
        captions: of the life.
        cut: rows of the life before this one teach, the others judge.
        told: captions of the babble.
        options: of the command line.

    """
    with GlobalContext.read(options.work / 'first' / 'babble.gc') as log:
        babble, schema = log.rows(0, log.committed), log.schema
    taught, words, judges = [babble, rows[:cut]], told + captions[:cut], \
        [('life', rows[cut:], captions[cut:])]
    if options.scene == 'gaze':
        record(options.work / 'shown', options.out, SHOWN_WORLDS + SHOWN_JUDGES, SHOWN_CYCLES,
               options.seed, say)
        shown, heard, world, _ = recorded(options.work / 'shown')
        last = int(np.searchsorted(world, SHOWN_WORLDS))
        taught, words = [*taught, shown[:last]], words + heard[:last]
        judges.append(('shown', shown[last:], heard[last:]))
    captions_said, true = said(words)
    vocabulary, truth = paraphrased(captions_said, true)
    state = np.concatenate([inner_states(part, schema) for part in taught])
    projector = fit_projector(state, schema, truth, sentences.embed(vocabulary),
                              PROJECTOR_STEPS, options.seed + 2)
    projector.understanding = understanding(captions_said, sentences.embed)
    judged: dict = {}
    for name, part, heard in judges:
        judged |= judge_things(projector, name, inner_states(part, schema), heard, sentences,
                               things(words))
    return projector, judged


def fit_q(network: QNetwork, rows: np.ndarray, schema, steps: int, seed: int) -> dict:
    """Train q for a number of steps, whatever the clock says; return the report."""
    def progress(share, left):
        if round(share * steps) % 300 == 0:
            say(f'q {round(share * steps)}/{steps}')

    return train(network, Experience(rows, schema), 1.0, seed, progress, clock=lambda: 0.0,
                 batch=64, most_steps=steps).as_dict()


@torch.inference_mode()
def predict_all(network: QNetwork, rows: np.ndarray, schema) -> np.ndarray:
    """Return q's prediction at every row (n, w), read as in training."""
    data = Experience(rows, schema)
    data.refresh(network.eval())
    index = np.arange(len(rows))
    out = [network(*data.batch(part)).q.numpy() for part in np.array_split(
        index, max(1, len(index) // 256))]
    return np.concatenate(out)


def main(arguments: list[str] | None = None):
    """Run the steps; see the module."""
    parser = argparse.ArgumentParser(prog='dylora_ros pretrain', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('pretrain'))
    parser.add_argument('--out', type=Path, default=registry.SHIPPED)
    parser.add_argument('--cycles', type=int, default=20000, help='of babble')
    parser.add_argument('--life', type=int, default=16000, help='cycles of the life')
    parser.add_argument('--scene', default='gaze', choices=('gaze', 'forage'))
    parser.add_argument('--lives', type=int, default=20, help='worlds to babble in')
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args(arguments)
    if options.scene != 'gaze' and options.out == registry.SHIPPED:
        parser.error(f'the weights that ship are of gaze; give those of {options.scene} a folder '
                     'of their own with --out')
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    options.work.mkdir(parents=True, exist_ok=True)
    resumed = any(options.work.iterdir())
    data = babbled(options)
    joints = data['commands'].shape[1]
    senses = {name: registry.make(name, joints, weights=None) for name in ORDER}
    caches = first(senses, data, options.work / 'first', np.random.default_rng(options.seed))
    weights, q = first_q(data, caches, options)
    decoders(senses, data, caches, q, options)
    told = [json.loads(c) for c in data['captions']]
    del caches, data, q
    rows, captions, errors = lived(senses, weights, options)
    ship(senses, weights, rows, captions, told, errors, options)
    report = fit_coupling(options.work / 'coupling', options.out,
                          options.out / 'coupling.safetensors',
                          seed=options.seed) if options.scene == 'gaze' else None
    known = json.loads((options.out / 'pretrain.json').read_text())
    write(options.out / 'pretrain.json', {**known, 'coupling': report, 'resumed': resumed,
                                          'processor_seconds': round(time.process_time())})
    say(f'wrote {options.out}')


if __name__ == '__main__':
    main()
