"""Scores, bands and differences of the coupling experiment.

Legend: s seeds, l test lives.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from dylora_ros.core.coupling import Coupling
from dylora_ros.modalities import registry
from dylora_ros.modalities.specs import ORDER

DRAWS = 2000
CARRY = 0.9       # others carry a sense's information if an arm without it keeps this share
ARMS = 'pairs', 'late', 'joint'
RIVALS = 'best_single', 'late_fusion'


def table(found: list[dict], arm: str, condition: str = 'full') -> np.ndarray:
    """Return (2, s, l): sums of errors and of what they are divided by."""
    return np.array([piece['scores'][arm][condition] for piece in found]).transpose(1, 0, 2)


def score(sums: np.ndarray) -> float:
    """Return one minus the ratio of the sums (2, ...)."""
    return float(1 - sums[0].sum() / sums[1].sum())


def scores_by_seed(sums: np.ndarray) -> list[float]:
    """Return the score of each seed of sums (2, s, l)."""
    return [score(sums[:, i]) for i in range(sums.shape[1])]


def draws(*tables: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    """Return bootstrapped scores of tables that share seeds and lives, (DRAWS,) each."""
    rng = np.random.default_rng(seed)
    seeds, lives = tables[0].shape[1:]
    s, n = rng.integers(0, seeds, (DRAWS, seeds)), rng.integers(0, lives, (DRAWS, lives))
    return [1 - np.divide(*t[:, s[:, :, None], n[:, None]].sum((2, 3))) for t in tables]


def interval(values: np.ndarray) -> list[float]:
    """Return the 95 % interval of bootstrapped values."""
    return [round(float(v), 4) for v in np.percentile(values, [2.5, 97.5])]


def band(sums: np.ndarray) -> dict:
    """Return the score with its 95 % interval (seeds and lives) and each seed's own score."""
    return {'score': round(score(sums), 4), 'interval_95': interval(draws(sums)[0]),
            'by_seed': [round(v, 4) for v in scores_by_seed(sums)]}


def difference(found: list[dict], arm: str, other: str) -> dict:
    """Return the difference of two arms, paired over seeds and lives."""
    one, two = table(found, arm), table(found, other)
    a, b = draws(one, two)
    return {'difference': round(score(one) - score(two), 4), 'interval_95': interval(a - b)}


def one_task(found: list[dict]) -> dict:
    """Return everything about one task."""
    arms = {arm: band(table(found, arm)) for arm in found[0]['scores']}
    single = max((a for a in arms if a.startswith('one ')), key=lambda a: arms[a]['score'])
    full = arms['coupled']['score']
    missing = {}
    for name in ORDER:
        condition = f'no {name}'
        if condition not in found[0]['scores']['coupled']:
            continue
        kept = score(table(found, 'coupled', condition)) / full
        others = max(score(table(found, a, condition)) for a in ARMS) / full
        missing[name] = {'kept': round(kept, 4), 'best_other_arm': round(others, 4),
                         'others_carry': bool(max(kept, others) >= CARRY)}
    rates = [c for c in found[0]['scores']['coupled'] if c.startswith('missing')]
    return {
        'samples': found[0]['samples'], 'constant_answer': round(found[0]['chance'], 4),
        'arms': arms, 'best_single': single.removeprefix('one '),
        'coupled_minus_best_single': difference(found, 'coupled', single),
        'coupled_minus_late_fusion': difference(found, 'coupled', 'late'),
        'coupled_minus_pairs': difference(found, 'coupled', 'pairs'),
        'coupled_minus_joint': difference(found, 'coupled', 'joint'),
        'bands_apart': bool(min(arms['coupled']['by_seed']) > max(arms[single]['by_seed'])),
        'one_missing': missing,
        'missing_rate': {arm: {'0': arms[arm]['score'], **{
            r.removeprefix('missing '): round(score(table(found, arm, r)), 4) for r in rates}}
            for arm in ('coupled', *ARMS)},
        'seconds': {k: round(float(np.mean([f['courses'][k]['seconds'] for f in found])), 2)
                    for k in found[0]['courses']},
        'steps': {k: [f['courses'][k]['steps'] for f in found] for k in found[0]['courses']}}


