"""The YAML file that maps a MuJoCo model's names to an agent's senses: read and checked."""

from dataclasses import dataclass, field
import math
from pathlib import Path

import yaml

from dylora_ros.sim.sound import Voice
from dylora_ros.sim.world import WorldError

FORWARD = (0, -1, 0, 0, 0, 1)       # xyaxes of a camera that looks along x, z up


@dataclass(frozen=True)
class Mount:
    """A camera or a pair of ears to be added to a body."""

    body: str
    pos: tuple[float, ...] = (0, 0, 0)      # m, in the body's frame
    xyaxes: tuple[float, ...] = FORWARD     # camera alone
    fovy: float = 60.0                      # camera alone, degrees
    apart: float = 0.18                     # ears alone, m, along the body's y


@dataclass(frozen=True)
class Task:
    """Two things (sites, bodies or geoms) that should be near each other."""

    near: tuple[str, str]
    within: float            # m


@dataclass(frozen=True)
class Description:
    """What the file says; see docs/worlds.md for the keys."""

    path: Path
    model: Path
    camera: str | Mount
    ears: tuple[str, str] | Mount
    actuators: tuple[str, ...] | None = None
    joints: tuple[str, ...] | None = None
    limits: dict[str, tuple[float, float]] = field(default_factory=dict)
    overview: str | None = None
    keyframe: str | None = None
    sounds: dict[str, tuple[Voice, float]] = field(default_factory=dict)
    things: tuple[str, ...] = ()
    task: Task | None = None


def read(path: str | Path) -> Description:
    """Read and check a file; names are checked later against the model.

    Raises:
        WorldError: no such file, no YAML, an unknown or missing key, a value of a wrong kind.

    """
    path = Path(path).expanduser()
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise WorldError(f'cannot read the world {path}: {error.strerror}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WorldError(f'{path} is not YAML: {error}') from error
    return _Reader(path).description(content)


class _Reader:
    """Turn parsed YAML into a Description; every error names the file and the key."""

    def __init__(self, path: Path):
        self.path = path

    def description(self, content) -> Description:
        known = set(Description.__dataclass_fields__) - {'path'}
        values = self.mapping('the file', content, known, {'model', 'camera', 'ears'})
        out = {'path': self.path}
        model = Path(self.text('model', values.pop('model'))).expanduser()
        out['model'] = model if model.is_absolute() else self.path.parent / model
        if not out['model'].is_file():
            self.fail(f'model: there is no file {out["model"]}')
        out['camera'] = self.mount('camera', values.pop('camera'), {'xyaxes', 'fovy'})
        ears = values.pop('ears')
        out['ears'] = (self.mount('ears', ears, {'apart'}) if isinstance(ears, dict)
                       else self.names('ears', ears, 2))
        for key in ('overview', 'keyframe'):
            if key in values:
                out[key] = self.text(key, values[key])
        for key in ('actuators', 'joints', 'things'):
            if key in values:
                out[key] = self.names(key, values[key])
        if 'limits' in values:
            out['limits'] = {str(name): self.range(f'limits: {name}', pair) for name, pair
                             in self.mapping('limits', values['limits']).items()}
        if 'sounds' in values:
            out['sounds'] = {str(body): self.sound(f'sounds: {body}', sound) for body, sound
                             in self.mapping('sounds', values['sounds']).items()}
            if len({voice for voice, _ in out['sounds'].values()}) < len(out['sounds']):
                self.fail('sounds: two bodies have the same voice; give them another pitch')
        if 'task' in values:
            task = self.mapping('task', values['task'], {'near', 'within'}, {'near', 'within'})
            out['task'] = Task(self.names('task: near', task['near'], 2),
                               self.number('task: within', task['within'], 0))
        return Description(**out)

    def fail(self, what: str):
        raise WorldError(f'{self.path}: {what}')

    def mapping(self, key, value, known=None, needed=()) -> dict:
        if not isinstance(value, dict):
            self.fail(f'{key} is {value!r}, expected a mapping of keys to values')
        odd = sorted(map(str, value.keys() - known)) if known is not None else []
        if odd:
            self.fail(f'{key}: unknown {", ".join(odd)}; known keys are '
                      f'{", ".join(sorted(known))}')
        missing = sorted(set(needed) - value.keys())
        if missing:
            self.fail(f'{key}: {", ".join(missing)} is missing')
        return dict(value)

    def text(self, key, value) -> str:
        if not isinstance(value, str) or not value:
            self.fail(f'{key} is {value!r}, expected a name')
        return value

    def names(self, key, value, count=None) -> tuple[str, ...]:
        good = isinstance(value, list) and value and all(isinstance(v, str) for v in value)
        if not good or (count and len(value) != count) or len(set(value)) < len(value):
            self.fail(f'{key} is {value!r}, expected a list of {count or "different"} names')
        return tuple(value)

    def number(self, key, value, above=-math.inf, below=math.inf) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not (
                above < value < below):
            limits = '' if above == -math.inf else f' above {above}'
            limits += '' if below == math.inf else f' below {below}'
            self.fail(f'{key} is {value!r}, expected a number{limits}')
        return float(value)

    def numbers(self, key, value, count) -> tuple[float, ...]:
        if not isinstance(value, list) or len(value) != count:
            self.fail(f'{key} is {value!r}, expected a list of {count} numbers')
        return tuple(self.number(key, v) for v in value)

    def range(self, key, value) -> tuple[float, float]:
        low, high = self.numbers(key, value, 2)
        if low >= high:
            self.fail(f'{key} is {value!r}, expected [least, greatest]')
        return low, high

    def mount(self, key, value, more) -> str | Mount:
        if not isinstance(value, dict):
            return self.text(key, value)
        values = self.mapping(key, value, {'body', 'pos', *more}, {'body'})
        out = {'body': self.text(f'{key}: body', values['body'])}
        for name, count in (('pos', 3), ('xyaxes', 6)):
            if name in values:
                out[name] = self.numbers(f'{key}: {name}', values[name], count)
        for name, most in (('fovy', 170), ('apart', math.inf)):
            if name in values:
                out[name] = self.number(f'{key}: {name}', values[name], 0, most)
        return Mount(**out)

    def sound(self, key, value) -> tuple[Voice, float]:
        values = self.mapping(key, value, {'pitch', 'harmonics', 'pulse', 'loudness'}, {'pitch'})
        harmonics = values.get('harmonics', [1.0])
        if not isinstance(harmonics, list) or not harmonics:
            self.fail(f'{key}: harmonics is {harmonics!r}, expected a list of amplitudes')
        return (Voice(self.number(f'{key}: pitch', values['pitch'], 0, 8000),
                      tuple(self.number(f'{key}: harmonics', h, 0) for h in harmonics),
                      self.number(f'{key}: pulse', values.get('pulse', 2.0), 0)),
                self.number(f'{key}: loudness', values.get('loudness', 0.25), 0))
