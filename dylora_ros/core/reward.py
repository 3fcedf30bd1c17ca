"""Reward: closeness of the inner state to human statements, plus curiosity (paper, 3.3 and 6).

A small projector maps the composite LR state into the space of the frozen sentence model, where
good and bad statements lie. The statements are a YAML file; its digest seals it.
"""

from collections.abc import Callable
from dataclasses import dataclass
import hashlib
from pathlib import Path

import numpy as np
from safetensors.torch import load, save
import torch
from torch import nn
import torch.nn.functional as F
import yaml

from dylora_ros.core.judging import RewardModel
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.understanding import Understanding

DIGESTS = 64     # bytes of a sealed reward: of the statements and of the projector, before it


class StatementError(ValueError):
    """The statements file is not as it must be."""


@dataclass(frozen=True)
class Statements:
    """What is good and what is bad, in sentences.

    Attributes:
        good: sentences (paraphrases of one statement are one tuple).
        bad: likewise.
        digest: sha256 of the file.
    """

    good: tuple[tuple[str, ...], ...]
    bad: tuple[tuple[str, ...], ...]
    digest: str

    @classmethod
    def load(cls, path: str | Path) -> 'Statements':
        """Read a YAML file with lists ``good`` and ``bad``; an item is a text or a list of them.

        Raises:
            StatementError: unknown keys, no good statement, or not texts.

        """
        return cls.parse(Path(path).read_bytes(), path)

    @classmethod
    def parse(cls, raw: bytes, path: str | Path) -> 'Statements':
        """Read the bytes of such a file; ``path`` is for the words of an error."""
        try:
            data = yaml.safe_load(raw)
        except yaml.YAMLError as error:
            raise StatementError(f'{path} is not YAML: {error}') from error
        if not isinstance(data, dict) or not set(data) <= {'good', 'bad'}:
            raise StatementError(f'{path} must hold the lists good and bad, nothing else; found '
                                 f'{sorted(data) if isinstance(data, dict) else type(data)}')

        def texts(key):
            items = data.get(key) or []
            if not isinstance(items, list):
                raise StatementError(f'{path}: {key} is {items!r}, expected a list of sentences')
            out = []
            for item in items:
                group = tuple(item) if isinstance(item, list) else (item,)
                if not group or not all(isinstance(t, str) and t.strip() for t in group):
                    raise StatementError(f'{path}: {key} holds {item!r}, expected sentences')
                out.append(group)
            return tuple(out)

        good = texts('good')
        if not good:
            raise StatementError(f'{path} has no good statement')
        return cls(good, texts('bad'), hashlib.sha256(raw).hexdigest())


class Projector(nn.Module):
    """Composite LR state (and presence mask) to the sentence space, (b, w + m) to (b, 384).

    Attributes:
        shared: (384,) the unit direction that all sentences share; nothing can be told by it.
        scale: of a cosine, in nats.
        bias: how unlikely a sentence is that a state says nothing about, in nats.
        understanding: reads a sentence as the caption that it says.
    """

    def __init__(self, width: int, modalities: int, sentence: int = 384, captions: int = 0):
        super().__init__()
        self.width = width
        self.inside = nn.Linear(width + modalities, 192)
        self.mix = nn.Linear(192, 192)
        self.out = nn.Linear(192, sentence)
        self.register_buffer('shared', torch.zeros(sentence))
        self.register_buffer('scale', torch.tensor(20.0))
        self.register_buffer('bias', torch.tensor(-3.0))
        self.understanding = Understanding(captions, sentence)

    @classmethod
    def of(cls, tensors: dict[str, torch.Tensor], width: int, modalities: int) -> 'Projector':
        """Return the projector whose state these tensors are.

        Raises:
            SchemaError: they are of another row, or of an earlier version.

        """
        try:
            out = cls(width, modalities, len(tensors['shared']),
                      len(tensors['understanding.captions']))
            out.load_state_dict(tensors)
        except (KeyError, RuntimeError) as error:
            raise SchemaError(
                f'the projector of the reward does not fit rows of {width} numbers and '
                f'{modalities} modalities, or is of an earlier version ({error}); make it anew '
                'with "python -m dylora_ros pretrain"') from error
        return out.eval()

    def contrast(self, said: torch.Tensor) -> torch.Tensor:
        """Return sentence vectors (p, 384) without what all share, as unit vectors."""
        return F.normalize(said - (said @ self.shared)[:, None] * self.shared, dim=-1)

    def understood(self, said: torch.Tensor) -> torch.Tensor:
        """Return the contrasts (p, 384) of what sentences (p, 384) say."""
        return self.contrast(self.understanding(said))

    def likely(self, state: torch.Tensor, contrast: torch.Tensor) -> torch.Tensor:
        """Return how likely sentences are true of states, (b, p), by their contrasts."""
        return torch.sigmoid(self.scale * self(state) @ contrast.T + self.bias)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """Return unit vectors."""
        h = F.gelu(self.inside(state.clamp(-8, 8)))
        return F.normalize(self.out(F.gelu(self.mix(h))), dim=-1)


