"""Lives in ``gaze`` in which the agent is often shown things, told in captions.

An agent that has not learned to want anything seldom has a thing in the middle of its view, and
sentences about it could not be learned. So in three of four stretches its will is drawn to a toy,
as that of a trained agent is; in the others it explores as ever.
"""

from collections.abc import Callable
import json
from pathlib import Path

import numpy as np
import torch

from dylora_ros.core.agent import act_on
from dylora_ros.core.context import ContextError, GlobalContext
from dylora_ros.core.predictor import QNetwork
from dylora_ros.experiments.babble import PERIOD
from dylora_ros.experiments.life import agent_on
from dylora_ros.experiments.lives import Life, Shared
from dylora_ros.experiments.lives import live as live_together
from dylora_ros.modalities import registry
from dylora_ros.provenance import write
from dylora_ros.sim.gaze import TOYS
from dylora_ros.sim.worlds import make as make_world

STRETCH = 60          # cycles of one wish
EXPLORATION = 0.7     # more than the predictor node: between wishes all angles are to be seen
PAUSE = 10.0          # s between the stamps of two worlds
TOGETHER = 10         # worlds in lockstep
_GAIN = 0.7           # of full speed, for a thing at the edge of the view
_WISHES = 0.75        # share of the stretches with a wish


class Shown:
    """A will (see ``core.will.Will``) that teachers have: it knows where the toys are.

    Args:
        agent: whose will it is.
        world: it lives in.
        seed: of the wishes.
    """

    def __init__(self, agent, world, seed: int):
        self._agent, self._world = agent, world
        self._rng = np.random.default_rng(seed)
        self._cycle = 0

    def __call__(self, row: np.ndarray, prediction) -> tuple[np.ndarray, float]:
        """Return the composite q to act on, and no value."""
        agent = self._agent
        if self._cycle % STRETCH == 0:
            self._toy = TOYS[self._rng.integers(len(TOYS))] \
                if self._rng.random() < _WISHES else None
            # where in the view it is to be, half of the times near the middle
            self._place = self._rng.uniform(-1, 1, 2) * self._rng.choice([1.0, 0.4])
        self._cycle += 1
        q = act_on(prediction.q, agent.log.schema, agent.exploration)
        if self._toy is not None:
            right, up = np.clip(self._world.direction(self._toy), -2, 2) - self._place
            wish = _GAIN * np.array([-right, -up]) + 0.15 * self._rng.standard_normal(2)
            q[agent.log.schema.slices['body']] = agent.senses['body'].reachable(
                np.clip(wish, -1, 1)).ravel()
        return q, 0.0


def record(folder: Path, weights: Path, worlds: int, cycles: int, seed: int,
           say: Callable[[str], None]):
    """Live ``cycles`` in each of some worlds; leave ``life.gc`` and ``life.json`` in a folder.

    The worlds are lived in lockstep, TOGETHER at a time. A folder that has both files is left
    alone; worlds already lived are not lived again.
    """
    done, parts = folder / 'life.json', folder / 'worlds'
    if done.exists():
        return
    parts.mkdir(parents=True, exist_ok=True)
    schema = registry.row_schema(2, weights)
    missing = [n for n in range(worlds) if not (parts / f'{n}.json').exists()]
    if missing:
        vision, audio = (registry.make(n, weights=weights) for n in ('vision', 'audio'))
        network = QNetwork.load(weights / 'q.safetensors', schema)
    for first in range(0, len(missing), TOGETHER):
        some = missing[first:first + TOGETHER]
        captions: dict[int, list[list[str]]] = {n: [] for n in some}
        lives: list[Life] = []
        for n in some:
            (parts / f'{n}.gc').unlink(missing_ok=True)
            world = make_world('gaze', 50_000 + 1000 * seed + n,
                               twin=lives[0].world if lives else None)
            log = GlobalContext.open(parts / f'{n}.gc', schema, cycles)
            senses = {m: Shared(*schema.modalities[m]) for m in ('vision', 'audio', 'text')}
            agent = agent_on(log, {**senses, 'body': registry.make('body', 2, weights=weights)},
                             network, world, EXPLORATION, seed + n)
            agent.will = Shown(agent, world, seed + n)

            def told(row, world, heard=captions[n]) -> float:
                heard.append(world.captions())
                return 0.0

            lives.append(Life(world, agent, told,
                              born=int(n * (cycles * PERIOD + PAUSE) * 1e9)))
        torch.manual_seed(seed + some[0])
        live_together(lives, vision, audio, cycles)
        for n, life in zip(some, lives, strict=True):
            life.agent.log.close()
            write(parts / f'{n}.json', captions[n])
        lives[0].world.close()
        say(f'{first + len(some)} of {len(missing)} worlds shown')
    (folder / 'life.gc').unlink(missing_ok=True)
    everything: list[list[str]] = []
    with GlobalContext.open(folder / 'life.gc', schema, worlds * cycles) as log:
        for n in range(worlds):
            with GlobalContext.read(parts / f'{n}.gc') as part:
                for row in part.rows(0, part.committed):
                    log.append_row(row)
            everything += json.loads((parts / f'{n}.json').read_text())
    write(done, {'captions': everything})


def recorded(folder: Path) -> tuple[np.ndarray, list[list[str]], np.ndarray, object]:
    """Return rows, their captions, the number of each row's world, and the row schema.

    Raises:
        ContextError: the folder holds no life that was told, or half of one.

    """
    for name in ('life.gc', 'life.json'):
        if not (folder / name).exists():
            raise ContextError(f'{folder / name} is missing; a told life is the two files life.gc '
                               'and life.json, as "python -m dylora_ros reward train" leaves them')
    captions = json.loads((folder / 'life.json').read_text())['captions']
    with GlobalContext.read(folder / 'life.gc') as log:
        rows, schema = log.rows(log.first, log.committed), log.schema
    if len(rows) != len(captions):
        raise ContextError(f'{folder} has {len(rows)} rows and captions of {len(captions)}')
    pause = np.diff(rows['stamp'], prepend=rows['stamp'][:1]) > 0.5 * PAUSE * 1e9
    return rows, captions, np.cumsum(pause), schema


def pretrained(folder: Path, schema) -> tuple[np.ndarray, list[list[str]]]:
    """Return rows and captions of a work folder of ``pretrain``: its babble and its life.

    A of the senses is the same in both (B is still zero in the babble), so that their states are
    comparable.

    Raises:
        ContextError: not such a folder, or its life was lived with other senses.

    """
    lived, captions, _, found = recorded(folder)
    babble, told = folder / 'first' / 'babble.gc', folder / 'babble.npz'
    if found != schema:
        raise ContextError(f'{folder} was lived with senses {found.adapters}, expected '
                           f'{schema.adapters}')
    if not babble.exists() or not told.exists():
        raise ContextError(f'{folder} is no work folder of "python -m dylora_ros pretrain": '
                           f'{babble} or {told} is missing')
    with GlobalContext.read(babble) as log, np.load(told) as data:
        rows = log.rows(0, log.committed)
        captions = [json.loads(c) for c in data['captions']] + captions
    return np.concatenate([rows, lived]), captions
