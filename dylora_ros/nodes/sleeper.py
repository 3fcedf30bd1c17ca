"""The sleeping process: dreams and trains beside the graph, so that control never waits."""

import math
import multiprocessing
import os
from pathlib import Path
import signal

from dylora_ros import secret

_SPAWN = multiprocessing.get_context('spawn')
_Q_SHARE = 0.6         # of the budget of NREM, at most; the will has the rest
# Rows after which q learns again. When it changes, the will has to find its way in what it reads
# anew: with a q that learned in each of nine short nights, the will forgot more than it learned.
_Q_ROWS = 6000
# A sleep is as long as the time awake before asks for, within the budgets of its phases: REM
# lasts a share of it (s at least), NREM ends when what is new was learned.
_REM = 5.0, 0.1
_Q_SECONDS = 60.0


class Sleeper:
    """Handle of one sleeping process.

    Args:
        options: plain values; see ``predictor.PredictorNode._sleep_options``.
    """

    def __init__(self, options: dict):
        self._options = options
        self._process = None
        self._pipe = None

    def begin(self, phase: str):
        """Start a phase (REM or NREM) in a fresh process."""
        self.stop()
        self._pipe, other = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_sleep, args=(phase, self._options, other),
                                       daemon=True)
        self._phase = phase
        self._process.start()
        other.close()

    def events(self) -> list[tuple[str, object]]:
        """Return what it told since the last call: (kind, value) pairs; never waits."""
        out = []
        if self._pipe is None:
            return out
        try:
            while len(out) < 200 and self._pipe.poll():
                out.append(self._pipe.recv())
        except (EOFError, OSError):
            self._pipe.close()
            self._pipe = None
            if not any(kind == 'done' for kind, _ in out) and not self._done:
                out.append(('done', {'phase': self._phase,
                                     'error': 'the sleeping process died'}))
        if any(kind == 'done' for kind, _ in out):
            self._done = True
        return out

    _done = False

    def stop(self):
        """End the process, wherever it is; weights on disk are whole at any moment."""
        self._done = False
        if self._process is not None:
            if self._process.is_alive():
                self._process.terminate()
                self._process.join(1.0)
                if self._process.is_alive():
                    self._process.kill()
            self._process = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


def _sleep(phase: str, options: dict, pipe):
    """Run one phase (entry point of the process)."""
    secret.hide()
    signal.signal(signal.SIGINT, signal.SIG_IGN)     # Ctrl-C is for the parent, which ends us
    os.nice(10)
    import torch
    torch.set_num_threads(1)
    torch.manual_seed(options['seed'])
    try:
        report = {'REM': _dream, 'NREM': _train}[phase](options, pipe)
    except BrokenPipeError:         # the agent is gone; what is on disk is whole
        return
    except Exception as error:      # told to the agent, which wakes
        report = {'error': f'{type(error).__name__}: {error}'}
    pipe.send(('done', {'phase': phase, **report}))
    pipe.close()


def _open(options: dict):
    from dylora_ros.core.context import GlobalContext
    from dylora_ros.core.predictor import QNetwork
    log = GlobalContext.read(Path(options['memory']) / 'context.gc', options['window'])
    network = QNetwork.load(Path(options['q']), log.schema) if options['q'] else \
        QNetwork(log.schema).eval()
    return log, network


def _train(options: dict, pipe) -> dict:
    """Train q if there is enough new to learn, then the will on what q reads, in one budget."""
    import time

    from dylora_ros.core import rehearsal
    from dylora_ros.core.experience import Experience
    from dylora_ros.core.sleep import not_trained, PASSES, RATE, train
    from dylora_ros.core.will_training import Budget, Chest, learn, wanted
    from dylora_ros.milestone import LEARNED, Milestone
    start, folder = time.monotonic(), Path(options['memory'])
    log, network = _open(options)
    chest, learned = Chest(folder, log.schema), Milestone(folder / LEARNED)
    q_too = log.committed - learned.row(log.committed) >= _Q_ROWS
    seconds = options['NREM']
    rows, forged = _genuine(log, options)
    data = Experience(rows, log.schema)
    seed = options['seed'] + log.committed
    share = min(_Q_SHARE, _Q_SECONDS / max(seconds, 1e-6)) if q_too else 0.0
    if q_too:
        report = train(network, data, share * seconds, seed=seed, lr=RATE, passes=PASSES,
                       childhood=rehearsal.experience(Path(options['weights']), log.schema),
                       progress=lambda done, left: pipe.send(
                           ('progress', (share * min(done, 1.0), left + (1 - share) * seconds))))
        if report.kept:
            network.save(folder / 'q.safetensors')
        learned.set(log.committed)
    else:
        report = not_trained(network, data)
    will = learn(chest, network, data, rows,
                 Budget(seconds - (time.monotonic() - start),
                        lambda done, left: pipe.send(
                            ('progress', (share + (1 - share) * done, left)))),
                 seed, wanted(_new_rows(log, options)),
                 first=log.committed - len(rows), judge=_sealed(options, log.schema),
                 childhood=_childhood(options, rows, log.schema))
    told = {'forged_rows': forged, **report.as_dict()}
    told['will'] = {'left_out': 'every row has the same reward'} if will is None \
        else _plain(will.as_dict())
    return _plain(told)


