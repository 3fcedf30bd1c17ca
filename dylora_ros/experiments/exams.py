"""Exams and quizzes of lives: nothing explored, nothing learned, nothing remembered."""

from collections.abc import Callable, Iterable
from functools import partial

from dylora_ros.experiments.lives import Life, live
from dylora_ros.experiments.one_life import Days, QUIZ
from dylora_ros.experiments.progress import say
from dylora_ros.experiments.searching import Search
from dylora_ros.sim.worlds import has_toys

WORLDS = 6            # of a quiz, the same ones every night


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
    searches = [Search() if has_toys(d.options.scene) else None for d in todo]

    def look(done: int):
        for search, life in zip(searches, lives, strict=True):
            if search is not None:
                search.look(life.world)

    live(lives, vision, audio, cycles, look)
    for d, life, search in zip(todo, lives, searches, strict=True):
        d.graded(life, None if search is None else search.summary())
        say(f'exam of {d.arm} {d.seed}: {(d.folder / "exam.json").read_text()}')
    lives[0].world.close()


def quiz(everybody: list[Days], vision, audio, cycles: int):
    """Let all lives that were not asked since their last night live some cycles in new worlds.

    Who learns awake is asked as it went to bed.

    Args:
        everybody: they.
        vision: the frozen encoder of sight.
        audio: the frozen encoder of hearing.
        cycles: in each world; 0: there is no quiz.

    """
    todo = [d for d in everybody
            if d.quizzes.get(str(len(d.days)), {}).get('cycles') != cycles]
    if not cycles or not todo:
        return
    lives = begun(partial(d.exam, number=QUIZ + k) for d in todo for k in range(WORLDS))
    live(lives, vision, audio, cycles)
    for i, d in enumerate(todo):
        d.quizzed(lives[WORLDS * i:WORLDS * (i + 1)])
        say(f'quiz of {d.arm} {d.seed} after {len(d.days)} days: '
            f'{d.quizzes[str(len(d.days))]["success"]}')
    lives[0].world.close()
