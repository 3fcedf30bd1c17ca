"""Intervals that respect pairing: bootstrap over seeds and test items together."""

import numpy as np


def f1_score(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return F1 of class 1 (0 where nothing is predicted or true)."""
    hits = float(np.sum((predicted == 1) & (truth == 1)))
    total = float(np.sum(predicted == 1) + np.sum(truth == 1))
    return 2 * hits / total if total else 0.0


def interval(values: np.ndarray, draws: int = 4000, seed: int = 0) -> dict[str, float]:
    """Return mean and 95 % bootstrap interval of a (seeds, items) table.

    Seeds and items are drawn anew together, so both kinds of chance are in the interval. For a
    difference of two arms pass the difference of their tables: they share seeds and items.

    Args:
        values: (seeds, items), for example 1 where right and 0 where wrong.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        ``mean``, ``low``, ``high``.

    """
    rng = np.random.default_rng(seed)
    seeds, items = values.shape
    means = np.empty(draws)
    for i in range(draws):
        by_seed = values[rng.integers(0, seeds, seeds)].mean(0)
        means[i] = by_seed[rng.integers(0, items, items)].mean()
    low, high = np.quantile(means, [0.025, 0.975])
    return {'mean': float(values.mean()), 'low': float(low), 'high': float(high)}


def interval_of_groups(groups: list[np.ndarray], draws: int = 4000,
                       seed: int = 0) -> dict[str, float]:
    """Return mean and 95 % bootstrap interval of values that come in groups of any size.

    Groups (seeds) are drawn anew, then the values within each drawn one.

    Args:
        groups: (items,) of each seed, none of them empty.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        ``mean`` (of all values), ``low``, ``high``.

    """
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for i in range(draws):
        drawn = [groups[g] for g in rng.integers(0, len(groups), len(groups))]
        means[i] = np.concatenate([g[rng.integers(0, len(g), len(g))] for g in drawn]).mean()
    low, high = np.quantile(means, [0.025, 0.975])
    return {'mean': float(np.concatenate(groups).mean()), 'low': float(low), 'high': float(high)}


def wilson(right: int, n: int) -> list[float]:
    """Return the 95 % Wilson score interval of a share."""
    z, p = 1.96, right / n
    mid, half = p + z * z / (2 * n), z * ((p * (1 - p) + z * z / (4 * n)) / n) ** 0.5
    return [round((mid - half) / (1 + z * z / n), 4), round((mid + half) / (1 + z * z / n), 4)]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return the rank correlation; equal values share their mean rank."""
    def ranks(values):
        _, which, count = np.unique(values, return_inverse=True, return_counts=True)
        return (np.cumsum(count) - (count - 1) / 2)[which]

    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def auc(score: np.ndarray, true: np.ndarray) -> float:
    """Return the probability that a true moment scores above an untrue one."""
    rank = np.argsort(np.argsort(score)) + 1
    positive = true.sum()
    negative = len(true) - positive
    if positive * negative == 0:
        return float('nan')
    return float((rank[true > 0].sum() - positive * (positive + 1) / 2) / (positive * negative))
