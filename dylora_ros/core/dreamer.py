"""REM: decoders feed encoders with sensors and actuators off (paper, section 6)."""

from collections.abc import Callable
from dataclasses import dataclass
import time

import numpy as np

from dylora_ros.core.agent import bias_all, finish, split
from dylora_ros.core.context import FLAG_BOOT, FLAG_DREAM, FLAG_REJECTED, GlobalContext
from dylora_ros.core.cycle import Composer
from dylora_ros.core.features import lived
from dylora_ros.core.motor import bounded
from dylora_ros.core.phases import Phase
from dylora_ros.core.predictor import Predictor
from dylora_ros.core.will import Will

_SANE = 20.0           # an LR state of this size is sane whatever was lived through
_JUDGED = 2000         # newest rows that tell how large the states of waking life get


@dataclass
class DreamReport:
    """What a REM phase did: cycles dreamt, episodes, and how they ended."""

    cycles: int
    episodes: int
    rejected: int


class Dreamer:
    """REM: decoders feed encoders, the global context fills with flagged rows.

    Each episode starts from a remembered moment; from there on every next input is the senses'
    own prediction, under the bias that q reads from the real log, given the dreamt command.

    Args:
        senses: the modalities that can dream.
        log: a reader of the real log.
        predictor: q over that log.
        emit: takes each dreamt row (schema dtype).
        period: seconds a cycle.
        every: modality -> cycles between its inputs.
        remember: puts the senses into a remembered moment and returns their LR states there
            (sites, rank) by name; called before each episode.
        will: what acts in dreams; None: q's own prediction.
    """

    def __init__(self, senses: dict, log: GlobalContext, predictor: Predictor,
                 emit: Callable[[np.ndarray], None], period: float, every: dict[str, int],
                 remember: Callable[[], dict[str, np.ndarray]], will: Will | None = None):
        self.remember, self.will = remember, will
        self.senses, self.log, self.predictor = senses, log, predictor
        self.emit, self.period, self.every = emit, period, every

    def run(self, seconds: float, episode: int = 50,
            progress: Callable[[float, float], None] = lambda share, left: None,
            clock: Callable[[], float] = time.monotonic, most: int | None = None) -> DreamReport:
        """Dream for a budget of seconds (or ``most`` cycles), in episodes of ``episode``."""
        start = clock()
        report = DreamReport(0, 0, 0)
        limit = self._limit()
        stamp = int(self.log.rows(self.log.committed - 1, self.log.committed)['stamp'][0])
        while clock() - start < seconds and (most is None or report.cycles < most):
            report.episodes += 1
            moment = self.remember()
            stamp += int(1e9)                     # episodes are not consecutive
            composer = Composer(self.log.schema)
            for name, x in moment.items():
                composer.put(name, x, stamp + int(self.period * 1e9))
            for i in range(episode):
                spent = clock() - start
                if spent >= seconds or (most is not None and report.cycles >= most):
                    break
                stamp += int(self.period * 1e9)
                row = self.cycle(composer, stamp, i)
                sane = bool((np.abs(row['x'].astype(np.float32)) < limit).all())
                if not sane:
                    row['flags'] |= FLAG_REJECTED
                    report.rejected += 1
                self.emit(row)
                report.cycles += 1
                progress(spent / seconds, seconds - spent)
                if not sane:
                    break
        progress(1.0, 0.0)
        return report

    def _limit(self) -> np.ndarray:
        """Return the size (w,) beyond which an LR state is no dream any more, but a fault."""
        rows = self.log.rows(self.log.committed - _JUDGED, self.log.committed)
        states = rows['x'][lived(rows)].astype(np.float32)
        return np.maximum(_SANE, 3 * np.abs(states).max(0, initial=0.0))

    def cycle(self, composer: Composer, stamp: int, i: int) -> np.ndarray:
        """Dream one cycle, the ``i``-th of an episode (its first is the remembered moment)."""
        schema = self.log.schema
        for name, sense in self.senses.items():
            if i and i % self.every[name] == 0 and sense.expected is not None:
                composer.put(name, sense.dream().x, stamp)
        row = composer.compose(stamp)
        prediction = self.predictor.observe(row)
        q = bounded(prediction.q)
        if self.will is not None:
            q, prediction.value = self.will(row, prediction)
        bias_all(self.senses, q, row, schema)
        command = self.senses['body'].act(split(q, schema, 'body'))
        self.senses['body'].acted(command)
        finish(row, q, prediction, command, prediction.reward, stamp, Phase.REM,
               FLAG_DREAM | (FLAG_BOOT if i == 0 else 0))
        return row
