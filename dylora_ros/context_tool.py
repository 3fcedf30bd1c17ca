"""Look after a global context: python -m dylora_ros context info|verify|export|forget PATH."""

import argparse
from datetime import datetime
import json
from pathlib import Path
import sys

import numpy as np

from dylora_ros.core.context import ContextError, GlobalContext
from dylora_ros.core.reading import FILE
from dylora_ros.core.rows import FLAG_NAMES
from dylora_ros.modalities import keyframes


def info(log: GlobalContext, options) -> int:
    """Print what the log is and holds."""
    flags = dict.fromkeys(FLAG_NAMES, 0)
    stamps: list[int] = []
    for _, rows in log.chunks():
        stamps += [int(rows['stamp'].min()), int(rows['stamp'].max())]
        for flag in flags:
            flags[flag] += int(np.count_nonzero(rows['flags'] & flag))
    schema = log.schema
    print(json.dumps({
        'path': str(log.path), 'committed': log.committed, 'first': log.first,
        'capacity': log.capacity, 'bytes_per_row': schema.dtype.itemsize,
        'file_mib': round(log.path.stat().st_size / 2**20, 1),
        'from': _time(min(stamps)) if stamps else None,
        'to': _time(max(stamps)) if stamps else None,
        'flags': {name: flags[flag] for flag, name in FLAG_NAMES.items()},
        'schema': json.loads(schema.to_json())}, indent=1))
    return 0


def verify(log: GlobalContext, options) -> int:
    """Check every row's checksum."""
    bad = log.verify()
    if bad:
        print(f'{log.path}: {len(bad)} of {log.committed - log.first} rows are damaged: '
              f'{bad[:20]}; they are kept out of reading and training', file=sys.stderr)
        return 1
    print(f'{log.path}: {log.committed - log.first} rows, all whole')
    return 0


def export(log: GlobalContext, options) -> int:
    """Write an MCAP file."""
    from dylora_ros.export import to_mcap
    out = options.out or log.path.with_suffix('.mcap')
    if out.exists():
        raise ContextError(f'{out} exists already; give another --out')
    start = log.first if options.last is None else max(log.first, log.committed - options.last)
    count = to_mcap(log, out, start, options.every)
    print(f'{out}: {count} rows, {out.stat().st_size / 2**20:.1f} MiB')
    return 0


def forget(log: GlobalContext, options) -> int:
    """Erase a span of time."""
    t0, t1 = _stamp(options.since), _stamp(options.until)
    if t0 >= t1:
        raise ContextError(f'--from {options.since} is not before --to {options.until}')
    count = log.forget(t0, t1)
    Path(log.path).with_name(FILE).unlink(missing_ok=True)         # what q read at these rows
    moments = keyframes.forget(Path(log.path).with_name('keyframes'), t0, t1)
    print(f'{log.path}: {count} rows erased, and {moments} moments to dream from. Weights that '
          'learned from them in an earlier sleep are unchanged.')
    return 0


def _time(stamp: int) -> str:
    """Show a stamp: wall time, or seconds where it is a simulation's."""
    if stamp < 10**17:                                 # before 1973: simulated time
        return f'{stamp * 1e-9:.2f}s'
    return datetime.fromtimestamp(stamp * 1e-9).isoformat(' ', 'milliseconds')


def _stamp(text: str) -> int:
    """Read a stamp (ns): seconds, or a local date and time.

    Raises:
        ContextError: neither.

    """
    try:
        return int(float(text.removesuffix('s')) * 1e9)
    except ValueError:
        pass
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1e9)
    except ValueError as error:
        raise ContextError(f'cannot read the time {text!r}; give seconds ("12.5") or a local '
                           'date and time ("2030-01-31 12:00:00")') from error


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns 0, 1 (damaged rows) or 2 (cannot be done, with the reason)."""
    parser = argparse.ArgumentParser(prog='dylora_ros context', description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    for name, run, doc in (('info', info, 'what the log is and holds, as JSON'),
                           ('verify', verify, 'check every row\'s checksum'),
                           ('export', export, 'write an MCAP file (Foxglove and others open it)'),
                           ('forget', forget, 'erase all rows of a span of time, for good')):
        command = commands.add_parser(name, help=doc, description=doc)
        command.add_argument('path', type=Path)
        command.set_defaults(run=run)
        if name == 'export':
            command.add_argument('--out', type=Path, help='PATH with .mcap when not given')
            command.add_argument('--last', type=int, help='only the newest LAST rows')
            command.add_argument('--every', type=int, default=1, help='one row in EVERY')
        if name == 'forget':
            command.add_argument('--from', dest='since', required=True, metavar='TIME',
                                 help='seconds (simulated time) or local date and time')
            command.add_argument('--to', dest='until', required=True, metavar='TIME')
    options = parser.parse_args(arguments)
    try:
        with GlobalContext(options.path, writable=options.command == 'forget') as log:
            return options.run(log, options)
    except (ContextError, OSError, ValueError) as error:
        print(f'dylora_ros context: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
