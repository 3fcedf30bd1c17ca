"""The coupling weights that ship: what vision, hearing and body say of each other.

Pairs first, each alone, then the coupled network of every sense over its frozen pairs; used at
run time to fill in a sense that is off (``core.imagine``).
"""

from pathlib import Path

import numpy as np
import torch

from dylora_ros.core.coupling import Coupling
from dylora_ros.experiments.coupling_data import collect, load
from dylora_ros.experiments.coupling_fit import fit_coupled, fit_pairs, predict_all
from dylora_ros.experiments.coupling_tasks import Moments, nameable, tasks
from dylora_ros.experiments.pretrain_fit import say
from dylora_ros.modalities import registry


def fit_coupling(work: Path, weights: Path, out: Path, lives: int = 110,
                 seed: int = 0) -> dict[str, float]:
    """Train and write the coupling of an agent's senses; a step of pretraining.

    Args:
        work: folder of the recorded lives; those that are there are used.
        weights: folder of the senses' low-rank weights.
        out: file to write.
        lives: worlds to babble in.
        seed: of the training.

    Returns:
        Sense -> R2 of its filled-in LR state on lives that were not trained on.

    """
    paths = collect(work / 'lives', lives, weights)
    schema = registry.row_schema(2, weights)
    recorded = load(paths, schema, nameable(), weights)
    moments = Moments(recorded, schema)
    fill = [t for t in tasks(recorded, schema, seed) if t.off is not None]
    coupling = Coupling(moments.shapes, {t.target: t.truth.shape[1] for t in fill})
    report = {}
    for task in fill:
        life = recorded.life[task.row]
        held = life >= int(0.9 * lives)
        split = np.flatnonzero(~held), np.flatnonzero(held)
        fit_pairs(coupling, task, moments, split, seed)
        fit_coupled(coupling, task, moments, split, seed)
        with torch.no_grad():
            said = predict_all(lambda w, t=task: coupling(w, t.target), task, moments,
                               task.sources, split[1])
        wrong, spread = task.quality(said, split[1]).sum(1)
        report[task.target] = float(1 - wrong / spread)
        say(f'coupling: {task.target} filled in, held-out R2 {report[task.target]:.3f}')
    coupling.save(out, schema.adapters)
    return report
