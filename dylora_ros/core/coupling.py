"""Coupling networks: what the LR states of some senses say of another's (paper, 3.2).

Every pair or set of modalities has its own network q(m -> n). It is trained alone, on data that
need hold nothing else. A coupled network per target is added afterwards: it reads the composite
rows of the global context and what the pairs say, weighs the pairs, and adds what only all
senses together tell. A modality that joins later brings its own pairs; nothing old changes.

Legend: b batch, k rows, d width, p pairs, w numbers of a target.
"""

from collections.abc import Mapping
import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
import torch
from torch import nn

from dylora_ros.core.files import whole
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.rows import RowSchema
from dylora_ros.core.timecode import harmonic
from dylora_ros.core.window import LONGEST, Window

WIDTH, HEADS = 48, 4
_TIME = 12
_LIMIT = 8.0          # LR states beyond this many standard deviations say nothing more
_FORMAT = 'dylora-coupling-1'


class Reader(nn.Module):
    """Read a window of rows: embed each, attend to the old ones from the newest.

    A masked state adds nothing to its row; a row without any state gets no attention.

    Args:
        shapes: modality -> numbers in its LR state; all others are not looked at.
        width: d.
    """

    def __init__(self, shapes: Mapping[str, int], width: int = WIDTH):
        super().__init__()
        self.embed = nn.ModuleDict({n: nn.Linear(w + 1, width) for n, w in shapes.items()})
        self.row = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width))
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.time = nn.Linear(_TIME, HEADS)
        self.time_value = nn.Linear(_TIME, width)
        # products: where a thing is in the view turns with the head, which no sum can say
        self.left, self.right = nn.Linear(2 * width, width), nn.Linear(2 * width, width)

    def newest(self, window: Window) -> torch.Tensor:
        """Return the newest states side by side (b, sum of w), zeros where masked."""
        return torch.cat([window.x[n][:, 0].clamp(-_LIMIT, _LIMIT) * window.present[n][:, :1]
                          for n in self.embed], 1)

    def forward(self, window: Window) -> torch.Tensor:
        """Return (b, 3 d): the newest row, what was read of all, and products of both."""
        total, some = 0.0, 0.0
        for name, layer in self.embed.items():
            on = window.present[name].float().unsqueeze(-1)
            state = torch.cat([window.x[name].clamp(-_LIMIT, _LIMIT),
                               window.age[name].clamp(0, 30).log1p().unsqueeze(-1)], -1)
            total = total + on * layer(on * state)
            some = some + on.squeeze(-1)
        rows = self.row(total)                                            # (b, k, d)
        b, k, d = rows.shape
        code = harmonic(window.lag, _TIME, longest=2 * LONGEST)
        logits = torch.einsum('bhe,bkhe->bhk', self.query(rows[:, 0]).view(b, HEADS, -1),
                              self.key(rows).view(b, k, HEADS, -1)) * (HEADS / d) ** 0.5
        logits = logits + self.time(code).transpose(1, 2)
        empty = some.eq(0)
        logits = logits.masked_fill(empty.unsqueeze(1), -1e9)
        weight = logits.softmax(-1) * (~empty).float().unsqueeze(1)
        value = (self.value(rows) + self.time_value(code)).view(b, k, HEADS, -1)
        read = torch.einsum('bhk,bkhe->bhe', weight, value).flatten(1)
        both = torch.cat([rows[:, 0], read], 1)
        return torch.cat([both, self.left(both) * self.right(both)], 1)


