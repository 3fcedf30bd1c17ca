"""Days of a life in ``gaze``: awake, then asleep, and whether the named toy is looked at more.

Arms: ``full``; ``untrained`` (never sleeps, babbles); ``no_sleep`` (the same gradient steps, taken
awake); ``no_rem`` (never dreams); ``deaf``; ``no_gc`` (q sees the present row alone);
``true_reward`` (the world's success instead of the statements); ``no_childhood`` (all it learns
from is its own life); ``unbiased`` (q's predictions do not bias sight and hearing). Every day
begins at a new moment of the world, the same in all arms of a seed. After the last day comes an
exam: one long unbroken stretch in a new world, without exploration, which leaves no memory.

Sleep is REM, in which the will acts in dreams of the day, and NREM: the continuous Q learns from
the log, and from the childhood that ships, judged by the same statements; every few nights q
learns first and all rows are read anew. A newborn sleeps before its first day.

All lives are in lockstep; a day that was finished is never lived again. ``--work`` holds
everything; the summary goes to ``--out``.
"""

import argparse
from collections.abc import Callable, Iterable
import json
import math
from pathlib import Path
import shutil
import time

import numpy as np
from safetensors.torch import load_file
import torch

from dylora_ros.core import rehearsal
from dylora_ros.core.agent import Agent
from dylora_ros.core.context import GlobalContext
from dylora_ros.core.dreamer import Dreamer
from dylora_ros.core.experience import Experience
from dylora_ros.core.motor import EXPLORATION, Exploration
from dylora_ros.core.predictor import Forgetful, Predictor, QNetwork
from dylora_ros.core.reward import Projector, StatementReward, Statements
from dylora_ros.core.sleep import train
from dylora_ros.core.trajectory import Trajectory
from dylora_ros.core.will import judged_anew, trajectory
from dylora_ros.core.will_training import BELIEVED, Budget, Chest, judge_dreams, practise
from dylora_ros.experiments.babble import EVERY, guard_for, PERIOD
from dylora_ros.experiments.days_figure import draw
from dylora_ros.experiments.days_report import plain, summary
from dylora_ros.experiments.lives import Life, live, Shared
from dylora_ros.experiments.pretrain_fit import say
from dylora_ros.experiments.searching import Search
from dylora_ros.experiments.statistics import auc
from dylora_ros.modalities import registry
from dylora_ros.modalities.keyframes import recall
from dylora_ros.paths import share_file
from dylora_ros.provenance import write
from dylora_ros.sim.gaze import TOYS
from dylora_ros.sim.worlds import make as make_world

ARMS = ('full', 'untrained', 'no_sleep', 'no_rem', 'deaf', 'no_gc', 'true_reward',
        'no_childhood', 'unbiased')
MOST_ROWS = 200_000
Q_EVERY = 4           # nights of the continuous Q for one in which q learns
FIRST = 2             # times the updates in the first night, where the newborn did not sleep
NAP = 150             # cycles between two times that the arm without sleep learns
SLEEPLESS = 'untrained', 'no_sleep'
EXAM = 900            # number of the exam among the days: no life has so many


