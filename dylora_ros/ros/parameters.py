"""Parameters from one declarative table a node: declared, described, checked, documented."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
import yaml


class ParameterError(ValueError):
    """A parameter or parameter file that is wrong; says what was expected."""


_ROS = ('use_sim_time', 'start_type_description_service')     # of every node


@dataclass(frozen=True)
class Param:
    """One parameter.

    Args:
        name: dotted.
        default: its type is the parameter's type.
        doc: meaning and unit.
        low, high: range of a number, inclusive.
        choices: allowed texts.
    """

    name: str
    default: Any
    doc: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def descriptor(self) -> ParameterDescriptor:
        """Return the ROS descriptor with range and constraints."""
        out = ParameterDescriptor(name=self.name, description=self.doc, read_only=True)
        if self.choices:
            out.additional_constraints = 'one of: ' + ', '.join(self.choices)
        if self.low is not None:
            if isinstance(self.default, float):
                out.floating_point_range = [FloatingPointRange(
                    from_value=float(self.low), to_value=float(self.high), step=0.0)]
            else:
                out.integer_range = [IntegerRange(
                    from_value=int(self.low), to_value=int(self.high), step=1)]
        return out

    def check(self, value: Any):
        """Raise :class:`ParameterError` where a value does not fit."""
        self._check_type(value, self.default)
        if isinstance(value, list) and self.default:
            for item in value:
                self._check_type(item, self.default[0])
        if self.choices and value not in self.choices:
            raise ParameterError(f'{self.name}: {value!r} is not one of {self.choices}')
        if self.low is not None and not self.low <= value <= self.high:
            raise ParameterError(f'{self.name}: {value} is outside {self.low} .. {self.high}')

    def _check_type(self, value: Any, like: Any):
        if type(value) is not type(like):
            raise ParameterError(f'{self.name}: {value!r} is {type(value).__name__}, expected '
                                 f'{type(like).__name__} (such as {like!r})')

    def range_text(self) -> str:
        """Return the range in words."""
        if self.choices:
            return ' or '.join(self.choices)
        return '' if self.low is None else f'{self.low} .. {self.high}'


def declare(node, table: tuple[Param, ...]) -> dict[str, Any]:
    """Declare a table on a node and return the values.

    Raises:
        ParameterError: an override has an unknown name, or a value does not fit.

    """
    known = {p.name for p in table} | set(_ROS)
    odd = sorted(k for k in node._parameter_overrides
                 if k not in known and not k.startswith('qos_overrides.'))
    if odd:
        raise ParameterError(f'{node.get_name()} has no parameter {", ".join(odd)}; it has '
                             f'{", ".join(sorted(known))}')
    values = {}
    for param in table:
        override = node._parameter_overrides.get(param.name)
        if override is not None:
            param.check(override.value)
        values[param.name] = node.declare_parameter(
            param.name, param.default, param.descriptor()).value
    return values


def read_file(path: str | Path, tables: dict[str, tuple[Param, ...]]) -> dict[str, dict]:
    """Read a parameter file and check it against all nodes' tables.

    A section's key is a node's name, with or without a namespace; ``/**`` holds what several
    nodes share (``memory``, ``rate``, ``joints``, ``use_sim_time`` ...).

    Returns:
        node -> {parameter: value}.

    Raises:
        ParameterError: not YAML, an unknown node or key, or a value out of range.

    """
    try:
        data = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ParameterError(f'cannot read {path}: {error}') from error
    if not isinstance(data, dict):
        raise ParameterError(f'{path} holds no parameters (node: ros__parameters: ...)')
    out: dict[str, dict] = {}
    for node, section in data.items():
        if not isinstance(section, dict) or set(section) != {'ros__parameters'}:
            raise ParameterError(f'{path}: {node} must hold ros__parameters, nothing else')
        for key, value in _flatten(section['ros__parameters'] or {}):
            try:
                assign(out, str(node), key, value, tables)
            except ParameterError as error:
                raise ParameterError(f'{path}: {error}') from None
    return out


def assign(out: dict[str, dict], node: str, key: str, value: Any,
           tables: dict[str, tuple[Param, ...]]):
    """Put one override where it belongs.

    Args:
        out: node -> {parameter: value}, added to.
        node: a node's name with or without a namespace, or ``/**`` for all that know the key.
        key: dotted name of the parameter.
        value: checked against the declaration.
        tables: of all nodes.

    Raises:
        ParameterError: unknown node or key, wrong type, or out of range.

    """
    name = node.rsplit('/', 1)[-1]
    if name == '**':
        targets = [n for n, t in tables.items() if key in (*(p.name for p in t), *_ROS)]
        if not targets:
            raise ParameterError(f'no node has a parameter {key!r}')
    elif name in tables:
        targets = [name]
    else:
        raise ParameterError(f'unknown node {node!r}; there are {", ".join(sorted(tables))}')
    for target in targets:
        table = {p.name: p for p in tables[target]}
        if key in table:
            try:
                table[key].check(value)
            except ParameterError as error:
                raise ParameterError(f'{target}: {error}') from None
        elif key not in _ROS:
            raise ParameterError(f'{target} has no parameter {key!r}; it has '
                                 f'{", ".join(sorted(table))}')
        out.setdefault(target, {})[key] = value


def overrides(ros_args: list[str],
              tables: dict[str, tuple[Param, ...]]) -> tuple[list[str], dict[str, dict]]:
    """Take parameter files and ``-p`` rules out of the arguments after ``--ros-args``.

    They are given to the nodes one by one instead of through rcl, which would match a plain node
    name only outside of a namespace, and would ignore what it does not know. A rule wins over a
    file.

    Returns:
        (the other arguments, node -> {parameter: value}).

    Raises:
        ParameterError: as :func:`read_file`, or a rule that is not ``[node:]name:=value``.

    """
    rest: list[str] = []
    out: dict[str, dict] = {}
    rules: list[str] = []
    words = iter(ros_args)
    for word in words:
        if word == '--params-file':
            for node, values in read_file(next(words, ''), tables).items():
                out.setdefault(node, {}).update(values)
        elif word in ('-p', '--param'):
            rules.append(next(words, ''))
        else:
            rest.append(word)
    for rule in rules:       # after the files, wherever they stood
        left, found, text = rule.partition(':=')
        if not found:
            raise ParameterError(f'-p {rule}: expected [node:]name:=value')
        node, _, key = left.rpartition(':')
        assign(out, node or '/**', key, yaml.safe_load(text), tables)
    return rest, out


def _flatten(values: dict, prefix: str = ''):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value


def to_yaml(tables: dict[str, tuple[Param, ...]]) -> str:
    """Return a parameter file with every key documented (unit, range, default)."""
    lines = ['# Parameters of all nodes; every key is optional and shows its default.',
             '# A key that several nodes share (memory, weights, joints, capacity, window)',
             '# may stand once, under /**: instead. An unknown key is an error.',
             '# Made by: make docs', '']
    for node, table in tables.items():
        lines += [f'/**/{node}:', '  ros__parameters:']
        for param in table:
            extra = param.range_text()
            lines.append(f'    # {param.doc}' + (f' [{extra}]' if extra else ''))
            value = yaml.safe_dump(param.default, default_flow_style=True)
            value = value.removesuffix('...\n').strip()
            lines.append(f'    {param.name}: {value}')
        lines.append('')
    return '\n'.join(lines)