def any_sense(found: dict[str, list[dict]]) -> dict:
    """Return the task "fill in whichever sense is off": the mean of its tasks' scores.

    A single sense has to fill in all of them; every sense's own task is in :func:`one_task`.

    Args:
        found: pieces of the tasks ``fill ...``, which share seeds and test lives.

    """
    def mean(arm):
        return np.mean([scores_by_seed(table(p, arm)) for p in found.values()], 0)

    def drawn(arm):
        return np.mean([draws(table(p, arm))[0] for p in found.values()], 0)

    arms = sorted(set.intersection(*(set(p[0]['scores']) for p in found.values())))
    scores = {arm: mean(arm) for arm in arms}
    single = max((a for a in arms if a.startswith('one ')), key=lambda a: scores[a].mean())

    def minus(other):
        return {'difference': round(float((scores['coupled'] - scores[other]).mean()), 4),
                'interval_95': interval(drawn('coupled') - drawn(other))}

    return {'arms': {arm: {'score': round(float(v.mean()), 4),
                           'by_seed': [round(float(x), 4) for x in v]}
                     for arm, v in scores.items()},
            'best_single': single.removeprefix('one '),
            'coupled_minus_best_single': minus(single),
            'coupled_minus_late_fusion': minus('late'),
            'bands_apart': bool(scores['coupled'].min() > scores[single].max())}


def one_imbalanced(found: list[dict]) -> dict:
    """Return what ten lives with one sense for one with all make of a task."""
    seconds = {k: float(np.mean([f['seconds'][k] for f in found])) for k in found[0]['seconds']}
    return {'lives': found[0]['lives'],
            'arms': {arm: band(table(found, arm)) for arm in found[0]['scores']},
            'coupled_minus_joint': difference(found, 'coupled', 'joint'),
            'seconds': {k: round(v, 2) for k, v in seconds.items()},
            'time_over_joint': round((seconds['pairs'] + seconds['coupled'])
                                     / seconds['joint'], 3),
            'time_over_joint_until_kept': round((seconds['pairs'] + seconds['coupled'])
                                                / seconds['joint_until_kept'], 3),
            'time_over_joint_once_pairs_exist': round(seconds['coupled'] / seconds['joint'], 3)}


def worst(tasks: Iterable[dict], rival: str) -> float | None:
    """Return the least difference of means between coupled and a rival."""
    return min((t[f'coupled_minus_{rival}']['difference'] for t in tasks), default=None)


def summarise(balanced: dict[str, list], imbalanced: dict[str, list]) -> dict:
    """Return all tasks, and the worst of them for each claim."""
    found = {name: one_task(pieces) for name, pieces in balanced.items()}
    uneven = {name: one_imbalanced(pieces) for name, pieces in imbalanced.items()}
    fills = {name: pieces for name, pieces in balanced.items() if name.startswith('fill ')}
    carried = [m['kept'] for t in found.values() for m in t['one_missing'].values()
               if m['others_carry']]
    fill = any_sense(fills) if fills else None
    # "fill in a sense that is off" is one task: which sense it will be is not known before
    whole = {n: t for n, t in found.items() if n not in fills}
    if fill:
        whole['fill any sense'] = fill
    each = [found[name] for name in fills]
    return {
        **{f'coupled_minus_{key}': worst(whole.values(), key) for key in RIVALS},
        'bands_apart_on_every_task': all(t['bands_apart'] for t in whole.values()),
        **{f'filling_each_sense_coupled_minus_{key}': worst(each, key) for key in RIVALS},
        'bands_apart_filling_each_sense': all(t['bands_apart'] for t in each),
        'kept_with_one_missing': min(carried, default=None),
        'imbalanced_coupled_minus_joint': min(
            (t['coupled_minus_joint']['difference'] for t in uneven.values()),
            default=None),
        'imbalanced_time_over_joint': max(
            (t['time_over_joint'] for t in uneven.values()), default=None),
        'tasks': found, **({'fill_any_sense': fill} if fill else {}),
        'imbalanced': uneven}


def all_networks(weights: Path) -> Coupling:
    """Return newborn networks of all tasks together."""
    shapes = {n: s * r for n, (s, r) in registry.row_schema(2, weights).modalities.items()}
    coupling = Coupling(shapes, {'direction': 2, 'vision soon': shapes['vision'], **shapes})
    for target in coupling.targets:
        for source in shapes:
            if (source, target) != ('text', 'text'):
                coupling.add((source,), target)
        coupling.couple(target)
    return coupling


def parameters(weights: Path) -> dict:
    """Return the share of trainable parameters: A, B, q and coupling over all frozen ones.

    The coupling is counted with the networks of all tasks; an agent needs half of them.
    """
    low_rank, frozen = 0, 0
    for name in ORDER:
        sense = registry.make(name, weights=None)
        low_rank += sum(layer.A.numel() + layer.B.numel()
                        for layer in sense.adapter.layers.values())
        model = sense.sentences.model if name == 'text' else sense.encoder
        frozen += sum(p.numel() for n, p in model.named_parameters()
                      if n.split('.')[-1] not in ('A', 'B'))
    q = sum(v.size for v in load_file(weights / 'q.safetensors').values())
    coupling = sum(p.numel() for p in all_networks(weights).parameters())
    return {'parameters': {'frozen': frozen, 'low_rank': low_rank, 'q': q, 'coupling': coupling},
            'parameter_share': round((low_rank + q + coupling) / frozen, 5)}