class Days:
    """One arm and seed, from day to day.

    Args:
        arm: one of ARMS.
        seed: of the world and everything else.
        work: folder; this life has one of its own in it.
        reward: closeness to the statements.
        options: of the command line.
    """

    def __init__(self, arm: str, seed: int, work: Path, reward: StatementReward, options):
        self.arm, self.seed, self.options = arm, seed, options
        self.folder = work / f'{arm}-{seed}'
        self.folder.mkdir(parents=True, exist_ok=True)
        self.schema = registry.row_schema(2, registry.SHIPPED)
        self.chest = Chest(self.folder, self.schema)
        self._reward = reward
        # success itself cannot be told of a life that is over
        self._childhood = None if arm in ('no_childhood', 'true_reward') else \
            rehearsal.load(registry.SHIPPED / rehearsal.FILE, self.schema)
        self._relived: Trajectory | None = None       # childhood as today's q reads it
        self._newborn_sleeps = self._childhood is not None and arm not in SLEEPLESS
        self.told = self.folder / 'days.json'
        self.days: list[dict] = json.loads(self.told.read_text()) if self.told.exists() else []

    def birth(self):
        """Let the newborn sleep before its first day.

        What it inherits, its childhood, can be learned from before anything is lived. The arm
        that never sleeps takes these steps in its first day.
        """
        if self._newborn_sleeps and not self.days and self.chest.load() is None:
            self._relive(self._network())
            practise(self.chest, self._relived, None, np.arange(0), Budget(math.inf),
                     1000 * self.seed, self.options.updates)

    def morning(self, twin=None) -> Life:
        """Return the life of the next day."""
        return self._life(len(self.days), self.folder / 'context.gc', twin)

    def exam(self, twin=None) -> Life:
        """Return a life that acts as well as it can and will not be remembered."""
        copy = self.folder / 'exam.gc'
        shutil.copyfile(self.folder / 'context.gc', copy)
        life = self._life(EXAM, copy, twin)
        if life.agent.will is not None:
            life.agent.will.explore = False
        return life

    def examined(self, cycles: int) -> bool:
        """Whether an exam of so many cycles was taken since the last day."""
        path = self.folder / 'exam.json'
        told = json.loads(path.read_text()) if path.exists() else {}
        return (told.get('after_days'), told.get('cycles')) == (len(self.days), cycles)

    def graded(self, life: Life, search: dict):
        """Write down how the exam went, and how the toy was found again (``Search``)."""
        life.agent.log.close()
        (self.folder / 'exam.gc').unlink()
        write(self.folder / 'exam.json', {
            'after_days': len(self.days), 'cycles': len(life.success),
            'success': round(float(np.mean(life.success)), 4),
            'reward': round(float(np.mean(life.rewards)), 4), 'search': search})

    def _life(self, day: int, path: Path, twin) -> Life:
        world = make_world('gaze', 100_000 + 1000 * self.seed + day, toy=self.options.toy,
                           twin=twin)
        log = GlobalContext.open(path, self.schema, MOST_ROWS)
        torch.manual_seed(1000 * self.seed + day)
        network = self._network()
        predictor = Forgetful(network, log) if self.arm == 'no_gc' else Predictor(network, log)
        body = registry.make('body', 2)
        shapes = self.schema.modalities
        biased = self.arm != 'unbiased'
        senses = {**{n: Shared(*shapes[n], biased) for n in ('vision', 'audio', 'text')},
                  'body': body}
        will = self.chest.will(body.reachable, 1000 * self.seed + day)
        sites, rank = shapes['body']
        agent = Agent(senses, log, predictor, guard_for(world),
                      Exploration(sites * rank, EXPLORATION, period=PERIOD,
                                  seed=1000 * self.seed + day),
                      will)
        born = int(log.rows(log.committed - 1, log.committed)['stamp'][0]) + int(10e9) \
            if log.committed else 0
        judge = self._true if self.arm == 'true_reward' else self._stated
        return Life(world, agent, judge, self.arm == 'deaf', born=born)

    def _network(self) -> QNetwork:
        path = self.folder / 'q.safetensors'
        return QNetwork.load(path if path.exists() else registry.SHIPPED / 'q.safetensors',
                             self.schema)

    def _stated(self, row, world) -> float:
        return judge(self._reward, row, self.schema)

    @staticmethod
    def _true(row, world) -> float:
        return float(world.success())

    def night(self, life: Life, cost: float, vision=None, audio=None):
        """Sleep, and write the day down.

        Args:
            life: the day that is over.
            cost: processor milliseconds a waking cycle.
            vision: sight, to dream with.
            audio: hearing, likewise.

        """
        start, cpu = time.monotonic(), time.process_time()
        log, day = life.agent.log, len(self.days)
        told = {'day': day, 'cycles': len(life.success), 'cycle_cpu_ms': cost,
                'success': float(np.mean(life.success)), 'reward': float(np.mean(life.rewards))}
        truth = np.array(life.success, float)
        told['auc_of_reward'] = auc(np.array(life.rewards), truth)
        if self.arm not in (*SLEEPLESS, 'no_rem') and self.options.rem:
            told['rem'] = self._dream(life, day, {'vision': vision, 'audio': audio})
        if self.arm != 'untrained':
            told |= self._sleep(log, day)
        told |= {'sleep_s': time.monotonic() - start, 'sleep_cpu_s': time.process_time() - cpu}
        log.close()
        self.days.append(plain(told))
        write(self.told, self.days)

    def awake(self, life: Life, done: int):
        """Learn while awake, in the arm that never sleeps; ``done`` cycles of the day are over."""
        day = len(self.days)
        if self.arm != 'no_sleep' or done % NAP or not 0 < done < self.options.day:
            return
        self._learn(life.agent.log, 1000 * day + done, NAP / self.options.day, False)
        life.agent.will = self.chest.will(life.agent.senses['body'].reachable,
                                          1000 * (1000 * self.seed + day) + done)

    def _dream(self, life: Life, day: int, senses: dict) -> dict:
        """REM: dream of the day's moments; the rows go to the log, as in the graph."""
        if self.arm == 'deaf':
            del senses['audio']
        senses['body'] = registry.make('body', 2)
        moments = {n: life.moments[n].kept() for n in senses}
        rng = np.random.default_rng((self.seed, day))
        torch.manual_seed(1000 * self.seed + day)
        dreamer = Dreamer(senses, life.agent.log, life.agent.predictor,
                          life.agent.log.append_row, PERIOD, EVERY,
                          lambda: recall(senses, moments, rng),
                          self.chest.will(senses['body'].reachable, 1000 * self.seed + day))
        return vars(dreamer.run(math.inf, BELIEVED, most=self.options.rem))

    def _sleep(self, log: GlobalContext, day: int) -> dict:
        share = NAP / self.options.day if self.arm == 'no_sleep' else 1
        return self._learn(log, day, share, day % Q_EVERY == Q_EVERY - 1)

    def _relive(self, network: QNetwork):
        """Read and judge the childhood, if there is one, as of today."""
        if self._childhood is not None and self._relived is None:
            read = self.chest.childhood.read(network, Experience(self._childhood, self.schema),
                                             context=self.arm != 'no_gc')
            self._relived = judged_anew(self._childhood, read, self.schema, self._reward)

    def _learn(self, log: GlobalContext, number: int, share: float, q_too: bool) -> dict:
        """Learn from the log, a share of a night's steps; return what is to be told of it."""
        told: dict = {}
        rows = log.rows(log.first, log.committed)
        data, network = Experience(rows, self.schema), self._network()
        seed = 1000 * self.seed + number
        torch.manual_seed(seed)
        if q_too:
            # a number of steps, not of seconds: what is learned does not depend on the machine
            report = train(network, data, 1.0, seed, clock=lambda: 0.0,
                           most_steps=self.options.q_steps)
            network.save(self.folder / 'q.safetensors')
            told['q'] = report.as_dict()
            self._relived = None                              # another q reads otherwise
        read = self.chest.reading.read(network, data, log.first, self.arm != 'no_gc')
        past = trajectory(rows, read, self.schema)
        judge_dreams(past, rows, self.schema,
                     None if self.arm == 'true_reward' else self._reward)
        self._relive(network)
        # what the others learn before their first day, or from the log alone
        first = FIRST if not self.days and not self._newborn_sleeps else 1
        # nothing is held out: what a life has learned is judged by how it goes on
        report = practise(self.chest, past, self._relived, np.arange(0), Budget(math.inf), seed,
                          round(self.options.updates * share * first))
        return {**told, 'will': plain(report.as_dict())}


