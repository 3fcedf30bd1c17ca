"""Figures of the experiments."""

from pathlib import Path

import numpy as np

NAMES = {'lora': 'LoRA', 'gc': 'dynamic, with global context',
         'blinded_gc': 'blinded, with global context',
         'blinded_no_gc': 'blinded, no global context'}
COLOURS = {'lora': '#444444', 'gc': '#0b6fa4', 'blinded_gc': '#d1495b',
           'blinded_no_gc': '#8d99ae'}


def curves(result: dict, path: Path):
    """Draw accuracy per epoch as in Figure 5: mean over seeds, band from worst to best."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), layout='constrained')
    for arm, found in result['arms'].items():
        table = 100 * np.array(found['curves']['accuracy'])
        epochs = np.arange(1, table.shape[1] + 1)
        axes.plot(epochs, table.mean(0), 'o-', color=COLOURS[arm], label=NAMES[arm])
        axes.fill_between(epochs, table.min(0), table.max(0), color=COLOURS[arm], alpha=0.18,
                          linewidth=0)
    axes.axhline(100 * result['majority'], color='#8d99ae', linestyle=':', linewidth=1)
    axes.set_xticks(epochs)
    axes.set_xlabel('epoch')
    axes.set_ylabel('MRPC test accuracy, %')
    axes.set_title(f'rank {result["rank"]}, {len(found["test_accuracy"])} seeds (band: worst to '
                   'best)', fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
