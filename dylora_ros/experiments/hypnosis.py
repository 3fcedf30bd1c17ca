"""Whether a noisy screen hypnotizes a will: where it looks when surprise is all that pays.

Every day begins with the head held at a screen that no model can predict; then it is let go. One
agent is paid what curiosity pays (*news*: surprise over its own running mean), a second one the
bare error of sight (*error*: curious in the naive way), a third never learns (*habit*). All else
is one: shipped weights and decoders, the same worlds, the same nights. Reported is the share of
each day's cycles, after it was let go, with the middle of the screen in the view.
"""

import argparse
import json
import math
from pathlib import Path
import shutil

import numpy as np
import torch

from dylora_ros.core.agent import Agent
from dylora_ros.core.context import GlobalContext
from dylora_ros.core.experience import Experience
from dylora_ros.core.judging import news
from dylora_ros.core.motor import EXPLORATION
from dylora_ros.core.qnetwork import QNetwork
from dylora_ros.core.will import trajectory
from dylora_ros.core.will_training import A_NEW_ROW, Budget, Chest, practise
from dylora_ros.experiments.babble import PERIOD
from dylora_ros.experiments.life import Feed, fresh_agent
from dylora_ros.experiments.noisy_screen import error_of_sight, Held
from dylora_ros.experiments.progress import say
from dylora_ros.modalities import registry
from dylora_ros.modalities.specs import ORDER
from dylora_ros.provenance import provenance, write
from dylora_ros.sim.gaze import SCREEN_AT
from dylora_ros.sim.view import direction_to, in_view
from dylora_ros.sim.worlds import make as make_world

PAYS = ('news', 'error', 'habit')
WORLDS = 13_000       # seeds of the worlds begin here
DAYS, DAY = 5, 1000   # cycles
HELD = 125            # cycles of a day in which the head is held
PAUSE = int(10e9)     # ns of a night
_UNIT = 100.0         # makes an error of sight a reward of the order of 1


class Pay:
    """What a state is worth to the curious, cycle by cycle.

    Args:
        kind: one of PAYS.
        sight: the sense whose error it is.
    """

    def __init__(self, kind: str, sight):
        self._kind, self._sight = kind, sight
        self._error = 0.0

    def look(self, signals: dict[str, np.ndarray]):
        """Compare what sight expects with what comes; call before the agent sees it."""
        error = error_of_sight(self._sight, signals)
        if not math.isnan(error):
            self._error = error

    def __call__(self, row: np.ndarray, modalities: int) -> float:
        """Return the reward of a row's state; habit is told what the naive one is paid."""
        if self._kind == 'news':
            mask = int(row['mask']) >> np.arange(modalities) & 1
            return float(news(row['surprise'].astype(np.float32), mask))
        return _UNIT * self._error


def screen_in_view(world) -> bool:
    """Whether the middle of the screen is within the view."""
    return in_view(*direction_to(world, SCREEN_AT))


def day(agent: Agent, world, pay: Pay, will, born: int) -> list[bool]:
    """Live a day: held at the screen, then let go; return whether it was in the view since."""
    schema, feed, looked = agent.log.schema, Feed(world, agent.guard), []
    reward, judged = 0.0, 0
    world.reset()
    agent.wake()
    for sense in agent.senses.values():
        sense.forget_expectation()
    agent.will = Held(world, agent.senses['body'], schema.slices['body'], SCREEN_AT)
    for i in range(DAY):
        if i == HELD:
            agent.will = will
        signals, stamp = feed(i), born + round(world.time * 1e9)
        pay.look(signals)
        if i >= HELD:
            looked.append(screen_in_view(world))
        command = agent.step(stamp, signals, reward, judged)
        row = agent.log.take(np.array([agent.log.committed - 1]))[0]
        reward, judged = pay(row, len(schema.modalities)), stamp
        world.apply(command)
        world.step(PERIOD)
    return looked


def night(chest: Chest, network: QNetwork, log: GlobalContext, seed: int):
    """Let the will learn from all days."""
    rows = log.rows(log.first, log.committed)
    data = Experience(rows, log.schema)
    past = trajectory(rows, chest.reading.read(network, data, log.first), log.schema)
    torch.manual_seed(seed)
    practise(chest, past, None, np.arange(0), Budget(math.inf), seed, round(A_NEW_ROW * DAY),
             anew=False)


def live(kind: str, seed: int, folder: Path) -> dict[str, list[float]]:
    """Return how one life went, by days: share of the screen in the view, and mean pay."""
    shutil.rmtree(folder, ignore_errors=True)      # what is left of a life cut short
    folder.mkdir(parents=True)
    senses = {name: registry.make(name) for name in ORDER}
    schema = registry.row_schema(2, registry.SHIPPED)
    network = QNetwork.load(registry.SHIPPED / 'q.safetensors', schema)
    chest, pay = Chest(folder, schema), Pay(kind, senses['vision'])
    told: dict[str, list[float]] = {'screen': [], 'pay': []}
    agent = log = None
    for number in range(DAYS):
        world = make_world('gaze', WORLDS + 100 * seed + number, screen=True)
        if agent is None:
            agent, log = fresh_agent(senses, folder / 'context.gc', network, DAYS * DAY, world,
                                     EXPLORATION, seed)
        will = chest.will(senses['body'], 1000 * seed + number)
        looked = day(agent, world, pay, will, number * (DAY * round(PERIOD * 1e9) + PAUSE))
        paid = log.rows(log.committed - DAY + HELD, log.committed)['reward']
        told['screen'].append(round(float(np.mean(looked)), 4))
        told['pay'].append(round(float(np.mean(paid)), 4))
        say(f'{kind}, seed {seed}, day {number}: screen in the view {told["screen"][-1]}, '
            f'pay {told["pay"][-1]}')
        world.close()
        if kind != 'habit':
            night(chest, network, log, 1000 * seed + number)
    log.close()
    return told


def main(arguments: list[str] | None = None):
    """Run the experiment; see the module. Lives that are over are not lived again."""
    parser = argparse.ArgumentParser(prog='dylora_ros experiment hypnosis', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('hypnosis'))
    parser.add_argument('--out', type=Path, default=Path('docs/results/hypnosis.json'))
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--pays', nargs='+', default=PAYS, choices=PAYS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    lives: dict[str, dict] = {kind: {} for kind in options.pays}
    for seed in options.seeds:
        for kind in options.pays:
            over = options.work / f'{kind}-{seed}.json'
            if not over.exists():
                write(over, live(kind, seed, options.work / f'{kind}-{seed}'))
            lives[kind][seed] = json.loads(over.read_text())
    last = {kind: [life['screen'][-1] for life in by_seed.values()]
            for kind, by_seed in lives.items()}
    write(options.out, provenance(
        'python -m dylora_ros experiment hypnosis', ('torch', 'numpy', 'mujoco'), days=DAYS,
        day=DAY, held=HELD, seeds=options.seeds, lives=lives, screen_on_the_last_day=last))
    print(json.dumps({'screen_on_the_last_day': last}))


if __name__ == '__main__':
    main()
