"""What days of lives add up to: success by arm, arms beside each other, what sleep brings."""

from collections.abc import Callable
from dataclasses import asdict
import json
import math
from pathlib import Path

import numpy as np

from dylora_ros.core.will_training import SETTINGS
from dylora_ros.provenance import provenance
from dylora_ros.sim.worlds import has_toys

LEVELS = 0.3, 0.4, 0.5, 0.6, 0.7     # of success
LEVEL = 0.5                     # the one that the speedup of sleep is told for
PART = 150                      # cycles that success is told of in one number
WINDOW = 4                      # parts in a row whose mean has to reach a level: 24 s
_DRAWS = 2000
_BAND = 0.025, 0.975


def finite(value: float | None) -> float | None:
    """Return a number for JSON, which knows no NaN."""
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


def plain(values: dict) -> dict:
    """Return values for JSON."""
    return {k: finite(v) if isinstance(v, float) else v for k, v in values.items()}


def last_quarter(days: list[dict]) -> float:
    """Return the mean success of the last quarter of days."""
    return round(float(np.mean([d['success'] for d in days[-max(1, len(days) // 4):]])), 4)


def summary(work: Path, options) -> dict:
    """Return the result: every life's days, success by arm over the last quarter of its days."""
    arms: dict[str, dict] = {}
    for path in sorted(work.glob('*/days.json')):
        arm, seed = path.parent.name.rsplit('-', 1)
        exam, quiz = (json.loads(other.read_text()) if other.exists() else None
                      for other in (path.with_name('exam.json'), path.with_name('quiz.json')))
        arms.setdefault(arm, {'seeds': {}})['seeds'][seed] = life(
            json.loads(path.read_text()), exam, quiz)
    for entry in arms.values():
        lives = entry['seeds'].values()
        entry['success'] = round(float(np.mean([s['success'] for s in lives])), 4)
        exams = [s['exam']['success'] for s in lives if 'exam' in s]
        if exams:
            entry['exam'] = round(float(np.mean(exams)), 4)
    result = provenance('python -m dylora_ros experiment life', ('torch', 'numpy', 'mujoco'),
                        settings=asdict(SETTINGS), day=options.day, q_steps=options.q_steps,
                        updates=options.updates, rem=options.rem, young=options.young,
                        seeds=options.seeds, scene=options.scene, **{options.scene: arms})
    if has_toys(options.scene):
        result |= {'toy': options.toy, **heldout(options.weights, options.toy)}
    if 'full' in arms:
        result['at_equal_cycles'] = {arm: beside(arms['full'], entry)
                                     for arm, entry in arms.items() if arm != 'full'}
    if {'full', 'no_sleep'} <= arms.keys():
        result |= speedup(arms['full'], arms['no_sleep'])
        result |= quiz_speedup(arms['full'], arms['no_sleep'], options.day)
    return result


def heldout(weights: Path, toy: str) -> dict[str, float]:
    """Return how well the reward of these weights orders held-out states by their true grade.

    Spearman's correlation, of worlds that taught nothing and statements of users that nothing was
    tuned on (``pretrain``, ``experiment understand``). Empty where the weights do not tell.
    """
    path = weights / 'pretrain.json'
    told = json.loads(path.read_text()).get('projector', {}) if path.exists() else {}
    of_toy = told.get(f'{toy.replace("_", " ")}, shown', {})
    return {'reward_spearman_heldout': of_toy['users_spearman']} \
        if 'users_spearman' in of_toy else {}


def life(days: list[dict], exam: dict | None, quiz: dict | None = None) -> dict:
    """Return what is told of one life; its quizzes are by the number of days lived before."""
    out = {'awake_cycles': sum(d['cycles'] for d in days),
           'success': last_quarter(days),
           'success_by_day': [d['success'] for d in days],
           'success_by_part': [part for d in days for part in d['success_by_part']],
           'reward_by_day': [d['reward'] for d in days],
           'cycle_cpu_ms': round(float(np.median([d['cycle_cpu_ms'] for d in days])), 2),
           'auc_of_reward_by_day': [finite(d['auc_of_reward']) for d in days],
           'last_night': {k: days[-1][k] for k in ('rem', 'q', 'will') if k in days[-1]}}
    if quiz is not None:
        out['quiz'] = quiz
    return out if exam is None else {**out, 'exam': exam}


def beside(full: dict, arm: dict) -> dict:
    """Return the mean success of an arm and of ``full`` over as many days, seed by seed."""
    both = [s for s in arm['seeds'] if s in full['seeds']]
    days = min((len(e['seeds'][s]['success_by_day']) for e in (full, arm) for s in both),
               default=0)
    return {'days': days, 'seeds': both, **{
        name: [round(float(np.mean(e['seeds'][s]['success_by_day'][:days])), 4) for s in both]
        for name, e in (('full', full), ('arm', arm)) if days}}


def cycles_to(level: float, lives: np.ndarray) -> float:
    """Return the awake cycles after which some lives together first come up to a success.

    Args:
        level: of success, in the mean of the lives and of the last ``WINDOW`` parts.
        lives: (n, parts) success by parts of ``PART`` cycles.

    Returns:
        Cycles; infinite where they never do.

    """
    if lives.shape[1] < WINDOW:
        return math.inf
    means = np.convolve(lives.mean(0), np.ones(WINDOW) / WINDOW, 'valid')
    reached = np.flatnonzero(means >= level - 1e-9)
    return float(PART * (reached[0] + WINDOW)) if len(reached) else math.inf


def interpolated_to(level: float, lives: np.ndarray, day: int) -> float:
    """Return the awake cycles after which the mean of some lives first comes up to a success.

    Args:
        level: of success.
        lives: (n, days + 1) success in the quizzes before the first day and after every day.
        day: cycles.

    Returns:
        Cycles, between two quizzes in proportion; 0 where newborns come so far; infinite where
        they never do.

    """
    means = lives.mean(0)
    reached = np.flatnonzero(means >= level - 1e-9)
    if not len(reached):
        return math.inf
    if not (n := int(reached[0])):
        return 0.0
    return day * (n - 1 + float((level - means[n - 1]) / (means[n] - means[n - 1])))


def speedup(full: dict, no_sleep: dict) -> dict:
    """Return cycles to each level of success, and those of no sleep over those of ``full``.

    Of the seeds and days that both have lived. Bands: 95 % of ratios of seeds drawn anew, the same
    for both arms. None: one of them has not come so far. And the geometric mean of all levels.
    """
    both = [s for s in full['seeds'] if s in no_sleep['seeds']]
    if not both:
        return {}
    reached, parts = _reached(*([entry['seeds'][s]['success_by_part'] for s in both]
                                for entry in (full, no_sleep)), cycles_to)
    cycles, ratios, bands = _compared(reached)
    over = _over_levels(reached, PART * parts)
    return {'seeds_compared': both, 'cycles_to_success': cycles,
            'sleep_speedup_by_level': ratios, 'sleep_speedup_bands': bands,
            'sleep_speedup': ratios[str(LEVEL)],
            'sleep_speedup_over_levels': finite(over[0]),
            'sleep_speedup_over_levels_band': [finite(v) for v in np.quantile(over[1:], _BAND)]}


def _over_levels(reached: np.ndarray, lived: int) -> np.ndarray:
    """Return the geometric means of the ratios at all levels of what was ``_reached``.

    Who has not come up to a level counts as if the end of life, after ``lived`` cycles, had been
    early enough: a bound from below, where it is who does not sleep.
    """
    full, no_sleep = np.minimum(reached, lived).swapaxes(0, 1)
    return np.exp(np.log(no_sleep / full).mean(1))


def asked(life: dict) -> list[float]:
    """Return a life's success in its quizzes, from that before its first day on."""
    quiz = life.get('quiz', {})
    count = next(n for n in range(len(quiz) + 1) if str(n) not in quiz)
    return [float(np.mean(quiz[str(n)]['success'])) for n in range(count)]


def quiz_speedup(full: dict, no_sleep: dict, day: int) -> dict:
    """Return the same by quizzes, of the seeds that were asked from birth on in both arms.

    A ratio is None where one has not come so far, or where who sleeps does so before the first
    day.
    """
    lives = [{s: asked(life) for s, life in entry['seeds'].items()} for entry in (full, no_sleep)]
    both = [s for s in lives[0] if lives[0][s] and lives[1].get(s)]
    if not both:
        return {}
    cycles, ratios, bands = _compared(_reached(
        *([arm[s] for s in both] for arm in lives),
        lambda level, some: interpolated_to(level, some, day))[0])
    return {'quiz': {'seeds_compared': both, 'cycles_to_success': cycles,
                     'sleep_speedup_by_level': ratios, 'sleep_speedup_bands': bands}}


def _reached(full: list[list[float]], no_sleep: list[list[float]],
             cycles_to: Callable[[float, np.ndarray], float]) -> tuple[np.ndarray, int]:
    """Return the cycles to each level, and how far all lives go.

    Args:
        full: success of each life.
        no_sleep: the same seeds.
        cycles_to: (level, lives (n, k)) -> cycles.

    Returns:
        Cycles (1 + draws, 2 arms, levels), first of the seeds as they are, then drawn anew; k.

    """
    shortest = min(map(len, (*full, *no_sleep)))
    arms = [np.array([life[:shortest] for life in arm]) for arm in (full, no_sleep)]
    count, rng = len(full), np.random.default_rng(0)
    seeds = [np.arange(count), *(rng.integers(0, count, count) for _ in range(_DRAWS))]
    return np.array([[[cycles_to(level, arm[which]) for level in LEVELS] for arm in arms]
                     for which in seeds]), shortest


def _compared(reached: np.ndarray) -> tuple[dict, dict, dict]:
    """Return by level the cycles of both arms, their ratio, and its band."""
    told: dict[str, dict] = {}
    ratios: dict[str, float | None] = {}
    bands: dict[str, list] = {}
    for level, of_level in zip(LEVELS, np.moveaxis(reached, 2, 0), strict=True):
        name, cycles = str(level), of_level[0].tolist()
        drawn = np.array([_ratio(*both) for both in of_level[1:].tolist()])
        told[name] = dict(zip(('full', 'no_sleep'), map(finite, cycles), strict=True))
        ratios[name] = finite(_ratio(*cycles)) if max(cycles) < math.inf else None
        bands[name] = [finite(v) for v in np.quantile(drawn, _BAND, method='nearest')]
    return told, ratios, bands


def _ratio(with_it: float, without: float) -> float:
    """Return how many times the cycles it takes without; 1 where neither comes so far."""
    if with_it == without:
        return 1.0
    return without / with_it if with_it else math.inf
