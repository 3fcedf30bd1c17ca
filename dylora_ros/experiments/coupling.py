"""Senses that help each other: coupled LR states against one sense, late fusion, joint training.

In many worlds of `gaze` the agent babbles. Tasks: ``where`` a sounding toy is that will come into
view, vision's LR state when it does (``arrive``), to ``name`` the sounding toy that is seen, and
to ``fill`` in what a switched-off sense would say. Arms: pair networks q(m -> n), one for each
single sense; the pairs' weighted mean; the coupled network added to the frozen pairs; the same
networks trained jointly from scratch; late fusion of the frozen encoders' features. All arms see
the same window of time, the same samples and the same modality dropout. Resumable.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from dylora_ros.core.coupling import Coupling, WIDTH
from dylora_ros.experiments.coupling_data import collect, Lives, load
from dylora_ros.experiments.coupling_figure import draw
from dylora_ros.experiments.coupling_fit import (
    fit_coupled,
    fit_joint,
    fit_pairs,
    LateFusion,
    predict_all,
    train,
)
from dylora_ros.experiments.coupling_report import parameters, score, summarise
from dylora_ros.experiments.coupling_tasks import Moments, nameable, Task, tasks
from dylora_ros.experiments.pretrain_fit import say
from dylora_ros.modalities import registry
from dylora_ros.provenance import provenance, write

WORLDS = 80_000                 # their seeds; in none of them anything was tried before
TEST = 0.2                      # share of the lives, always the last ones
RATES = (0.15, 0.3, 0.5, 0.7, 0.9)
KEPT = 64                       # principal directions of the frozen features
IMBALANCE = 11                  # one life in so many has all senses, the others have one
NAMES = 'where', 'name', 'fill vision', 'fill audio', 'fill body', 'arrive'
SHORT = 400, 1                  # steps of pairs and coupling there; looks without gain
UNEVEN = 'where', 'name', 'fill vision'     # tasks of the imbalanced data
LAST = 'fill body', 'arrive'    # tasks that are run last
MOST_TESTED = 800               # samples of a task


def split_of(task: Task, lives: Lives, count: int, seed: int):
    """Return samples to train on, for validation and for the test; lives never mix."""
    life = lives.life[task.row]
    test = int((1 - TEST) * count)
    order = np.random.default_rng(seed).permutation(test)
    validation = order[:test // 8]
    return (np.flatnonzero(np.isin(life, order[test // 8:])),
            np.flatnonzero(np.isin(life, validation)), thinned(np.flatnonzero(life >= test)))


def thinned(index: np.ndarray) -> np.ndarray:
    """Return every n-th sample, about MOST_TESTED of them: neighbours say little new."""
    return index[::max(1, round(len(index) / MOST_TESTED))]


def frozen_features(lives: Lives, count: int) -> dict[str, np.ndarray]:
    """Return the main directions of the frozen features, of unit size on the training lives."""
    used = (lives.life < int((1 - TEST) * count))
    out = {}
    for name, feature in lives.features.items():
        known = feature if name == 'text' else feature[:lives.newest[name][used].max() + 1]
        mean = known.mean(0)
        _, directions = np.linalg.eigh((known - mean).T @ (known - mean))    # smallest first
        main = (feature - mean) @ directions[:, :-KEPT - 1:-1]
        out[name] = main / main[:len(known)].std(0).mean()
    return out


def by_life(task: Task, lives: Lives, predicted: torch.Tensor, index: np.ndarray) -> list:
    """Return (2, test lives): the sums that make a task's score."""
    life = lives.life[task.row[index]]
    sums = task.quality(predicted, index)
    places = np.unique(life, return_inverse=True)[1]
    return [np.bincount(places, s).tolist() for s in sums]


def changes(task: Task, rng: np.random.Generator) -> dict:
    """Return the conditions of the test: name -> what happens to a window."""
    def missing(rate):
        def hide(window):
            for name in task.sources:
                off = rng.random(len(window)) < rate
                window = window.without(name, torch.from_numpy(np.where(off, np.inf, 0.0)))
            return window
        return hide

    return {'full': lambda w: w,
            **{f'no {n}': lambda w, n=n: w.without(n) for n in task.sources},
            **{f'missing {rate}': missing(rate) for rate in RATES}}


def run(task: Task, lives: Lives, moments: Moments, featured: Moments, count: int,
        seed: int) -> dict:
    """Train and test all arms on one task."""
    *split, test = split_of(task, lives, count, seed)
    width = task.truth.shape[1]
    coupling, joint = (Coupling(moments.shapes, {task.target: width}) for _ in range(2))
    courses = {f'pair {s}': c for s, c in fit_pairs(coupling, task, moments, split, seed).items()}
    courses['coupled'] = fit_coupled(coupling, task, moments, split, seed)
    courses['joint'] = fit_joint(joint, task, moments, split, seed)
    torch.manual_seed(100 * seed + 90)
    late = LateFusion({n: featured.shapes[n] for n in task.sources}, width, WIDTH)
    courses['late'] = train(late, late, (late.straight, late.newest), task, featured,
                            task.sources, split, 100 * seed + 90)
    late.eval()
    arms = {'pairs': (lambda w: coupling.pairs_only(w, task.target), moments),
            'coupled': (lambda w: coupling(w, task.target), moments),
            'joint': (lambda w: joint(w, task.target), moments), 'late': (late, featured)}
    scores: dict[str, dict] = {}
    for arm, (predict, source) in arms.items():
        scores[arm] = {
            name: by_life(task, lives, predict_all(predict, task, source, task.sources, test,
                                                   change), test)
            for name, change in changes(task, np.random.default_rng(seed)).items()}
    for name in task.sources:
        predict = coupling.pairs[f'{name}>{task.target}']
        scores[f'one {name}'] = {'full': by_life(
            task, lives, predict_all(predict, task, moments, (name,), test), test)}
    return {'scores': scores, 'courses': {k: vars(v) for k, v in courses.items()},
            'samples': [len(split[0]), len(split[1]), len(test)],
            'chance': chance(task, test)}


