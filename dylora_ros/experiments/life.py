"""A life in lockstep in a world, for experiments: what the senses get, and what they foresaw."""

from collections.abc import Callable
from pathlib import Path
import time

import numpy as np

from dylora_ros.core.agent import Agent
from dylora_ros.core.context import GlobalContext
from dylora_ros.core.motor import Exploration
from dylora_ros.core.predictor import Predictor, QNetwork
from dylora_ros.experiments.babble import AUDIO_EVERY, felt, guard_for, PERIOD, VISION_EVERY


class Feed:
    """Gives the signals of each cycle, every sense at its own rate."""

    def __init__(self, world, guard):
        self.world, self.guard = world, guard
        self._sound: list[np.ndarray] = []

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        """Return the signals of cycle ``i``, in order of cycles."""
        signals = {'body': felt(self.world, self.guard)}
        self._sound.append(self.world.listen(round(16000 * PERIOD)))
        if i % VISION_EVERY == 0:
            signals['vision'] = self.world.render()
        if i % AUDIO_EVERY == AUDIO_EVERY - 1:
            signals['audio'] = np.concatenate(self._sound, 1)
            self._sound = []
        return signals


class Foresight:
    """Errors of the next-input predictions of each sense, and those of "nothing changes"."""

    def __init__(self, senses: dict):
        self._senses = {n: s for n, s in senses.items() if s.spec.decodes}
        self._last: dict[str, np.ndarray] = {}
        self.errors: dict[str, list[tuple[float, float]]] = {n: [] for n in self._senses}

    def judge(self, signals: dict[str, np.ndarray]):
        """Compare what is expected with what comes; call before the agent sees it."""
        for name, sense in self._senses.items():
            if name not in signals:
                continue
            truth = sense.target(signals[name])
            if name in self._last and sense.expected is not None:
                self.errors[name].append((float(np.mean((truth - sense.expected) ** 2)),
                                          float(np.mean((truth - self._last[name]) ** 2))))
            self._last[name] = truth

    def summary(self) -> dict[str, dict[str, float]]:
        """Return mean squared errors and their ratio by sense."""
        out = {}
        for name, pairs in self.errors.items():
            predicted, unchanged = np.mean(pairs, 0) if pairs else (np.nan, np.nan)
            out[name] = {'predicted': float(predicted), 'unchanged': float(unchanged),
                         'ratio': float(predicted / max(unchanged, 1e-12))}
        return out


def agent_on(log: GlobalContext, senses: dict, network: QNetwork, world, noise: float,
             seed: int) -> Agent:
    """Return an agent that goes on with a log."""
    sites, rank = log.schema.modalities['body']
    return Agent(senses, log, Predictor(network, log), guard_for(world),
                 Exploration(sites * rank, noise, period=PERIOD, seed=seed))


def fresh_agent(senses: dict, path: Path, network: QNetwork, cycles: int, world,
                noise: float, seed: int) -> tuple[Agent, GlobalContext]:
    """Return an agent with an empty log at ``path``."""
    path.unlink(missing_ok=True)
    log = GlobalContext.open(path, network.schema, cycles)
    return agent_on(log, senses, network, world, noise, seed), log


def live(agent: Agent, world, cycles: int, caption: list,
         say: Callable[[str], None] = lambda text: None, born: int = 0) -> dict:
    """Let an agent live; ``caption`` takes the captions of every row.

    ``born`` is the stamp of the world's beginning, ns. Returns the errors of its next-input
    predictions (:meth:`Foresight.summary`).
    """
    start = time.monotonic()
    foresight, feed = Foresight(agent.senses), Feed(world, agent.guard)
    for sense in agent.senses.values():
        sense.forget_expectation()
    world.reset()
    for i in range(cycles):
        signals = feed(i)
        said = world.captions()
        caption.append(said)
        if i % 200 == 100:             # a person names something true now and then
            signals['text'] = said[(i // 200) % len(said)]
        foresight.judge(signals)
        world.apply(agent.step(born + round(world.time * 1e9), signals))
        world.step(PERIOD)
        if i % 1000 == 999:
            spent = time.monotonic() - start
            say(f'life {i + 1}/{cycles}, {1e3 * spent / (i + 1):.1f} ms a cycle, '
                f'{spent / (i + 1) * (cycles - i - 1):.0f} s left')
    return foresight.summary()