def begun(beginnings: Iterable[Callable[..., Life]]) -> list[Life]:
    """Return lives that begin at once, the first one's world the twin of the others."""
    lives: list[Life] = []
    for begin in beginnings:
        lives.append(begin(lives[0].world if lives else None))
    return lives


def examine(everybody: list[Days], vision, audio, cycles: int):
    """Let all lives that were not examined since their last day live through their exam."""
    todo = [d for d in everybody if not d.examined(cycles)]
    if not todo:
        return
    lives = begun(d.exam for d in todo)
    searches = [Search() for _ in lives]

    def look(done: int):
        for search, life in zip(searches, lives, strict=True):
            search.look(life.world)

    live(lives, vision, audio, cycles, look)
    for d, life, search in zip(todo, lives, searches, strict=True):
        d.graded(life, search.summary())
        say(f'exam of {d.arm} {d.seed}: {(d.folder / "exam.json").read_text()}')
    lives[0].world.close()


def stated(statements: Path) -> StatementReward:
    """Return the reward of a file of statements, by the shipped projector, without curiosity."""
    from dylora_ros.modalities.text import SentenceEncoder
    schema = registry.row_schema(2, registry.SHIPPED)
    projector = Projector.of(load_file(str(registry.SHIPPED / 'projector.safetensors')),
                             schema.width, len(schema.modalities))
    return StatementReward.of(projector, Statements.load(statements), SentenceEncoder().embed, 0.0)


