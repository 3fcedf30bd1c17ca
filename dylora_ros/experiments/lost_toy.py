"""The named toy is out of the view: whether hearing or memory finds it again.

The agents are those of ``experiment life`` (its ``--work``), as they are after their last day;
they act without exploration and remember nothing of it afterwards. ``--scene nudged``: toys drift
slowly, and the named one is mute; no other hand than that of an episode turns the head. Episodes
of four kinds, the same for all arms of a seed:

- ``heard``: a new world in which the toy is out of the view and sounds;
- ``silent``: it is out of the view and another one sounds;
- ``remembered``: it does not sound; two seconds after the beginning, in which the agent does what
  it wants, a hand turns the head so that it is out of the view. Counts only where it was seen. The
  toy is then mostly on the side where most of the world is;
- ``aside``: likewise, but the toy is far to the left or to the right (a hand turns the head to it
  at the beginning); then the hand holds the head straight ahead for a while before it lets go.
  Neither the head's motion nor an older frame tells the side any more: only memory does.

``--out`` takes how often it is in the view again within three seconds, how long that takes, and
how much of the episode it is in the middle; and the differences of the other arms to ``full``,
episode by episode. The last line is one JSON object.
"""

import argparse
from collections.abc import Iterator
from itertools import count
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from dylora_ros.experiments.babble import PERIOD
from dylora_ros.experiments.days import DAY
from dylora_ros.experiments.exams import begun
from dylora_ros.experiments.lives import Life, live
from dylora_ros.experiments.one_life import Days, last_stamp, PAUSE, stated
from dylora_ros.experiments.progress import say
from dylora_ros.experiments.searching import SOON
from dylora_ros.experiments.statistics import interval_of_groups
from dylora_ros.modalities import registry
from dylora_ros.paths import share_file
from dylora_ros.provenance import provenance, write
from dylora_ros.sim import view
from dylora_ros.sim.gaze import TOYS

KINDS = 'heard', 'silent', 'remembered', 'aside'
ASIDE = 0.9, 1.6      # rad; half of the view is 0.52
HELD = 40             # cycles for which the head is held straight ahead
SEEN = 50             # cycles before the head is turned
LENGTH = 150          # cycles of a search
_IN_VIEW = 0.5        # share of the cycles before, to say that it was seen


def in_view(world) -> bool:
    """Whether the named toy is in the view."""
    return view.in_view(*world.direction(world.toy))


def beginnings(world, kind: str, first: int) -> Iterator[int]:
    """Yield seeds with which the world begins as a kind of episode does; see the module."""
    for seed in count(first):
        world.reset(seed)
        world.step(PERIOD)                # the first voice is chosen
        if kind == 'aside':
            fits = ASIDE[0] <= abs(world.bearing()) <= ASIDE[1] and world.sounding != world.toy
        elif kind == 'remembered':
            fits = in_view(world) and world.sounding != world.toy
        else:
            fits = not in_view(world) and (world.sounding == world.toy) == (kind == 'heard')
        if fits:
            yield seed


def beginning(kind: str) -> int:
    """Return the cycles of an episode before its search begins."""
    return {'remembered': SEEN, 'aside': SEEN + HELD}.get(kind, 0)


class Searching:
    """What one life does in an episode.

    Attributes:
        seen: whether the toy was seen before the search began.
        view: of every cycle of the search, whether the toy is in the view.
        middle: likewise, in the middle of it.
    """

    def __init__(self, life: Life, kind: str):
        self._life, self._aside = life, kind == 'aside'
        self._begin = beginning(kind)
        self._before: list[bool] = []
        self._lost = True
        self.view: list[bool] = []
        self.middle: list[bool] = []

    def look(self, done: int):
        """Take down a cycle, ``done`` of the episode being over."""
        world = self._life.world
        if done > self._begin:
            self.view.append(in_view(world))
            self.middle.append(world.success())
            return
        if done <= SEEN:
            self._before.append(in_view(world))
        if self._aside:
            self._hold(world, done)
        elif done == SEEN:
            world.turn_away()

    def _hold(self, world, done: int):
        if done == 1:
            world.turn_to(world.bearing())
        elif done >= SEEN:
            world.turn_to(0.0)
            self._lost = not in_view(world)

    def told(self) -> dict:
        """Return what is told of the episode; a toy never found counts as found at its end."""
        first = self.view.index(True) if any(self.view) else len(self.view)
        seen = not self._before or bool(np.mean(self._before) >= _IN_VIEW)
        return {'counts': seen and self._lost,
                'found_soon': first * PERIOD <= SOON, 'seconds': round(first * PERIOD, 2),
                'middle': round(float(np.mean(self.middle)), 4)}


def episode(lives: list[Life], kind: str, vision, audio) -> list[dict]:
    """Let all lives live through an episode that their worlds are ready for."""
    searches = [Searching(life, kind) for life in lives]
    for life in lives:
        life.wake(last_stamp(life.agent.log) + PAUSE)

    def look(done: int):
        for search in searches:
            search.look(done)

    live(lives, vision, audio, LENGTH + beginning(kind), look)
    return [search.told() for search in searches]


