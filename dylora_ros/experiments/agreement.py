"""How well reward models order moments, and how well two of them agree."""

import numpy as np

from dylora_ros.core.judging import RewardModel
from dylora_ros.experiments.statistics import auc, spearman
from dylora_ros.experiments.ways import USERS

PLACES = 'in the middle of', 'out of'
_FEW = 2       # users whose ways the slow model is asked


def grades(captions: list[list[str]], thing: str) -> np.ndarray:
    """Return 0 where a thing is not seen, 1 where it is in the view, 2 in its middle, (n,)."""
    middle, *unseen = (*(f'The {thing} is {where} my view.' for where in PLACES),
                       f'The {thing} is hidden.')
    return np.array([2 if middle in c else 0 if any(s in c for s in unseen) else 1
                     for c in captions])


def things(captions: list[list[str]]) -> list[str]:
    """Return the things whose place in the view is told."""
    middle = f' is {PLACES[0]} my view.'
    return sorted({s.removeprefix('The ').removesuffix(middle)
                   for c in captions for s in c if s.endswith(middle)})


def ways(thing: str) -> dict[str, tuple[list[str], list[str]]]:
    """Return good and bad statements about a thing: those learned, and those of some users."""
    good, bad = (f'The {thing} is {where} my view.' for where in PLACES)
    return {'captions': ([good], [bad]), 'users': tuple(map(list, zip(
        *users(thing)[:_FEW], strict=True)))}


def users(thing: str) -> list[tuple[str, str]]:
    """Return what users call good and bad of a thing; nothing was fitted to these sentences."""
    return [(good.format(thing), bad.format(thing)) for good, bad in USERS]


def drawn(grade: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return the numbers of at most ``most`` moments, the grades as even as there are any."""
    rng = np.random.default_rng(seed)
    pools = [rng.permutation(np.flatnonzero(grade == g)) for g in range(3)]
    chosen: list[int] = []
    for i in range(max(map(len, pools))):
        chosen += [pool[i] for pool in pools if i < len(pool)]
    return np.sort(chosen[:most])


def order(value: np.ndarray, grade: np.ndarray) -> dict[str, float]:
    """Return how well a reward orders moments: rank correlation with the grade, and AUCs.

    ``most`` is the rank correlation of a perfect order: grades have ties, it cannot be 1.
    """
    ideal = grade + 1e-6 * np.random.default_rng(0).random(len(grade))
    told = {'spearman': spearman(value, grade), 'most': spearman(ideal, grade),
            'auc_middle': auc(value, grade == 2), 'auc_in_view': auc(value, grade > 0)}
    return {k: round(v, 4) for k, v in told.items()}


def agree(models: dict[str, RewardModel], state: np.ndarray, grade: np.ndarray | None) -> dict:
    """Return each model's order of moments, and the rank correlation of every two.

    Args:
        models: by name.
        state: (n, w + m) moments.
        grade: (n,) the truth; None where it is not known.

    """
    values = {name: model.rewards(state) for name, model in models.items()}
    told: dict = {'n': len(state)}
    if grade is not None:
        told['grades'] = np.bincount(grade, minlength=3).tolist()
        told |= {name: order(value, grade) for name, value in values.items()}
    names = list(values)
    for i, one in enumerate(names):
        for other in names[i + 1:]:
            told[f'{one}_and_{other}'] = round(spearman(values[one], values[other]), 4)
    return told
