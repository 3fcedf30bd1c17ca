"""Babbling: random smooth commands in a world, and what every sense makes of it.

Legend: n cycles, f frames, j joints, s sites, r rank.
"""

from collections.abc import Callable
from dataclasses import dataclass
import json
from pathlib import Path

import numpy as np
import torch

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.cycle import Composer
from dylora_ros.core.motor import Guard, Limits
from dylora_ros.experiments.wanderer import Wanderer
from dylora_ros.modalities import registry
from dylora_ros.modalities.specs import body_signal, EARS
from dylora_ros.sim.forage import Forage
from dylora_ros.sim.worlds import make as make_world

PERIOD = 0.04
VISION_EVERY, AUDIO_EVERY = 4, 5
EVERY = {'vision': VISION_EVERY, 'audio': AUDIO_EVERY, 'body': 1}
SLEW = 12.0
_REACH = 6 / 7        # of a joint's range
# how much the body moves, drawn anew for each stretch: a sense must know rest as well as haste
ACTIVITY, STRETCH = (0.0, 0.3, 1.0, 1.0), 200


def guard_for(world) -> Guard:
    """Return the guard of a world's actuators."""
    low, high = world.limits.T
    return Guard(Limits(low, high, np.full(len(low), SLEW)), PERIOD)


def felt(world, guard: Guard) -> np.ndarray:
    """Return the body's signal; what turns on for ever (a wheel) is nowhere, it only moves."""
    state = world.joints()
    return body_signal(np.where(world.unlimited, 0.0, state.position), state.velocity,
                       guard.normalise(guard.last))


class Babbler:
    """Random smooth commands that look around: towards a centre that changes now and then.

    Args:
        world: whose joints are commanded; they have limits.
        seed: of the commands.
    """

    def __init__(self, world, seed: int):
        self._rng = np.random.default_rng(seed)
        self._world, self._reach = world, _REACH * world.ranges[:, 1]
        joints = len(self._reach)
        self._wish, self._centre, self._activity = np.zeros(joints), np.zeros(joints), 1.0
        self._cycle = 0

    def __call__(self) -> np.ndarray:
        """Return the next command (joints,) in -1 .. 1."""
        joints, position = len(self._wish), self._world.joints().position
        if self._cycle % 50 == 0:       # so that all angles are seen
            self._centre = self._rng.uniform(-0.6, 0.6, joints)
        if self._cycle % STRETCH == 0:
            self._activity = ACTIVITY[self._rng.integers(len(ACTIVITY))]
        self._cycle += 1
        pull = np.tanh(0.6 * (self._centre - position / self._reach))
        self._wish = 0.93 * self._wish + 0.25 * self._rng.standard_normal(joints)
        return self._activity * np.clip(self._wish + 0.5 * pull, -1, 1)


def babbler_for(world, seed: int) -> Callable[[], np.ndarray]:
    """Return what moves this world's body at random."""
    return Wanderer(world, seed) if isinstance(world, Forage) else Babbler(world, seed)


def babble(world, cycles: int, seed: int,
           witness: Callable[..., np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """Move at random and record what comes in, one entry a cycle (frames: VISION_EVERY).

    Args:
        world: is reset first.
        cycles: to live.
        seed: of the commands.
        witness: called with the world in every cycle; what it returns is recorded as ``truth``.

    """
    guard, babbler = guard_for(world), babbler_for(world, seed)
    frames, sounds, signals, commands = [], [], [], []
    captions: list[list[str]] = []
    truth: list[np.ndarray] = []
    world.reset()
    for i in range(cycles):
        signals.append(felt(world, guard))
        sounds.append(world.listen(round(16000 * PERIOD)))
        if i % VISION_EVERY == 0:
            frames.append(world.render())
        captions.append(world.captions())
        if witness is not None:
            truth.append(witness(world))
        applied = guard.command(babbler())
        commands.append(guard.normalise(applied))
        world.apply(applied)
        world.step(PERIOD)
    seen = {} if witness is None else {'truth': np.stack(truth)}
    return {'frames': np.stack(frames), 'sounds': np.stack(sounds).astype(np.float16),
            'signals': np.stack(signals), 'commands': np.stack(commands).astype(np.float32),
            'captions': np.array([json.dumps(c) for c in captions]), **seen}


def babble_in_worlds(cycles: int, lives: int, seed: int,
                     scene: str = 'gaze') -> dict[str, np.ndarray]:
    """Babble ``cycles`` in all, in ``lives`` worlds one after another; ``life`` numbers them."""
    each = cycles // lives // 20 * 20
    parts = []
    for i in range(lives):
        world = make_world(scene, 1000 * seed + i)
        parts.append(babble(world, each, 1000 * seed + i))
        world.close()
    data = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    return {**data, 'life': np.repeat(np.arange(lives), each)}


@dataclass
class States:
    """LR states of the babble without any bias: (times, s, r) of a sense, at given cycles."""

    cycles: np.ndarray
    x: np.ndarray


def log_states(states: dict[str, States], data: dict, folder: Path) -> GlobalContext:
    """Put the LR states of the babble into a log in the work folder."""
    schema = registry.row_schema(data['commands'].shape[1], folder)
    path = folder / 'babble.gc'
    path.unlink(missing_ok=True)
    log = GlobalContext.open(path, schema, len(data['signals']))
    at = {name: dict(zip(s.cycles.tolist(), s.x, strict=True)) for name, s in states.items()}
    composer, pause = Composer(schema), int(10e9)
    for i, life in enumerate(data['life']):
        if i and life != data['life'][i - 1]:
            composer.clear()
        stamp = int((i + 1) * PERIOD * 1e9) + int(life) * pause
        for name, known in at.items():
            if i in known:
                composer.put(name, known[i], stamp)
        row = composer.compose(stamp)
        row['action'] = data['commands'][i]
        log.append_row(row)
    return log


def windows(audio, data: dict):
    """Yield (cycle, log-mel of the local context (EARS, MELS, frames)) every AUDIO_EVERY."""
    size, length = data['sounds'].shape[2], audio.samples
    wave = data['sounds'].astype(np.float32).transpose(1, 0, 2).reshape(EARS, -1)
    need = -(-length // size)
    for i in range(AUDIO_EVERY - 1, len(data['sounds']), AUDIO_EVERY):
        end = (i + 1) * size
        if i + 1 >= need and data['life'][i + 1 - need] == data['life'][i]:
            yield i, audio.log_mel(torch.from_numpy(wave[:, end - length:end].copy()))
