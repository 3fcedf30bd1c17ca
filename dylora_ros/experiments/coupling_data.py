"""Data of the coupling: many short lives in `gaze`, their LR states, and the ground truth.

Every life is its own world; those for training, for validation and for the test are apart. The
frozen encoders run once over each life, without bias; what is kept are LR states, the pooled
features of the frozen encoders (for late fusion), and where things really were.

Legend: n cycles of a life, f frames, a windows of sound.
"""

from dataclasses import dataclass
import json
from pathlib import Path

import numpy as np

from dylora_ros.core.cycle import Composer
from dylora_ros.core.files import whole
from dylora_ros.core.rows import RowSchema
from dylora_ros.experiments.babble import babble, PERIOD, VISION_EVERY
from dylora_ros.experiments.pretrain_fit import say
from dylora_ros.experiments.pretrain_states import gather, hear, see, states_of
from dylora_ros.modalities import registry
from dylora_ros.modalities.specs import ORDER
from dylora_ros.sim.gaze import TOYS
from dylora_ros.sim.worlds import make as make_world

CYCLES = 600                # of a life
FIRST_WORLD = 50_000        # of the weights that ship; seeds that no other experiment uses
SPEAKING = 60, 160          # cycles between two things that a person says
HEAD = 0.95                 # m: height of the head in `gaze`


def witness(world) -> np.ndarray:
    """Return azimuth, elevation (rad, world), right, up (half views) of each toy, and who sounds.

    (3 * 4 + 1,) float32; the last is the number of the sounding toy.
    """
    out = []
    for toy in TOYS:
        x, y, z = world.data.body(toy).xpos
        out += [np.arctan2(y, x), np.arctan2(z - HEAD, np.hypot(x, y)), *world.direction(toy)]
    return np.float32([*out, TOYS.index(world.sounding)])


def record(senses: dict, world, seed: int) -> dict[str, np.ndarray]:
    """Live one life; return its LR states, frozen features and truth (plain arrays)."""
    world.reset(seed)
    data = babble(world, CYCLES, seed, witness)
    data['life'] = np.zeros(CYCLES, int)
    seen, vision = see(senses['vision'], data['frames'])
    heard, audio = hear(senses['audio'], data)
    body = senses['body']
    body.adapter.set_state(None, gamma=0.0)
    signals = _tensor(data['signals'])
    felt = states_of(body.adapter, gather(body.adapter, [lambda: body.encoder(signals)]))
    return {'vision.x': vision, 'vision.feature': seen.tokens.float().mean(1).numpy(),
            'audio.cycles': heard.cycles, 'audio.x': audio,
            'audio.feature': heard.pooled.flatten(1).numpy(),
            'body.x': felt, 'body.feature': data['signals'],
            'commands': data['commands'], 'captions': data['captions'], 'truth': data['truth']}


def _tensor(array: np.ndarray):
    import torch
    return torch.from_numpy(np.ascontiguousarray(array))


