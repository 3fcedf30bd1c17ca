"""Export of the global context to MCAP: JSON messages that Foxglove and the mcap tools open."""

from collections.abc import Iterator
import json
from pathlib import Path

import numpy as np

from dylora_ros.core.context import ContextError, FLAG_FORGOTTEN, GlobalContext
from dylora_ros.core.phases import Phase
from dylora_ros.core.rows import FLAG_NAMES, RowSchema

TOPIC = 'context/row'


def json_schema(schema: RowSchema) -> dict:
    """Return the JSON schema of an exported row."""
    number = {'type': 'number'}
    by_sense = {'type': 'object', 'properties': dict.fromkeys(schema.modalities, number)}
    state = {'type': 'object', 'properties': {
        name: {'type': 'array', 'items': number,
               'description': f'{sites} sites x rank {rank}, row by row'}
        for name, (sites, rank) in schema.modalities.items()}}
    return {'title': 'dylora_ros.Row', 'type': 'object', 'properties': {
        'number': {'type': 'integer', 'description': 'rows ever written before this one'},
        'phase': {'type': 'string'}, 'reward': number, 'value': number,
        'reward_delay': {**number, 'description': 's between the row and the judged state'},
        'flags': {'type': 'object', 'properties': dict.fromkeys(
            FLAG_NAMES.values(), {'type': 'boolean'})},
        'present': {'type': 'object', 'properties': dict.fromkeys(
            schema.modalities, {'type': 'boolean'})},
        'age': by_sense, 'surprise': by_sense,
        'action': {'type': 'array', 'items': number}, 'aux': {'type': 'array', 'items': number},
        'x': state, 'q': state}}


def messages(log: GlobalContext, start: int, every: int) -> Iterator[tuple[int, dict]]:
    """Yield (stamp in ns, row as plain values) of whole, unforgotten rows."""
    names = list(log.schema.modalities)
    for numbers, rows in log.chunks(start):
        good = log.intact(rows, numbers) & (rows['flags'] & FLAG_FORGOTTEN == 0)
        good &= (numbers - start) % every == 0
        for number, row in zip(numbers[good], rows[good], strict=True):
            yield int(row['stamp']), {
                'number': int(number), 'phase': Phase(int(row['phase'])).name,
                'reward': _plain(row['reward']), 'value': _plain(row['value']),
                'reward_delay': (int(row['stamp']) - int(row['reward_stamp'])) * 1e-9,
                'flags': {n: bool(row['flags'] & f) for f, n in FLAG_NAMES.items()},
                'present': {n: bool(int(row['mask']) >> i & 1) for i, n in enumerate(names)},
                'age': dict(zip(names, _plain(row['age']), strict=True)),
                'surprise': dict(zip(names, _plain(row['surprise']), strict=True)),
                'action': _plain(row['action']), 'aux': _plain(row['aux']),
                **{f: {n: _plain(row[f][log.schema.slices[n]]) for n in names}
                   for f in ('x', 'q')}}


def _plain(values: np.ndarray):
    """Return half-precision numbers without digits that mean nothing."""
    return np.round(values.astype(np.float64), 4).tolist()


def to_mcap(log: GlobalContext, path: Path, start: int, every: int = 1) -> int:
    """Write rows ``start`` to the newest, one in ``every``; returns how many.

    Raises:
        ContextError: the mcap package is missing.

    """
    try:
        from mcap.writer import Writer
    except ImportError as error:
        raise ContextError('export needs the mcap package: pip install mcap') from error
    count = 0
    with open(path, 'wb') as file:
        writer = Writer(file)
        writer.start(profile='', library='dylora_ros')
        schema = writer.register_schema('dylora_ros.Row', 'jsonschema',
                                        json.dumps(json_schema(log.schema)).encode())
        channel = writer.register_channel(TOPIC, 'json', schema)
        writer.add_metadata('context', {'schema': log.schema.to_json(),
                                        'file': log.path.name})
        for stamp, message in messages(log, start, every):
            writer.add_message(channel, stamp, json.dumps(message).encode(), stamp,
                               message['number'] & 0xffffffff)
            count += 1
        writer.finish()
    return count
