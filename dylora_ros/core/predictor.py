"""q: reads the global context and predicts the next LR states (Eq. 2), reward and value.

A tick embeds the newest row, finds old rows by LSH over the learned keys, adds the recent
window, and attends over that bounded set with harmonic time encoding and learned decay. Training
attends over the very same rows (:func:`dylora_ros.core.lsh.past_neighbours`).

Legend: b batch, k attended rows, f row features, d model width, h heads, w composite width.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file
import torch
from torch import nn
import torch.nn.functional as F

from dylora_ros.core.context import FLAG_DREAM, GlobalContext, RowSchema
from dylora_ros.core.cycle import Prediction
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.lsh import AngularHash, StreamingIndex
from dylora_ros.core.timecode import Decay, harmonic

RECENT = 12           # rows always attended: about half a second
DEPTH = 8             # newest rows of each LSH bucket
WIDTH, HEADS = 96, 4
_TIME = 16
_LIMIT = 8.0          # features beyond this many standard deviations say nothing more


def features(rows: np.ndarray, schema: RowSchema) -> np.ndarray:
    """Turn log rows (n,) into the numbers that q reads, (n, f) float32."""
    bits = np.arange(len(schema.modalities))
    mask = (rows['mask'][:, None] >> bits) & 1
    parts = [rows['x'], rows['q'], rows['action'], rows['aux'], mask,
             np.minimum(rows['age'], 2.0), np.log1p(np.maximum(rows['surprise'], 0)),
             rows['reward'][:, None]]
    out = np.concatenate([np.asarray(p, np.float32) for p in parts], 1)
    return np.clip(out, -_LIMIT, _LIMIT)


def feature_width(schema: RowSchema) -> int:
    """Return f."""
    return 2 * schema.width + schema.actions + schema.aux + 3 * len(schema.modalities) + 1


@dataclass
class Heads:
    """What q says of one moment.

    Attributes:
        q: (b, w) predicted next composite LR state.
        reward: (b,) predicted next reward.
        value: (b,) expected mean discounted reward ("happiness").
        aux: (b, aux) thoughts, kept in the row and read by q alone.
    """

    q: torch.Tensor
    reward: torch.Tensor
    value: torch.Tensor
    aux: torch.Tensor


class QNetwork(nn.Module):
    """One LSH-attention read of the context and the heads."""

    def __init__(self, schema: RowSchema):
        super().__init__()
        self.schema = schema
        self.embed = nn.Linear(feature_width(schema), WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)     # shared by queries, as in Reformer
        self.value = nn.Linear(WIDTH, WIDTH)
        self.time = nn.Linear(_TIME, HEADS)
        self.time_value = nn.Linear(_TIME, WIDTH)
        self.decay = Decay(HEADS)
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

    def keys(self, feats: torch.Tensor) -> torch.Tensor:
        """Return the unit keys (..., d) that are hashed and compared."""
        return F.normalize(self.key(self.rows(feats)), dim=-1)

    def forward(self, now: torch.Tensor, past: torch.Tensor, age: torch.Tensor,
                valid: torch.Tensor) -> Heads:
        """Read the context.

        Args:
            now: (b, f) features of the newest row; its q, action and aux are still zero.
            past: (b, k, f) features of the attended rows.
            age: (b, k) seconds between each of them and now.
            valid: (b, k) bool; False rows are padding or duplicates.

        """
        b, k = age.shape
        here = self.rows(now)                                               # (b, d)
        there = self.rows(past)                                             # (b, k, d)
        query = F.normalize(self.key(here), dim=-1).view(b, HEADS, -1)      # (b, h, d/h)
        key = F.normalize(self.key(there), dim=-1).view(b, k, HEADS, -1)
        code = harmonic(age, _TIME)                                         # (b, k, time)
        logits = 8.0 * torch.einsum('bhe,bkhe->bhk', query, key)
        logits = logits + self.time(code).transpose(1, 2) + self.decay(age)
        logits = logits.masked_fill(~valid[:, None], float('-inf'))
        none = ~valid.any(1)                                                # an empty context
        weight = logits.masked_fill(none[:, None, None], 0.0).softmax(-1)
        weight = weight.masked_fill(none[:, None, None], 0.0)
        value = (self.value(there) + self.time_value(code)).view(b, k, HEADS, -1)
        read = torch.einsum('bhk,bkhe->bhe', weight, value).flatten(1)      # (b, d)
        hidden = self.out(here + self.mix(torch.cat([here, read], 1)))
        present = now[:, :self.schema.width]
        return Heads(present + self.next(hidden), self.reward(hidden)[:, 0],
                     self.happiness(hidden)[:, 0], torch.tanh(self.thought(hidden)))

    def save(self, path: str | Path):
        """Write the weights as safetensors with the schema; whole or not at all."""
        path = Path(path)
        part = path.with_suffix('.part')
        tensors = {k: v.contiguous() for k, v in self.state_dict().items()}
        save_file(tensors, str(part), metadata={'format': 'dylora-q',
                                                'schema': self.schema.to_json()})
        part.replace(path)

    @classmethod
    def load(cls, path: str | Path, schema: RowSchema) -> 'QNetwork':
        """Read what :meth:`save` wrote.

        Raises:
            SchemaError: the weights belong to another row schema; names both.

        """
        with safe_open(str(path), 'pt') as file:
            found = (file.metadata() or {}).get('schema', '?')
            if found != schema.to_json():
                raise SchemaError(f'{path} is a q of schema {found}, this agent has '
                                  f'{schema.to_json()}')
            network = cls(schema)
            network.load_state_dict({k: file.get_tensor(k) for k in file.keys()})
        return network.eval()


class Predictor:
    """q at work: an index over the log's window and one bounded read a tick.

    Args:
        network: trained or newborn.
        log: the global context (a reader will do).
        rebuild: rows of the newest past that are indexed at start.
    """

    def __init__(self, network: QNetwork, log: GlobalContext, rebuild: int = 200_000):
        self.log = log
        self.rebuild = rebuild
        self.adopt(network)

    def adopt(self, network: QNetwork):
        """Take new weights (after sleep); the index is rebuilt, since keys are learned."""
        self.network = network.eval()
        self._index = StreamingIndex(AngularHash(WIDTH), DEPTH)
        self._seen = max(self.log.window_first, self.log.committed - self.rebuild)
        self.catch_up()

    @torch.inference_mode()
    def catch_up(self):
        """Index the rows committed since the last call."""
        while self._seen < self.log.committed:
            stop = min(self._seen + 4096, self.log.committed)
            rows = self.log.rows(self._seen, stop)
            keys = self.network.keys(torch.from_numpy(features(rows, self.log.schema)))
            lived = (rows['flags'] & FLAG_DREAM) == 0      # dreams are data, not memories
            self._index.insert(keys.numpy()[lived], np.arange(stop - len(rows), stop)[lived])
            self._seen = stop

    @torch.inference_mode()
    def observe(self, row: np.ndarray) -> Prediction:
        """Predict from a composed row (not yet committed) and the context before it."""
        self.catch_up()
        schema = self.log.schema
        now = torch.from_numpy(features(row.reshape(1), schema))
        key = self.network.keys(now)[0].numpy()
        end = self.log.committed
        old = self._index.query(key, self.log.window_first)
        recent = np.arange(max(self.log.window_first, end - RECENT), end)
        chosen = np.concatenate([old[old < end - RECENT], recent])
        past = self.log.take(chosen)
        past = past[(past['flags'] & FLAG_DREAM) == 0]
        if len(past):
            age = np.maximum((int(row['stamp']) - past['stamp']) * 1e-9, 0.0)
            heads = self.network(now, torch.from_numpy(features(past, schema))[None],
                                 torch.from_numpy(age.astype(np.float32))[None],
                                 torch.ones(1, len(past), dtype=torch.bool))
        else:
            heads = self.network(now, now[:, None], torch.zeros(1, 1),
                                 torch.zeros(1, 1, dtype=torch.bool))
        return Prediction(heads.q[0].numpy(), float(heads.reward[0]), float(heads.value[0]),
                          heads.aux[0].numpy())
