"""One life of ``experiment life``: its days, its naps and nights, and its exam (see ``days``)."""

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
from dylora_ros.core.phases import Tiredness
from dylora_ros.core.predictor import Forgetful, Predictor, QNetwork
from dylora_ros.core.reward import Projector, StatementReward, Statements
from dylora_ros.core.search import Search
from dylora_ros.core.sleep import train
from dylora_ros.core.trajectory import Trajectory
from dylora_ros.core.will import judged_anew, trajectory
from dylora_ros.core.will_training import ANEW, BELIEVED, Budget, Chest, judge_dreams, practise
from dylora_ros.experiments.babble import EVERY, guard_for, PERIOD
from dylora_ros.experiments.days_report import PART, plain
from dylora_ros.experiments.lives import Life, Shared
from dylora_ros.experiments.statistics import auc
from dylora_ros.modalities import registry
from dylora_ros.modalities.keyframes import recall
from dylora_ros.provenance import write
from dylora_ros.sim.worlds import has_toys
from dylora_ros.sim.worlds import make as make_world

ARMS = ('full', 'untrained', 'no_sleep', 'no_rem', 'no_nrem', 'deaf', 'no_gc', 'true_reward',
        'no_childhood', 'unbiased')
MOST_ROWS = 200_000
Q_EVERY = 4           # nights of the continuous Q for one in which q learns
FIRST = 2             # times the updates in the first night, where the newborn did not sleep
PAUSE = int(10e9)     # ns between the end of a sleep and waking life
SLEEPLESS = 'untrained', 'no_sleep'
IGNORANT = 'untrained', 'no_nrem'
JOINTS = 2            # of the head, and wheels of the rover
EXAM = 900            # number of the exam among the days: no life has so many
QUIZ = 910            # of the first world of a quiz


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
        self.schema = registry.row_schema(JOINTS, options.weights)
        self.chest = Chest(self.folder, self.schema)
        self._reward, self._context = reward, arm != 'no_gc'
        # success itself cannot be told of a life that is over
        self._childhood = None if arm in ('no_childhood', 'true_reward') else \
            rehearsal.load(options.weights / rehearsal.FILE, self.schema)
        if arm == 'deaf' and self._childhood is not None:
            self._childhood = rehearsal.without(self._childhood, self.schema, 'audio')
        self._relived: Trajectory | None = None       # childhood as today's q reads it
        self._newborn_sleeps = self._childhood is not None and arm not in (*SLEEPLESS, *IGNORANT)
        self._tired = Tiredness(options.day, MOST_ROWS, options.young)
        self._napped = self._naps = 0
        self.told = self.folder / 'days.json'
        self.days: list[dict] = json.loads(self.told.read_text()) if self.told.exists() else []
        self._tired.slept(self._lived)

    @property
    def _lived(self) -> int:
        """Waking cycles of the days that are over."""
        return sum(d['cycles'] for d in self.days)

    def birth(self):
        """Let the newborn sleep before its first day.

        What it inherits, its childhood, can be learned from before anything is lived. The arm
        that never sleeps takes these steps in its first day.
        """
        if self._newborn_sleeps and not self.days and self.chest.load() is None:
            torch.manual_seed(1000 * self.seed)
            self._relive(self._network())
            practise(self.chest, self._relived, None, np.arange(0), Budget(math.inf),
                     1000 * self.seed, self.options.updates)

    def morning(self, twin=None) -> Life:
        """Return the life of the next day; of one that was cut short nothing is remembered."""
        self._forget_unfinished()
        return self._life(len(self.days), self.folder / 'context.gc', twin)

    def _forget_unfinished(self):
        path = self.folder / 'context.gc'
        ended = self.days[-1].get('rows') if self.days else 0    # older lives do not tell
        if ended is None or not path.exists():
            return
        with GlobalContext.open(path, self.schema, MOST_ROWS) as log:
            stamps = log.rows(ended, log.committed)['stamp']
            if len(stamps):
                log.forget(int(stamps.min()), int(stamps.max()) + 1)

    def exam(self, twin=None, number: int = EXAM) -> Life:
        """Return a life that acts as well as it can and will not be remembered.

        Args:
            twin: a world whose pictures it shares.
            number: of its world.

        """
        self._forget_unfinished()
        copy = self.folder / f'exam_{number}.gc'
        copy.unlink(missing_ok=True)              # of one that was cut short
        if (log := self.folder / 'context.gc').exists():
            shutil.copyfile(log, copy)
        life = self._life(number, copy, twin)
        if life.agent.will is not None:
            life.agent.will.explore = False
        return life

    def examined(self, cycles: int) -> bool:
        """Whether an exam of so many cycles was taken since the last day."""
        told = self._written('exam.json')
        return (told.get('after_days'), told.get('cycles')) == (len(self.days), cycles)

    def graded(self, life: Life, search: dict | None):
        """Write down how the exam went, and how a toy was found again (``Search``)."""
        self.forgotten(life)
        write(self.folder / 'exam.json', {
            'after_days': len(self.days), 'cycles': len(life.success),
            'success': round(float(np.mean(life.success)), 4),
            'reward': round(float(np.mean(life.rewards)), 4), 'search': search})

    @staticmethod
    def forgotten(life: Life):
        """Forget an exam that is over."""
        life.agent.log.close()
        life.agent.log.path.unlink()

    @property
    def quizzes(self) -> dict[str, dict]:
        """What quizzes told, by the number of days lived."""
        return self._written('quiz.json')

    def _written(self, name: str) -> dict:
        path = self.folder / name
        return json.loads(path.read_text()) if path.exists() else {}

    def quizzed(self, lives: list[Life]):
        """Write down how the quiz after the last day went, in some worlds."""
        for life in lives:
            self.forgotten(life)
        write(self.folder / 'quiz.json', {**self.quizzes, str(len(self.days)): {
            'cycles': len(lives[0].success),
            'success': [round(float(np.mean(life.success)), 4) for life in lives]}})

    def _life(self, day: int, path: Path, twin) -> Life:
        named = {'toy': self.options.toy} if has_toys(self.options.scene) else {}
        world = make_world(self.options.scene, 100_000 + 1000 * self.seed + day, twin=twin,
                           **named)
        log = GlobalContext.open(path, self.schema, MOST_ROWS)
        torch.manual_seed(1000 * self.seed + day)
        network = self._network()
        predictor = Predictor(network, log) if self._context else Forgetful(network, log)
        body = registry.make('body', JOINTS, self.options.weights)
        shapes = self.schema.modalities
        biased = self.arm != 'unbiased'
        senses = {**{n: Shared(*shapes[n], biased) for n in ('vision', 'audio', 'text')},
                  'body': body}
        will = self.chest.will(body, 1000 * self.seed + day)
        sites, rank = shapes['body']
        agent = Agent(senses, log, predictor, guard_for(world),
                      Exploration(sites * rank, EXPLORATION, period=PERIOD,
                                  seed=1000 * self.seed + day),
                      will, Search(body, self.schema, 1000 * self.seed + day))
        born = last_stamp(log) + PAUSE if log.committed else 0
        judge = self._true if self.arm == 'true_reward' else self._stated
        return Life(world, agent, judge, self.arm == 'deaf', born=born)

    def _network(self) -> QNetwork:
        path = self.folder / 'q.safetensors'
        return QNetwork.load(path if path.exists() else self.options.weights / 'q.safetensors',
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
                'success': float(np.mean(life.success)), 'reward': float(np.mean(life.rewards)),
                'success_by_part': [round(float(np.mean(life.success[i:i + PART])), 4)
                                    for i in range(0, len(life.success), PART)],
                'naps': self._naps}
        truth = np.array(life.success, float)
        told['auc_of_reward'] = auc(np.array(life.rewards), truth)
        share = 1 - self._napped / len(life.success)
        told |= self._sleep(life, day, share, vision, audio, day % Q_EVERY == Q_EVERY - 1)
        told['rows'] = log.committed
        told |= {'sleep_s': time.monotonic() - start, 'sleep_cpu_s': time.process_time() - cpu}
        log.close()
        self.days.append(plain(told))
        write(self.told, self.days)
        self._napped = self._naps = 0
        self._tired.slept(self._lived)

    def awake(self, life: Life, done: int, vision=None, audio=None):
        """Nap if tired, ``done`` cycles of the day being over; or, never sleeping, learn awake."""
        if self.arm in IGNORANT or not 0 < done < self.options.day:
            return
        if self.arm == 'no_sleep':
            if done % PART:
                return
        elif self._tired.level(self._lived + done) < 1:
            return
        day = len(self.days)
        number, share = 1000 * day + done, (done - self._napped) / self.options.day
        self._sleep(life, number, share, vision, audio, False)
        self._napped = done
        body = life.agent.senses['body']
        life.agent.will = self.chest.will(body, 1000 * (1000 * self.seed + day) + done)
        if self.arm != 'no_sleep':
            self._naps += 1
            self._tired.slept(self._lived + done)
            body.forget_expectation()
            life.wake(last_stamp(life.agent.log) + PAUSE)

    def _sleep(self, life: Life, number: int, share: float, vision, audio, q_too: bool) -> dict:
        """REM and NREM, a share of a night, as far as the arm has them; return what to tell."""
        told: dict = {}
        if self.arm not in (*SLEEPLESS, 'no_rem') and self.options.rem:
            told['rem'] = self._dream(life, number, {'vision': vision, 'audio': audio}, share)
        if self.arm not in IGNORANT:
            told |= self._learn(life.agent.log, number, share, q_too)
        return told

    def _dream(self, life: Life, number: int, senses: dict, share: float) -> dict:
        """REM: dream of the day's moments; the rows go to the log, as in the graph."""
        if self.arm == 'deaf':
            del senses['audio']
        senses['body'] = registry.make('body', JOINTS, self.options.weights)
        moments = {n: life.moments[n].kept() for n in senses}
        rng = np.random.default_rng((self.seed, number))
        torch.manual_seed(1000 * self.seed + number)
        dreamer = Dreamer(senses, life.agent.log, life.agent.predictor,
                          life.agent.log.append_row, PERIOD, EVERY,
                          lambda: recall(senses, moments, rng),
                          self.chest.will(senses['body'], 1000 * self.seed + number))
        return vars(dreamer.run(math.inf, BELIEVED, most=round(share * self.options.rem)))

    def _relive(self, network: QNetwork):
        """Read and judge the childhood, if there is one, as of today."""
        if self._childhood is not None and self._relived is None:
            read = self.chest.childhood.read(network, Experience(self._childhood, self.schema),
                                             context=self._context)
            self._relived = judged_anew(self._childhood, read, self.schema, self._reward,
                                        self._context)

    def _learn(self, log: GlobalContext, number: int, share: float, q_too: bool) -> dict:
        """Learn from the log, a share of a night's steps; return what is to be told of it."""
        told: dict = {}
        rows = log.rows(log.first, log.committed)
        data, network = Experience(rows, self.schema), self._network()
        seed = 1000 * self.seed + number
        torch.manual_seed(seed)
        if q_too and self.options.q_steps:
            # a number of steps, not of seconds: what is learned does not depend on the machine
            report = train(network, data, 1.0, seed, clock=lambda: 0.0,
                           most_steps=self.options.q_steps)
            network.save(self.folder / 'q.safetensors')
            told['q'] = report.as_dict()
            self._relived = None                              # another q reads otherwise
        read = self.chest.reading.read(network, data, log.first, self._context)
        past = trajectory(rows, read, self.schema, self._context)
        judge_dreams(past, rows, self.schema,
                     None if self.arm == 'true_reward' else self._reward)
        self._relive(network)
        # what the others learn before their first day, or from the log alone
        first = FIRST if not self.days and not self._newborn_sleeps else 1
        # nothing is held out: what a life has learned is judged by how it goes on
        updates = round(self.options.updates * share * first)
        # a nap is too short to begin anew, and who is awake acts by what it has
        report = practise(self.chest, past, self._relived, np.arange(0), Budget(math.inf), seed,
                          updates, self.arm != 'no_sleep' and updates >= ANEW)
        return {**told, 'will': plain(report.as_dict())}


def last_stamp(log: GlobalContext) -> int:
    """Return the stamp of the newest row."""
    return int(log.rows(log.committed - 1, log.committed)['stamp'][0])


def stated(statements: Path, weights: Path = registry.SHIPPED) -> StatementReward:
    """Return the reward of a file of statements, by the projector of some weights, not curious."""
    from dylora_ros.modalities.text import SentenceEncoder
    schema = registry.row_schema(JOINTS, weights)
    projector = Projector.of(load_file(str(weights / 'projector.safetensors')),
                             schema.width, len(schema.modalities))
    return StatementReward.of(projector, Statements.load(statements), SentenceEncoder().embed, 0.0)


def judge(reward: StatementReward, row: np.ndarray, schema) -> float:
    """Return the reward of a row's state."""
    mask = (int(row['mask']) >> np.arange(len(schema.modalities))) & 1
    return reward(row['x'].astype(np.float32), mask, row['surprise'].astype(np.float32))