def chance(task: Task, test: np.ndarray) -> float:
    """Return the score of the constant answer."""
    if task.answer is None:
        return 0.0
    return float(np.bincount(task.answer[test]).max() / len(test))


def run_imbalanced(task: Task, lives: Lives, moments: Moments, count: int, seed: int) -> dict:
    """Ten lives with one sense (and the target) for one with all: pairs first, or all jointly."""
    *split, test = split_of(task, lives, count, seed)
    life = lives.life[task.row]
    known = np.random.default_rng(seed).permutation(np.unique(life[split[0]]))
    whole = known[::IMBALANCE]
    partial = {s: np.setdiff1d(known, whole)[i::len(task.sources)]
               for i, s in enumerate(task.sources)}

    def only(source, index):
        return index[np.isin(life[index], np.concatenate([whole, partial[source]]))]

    def masked(window, index):
        for source in task.sources:
            has = np.isin(life[index], np.concatenate([whole, partial[source]]))
            window = window.without(source, torch.from_numpy(np.where(has, 0.0, np.inf)))
        return window

    width = task.truth.shape[1]
    coupling, joint = (Coupling(moments.shapes, {task.target: width}) for _ in range(2))
    pairs = fit_pairs(coupling, task, moments, split, seed, only, *SHORT)
    few = split[0][np.isin(life[split[0]], whole)]
    coupled = fit_coupled(coupling, task, moments, (few, split[1]), seed, *SHORT)
    jointly = fit_joint(joint, task, moments, split, seed, masked)
    arms = {'coupled': lambda w: coupling(w, task.target),
            'pairs': lambda w: coupling.pairs_only(w, task.target),
            'joint': lambda w: joint(w, task.target)}
    return {'scores': {arm: {'full': by_life(
                task, lives, predict_all(f, task, moments, task.sources, test), test)}
                       for arm, f in arms.items()},
            'seconds': {'pairs': sum(c.seconds for c in pairs.values()),
                        'coupled': coupled.seconds, 'joint': jointly.seconds,
                        'joint_until_kept': jointly.until},
            'lives': {'all senses': len(whole), 'one sense': len(known) - len(whole)}}


def run_missing(options, paths: dict[tuple, Path]):
    """Record what is not recorded, run what is not done; each piece leaves a file."""
    if not paths:
        return
    schema = registry.row_schema(2, options.weights)
    lives = load(collect(options.work / 'lives', options.lives, options.weights, WORLDS), schema,
                 nameable(), options.weights)
    moments = Moments(lives, schema)
    featured = Moments(lives, schema, frozen_features(lives, options.lives))
    todo = {task.name: task for task in tasks(lives, schema)}
    for done, ((kind, name, seed), path) in enumerate(paths.items(), 1):
        if kind == 'balanced':
            found = run(todo[name], lives, moments, featured, options.lives, seed)
        else:
            found = run_imbalanced(todo[name], lives, moments, options.lives, seed)
        write(path, found)
        say(f'{done}/{len(paths)}, seed {seed}, {name}, {kind}: ' + ', '.join(
            f'{arm} {score(np.array(s["full"])):.3f}' for arm, s in found['scores'].items()))


def main(arguments: list[str] | None = None):
    """Run the experiment; see the module."""
    parser = argparse.ArgumentParser(prog='dylora_ros experiment coupling', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('coupling'))
    parser.add_argument('--output', type=Path, default=Path('docs/results'))
    parser.add_argument('--weights', type=Path, default=registry.SHIPPED)
    parser.add_argument('--lives', type=int, default=340, help='worlds to babble in, 24 s each')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--so-far', action='store_true', help='report what is done, run nothing')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    plan = [('balanced', task, seed) for task in NAMES for seed in options.seeds]
    plan += [('imbalanced', task, seed) for task in UNEVEN for seed in options.seeds]
    plan.sort(key=lambda item: item[1] in LAST)
    paths = {item: options.work / '{}-{}-{}.json'.format(*item).replace(' ', '-')
             for item in plan}
    if not options.so_far:
        run_missing(options, {item: p for item, p in paths.items() if not p.exists()})
    pieces: dict[str, dict] = {'balanced': {}, 'imbalanced': {}}
    for (kind, task, _), path in paths.items():
        if path.exists():
            pieces[kind].setdefault(task, []).append(json.loads(path.read_text()))
    result = {**provenance('python -m dylora_ros experiment coupling',
                           ('torch', 'numpy', 'mujoco', 'transformers'), seeds=options.seeds,
                           lives=options.lives),
              'not_run': [' '.join(map(str, item)) for item, path in paths.items()
                          if not path.exists()],
              **summarise(pieces['balanced'], pieces['imbalanced'])}
    result.update(parameters(options.weights))
    dreams = options.output / 'dreams.json'
    if dreams.exists():
        dreams = json.loads(dreams.read_text())
        result['one_cycle_error_cut'] = {
            n: 1 - float(np.mean([d[n]['ratio'] for d in dreams['next_input'].values()]))
            for n in ('vision', 'audio', 'body')}
        result['dream_real_time_factor'] = dreams['dream_real_time_factor']
    options.output.mkdir(parents=True, exist_ok=True)
    write(options.output / 'coupling.json', result)
    draw(result, options.output / 'coupling.png')
    print(json.dumps({k: v for k, v in result.items() if not isinstance(v, dict)}, indent=1))


if __name__ == '__main__':
    main()
