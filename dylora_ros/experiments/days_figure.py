"""Figure of the experiment about days of a life."""

import json
from pathlib import Path

import numpy as np

from dylora_ros.experiments.days_report import asked, PART, WINDOW

STYLE = {'full': ('full', '#0b6fa4'), 'unbiased': ('sight and hearing not biased', '#6d9dc5'),
         'no_gc': ('no global context', '#e0a458'), 'deaf': ('deaf', '#7a9e7e'),
         'true_reward': ('true reward', '#5c4d7d'), 'no_sleep': ('no sleep', '#8b3a2f'),
         'no_rem': ('no dreams', '#e07a5f'), 'no_nrem': ('no learning in sleep', '#adb5bd'),
         'no_childhood': ('no childhood', '#c9ada7'), 'untrained': ('untrained', '#8d99ae'),
         'sac': ('SAC, same features,\nreward and childhood', '#d1495b')}
TASK = {'gaze': 'named toy in the central third of the view',
        'nudged': 'named toy in the central third of the view',
        'forage': 'sounding post is touched'}
_TARGET = 0.7         # of gaze
_BANDS = 'full', 'no_sleep'    # what sleep brings; more bands hide each other
_SMOOTH = 3           # days in a point
_SHORT = 6            # days of a life, at most, that is drawn by parts of days


def smoothed(series: list[float], count: int = _SMOOTH) -> np.ndarray:
    """Return the means of the last ``count`` points, from the first that has so many on."""
    return np.convolve(series, np.ones(count) / count, 'valid')


def curves(lives: list[list[float]], each: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what is drawn of an arm: awake cycles (n,), and success until then (lives, n).

    Args:
        lives: success of each life, a number every ``each`` cycles; too short ones are left out.
        each: cycles.
        window: cycles that a point is the mean of.

    """
    count = window // each
    lives = [life for life in lives if len(life) >= count]
    shortest = min(map(len, lives), default=count - 1)
    table = np.array([smoothed(life[:shortest], count) for life in lives])
    return each * (np.arange(shortest - count + 1) + count), table


def draw(result: dict, path: Path, peer: Path | None = None):
    """Draw success by awake cycles: mean over seeds, of some arms the band from worst to best.

    Short lives are drawn by parts of a day, as what sleep brings is measured. Where lives were
    asked in quizzes, these are drawn beside it.

    Args:
        result: of ``experiment life``.
        path: of the picture.
        peer: result of ``benchmarks/learn.py``, which lives in gaze; left out elsewhere, and where
            there is none.

    """
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    told = [s for entry in result[result['scene']].values() for s in entry['seeds'].values()]
    fine = all('success_by_part' in s and len(s['success_by_day']) <= _SHORT for s in told)
    name, each, count = ('success_by_part', PART, WINDOW) if fine else \
        ('success_by_day', result['day'], _SMOOTH)
    lives = {arm: ([s[name] for s in entry['seeds'].values()], each)
             for arm, entry in result[result['scene']].items()}
    if result['scene'] == 'gaze' and peer is not None and peer.exists():
        learned = json.loads(peer.read_text())            # its days may be of another length
        lives['sac'] = [s['success_by_day'] for s in learned['sac'].values()], learned['day']
    quizzes = {arm: [q for s in entry['seeds'].values() if len(q := asked(s)) > 1]
               for arm, entry in result[result['scene']].items()}
    beside = any(quizzes.values())
    figure, panels = pyplot.subplots(1, 1 + beside, figsize=(12 if beside else 9, 4.6),
                                     sharey=True, squeeze=False, layout='constrained')
    axes = panels[0, 0]
    for arm, (label, _) in STYLE.items():
        series, step = lives.get(arm, ([], each))
        cycles, table = curves(series, step, max(count * each, step))
        if len(table):
            _curve(axes, arm, cycles, table, f'{label} (n = {len(table)})')
        if table := quizzes.get(arm):
            shortest = min(map(len, table))
            _curve(panels[0, -1], arm, result['day'] * np.arange(shortest),
                   np.array([q[:shortest] for q in table]))
    for panel in panels[0]:
        panel.spines[['top', 'right']].set_visible(False)
        if result['scene'] == 'gaze':
            panel.axhline(_TARGET, color='#333333', linestyle=':', linewidth=1)
    if beside:
        panels[0, 1].set_xlabel('awake cycles before a quiz: new worlds, nothing explored')
    peers = f', of SAC {lives["sac"][1]}' if 'sac' in lives and fine else ''
    axes.set_xlabel(f'awake cycles (each point: the last {count * each}{peers})')
    axes.set_ylabel(TASK[result['scene']])
    axes.set_ylim(0, 1)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(*axes.get_legend_handles_labels(), frameon=False, fontsize=8,
                      loc='outside right upper')
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _curve(axes, arm: str, cycles: np.ndarray, table: np.ndarray, label: str | None = None):
    """Draw the mean of some lives (lives, n); of some arms the band from worst to best."""
    colour, band = STYLE[arm][1], arm in _BANDS
    axes.plot(cycles, table.mean(0), color=colour, label=label, linewidth=2.2 if band else 1.2)
    if band:
        axes.fill_between(cycles, table.min(0), table.max(0), color=colour, alpha=0.15,
                          linewidth=0)