def collect(folder: Path, lives: int, weights: Path = registry.SHIPPED,
            first: int = FIRST_WORLD) -> list[Path]:
    """Record lives, one file each, in the worlds ``first`` + i; those that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f'life{i:04}.npz' for i in range(lives)]
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    if missing:
        senses = {n: registry.make(n, weights=weights) for n in ('vision', 'audio', 'body')}
        world = make_world('gaze', first)
        for done, i in enumerate(missing):
            with whole(paths[i]) as part, part.open('wb') as file:
                np.savez_compressed(file, **record(senses, world, first + i))
            if done % 10 == 9:
                say(f'life {i + 1} of {lives} recorded')
        world.close()
    return paths


@dataclass
class Lives:
    """All lives one after another, n rows in all.

    Attributes:
        life: (n,) number of each row's life.
        rows: (n,) rows of the global context: LR states with mask and age.
        truth: (n, 13), see :func:`witness`.
        features: modality -> (., w) frozen features, one for each new state.
        newest: modality -> (n,) index of a row's newest feature; where masked, anything.
        sentences: captions that were said or can be asked for.
        meaning: (sentences, w) their LR states.
    """

    life: np.ndarray
    rows: np.ndarray
    truth: np.ndarray
    features: dict[str, np.ndarray]
    newest: dict[str, np.ndarray]
    sentences: list[str]
    meaning: np.ndarray


def load(paths: list[Path], schema: RowSchema, captions: list[str],
         weights: Path = registry.SHIPPED) -> Lives:
    """Load recorded lives and let a person speak in them; compose the rows.

    What was composed is kept beside the lives.

    Args:
        paths: of the lives.
        schema: of the rows.
        captions: sentences whose LR states are needed in any case.
        weights: of text.

    """
    done = paths[0].with_name(f'composed{len(paths)}.npz')
    if done.exists():
        with np.load(done) as data:
            return unpack(dict(data))
    lives = []
    for path in paths:
        with np.load(path) as data:
            lives.append(dict(data))
    said = [[json.loads(c) for c in life['captions']] for life in lives]
    sentences = sorted({*captions, *(s for life in said for c in life for s in c)})
    number = {s: i for i, s in enumerate(sentences)}
    meaning, features = read_sentences(sentences, weights)
    rows, newest = [], {name: [] for name in ORDER}
    count = dict.fromkeys(ORDER, 0)
    for i, life in enumerate(lives):
        rng = np.random.default_rng([FIRST_WORLD, i])
        speech, at = {}, int(rng.integers(*SPEAKING)) // 2
        while at < CYCLES:                       # one of the true sentences, now and then
            speech[at] = number[said[i][at][rng.integers(len(said[i][at]))]]
            at += int(rng.integers(*SPEAKING))
        entries = {
            'vision': (np.arange(0, CYCLES, VISION_EVERY), life['vision.x']),
            'audio': (life['audio.cycles'], life['audio.x']),
            'text': (np.array(list(speech)), meaning[list(speech.values())]),
            'body': (np.arange(CYCLES), life['body.x'])}
        rows.append(compose(entries, schema))
        for name, (cycles, _) in entries.items():
            place = np.searchsorted(cycles, np.arange(CYCLES), 'right') - 1
            if name == 'text':
                newest[name].append(np.array(list(speech.values()))[place])
            else:
                newest[name].append(np.maximum(place, 0) + count[name])
                count[name] += len(cycles)
    composed = {
        'life': np.repeat(np.arange(len(lives)), CYCLES), 'rows': np.concatenate(rows),
        'truth': np.concatenate([life['truth'] for life in lives]),
        'sentences': np.array(sentences), 'meaning': meaning, 'features.text': features,
        **{f'features.{n}': np.concatenate([life[f'{n}.feature'] for life in lives])
           for n in ('vision', 'audio', 'body')},
        **{f'newest.{n}': np.concatenate(v) for n, v in newest.items()}}
    with whole(done) as part, part.open('wb') as file:
        np.savez(file, **composed)
    return unpack(composed)


def unpack(data: dict[str, np.ndarray]) -> Lives:
    """Return what :func:`load` keeps."""
    return Lives(data['life'], data['rows'], data['truth'],
                 {n: data[f'features.{n}'] for n in ORDER},
                 {n: data[f'newest.{n}'] for n in ORDER}, data['sentences'].tolist(),
                 data['meaning'])


def read_sentences(sentences: list[str], weights: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return LR states (n, s, r) and the frozen model's embeddings (n, d) of sentences."""
    text = registry.make('text', weights=weights)
    text.adapter.set_state(None, gamma=0.0)
    embedded = []
    inputs = gather(text.adapter, [lambda s=s: embedded.append(text.sentences.forward([s]))
                                   for s in sentences])
    return states_of(text.adapter, inputs), np.concatenate([e.numpy() for e in embedded])


def compose(entries: dict[str, tuple[np.ndarray, np.ndarray]], schema: RowSchema) -> np.ndarray:
    """Return the rows of one life from (cycles, states) of each modality."""
    composer = Composer(schema)
    at = {n: dict(zip(c.tolist(), x, strict=True)) for n, (c, x) in entries.items()}
    rows = np.zeros(CYCLES, schema.dtype)
    for i in range(CYCLES):
        stamp = int((i + 1) * PERIOD * 1e9)
        for name, known in at.items():
            if i in known:
                composer.put(name, known[i], stamp)
        rows[i] = composer.compose(stamp)
    return rows
