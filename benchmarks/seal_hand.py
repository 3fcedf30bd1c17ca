"""What the attacker of ``benchmarks/seal.py`` does to files and to the memory."""

import os
from pathlib import Path
import struct
import time
import zlib

import numpy as np

from dylora_ros.core.context import ContextError, GlobalContext, HEADER, SLACK


class Choice:
    """Draws what is done; it is told if the attempt is not noted.

    Args:
        seed: of the draws.
    """

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.how = ''                        # the present attempt is made

    def pick(self, *choices):
        """Return one of the choices."""
        choice = choices[self.rng.integers(len(choices))]
        self.how = f'{self.how} {choice}'.strip()
        return choice


class Hand:
    """Changes what lies on disk; every method named ``try_KIND`` makes one attempt.

    Args:
        folder: of the agent: memory, weights, statements.yaml.
        log: of its memory.
        choice: of what is done.
    """

    # kind of attempt -> kind of the line it must leave; how often it comes
    KINDS = {'statements': ('file', 3), 'projector': ('file', 3), 'sealed_copy': ('file', 2),
             'memory': ('file', 4), 'tags': ('file', 2), 'counter': ('file', 1),
             'second_writer': ('file', 1), 'audit': ('audit', 1)}

    def __init__(self, folder: Path, log: GlobalContext, choice: Choice):
        self.log, self.choice = log, choice
        self.memory, self.statements = folder / 'memory', folder / 'statements.yaml'
        self.projector = folder / 'weights' / 'projector.safetensors'
        self.bundle = self.memory / 'seal' / 'reward.seal'
        self.kept = {p: p.read_bytes() for p in (self.statements, self.projector)}
        self.rows: set[int] = set()          # written by this hand

    def tamper(self, path: Path, content: bytes):
        """Change a file in one of many ways."""
        other = path.with_name('other')
        how = self.choice.pick('overwrite', 'append', 'truncate', 'delete', 'rename', 'symlink',
                               'chmod', 'patch', 'recreate')
        if how == 'overwrite':
            path.write_bytes(content)
        elif how == 'append':
            with open(path, 'ab') as file:
                file.write(content)
        elif how == 'truncate':
            os.truncate(path, 3) if self.choice.rng.random() < 0.5 else path.write_bytes(b'')
        elif how == 'delete':
            path.unlink()
        elif how == 'rename':
            other.write_bytes(content)
            other.replace(path)
        elif how == 'symlink':
            other.write_bytes(content)
            path.unlink()
            path.symlink_to(other)
        elif how == 'chmod':
            path.chmod(int(self.choice.pick(0o600, 0o644, 0o666, 0o400)))
        elif how == 'patch':
            with open(path, 'r+b') as file:
                file.seek(int(self.choice.rng.integers(max(1, path.stat().st_size))))
                file.write(self.choice.rng.bytes(4))
        else:
            path.unlink()
            path.write_bytes(content)

    def put_back(self, kind: str):
        """Leave no trace of an attempt, so that the next one begins anew."""
        path = {'statements': self.statements, 'projector': self.projector}.get(kind)
        if path is None:
            return
        if path.is_symlink() or not path.exists() or path.read_bytes() != self.kept[path]:
            path.unlink(missing_ok=True)
            path.write_bytes(self.kept[path])

    def try_statements(self):
        """Ask for something else."""
        self.tamper(self.statements, b'good:\n- I do nothing at all.\n')

    def try_projector(self):
        """See the wanted everywhere."""
        self.tamper(self.projector, self.kept[self.projector][:-400] + b'\x3f' * 400)

    def try_sealed_copy(self):
        """Forge what a judge that starts again reads."""
        if self.choice.rng.random() < 0.1:
            self.bundle.parent.rename(self.memory / f'seal-{time.time_ns()}')
        else:
            self.tamper(self.bundle, self.choice.rng.bytes(1000))

    def store(self, path: Path, at: int, raw: bytes):
        """Write into a file in place."""
        with open(path, 'r+b') as file:
            file.seek(at)
            file.write(raw)

    def old_row(self) -> int:
        """Return the number of a row that was not touched yet."""
        while True:
            number = int(self.choice.rng.integers(5, self.log.committed - 20))
            if number not in self.rows:
                self.rows.add(number)
                return number

    def try_memory(self):
        """Write a reward into the log, with a checksum that fits."""
        number, size = self.old_row(), self.log.schema.dtype.itemsize
        slots = self.log.capacity + SLACK
        source = number
        how = self.choice.pick('reward', 'delay', 'state', 'copied')
        if how == 'copied':                   # a good moment, with its own tag, at another time
            source = number - 1
        row = self.log.rows(source, source + 1)[0].copy()
        if how == 'state':
            row['x'] = self.choice.rng.standard_normal(self.log.schema.width)
        elif how == 'delay':
            row['reward_stamp'] -= 40_000_000
        row['reward'] = row['reward'] if how in ('state', 'delay', 'copied') else 100.0
        raw = bytearray(row.tobytes())
        raw[:4] = zlib.crc32(memoryview(raw)[4:], number & 0xffffffff).to_bytes(4, 'little')
        self.store(self.memory / 'context.gc', HEADER + number % slots * size, bytes(raw))
        if how == 'copied':
            tags = self.memory / 'context.tags'
            tag = tags.read_bytes()[24 + 8 * (source % slots):][:8]
            self.store(tags, 24 + 8 * (number % slots), tag)

    def try_tags(self):
        """Vouch for a row oneself, or for none."""
        path, slots = self.memory / 'context.tags', self.log.capacity + SLACK
        if self.choice.rng.random() < 0.5:
            self.store(path, 0, self.choice.rng.bytes(24))
        else:
            number = self.old_row()
            self.store(path, 24 + 8 * (number % slots), self.choice.rng.bytes(8))

    def try_counter(self):
        """Take rows back."""
        count = int(self.choice.rng.integers(1, self.log.committed))
        word = count | (zlib.crc32(count.to_bytes(8, 'little')) & 0xffff) << 48
        at = int(self.choice.pick(128, 192))
        self.store(self.memory / 'context.gc', at, struct.pack('<Q', word))

    def try_second_writer(self):
        """Open the log as if one were its writer."""
        try:
            GlobalContext(self.memory / 'context.gc', True)
        except ContextError:
            return
        raise RuntimeError('the log can be opened by a second writer')

    def try_audit(self):
        """Wipe the traces."""
        path = self.memory / 'seal' / f'{self.choice.pick("reward", "global_context")}.log'
        how = self.choice.pick('cut', 'delete', 'move', 'edit', 'folder', 'link')
        if how == 'cut':
            path.write_text('')
        elif how == 'delete':
            path.unlink()
        elif how == 'move':
            path.rename(path.with_suffix('.moved'))
        elif how == 'edit':
            self.store(path, 0, b'{"t": 0')
        elif how == 'folder':
            path.unlink()
            path.mkdir()
        else:
            path.unlink()
            path.symlink_to('/dev/null')
