"""What days of lives add up to: success by arm, arms beside each other, what sleep brings."""

from dataclasses import asdict
import json
from pathlib import Path

import numpy as np

from dylora_ros.core.will_training import SETTINGS
from dylora_ros.provenance import provenance

LEVELS = 0.3, 0.4, 0.5, 0.6     # of success
LEVEL = 0.5                     # the one that the speedup of sleep is told for
RUN = 3                         # days in a row whose mean has to reach it


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
    gaze: dict[str, dict] = {}
    for path in sorted(work.glob('*/days.json')):
        arm, seed = path.parent.name.rsplit('-', 1)
        exam = path.with_name('exam.json')
        gaze.setdefault(arm, {'seeds': {}})['seeds'][seed] = life(
            json.loads(path.read_text()), json.loads(exam.read_text()) if exam.exists() else None)
    for entry in gaze.values():
        lives = entry['seeds'].values()
        entry['success'] = round(float(np.mean([s['success'] for s in lives])), 4)
        exams = [s['exam']['success'] for s in lives if 'exam' in s]
        if exams:
            entry['exam'] = round(float(np.mean(exams)), 4)
    result = provenance('python -m dylora_ros experiment life', ('torch', 'numpy', 'mujoco'),
                        settings=asdict(SETTINGS), day=options.day, q_steps=options.q_steps,
                        updates=options.updates, rem=options.rem, seeds=options.seeds,
                        toy=options.toy, gaze=gaze)
    if 'full' in gaze:
        result['at_equal_cycles'] = {arm: beside(gaze['full'], entry)
                                     for arm, entry in gaze.items() if arm != 'full'}
    if {'full', 'no_sleep'} <= gaze.keys():
        result |= speedup(gaze['full'], gaze['no_sleep'], options.day)
    return result


def life(days: list[dict], exam: dict | None) -> dict:
    """Return what is told of one life."""
    out = {'awake_cycles': sum(d['cycles'] for d in days),
           'success': last_quarter(days),
           'success_by_day': [d['success'] for d in days],
           'reward_by_day': [d['reward'] for d in days],
           'cycle_cpu_ms': round(float(np.median([d['cycle_cpu_ms'] for d in days])), 2),
           'auc_of_reward_by_day': [finite(d['auc_of_reward']) for d in days],
           'last_night': {k: days[-1][k] for k in ('rem', 'q', 'will') if k in days[-1]}}
    return out if exam is None else {**out, 'exam': exam}


def beside(full: dict, arm: dict) -> dict:
    """Return the mean success of an arm and of ``full`` over as many days, seed by seed."""
    both = [s for s in arm['seeds'] if s in full['seeds']]
    days = min((len(e['seeds'][s]['success_by_day']) for e in (full, arm) for s in both),
               default=0)
    return {'days': days, 'seeds': both, **{
        name: [round(float(np.mean(e['seeds'][s]['success_by_day'][:days])), 4) for s in both]
        for name, e in (('full', full), ('arm', arm)) if days}}


def cycles_to(level: float, success: list[float], day: int) -> int | None:
    """Return the awake cycles after which ``RUN`` days in a row first had a mean of ``level``."""
    if len(success) < RUN:
        return None
    means = np.convolve(success, np.ones(RUN) / RUN, 'valid')
    reached = np.flatnonzero(means >= level - 1e-9)
    return int(day * (reached[0] + RUN)) if len(reached) else None


def speedup(full: dict, no_sleep: dict, day: int) -> dict:
    """Return cycles to each level of success, and those of no sleep over those of ``full``.

    Medians over seeds; a level that not every seed of both arms has reached has no ratio.
    """
    cycles = {str(level): {name: [cycles_to(level, s['success_by_day'], day)
                                  for s in entry['seeds'].values()]
                           for name, entry in (('full', full), ('no_sleep', no_sleep))}
              for level in LEVELS}
    ratios = {level: round(float(np.median(c['no_sleep']) / np.median(c['full'])), 3)
              if None not in (*c['no_sleep'], *c['full']) else None
              for level, c in cycles.items()}
    return {'cycles_to_success': cycles, 'sleep_speedup_by_level': ratios,
            'sleep_speedup': ratios[str(LEVEL)]}