class Straight(nn.Linear):
    """A linear layer that begins at zero: most of what senses say of each other is linear."""

    def reset_parameters(self):
        """Begin at zero."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class PairNetwork(nn.Module):
    """q(m -> n): predict a target from the rows of one modality or a set of them.

    Args:
        sources: modalities it reads, modality -> numbers in its LR state.
        outputs: w.
        width: d.
    """

    def __init__(self, sources: Mapping[str, int], outputs: int, width: int = WIDTH):
        super().__init__()
        self.sources = tuple(sources)
        self.reader = Reader(sources, width)
        self.straight = Straight(sum(sources.values()), outputs)
        self.head = nn.Sequential(nn.Linear(3 * width, 2 * width), nn.GELU(),
                                  nn.Linear(2 * width, 2 * width), nn.GELU(),
                                  nn.Linear(2 * width, outputs))
        # mean squared error on rows it was not trained on: how far to trust it
        self.register_buffer('error', torch.ones(outputs))

    def forward(self, window: Window) -> torch.Tensor:
        """Predict (b, w)."""
        return self.straight(self.reader.newest(window)) + self.head(self.reader(window))


class CoupledNetwork(nn.Module):
    """Weigh what the pairs say of one target, and add what only all senses together tell.

    Before training it is the mean of the pairs, weighted by their inverse errors.

    Args:
        shapes: modalities whose rows it reads -> numbers in their LR states.
        pairs: how many pair networks it hears.
        outputs: w.
        width: d.
    """

    def __init__(self, shapes: Mapping[str, int], pairs: int, outputs: int, width: int = WIDTH):
        super().__init__()
        self.reader = Reader(shapes, width)
        self.trust = nn.Parameter(torch.zeros(pairs, outputs))
        self.gate = Straight(3 * width, pairs)
        self.straight = Straight(sum(shapes.values()), outputs)
        self.correct = nn.Sequential(nn.Linear(3 * width + outputs, 2 * width), nn.GELU(),
                                     nn.Linear(2 * width, 2 * width), nn.GELU(),
                                     Straight(2 * width, outputs))

    def forward(self, window: Window, said: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
        """Predict (b, w).

        Args:
            window: of the modalities it reads.
            said: (b, p, w) what the pairs predict.
            heard: (b, p) bool; where False a pair has none of what it reads.

        """
        read = self.reader(window)
        logits = self.gate(read).unsqueeze(-1) + self.trust               # (b, p, w)
        weight = logits.masked_fill(~heard.unsqueeze(-1), -1e9).softmax(1)
        mean = (weight * said * heard.unsqueeze(-1)).sum(1)
        return (mean + self.straight(self.reader.newest(window))
                + self.correct(torch.cat([read, mean], 1)))


class Coupling(nn.Module):
    """Pair networks and the coupled networks over them.

    Args:
        shapes: modality -> numbers in its LR state.
        targets: what can be predicted -> its numbers; a modality's own name means its LR state.
        width: d of every network.
    """

    def __init__(self, shapes: Mapping[str, int], targets: Mapping[str, int],
                 width: int = WIDTH):
        super().__init__()
        self.shapes, self.targets, self.width = dict(shapes), dict(targets), width
        self.pairs = nn.ModuleDict()
        self.coupled = nn.ModuleDict()
        self.heard: dict[str, tuple[str, ...]] = {}    # target -> pairs of its coupled network

    def join(self, modality: str, size: int):
        """Let a new modality join: it can be read and predicted from now on.

        Raises:
            ValueError: it is there already.

        """
        if modality in self.shapes:
            raise ValueError(f'{modality!r} is coupled already')
        self.shapes[modality] = self.targets[modality] = size

    def add(self, sources: tuple[str, ...], target: str) -> PairNetwork:
        """Add a newborn pair network q(sources -> target) and return it.

        Raises:
            ValueError: an unknown modality or target, or the pair exists.

        """
        name = pair_name(sources, target)
        unknown = [s for s in sources if s not in self.shapes]
        if unknown or target not in self.targets or not sources:
            raise ValueError(f'cannot add {name!r}: modalities are {", ".join(self.shapes)}; '
                             f'targets are {", ".join(self.targets)}')
        if name in self.pairs:
            raise ValueError(f'{name!r} exists already')
        self.pairs[name] = PairNetwork({s: self.shapes[s] for s in sources},
                                       self.targets[target], self.width)
        return self.pairs[name]

    def couple(self, target: str) -> CoupledNetwork:
        """Add a coupled network over all pairs of a target there are now, and return it.

        An older one of this target is replaced; the pairs are not touched.

        Raises:
            ValueError: no pair predicts this target.

        """
        names = tuple(n for n in self.pairs if n.split('>')[1] == target)
        if not names:
            raise ValueError(f'no pair network predicts {target!r}; add one first')
        read = {m for n in names for m in self.pairs[n].sources}
        network = CoupledNetwork({m: w for m, w in self.shapes.items() if m in read},
                                 len(names), self.targets[target], self.width)
        with torch.no_grad():
            for i, name in enumerate(names):
                network.trust[i] = -self.pairs[name].error.clamp(min=1e-4).log()
        self.coupled[target], self.heard[target] = network, names
        return network

    def say(self, window: Window, target: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the pairs say of a target (b, p, w), and whether they can, (b, p) bool.

        The pairs are those of the target's coupled network, or all where there is none.
        """
        names = self.heard.get(target) or [n for n in self.pairs if n.split('>')[1] == target]
        said = torch.stack([self.pairs[n](window) for n in names], 1)
        return said, torch.stack([window.available(self.pairs[n].sources) for n in names], 1)

    def pairs_only(self, window: Window, target: str) -> torch.Tensor:
        """Return the pairs' mean by their inverse errors, (b, w); zero where none can."""
        names = self.heard.get(target) or [n for n in self.pairs if n.split('>')[1] == target]
        said, heard = self.say(window, target)
        trust = 1 / torch.stack([self.pairs[n].error for n in names]).clamp(min=1e-4)
        weight = trust * heard.unsqueeze(-1)
        return (weight * said).sum(1) / weight.sum(1).clamp(min=1e-12)

    def forward(self, window: Window, target: str) -> torch.Tensor:
        """Predict a target (b, w) from all that is there.

        Raises:
            KeyError: the target has no coupled network yet.

        """
        said, heard = self.say(window, target)
        return self.coupled[target](window, said, heard)

    def save(self, path: str | Path, adapters: str):
        """Write all networks as half-precision safetensors; whole or not at all.

        Args:
            path: of the file.
            adapters: digest of the low-rank weights that make the LR states.

        """
        layout = {'shapes': self.shapes, 'targets': self.targets, 'width': self.width,
                  'pairs': list(self.pairs), 'heard': self.heard}
        with whole(path) as part:
            save_file({k: v.half().contiguous() for k, v in self.state_dict().items()}, str(part),
                      metadata={'format': _FORMAT, 'adapters': adapters,
                                'layout': json.dumps(layout)})

    @classmethod
    def load(cls, path: str | Path, schema: RowSchema) -> 'Coupling':
        """Read what :meth:`save` wrote.

        Raises:
            SchemaError: the file is something else, or belongs to other low-rank weights or
                other modalities than the rows of ``schema``.

        """
        with safe_open(str(path), 'pt') as file:
            meta = file.metadata() or {}
            if meta.get('format') != _FORMAT:
                raise SchemaError(f'{path} holds {meta.get("format")}, expected {_FORMAT}; make '
                                  'it anew with "python -m dylora_ros pretrain"')
            layout = json.loads(meta['layout'])
            own = {n: s * r for n, (s, r) in schema.modalities.items()}
            if meta['adapters'] != schema.adapters or layout['shapes'] != own:
                raise SchemaError(
                    f'{path} couples {layout["shapes"]} of weights {meta["adapters"]!r}; this '
                    f'agent has {own} of {schema.adapters!r}')
            coupling = cls(layout['shapes'], layout['targets'], layout['width'])
            for name in layout['pairs']:
                sources, target = name.split('>')
                coupling.add(tuple(sources.split('+')), target)
            for target in layout['heard']:
                coupling.couple(target)
            coupling.load_state_dict({k: file.get_tensor(k).float() for k in file.keys()})
        return coupling.eval().requires_grad_(False)


def pair_name(sources: tuple[str, ...], target: str) -> str:
    """Return the name of q(sources -> target), such as ``vision+body>audio``."""
    return f'{"+".join(sources)}>{target}'