def _new_rows(log, options: dict) -> int:
    """Return the rows since it last slept."""
    from dylora_ros.milestone import Milestone, SLEPT
    return log.committed - Milestone(Path(options['memory']) / SLEPT).row(log.committed)


def _childhood(options: dict, own, schema):
    """Return the rows that ship with the weights, their senses as late as in ``own`` rows.

    None where the weights came without.
    """
    from dylora_ros.core import rehearsal
    from dylora_ros.core.lowrank import SchemaError
    try:
        rows = rehearsal.load(Path(options['weights']) / rehearsal.FILE, schema)
    except (FileNotFoundError, SchemaError):
        return None
    return rehearsal.as_late_as(own, rows, schema)


def _sealed(options: dict, schema):
    """Return the reward that was sealed in this life; None where nobody did."""
    from dylora_ros.core.reward import StatementReward
    from dylora_ros.core.seal import read_bundle, SealError, Secret
    try:
        content = read_bundle(Path(options['memory']) / 'seal' / 'reward.seal',
                              Secret(bytes.fromhex(options['secret'])))
    except (FileNotFoundError, SealError):
        return None
    return StatementReward.sealed(content, schema.width, len(schema.modalities))


def _plain(values: dict) -> dict:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def _genuine(log, options: dict) -> tuple:
    """Return the newest rows, those that another hand has written forgotten, and how many."""
    import numpy as np

    from dylora_ros.core.audit import Audit
    from dylora_ros.core.seal import RowTags, Secret
    memory, stop = Path(options['memory']), log.committed
    rows = log.rows(stop - options['train_rows'], stop)
    tags = RowTags(memory / 'context.tags', Secret(bytes.fromhex(options['secret'])), log)
    rows, forged = tags.withhold(rows, np.arange(stop - len(rows), stop))
    tags.close()
    if len(forged):
        audit = Audit(memory / 'seal' / 'sleep.log')
        for number in forged:
            audit.note('memory', f'row {number} was written by another hand; it is not learned')
        audit.close()
    return rows, len(forged)


def _dream(options: dict, pipe) -> dict:
    import numpy as np

    from dylora_ros.core.dreamer import Dreamer
    from dylora_ros.core.lowrank import SchemaError
    from dylora_ros.core.phases import sleep_seconds
    from dylora_ros.core.predictor import Predictor
    from dylora_ros.core.will_training import Chest
    from dylora_ros.modalities import keyframes, registry
    log, network = _open(options)
    period = options['period']
    weights = Path(options['weights'])
    names = ('vision', 'audio', 'body')
    senses = {n: registry.make(n, options['joints'], weights) for n in names}
    folder = Path(options['memory']) / 'keyframes'
    moments = {n: keyframes.load(folder / f'{n}.safetensors') for n in names}
    every = {n: max(1, round(1 / (s.spec.rate * period))) for n, s in senses.items()}
    rng = np.random.default_rng(options['seed'] + log.committed)
    shown = 0

    def emit(row):
        nonlocal shown
        pipe.send(('row', row.tobytes()))
        shown += 1
        if shown % 4 == 0 and senses['vision'].expected is not None:
            frame = senses['vision'].expected.transpose(1, 2, 0)
            pipe.send(('image', (frame * 255).astype(np.uint8)))

    try:
        will = Chest(Path(options['memory']), log.schema).will(
            senses['body'], options['seed'] + log.committed)
    except SchemaError:                  # another body's, or damaged: q acts, as it does awake
        will = None
    dreamer = Dreamer(senses, log, Predictor(network, log), emit, period, every,
                      lambda: keyframes.recall(senses, moments, rng), will)
    awake = _new_rows(log, options) * period
    report = dreamer.run(sleep_seconds(awake, *_REM, options['REM']),
                         progress=lambda share, left: pipe.send(('progress', (share, left))))
    return vars(report)
