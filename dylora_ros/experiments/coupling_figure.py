"""Figure of the coupling experiment."""

from pathlib import Path

import numpy as np

STYLE = {'one': ('best single sense', '#8d99ae'), 'pairs': ('pair networks only', '#6d9dc5'),
         'late': ('late fusion of frozen features', '#e0a458'),
         'joint': ('joint training from scratch', '#d1495b'),
         'coupled': ('coupled through the context', '#0b6fa4')}


def draw(result: dict, path: Path):
    """Draw scores of all arms, and the sweep over missing senses."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    tasks = result['tasks']
    figure, (top, bottom) = pyplot.subplots(
        2, 1, figsize=(10, 7), layout='constrained')
    place = np.arange(len(tasks))
    for i, (arm, (label, colour)) in enumerate(STYLE.items()):
        found = [t['arms'][f'one {t["best_single"]}' if arm == 'one' else arm]
                 for t in tasks.values()]
        score = np.array([f['score'] for f in found])
        low, high = np.array([f['interval_95'] for f in found]).T
        at = place + 0.16 * (i - 2)
        top.bar(at, score, 0.15, color=colour, label=label)
        top.errorbar(at, score, [np.maximum(score - low, 0), np.maximum(high - score, 0)],
                     fmt='none', ecolor='#333333', elinewidth=1, capsize=2)
        for k, f in enumerate(found):
            top.plot(np.full(len(f['by_seed']), at[k]), f['by_seed'], '.', color='black',
                     markersize=3)
    for k, t in enumerate(tasks.values()):
        if t['constant_answer']:
            top.hlines(t['constant_answer'], k - 0.42, k + 0.42, colors='#333333',
                       linestyles=':', linewidth=1)
    top.set_xticks(place, [f'{n}\n(best single: {t["best_single"]})' for n, t in tasks.items()])
    top.set_ylabel('score (R², name: accuracy)')
    top.axhline(0, color='#333333', linewidth=0.6)
    figure.legend(*top.get_legend_handles_labels(), loc='outside lower center', frameon=False,
                  fontsize=9, ncols=3)
    top.set_title('Test worlds; bars: 95 % over seeds and worlds, dots: seeds, dotted: constant '
                  'answer', fontsize=9)
    bottom.set_axis_off()
    width = 1 / len(tasks)
    for k, (name, t) in enumerate(tasks.items()):
        axes = bottom.inset_axes([k * width + 0.02, 0.12, width - 0.035, 0.75])
        for arm in ('pairs', 'late', 'joint', 'coupled'):
            curve = t['missing_rate'][arm]
            axes.plot([100 * float(r) for r in curve], list(curve.values()), '.-',
                      color=STYLE[arm][1])
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.set_xlabel('missing, %', fontsize=7)
        axes.spines[['top', 'right']].set_visible(False)
    bottom.set_title('Score when each sense is off with this chance, at run time', fontsize=9)
    top.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
