"""The network q: one attention read of the context (Eq. 2) and the heads.

Legend: b batch, k attended rows, f row features, d model width, h heads, w composite width.
"""

from dataclasses import dataclass
import math
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file
import torch
from torch import nn
import torch.nn.functional as F

from dylora_ros.core.features import feature_width, perceived
from dylora_ros.core.files import whole
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.rows import RowSchema
from dylora_ros.core.timecode import Decay, harmonic

WIDTH, HEADS = 96, 4
_TIME = 16
_SHARPNESS = 8.0      # a newborn's logit of two equal keys, all heads together


@dataclass
class Heads:
    """What q says of one moment.

    Attributes:
        q: (b, w) predicted next composite LR state.
        reward: (b,) predicted next reward.
        value: (b,) expected mean discounted reward ("happiness").
        aux: (b, aux) thoughts, kept in the row and read by q alone.
        mass: (b, h) log of the summed attention weights before they are normalised.
        state: (b, d) what the heads read: the moment in its context, the state of the
            continuous Q.
    """

    q: torch.Tensor
    reward: torch.Tensor
    value: torch.Tensor
    aux: torch.Tensor
    mass: torch.Tensor | None = None
    state: torch.Tensor | None = None


class HeadNetwork(nn.Module):
    """What every kind of q shares: row embedding, heads and its file.

    Subclasses set ``KIND`` and read the context in their own way.
    """

    KIND = ''

    def __init__(self, schema: RowSchema):
        super().__init__()
        self.schema = schema
        self.embed = nn.Linear(feature_width(schema), WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.mix = nn.Sequential(nn.LayerNorm(2 * WIDTH), nn.Linear(2 * WIDTH, 2 * WIDTH),
                                 nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.out = nn.LayerNorm(WIDTH)
        self.next = nn.Linear(WIDTH, schema.width)
        self.reward = nn.Linear(WIDTH, 1)
        self.happiness = nn.Linear(WIDTH, 1)
        self.thought = nn.Linear(WIDTH, schema.aux)
        for head in (self.next, self.reward, self.happiness):   # a newborn expects no change
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def rows(self, feats: torch.Tensor) -> torch.Tensor:
        """Embed features (..., f) to (..., d)."""
        return self.norm(self.embed(feats))

    def decide(self, now: torch.Tensor, here: torch.Tensor, read: torch.Tensor,
               mass: torch.Tensor | None = None) -> Heads:
        """Map now (b, f), its embedding and what was read (b, d) to the heads."""
        hidden = self.out(here + self.mix(torch.cat([here, read], 1)))
        present = now[:, :self.schema.width]
        return Heads(present + self.next(hidden), self.reward(hidden)[:, 0],
                     self.happiness(hidden)[:, 0], torch.tanh(self.thought(hidden)), mass,
                     hidden)

    def save(self, path: str | Path):
        """Write the weights as safetensors with the schema; whole or not at all."""
        tensors = {k: v.contiguous() for k, v in self.state_dict().items()}
        with whole(path) as part:
            save_file(tensors, str(part), metadata={'format': f'dylora-q-{self.KIND}',
                                                    'schema': self.schema.to_json()})

    @classmethod
    def load(cls, path: str | Path, schema: RowSchema):
        """Read what :meth:`save` wrote.

        Raises:
            SchemaError: the weights belong to another kind of q, another version of it or
                another row schema.

        """
        with safe_open(str(path), 'pt') as file:
            meta = file.metadata() or {}
            if meta.get('format') != f'dylora-q-{cls.KIND}':
                raise SchemaError(f'{path} holds {meta.get("format")}, expected '
                                  f'dylora-q-{cls.KIND}; make it anew with '
                                  '"python -m dylora_ros pretrain"')
            if meta.get('schema') != schema.to_json():
                raise SchemaError(f'{path} is a q of schema {meta.get("schema")}, this agent '
                                  f'has {schema.to_json()}')
            network = cls(schema)
            network.load_state_dict({k: file.get_tensor(k) for k in file.keys()})
        return network.eval()


class QNetwork(HeadNetwork):
    """The LSH transformer: attention over the rows that the index found.

    Queries and keys share one projection, as in Reformer, and one view of a row: its perceived
    part. What q decided later (its prediction, the action, the thoughts) is in the values only;
    so a moment lived again has the key of the first time, and LSH can find it.
    """

    KIND = 'lsh2'

    def __init__(self, schema: RowSchema):
        super().__init__(schema)
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.sharpness = nn.Parameter(torch.full((HEADS,), math.log(_SHARPNESS)))
        self.time = nn.Linear(_TIME, HEADS)
        self.time_value = nn.Linear(_TIME, WIDTH)
        self.decay = Decay(HEADS)
        self.register_buffer('_perceived', torch.from_numpy(perceived(schema)).float(),
                             persistent=False)

    def keys(self, feats: torch.Tensor) -> torch.Tensor:
        """Return the unit keys (..., d) that are hashed and compared."""
        return F.normalize(self.key(self.rows(feats * self._perceived)), dim=-1)

    def logits(self, query: torch.Tensor, key: torch.Tensor, age: torch.Tensor) -> torch.Tensor:
        """Return attention logits (b, h, k) of query (b, d) on keys (b, k, d) of ages (b, k)."""
        return self._logits(query, key, age, harmonic(age, _TIME))

    def _logits(self, query, key, age, code):
        b, k = age.shape
        query = query.view(b, HEADS, -1) * self.sharpness.exp()[:, None]
        same = torch.einsum('bhe,bkhe->bhk', query, key.view(b, k, HEADS, -1))
        return same + self.time(code).transpose(1, 2) + self.decay(age)

    def forward(self, now: torch.Tensor, past: torch.Tensor, age: torch.Tensor,
                valid: torch.Tensor, at: torch.Tensor | None = None) -> Heads:
        """Read the context.

        Args:
            now: (b, f) features of the newest row; what is decided later is still zero.
            past: (b, k, f) features of the attended rows; with ``at`` (n, f).
            age: (b, k) seconds between each of them and now.
            valid: (b, k) bool; False rows are padding or duplicates.
            at: (b, k) where each attended row stands in ``past``, so that a row which many
                moments read is embedded once.

        """
        b, k = age.shape
        here = self.rows(now)                                               # (b, d)
        code = harmonic(age, _TIME)                                         # (b, k, time)
        query = F.normalize(self.key(here), dim=-1)
        keys, value = self.keys(past), self.value(self.rows(past))
        if at is not None:
            keys, value = F.embedding(at, keys), F.embedding(at, value)
        logits = self._logits(query, keys, age, code)
        none = ~valid.any(1)[:, None, None]                                 # an empty context
        logits = logits.masked_fill(~valid[:, None], float('-inf')).masked_fill(none, 0.0)
        weight = logits.softmax(-1).masked_fill(none, 0.0)
        value = value + self.time_value(code)                               # (b, k, d)
        read = torch.einsum('bhk,bkhe->bhe', weight, value.view(b, k, HEADS, -1)).flatten(1)
        return self.decide(now, here, read, logits.logsumexp(-1))

    def time_values(self, age: torch.Tensor) -> torch.Tensor:
        """Return what age (...,) in seconds adds to a row's value, (..., d)."""
        return self.time_value(harmonic(age, _TIME))

    @torch.no_grad()
    def scorer(self):
        """Return a numpy function that tells how much of the attention each found row would get.

        ``score(query (b, d), keys (b, c, d), age (b, c), valid (b, c)) -> (b, c)``: the share
        among these rows, summed over heads, without the small time-code part. It picks which of
        the rows found are attended, in the streaming read and in training.
        """
        sharp = self.sharpness.exp().numpy()
        rate = F.softplus(self.decay.rate).numpy()

        def score(query, keys, age, valid):
            b, c = age.shape
            query = query.reshape(b, HEADS, -1) * sharp[:, None]
            logits = np.einsum('bche,bhe->bhc', keys.reshape(b, c, HEADS, -1), query)
            logits -= rate[:, None] * np.log1p(np.maximum(age, 0))[:, None]
            logits[~np.broadcast_to(valid[:, None], logits.shape)] = -np.inf
            weight = np.exp(logits - np.maximum(logits.max(-1, keepdims=True), -1e30))
            return (weight / np.maximum(weight.sum(-1, keepdims=True), 1e-30)).sum(1)

        return score