def summary(told: dict[str, dict[str, dict[int, list[dict]]]]) -> dict:
    """Return means by kind and arm, and the differences to ``full``.

    Args:
        told: kind -> arm -> seed -> episodes.

    """
    out: dict = {}
    for kind, arms in told.items():
        out[kind] = {arm: means(seeds) for arm, seeds in arms.items()}
        for arm, seeds in arms.items():
            if arm != 'full' and 'full' in arms:
                out[kind][arm]['minus_full'] = less(seeds, arms['full'])
    return out


def means(seeds: dict[int, list[dict]]) -> dict:
    """Return the means of the episodes that count."""
    counted = [e for episodes in seeds.values() for e in episodes if e['counts']]
    return {'episodes': len(counted), **({} if not counted else {
        k: round(float(np.mean([e[k] for e in counted])), 4)
        for k in ('found_soon', 'seconds', 'middle')})}


def less(arm: dict[int, list[dict]], full: dict[int, list[dict]]) -> dict:
    """Return mean and 95 % interval of the differences in episodes that count for both.

    Of the seeds that both have lived; seeds and episodes are drawn anew.
    """
    pairs = [[(a, f) for a, f in zip(arm[seed], full[seed], strict=True)
              if a['counts'] and f['counts']] for seed in arm if seed in full]
    pairs = [of_seed for of_seed in pairs if of_seed]
    if not pairs:
        return {'episodes': 0}
    return {'episodes': sum(map(len, pairs)), **{
        k: {n: round(v, 4) for n, v in interval_of_groups(
            [np.array([float(a[k]) - float(f[k]) for a, f in of_seed])
             for of_seed in pairs]).items()}
        for k in ('found_soon', 'seconds', 'middle')}}


def main(arguments: list[str] | None = None):
    """Let them search; see the module."""
    parser = argparse.ArgumentParser(prog='dylora_ros experiment lost-toy', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('life'))
    parser.add_argument('--out', type=Path, default=Path('docs/results/lost_toy.json'))
    parser.add_argument('--arms', nargs='*', default=['full', 'deaf', 'no_gc'])
    parser.add_argument('--seeds', nargs='*', type=int, default=[0, 1, 2])
    parser.add_argument('--kinds', nargs='*', choices=KINDS, help='default: those of the scene')
    parser.add_argument('--episodes', type=int, default=30, help='of each kind')
    parser.add_argument('--statements', type=Path)
    parser.add_argument('--scene', default='gaze', choices=('gaze', 'nudged'))
    parser.add_argument('--toy', default='red_ball', choices=TOYS)
    options = parser.parse_args(arguments)
    mute = options.scene == 'nudged'
    options.kinds = options.kinds or [k for k in KINDS if not (mute and k == 'heard')]
    if mute and 'heard' in options.kinds:
        parser.error('--kinds heard: the named toy of nudged is mute')
    torch.set_num_threads(1)
    vision, audio = (registry.make(n) for n in ('vision', 'audio'))
    reward = stated(options.statements or share_file('config/statements.yaml'))
    of = SimpleNamespace(scene=options.scene, weights=registry.SHIPPED, toy=options.toy, day=DAY,
                         young=DAY)                       # no day is lived here
    found = [(arm, seed) for arm in options.arms for seed in options.seeds
             if (options.work / f'{arm}-{seed}' / 'context.gc').exists()]
    if not found:
        parser.error(f'{options.work} holds no life of {options.arms}; live some first: '
                     f'python -m dylora_ros experiment life --work {options.work}')
    lives = begun(Days(arm, seed, options.work, reward, of).exam for arm, seed in found)
    for life in lives:
        life.world.hand = False
    ready = {(kind, seed): beginnings(lives[0].world, kind, 10_000 * (seed + 1))
             for kind in options.kinds for seed in options.seeds}
    told: dict = {kind: {arm: {} for arm, _ in found} for kind in options.kinds}
    for kind in options.kinds:
        for n in range(options.episodes):
            seeds = {seed: next(ready[kind, seed]) for seed in options.seeds}
            for (_, seed), life in zip(found, lives, strict=True):
                life.world.reset(seeds[seed])
            for (arm, seed), result in zip(found, episode(lives, kind, vision, audio),
                                           strict=True):
                told[kind][arm].setdefault(seed, []).append(result)
            say(f'{kind} {n + 1}/{options.episodes}')
    for life in lives:
        Days.forgotten(life)
    lives[0].world.close()
    result = provenance('python -m dylora_ros experiment lost-toy', ('torch', 'numpy', 'mujoco'),
                        seeds=options.seeds, scene=options.scene, toy=options.toy,
                        lives=[f'{a}-{s}' for a, s in found], lost=summary(told))
    write(options.out, result)
    print(json.dumps(result))


if __name__ == '__main__':
    main()
