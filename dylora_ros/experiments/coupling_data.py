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
from dylora_ros.core.rows import RowSchema
from dylora_ros.experiments.babble import babble, PERIOD, VISION_EVERY
from dylora_ros.experiments.pretrain_fit import say
from dylora_ros.experiments.pretrain_states import gather, hear, see, states_of
from dylora_ros.modalities import registry
from dylora_ros.modalities.specs import ORDER
from dylora_ros.sim.gaze import TOYS
from dylora_ros.sim.worlds import make as make_world

CYCLES = 600                # of a life
FIRST_WORLD = 50_000        # seeds that no other experiment uses
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
    seen, vision = see(senses['vision'], data['frames'], fit=False)
    heard, audio = hear(senses['audio'], data, fit=False)
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


def collect(folder: Path, lives: int, weights: Path = registry.SHIPPED) -> list[Path]:
    """Record lives, one file each; those that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f'life{i:04}.npz' for i in range(lives)]
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    if missing:
        senses = {n: registry.make(n, weights=weights) for n in ('vision', 'audio', 'body')}
        world = make_world('gaze', FIRST_WORLD)
        for done, i in enumerate(missing):
            part = paths[i].with_suffix('.part.npz')
            np.savez_compressed(part, **record(senses, world, FIRST_WORLD + i))
            part.replace(paths[i])
            if done % 10 == 9:
                say(f'life {i + 1} of {lives} recorded')
        world.close()
    return paths
