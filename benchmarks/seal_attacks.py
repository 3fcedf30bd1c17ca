"""The attacker of ``benchmarks/seal.py``: a process on the agent's side.

It knows the folder of the agent and the ids of its processes, is of the same user, may read and
write every file and speak on every topic; only the right to trace other processes is taken from
it, as an ordinary user has none over a process that is not dumpable. It reads orders from its
standard input and answers in JSON lines.
"""

from collections import Counter
import ctypes
import json
import os
from pathlib import Path
import sys
import time

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dylora_ros.nodes.process import prepare  # noqa: E402

prepare()

from seal_hand import Choice, Hand  # noqa: E402
from seal_voice import Voice  # noqa: E402

from dylora_ros.core.context import GlobalContext  # noqa: E402

_PR_CAPBSET_DROP = 24
_RIGHTS = (19, 21, 38)      # CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON: what root may look into
_LOOKS = 4000         # at the audit, 2 ms apart: a machine that was stopped is no missed attempt
_QUIET = 0.02         # s without a new line before the next attempt: they are counted one by one


class Ears:
    """Follows the lines of the audits.

    Args:
        folder: of the audits.
    """

    def __init__(self, folder: Path):
        self._paths = [folder / f'{n}.log' for n in ('reward', 'global_context')]

    def counts(self) -> Counter:
        """Return lines by kind."""
        out: Counter = Counter()
        for path in self._paths:
            try:
                text = path.read_text()
            except OSError:
                continue
            for line in text.splitlines():
                start = line.find('"kind": "') + 9
                if start > 8:
                    out[line[start:line.find('"', start)]] += 1
        return out

    def sizes(self) -> tuple:
        """Return what changes with every line."""
        out = []
        for path in self._paths:
            try:
                out.append((path.stat().st_size, path.stat().st_ino))
            except OSError:
                out.append(None)
        return tuple(out)

    def settle(self):
        """Wait until no line has come for a moment."""
        end, last = time.monotonic() + 1.0, self.sizes()
        since = time.monotonic()
        while time.monotonic() - since < _QUIET and time.monotonic() < end:
            time.sleep(0.002)
            if (now := self.sizes()) != last:
                last, since = now, time.monotonic()

    def grown(self, kind: str, before: int) -> bool:
        """Wait until there is a new line of this kind."""
        last = None
        for _ in range(_LOOKS):
            if (now := self.sizes()) != last:
                last = now
                if self.counts()[kind] > before:
                    return True
            time.sleep(0.002)
        return False


class Attacker:
    """Makes attempts, and looks whether they are noted.

    Args:
        folder: of the agent: memory, weights, statements.yaml.
        seed: of the order and the values.
        namespace: of the agent's nodes.
        pids: of the processes of reward and global context.
    """

    def __init__(self, folder: Path, seed: int, namespace: str, pids: list[int]):
        self.pids, self.choice = pids, Choice(seed)
        log = GlobalContext.read(folder / 'memory' / 'context.gc')
        self.voice = Voice(namespace, log, self.choice)
        self.hand = Hand(folder, log, self.choice)
        self.means = {kind: (means, line, often) for means in (self.voice, self.hand)
                      for kind, (line, often) in means.KINDS.items()}

    def look_for_secret(self) -> dict:
        """Try to read what the system must hide; returns kind -> (tried, succeeded)."""
        out = {}
        for pid in self.pids:
            for name in ('environ', 'mem', 'maps', 'auxv'):
                try:
                    with open(f'/proc/{pid}/{name}', 'rb') as file:
                        file.read(1)
                    seen = True
                except OSError:
                    seen = False
                out[f'{name}_read'] = out.get(f'{name}_read', 0) + seen
        out['looks'] = 4 * len(self.pids)
        return out

    def strike(self, attempts: int, ears: Ears) -> dict:
        """Make so many attempts; returns what was tried, noted and missed."""
        kinds = [k for k, (_, _, often) in self.means.items() for _ in range(often)]
        tried, noted, missed = Counter(), Counter(), []
        self.voice.hear()
        while tried.total() < attempts:
            kind = kinds[self.choice.rng.integers(len(kinds))]
            means, line, _ = self.means[kind]
            ears.settle()
            before = ears.counts()[line]
            self.choice.how = ''
            try:
                getattr(means, f'try_{kind}')()
            except FileExistsError:          # it was repaired under our hands
                pass
            except FileNotFoundError:        # an earlier attempt is not repaired yet
                time.sleep(0.2)
                continue
            tried[kind] += 1
            if ears.grown(line, before):
                noted[kind] += 1
            else:
                missed.append(f'{kind} {self.choice.how}'.strip())
                print('not noted:', missed[-1], file=sys.stderr, flush=True)
            self.hand.put_back(kind)
        return {'attempts': tried, 'logged': noted, 'missed': missed,
                'rows': sorted(self.hand.rows), 'hidden': self.look_for_secret()}


def give_up_tracing():
    """Drop the right to trace, for good: begin this program again without it."""
    if os.environ.pop('SEAL_ATTACKER_BEGUN', None):
        return
    for right in _RIGHTS:
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, right)
    os.environ['SEAL_ATTACKER_BEGUN'] = '1'
    os.execv(sys.executable, [sys.executable, *sys.argv])


def main():
    """Take orders until the standard input ends."""
    give_up_tracing()
    folder, seed, namespace, *pids = sys.argv[1:]
    attacker = Attacker(Path(folder), int(seed), namespace, [int(p) for p in pids])
    ears = Ears(Path(folder) / 'memory' / 'seal')
    for order in sys.stdin:
        print(json.dumps(attacker.strike(json.loads(order)['attempts'], ears)), flush=True)


if __name__ == '__main__':
    main()