class StatementReward(RewardModel):
    """Closeness in the space of the frozen sentence model; cheap enough for every cycle.

    Args:
        projector: trained on state-caption pairs.
        good: embeddings of each good statement's paraphrases, list of (p, 384).
        bad: likewise.
        curiosity: weight of positive surprise.
    """

    def __init__(self, projector: Projector, good: list[np.ndarray], bad: list[np.ndarray],
                 curiosity: float = 0.02):
        super().__init__(len(good), len(bad), curiosity)
        self.projector = projector.eval()
        self._good = [torch.from_numpy(g) for g in good]
        self._bad = [torch.from_numpy(b) for b in bad]
        with torch.inference_mode():      # statements stay what they are: once is enough
            told = [self.projector.understood(said) for said in (*self._good, *self._bad)]
            self._told, self._paraphrases = torch.cat(told), [len(said) for said in told]

    @classmethod
    def of(cls, projector: Projector, statements: Statements,
           embed: Callable[[list[str]], np.ndarray], curiosity: float) -> 'StatementReward':
        """Return the reward of a file's statements.

        Args:
            projector: trained on state-caption pairs.
            statements: as loaded.
            embed: sentences -> (p, 384), the frozen sentence model.
            curiosity: weight of positive surprise.

        """
        return cls(projector, [embed(list(g)) for g in statements.good],
                   [embed(list(b)) for b in statements.bad], curiosity)

    def to_bytes(self) -> bytes:
        """Return all that the reward is made of, as safetensors."""
        return save({**{f'projector.{k}': v for k, v in self.projector.state_dict().items()},
                     **{f'good.{i}': g for i, g in enumerate(self._good)},
                     **{f'bad.{i}': b for i, b in enumerate(self._bad)},
                     'curiosity': torch.tensor(self.curiosity, dtype=torch.float64)})

    @classmethod
    def from_bytes(cls, raw: bytes, width: int, modalities: int) -> 'StatementReward':
        """Return the very reward that :meth:`to_bytes` was of.

        Args:
            raw: safetensors.
            width: of a composite LR state.
            modalities: in it.

        """
        tensors = load(raw)

        def part(name):
            return {k.split('.', 1)[1]: v for k, v in tensors.items()
                    if k.split('.', 1)[0] == name}

        def group(name):
            return [v.numpy() for _, v in sorted(part(name).items(), key=lambda kv: int(kv[0]))]

        return cls(Projector.of(part('projector'), width, modalities), group('good'),
                   group('bad'), float(tensors['curiosity']))

    @classmethod
    def sealed(cls, content: bytes, width: int, modalities: int) -> 'StatementReward':
        """Return the reward in what the reward node has sealed (``seal.read_bundle``)."""
        return cls.from_bytes(content[DIGESTS:], width, modalities)

    @torch.inference_mode()
    def closeness(self, state: np.ndarray) -> np.ndarray:
        """Return how likely the likeliest paraphrase of each statement is true; 0 to 1.

        A likelihood and not the bare cosine: what is plainly false costs no more than false, and
        the difference between nearly and really true counts.
        """
        likely = self.projector.likely(torch.from_numpy(state), self._told)
        return torch.stack([statement.amax(1) for statement in
                            likely.split(self._paraphrases, 1)], 1).numpy()