def judge(reward: StatementReward, row: np.ndarray, schema) -> float:
    """Return the reward of a row's state."""
    mask = (int(row['mask']) >> np.arange(len(schema.modalities))) & 1
    return reward(row['x'].astype(np.float32), mask, row['surprise'].astype(np.float32))


def main(arguments: list[str] | None = None):
    """Live; see the module."""
    parser = argparse.ArgumentParser(prog='dylora_ros experiment life', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('life'))
    parser.add_argument('--out', type=Path, default=Path('docs/results/life.json'))
    parser.add_argument('--arms', nargs='*', default=ARMS, choices=ARMS)
    parser.add_argument('--seeds', nargs='*', type=int, default=[0, 1, 2])
    parser.add_argument('--days', type=int, default=30)
    parser.add_argument('--day', type=int, default=1500, help='awake cycles a day')
    parser.add_argument('--exam', type=int, default=4500, help='cycles of the exam; 0: none')
    parser.add_argument('--q-steps', type=int, default=40, help='of q, each time it learns')
    parser.add_argument('--updates', type=int, default=3000, help='of the continuous Q, a night')
    parser.add_argument('--rem', type=int, default=150, help='dreamt cycles a night')
    parser.add_argument('--statements', type=Path)
    parser.add_argument('--toy', default='red_ball', choices=TOYS, help='whose place is success')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    vision, audio = (registry.make(n) for n in ('vision', 'audio'))
    reward = stated(options.statements or share_file('config/statements.yaml'))
    everybody = [Days(arm, seed, options.work, reward, options)
                 for seed in options.seeds for arm in options.arms]
    for newborn in everybody:
        newborn.birth()
    while (day := min(len(d.days) for d in everybody)) < options.days:
        awake = [d for d in everybody if len(d.days) == day]
        start, cpu = time.monotonic(), time.process_time()
        lives = begun(d.morning for d in awake)

        def told(done, awake=awake, lives=lives, start=start, cpu=cpu):
            for d, life in zip(awake, lives, strict=True):
                d.awake(life, done)
            if done % 500 == 0:
                each = done * len(lives)
                say(f'{done} cycles, {1e3 * (time.monotonic() - start) / each:.1f} ms a cycle '
                    f'and life ({1e3 * (time.process_time() - cpu) / each:.1f} of the processor)')

        live(lives, vision, audio, options.day, told)
        cost = 1e3 * (time.process_time() - cpu) / (options.day * len(lives))
        for d, life in zip(awake, lives, strict=True):
            d.night(life, cost, vision, audio)
            say(f'day {day} of {d.arm} {d.seed}: {json.dumps(d.days[-1])}')
        lives[0].world.close()
        left = (time.monotonic() - start) * (options.days - day - 1)
        say(f'day {day} took {time.monotonic() - start:.0f} s, about {left / 60:.0f} min left')
        write(options.out, summary(options.work, options))
    if options.exam:
        examine(everybody, vision, audio, options.exam)
    result = summary(options.work, options)
    write(options.out, result)
    draw(result, options.out.with_suffix('.png'), options.out.with_name('learn.json'))


if __name__ == '__main__':
    main()
