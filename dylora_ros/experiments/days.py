"""Days of a life: awake, then asleep, and whether the task is fulfilled more (gaze: the toy).

Arms: ``full``; ``untrained`` (never sleeps, babbles); ``no_sleep`` (the same gradient steps, taken
awake by a will that goes on learning: who acts by it cannot begin anew); ``no_rem`` (never
dreams); ``no_nrem`` (dreams, never learns); ``deaf``; ``no_gc`` (q sees the present row alone);
``true_reward`` (the world's success instead of the statements); ``no_childhood`` (all it learns
from is its own life); ``unbiased`` (q's predictions do not bias
sight and hearing). Every day begins at a new moment of the world, the same in all arms of a seed.
After the last day comes an exam: one long unbroken stretch in a new world, without exploration,
which leaves no memory. With ``--quiz`` there are short ones before the first day and after every
night, in some new worlds: days tell what was lived, quizzes what could be done.

Sleep is REM, in which the will acts in dreams of the day, and NREM: a newborn continuous Q learns
from the whole log, and from the childhood that ships, judged by the same statements; every few
nights q learns first and all rows are read anew. A newborn sleeps before its first day. With
``--young`` less than a day it naps within the day while it is young (``core.phases.Tiredness``);
the world waits.

All lives are in lockstep; a day that was finished is never lived again. ``--work`` holds
everything; the summary goes to ``--out``. ``--scene nudged`` is gaze in which memory pays: toys
drift slowly, and a hand turns the head away every few seconds. ``forage`` needs weights of its own
(``python -m dylora_ros pretrain --scene forage --out DIR``).
"""

import argparse
import hashlib
import json
from pathlib import Path
import time

import torch

from dylora_ros.core.experience import MIN_ROWS
from dylora_ros.core.will_training import A_NEW_ROW
from dylora_ros.experiments.days_figure import draw
from dylora_ros.experiments.days_report import PART, summary
from dylora_ros.experiments.exams import begun, examine, quiz
from dylora_ros.experiments.lives import live
from dylora_ros.experiments.one_life import ARMS, Days, JOINTS, stated
from dylora_ros.experiments.progress import say
from dylora_ros.modalities import registry
from dylora_ros.paths import share_file
from dylora_ros.provenance import write
from dylora_ros.sim.gaze import TOYS
from dylora_ros.sim.worlds import has_toys

DAY = 1500            # awake cycles
# what lives in one folder have in common; how long, which and how many they are may change
SETTINGS = 'scene', 'toy', 'day', 'young', 'updates', 'q_steps', 'rem'
STATEMENTS = {'gaze': 'config/statements.yaml', 'nudged': 'config/statements.yaml',
              'forage': 'config/statements_forage.yaml'}


def differences(work: Path, options) -> list[str]:
    """Return in what the lives that are in a folder differ from those asked for, in words.

    Of a folder without lives the settings are written down.
    """
    asked = {name: getattr(options, name) for name in SETTINGS}
    asked['statements'] = hashlib.sha256(options.statements.read_bytes()).hexdigest()[:16]
    asked['weights'] = registry.row_schema(JOINTS, options.weights).adapters
    path = work / 'settings.json'
    if not path.exists():
        if any(work.glob('*/days.json')):
            return [f'unknown: they are older than {path.name}, which tells']
        work.mkdir(parents=True, exist_ok=True)
        write(path, asked)
        return []
    lived = json.loads(path.read_text())
    return [f'{name}: {lived.get(name)} there, {value} asked for'
            for name, value in asked.items() if lived.get(name) != value]


def main(arguments: list[str] | None = None):
    """Live; see the module."""
    parser = argparse.ArgumentParser(prog='dylora_ros experiment life', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('life'))
    parser.add_argument('--out', type=Path, default=Path('docs/results/life.json'))
    parser.add_argument('--arms', nargs='*', default=ARMS, choices=ARMS)
    parser.add_argument('--seeds', nargs='*', type=int, default=[0, 1, 2])
    parser.add_argument('--days', type=int, default=30)
    parser.add_argument('--day', type=int, default=DAY, help='awake cycles a day')
    parser.add_argument('--young', type=int, default=DAY,
                        help='awake cycles after which a newborn naps (decision 077)')
    parser.add_argument('--exam', type=int, default=4500, help='cycles of the exam; 0: none')
    parser.add_argument('--quiz', type=int, default=0,
                        help='cycles, in each of some new worlds, of the quiz before every day '
                             'and after the last one; 0: none')
    parser.add_argument('--q-steps', type=int, default=40,
                        help='of q, each time it learns; 0: it never does')
    parser.add_argument('--updates', type=int, default=A_NEW_ROW * DAY,
                        help='of the continuous Q, a night')
    parser.add_argument('--rem', type=int, default=150, help='dreamt cycles a night')
    parser.add_argument('--scene', default='gaze', choices=tuple(STATEMENTS))
    parser.add_argument('--weights', type=Path, default=registry.SHIPPED)
    parser.add_argument('--statements', type=Path, help='default: those of the scene')
    parser.add_argument('--toy', default='red_ball', choices=TOYS, help='whose place is success')
    options = parser.parse_args(arguments)
    if not has_toys(options.scene) and options.weights == registry.SHIPPED:
        parser.error(f'the weights that ship are of gaze; make some with "python -m dylora_ros '
                     f'pretrain --scene {options.scene} --out DIR" and give them as --weights')
    for name in ('day', 'young'):
        if (cycles := getattr(options, name)) < MIN_ROWS:
            parser.error(f'--{name} {cycles}: a sleep learns from {MIN_ROWS} cycles at least')
    if options.day % PART:
        parser.error(f'--day {options.day}: success is told of every {PART} cycles, so a day is '
                     'some times that')
    options.statements = options.statements or share_file(STATEMENTS[options.scene])
    if not options.statements.is_file():
        parser.error(f'--statements {options.statements}: no such file')
    if others := differences(options.work, options):
        parser.error(f'{options.work} holds lives of other settings ({"; ".join(others)}); give '
                     'those, or another --work')
    torch.set_num_threads(1)
    vision, audio = (registry.make(n, weights=options.weights) for n in ('vision', 'audio'))
    reward = stated(options.statements, options.weights)
    everybody = [Days(arm, seed, options.work, reward, options)
                 for seed in options.seeds for arm in options.arms]
    for newborn in everybody:
        newborn.birth()
    while (day := min(len(d.days) for d in everybody)) < options.days:
        awake = [d for d in everybody if len(d.days) == day]
        quiz(awake, vision, audio, options.quiz)
        start, cpu = time.monotonic(), time.process_time()
        lives = begun(d.morning for d in awake)

        def told(done, awake=awake, lives=lives, start=start, cpu=cpu):
            for d, life in zip(awake, lives, strict=True):
                d.awake(life, done, vision, audio)
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
    quiz(everybody, vision, audio, options.quiz)
    if options.exam:
        examine(everybody, vision, audio, options.exam)
    result = summary(options.work, options)
    write(options.out, result)
    draw(result, options.out.with_suffix('.png'), options.out.with_name('learn.json'))


if __name__ == '__main__':
    main()
