"""A frozen causal language model that speaks of the inner state (paper, 3.3 and section 6).

Its upper blocks are adapted: at every site ``h = W x + (alpha / r) B (A x + q)`` (Eq. 2), where A
and B are LoRA's (Eq. 1) and q, the same at every token, is a small map of the composite LR state.
So how likely a sentence is depends on what the agent perceives. Below the first adapted block the
model is frozen and blind to the state: what it makes of a sentence there is computed once.

Legend: b batch, n tokens, d model width, w composite width, m modalities, s sites, r rank,
v vocabulary.
"""

from dataclasses import dataclass
import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
import torch
from torch import nn
import torch.nn.functional as F

from dylora_ros.core.files import whole
from dylora_ros.core.lowrank import Adapter, inject, SchemaError
from dylora_ros.core.rows import RowSchema

FORMAT = 'dylora-speaker-1'
BLOCKS, RANK, HIDDEN = 4, 8, 96
SITES = r'(self_attn\.v_proj|mlp\.gate_proj|mlp\.up_proj|mlp\.down_proj)$'
_BLOCK = 64           # sentences whose logits over the whole vocabulary are in memory at once


class Bias(nn.Module):
    """Composite LR state and presence, (b, w + m), to q of the sites, (b, s, r)."""

    def __init__(self, width: int, sites: int, rank: int):
        super().__init__()
        self.inside = nn.Linear(width, HIDDEN)
        self.out = nn.Linear(HIDDEN, sites * rank)
        with torch.no_grad():       # q begins as large as A x, or B would learn from that alone
            self.out.weight.mul_(4)
        self._shape = sites, rank

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """Return q; far outliers of the state are cut off."""
        hidden = F.gelu(self.inside(state.clamp(-8, 8)))
        return self.out(hidden).unflatten(-1, self._shape)


@dataclass
class Sentences:
    """Sentences as the blocks below the adapted ones leave them.

    Attributes:
        ids: (b, n) tokens, padded on the right with the first one.
        length: (b,) tokens of each, the beginning mark included.
        hidden: (b, n, d) before the first adapted block.
    """

    ids: torch.Tensor
    length: torch.Tensor
    hidden: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index) -> 'Sentences':
        """Return some of them, cut to the longest."""
        length = self.length[index]
        n = int(length.max())
        return Sentences(self.ids[index, :n], length, self.hidden[index, :n])


class Speaker:
    """The language model, its low-rank weights and the map from the state to them.

    Args:
        model: a transformers causal language model of the Llama kind (``model.layers``,
            ``model.embed_tokens``, ``model.rotary_emb``, ``model.norm``, ``lm_head``).
        schema: of the rows whose states are spoken of.
        name: what the file of weights calls the model.
        blocks: upper blocks that are adapted.
        rank: r of their sites.

    Attributes:
        words: (k,) tokens that likelihoods are normalised over, beside a sentence's own.
        topics: of each thing that it was taught to tell, the sentences of which one is true, and
            the logarithm of how much rarer each was in training than in life.

    Raises:
        ValueError: the model has no such parts, or not as many blocks.
    """

    def __init__(self, model: nn.Module, schema: RowSchema, name: str, blocks: int = BLOCKS,
                 rank: int = RANK):
        inner = getattr(model, 'model', None)
        missing = [p for p in ('layers', 'embed_tokens', 'rotary_emb', 'norm')
                   if not hasattr(inner, p)]
        if missing or not hasattr(model, 'lm_head'):
            raise ValueError(f'{type(model).__name__} has no {", ".join(missing) or "lm_head"}; '
                             'a causal language model of the Llama kind is needed')
        count = len(inner.layers)
        if not 0 < blocks <= count:
            raise ValueError(f'{blocks} of {count} blocks cannot be adapted')
        self.model, self.schema, self.name = model.eval(), schema, name
        self._first = count - blocks
        upper = '|'.join(map(str, range(self._first, count)))
        self.adapter: Adapter = inject(model, rf'^model\.layers\.({upper})\.{SITES}', rank,
                                       name=name)
        self.bias = Bias(schema.width + len(schema.modalities), len(self.adapter.layers), rank)
        self.words = torch.zeros(0, dtype=torch.long)
        self.topics: list[dict[str, float]] = []

    def parameters(self):
        """Yield all that training may change."""
        yield from self.adapter.parameters()
        yield from self.bias.parameters()

    @torch.no_grad()
    def read(self, ids: list[list[int]]) -> Sentences:
        """Take sentences through the frozen lower blocks.

        Args:
            ids: tokens of each, beginning with the mark of a beginning.

        Raises:
            ValueError: no sentence, or one of fewer than two tokens.

        """
        if not ids or min(map(len, ids)) < 2:
            raise ValueError('a sentence needs a beginning mark and at least one token')
        n = max(map(len, ids))
        padded = torch.tensor([row + row[:1] * (n - len(row)) for row in ids])
        inner = self.model.model
        hidden = self._blocks(inner.embed_tokens(padded), 0, self._first)
        return Sentences(padded, torch.tensor([len(row) for row in ids]), hidden)

    def _blocks(self, hidden: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        # causal: what is padded on the right changes nothing on its left
        inner = self.model.model
        place = torch.arange(hidden.shape[1])[None]
        rotary = inner.rotary_emb(hidden, place)
        for block in inner.layers[start:stop]:
            got = block(hidden, position_ids=place, position_embeddings=rotary)
            hidden = got[0] if isinstance(got, tuple) else got
        return hidden

    def speak(self, state: torch.Tensor | None, said: Sentences) -> torch.Tensor:
        """Return what the adapted blocks make of sentences, (b, n, d).

        Args:
            state: (b, w + m) or (1, w + m) composite LR state and presence; None: no state, and
                no bias of any kind.
            said: b sentences.

        """
        if state is None:
            self.adapter.set_state(None, gamma=0.0)
        else:
            self.adapter.set_state(self.bias(state))
        count = len(self.model.model.layers)
        return self.model.model.norm(self._blocks(said.hidden, self._first, count))

    @torch.no_grad()
    def learn_words(self, said: Sentences, most: int = 16):
        """Fix :attr:`words`: the sentences' own tokens, and those that the frozen model expects.

        Args:
            said: what will be trained on.
            most: tokens that are expected at each place.

        """
        hidden = self.speak(None, said)
        expected = [self._logits(part).topk(most).indices.flatten() for part in hidden]
        self.words = torch.cat([said.ids.flatten(), *expected]).unique()

    def _logits(self, hidden: torch.Tensor, words: torch.Tensor | None = None) -> torch.Tensor:
        weight = self.model.lm_head.weight
        return F.linear(hidden, weight if words is None else weight[words]).float()

    def token_likelihood(self, state: torch.Tensor | None, said: Sentences) -> torch.Tensor:
        """Return the log-likelihood of every token behind the first, (b, n - 1); 0 where padded.

        The softmax is over :attr:`words` and the sentences' own tokens: over the whole vocabulary
        it costs more than the adapted blocks.

        Args:
            state: as in :meth:`speak`.
            said: b sentences.

        """
        hidden = self.speak(state, said)[:, :-1]
        words = torch.cat([self.words, said.ids.flatten()]).unique()
        target = torch.searchsorted(words, said.ids[:, 1:].contiguous())
        logits = self._logits(hidden, words)
        found = logits.gather(-1, target[..., None])[..., 0] - logits.logsumexp(-1)
        inside = torch.arange(found.shape[1])[None] < said.length[:, None] - 1
        return found * inside

    @torch.inference_mode()
    def likelihood(self, state: torch.Tensor, said: Sentences) -> torch.Tensor:
        """Return the mean log-likelihood of a token of each sentence in each state, (b, k).

        Args:
            state: (b, w + m).
            said: k sentences.

        """
        b, k = len(state), len(said)
        out = torch.empty(b * k)
        for part in torch.arange(b * k).split(_BLOCK):
            chosen = said.take(part % k)
            tokens = self.token_likelihood(state[part // k], chosen)
            out[part] = tokens.sum(1) / (chosen.length - 1)
        return out.view(b, k)

    @torch.inference_mode()
    def say(self, state: torch.Tensor, prompt: list[int], count: int, end: set[int]
            ) -> list[list[int]]:
        """Go on with a prompt in each state, the likeliest token first.

        Args:
            state: (b, w + m).
            prompt: tokens, the beginning mark first.
            count: most new tokens.
            end: tokens after which a sentence is over.

        Returns:
            The new tokens of each, the one that ends it included.

        """
        rows: list[list[int]] = [[] for _ in state]
        for _ in range(count):
            going = [i for i, row in enumerate(rows) if not row or row[-1] not in end]
            if not going:
                break
            said = self.read([prompt + rows[i] for i in going])
            hidden = self.speak(state[going], said)[torch.arange(len(going)), said.length - 1]
            for i, token in zip(going, self._logits(hidden).argmax(-1).tolist(), strict=True):
                rows[i].append(token)
        return rows

    def save(self, path: str | Path):
        """Write the low-rank weights and the map, half precision, as safetensors; whole or not."""
        tensors = {**{f'adapter.{k}': v for k, v in self.adapter.state_dict().items()},
                   **{f'bias.{k}': v for k, v in self.bias.state_dict().items()}}
        tensors = {k: v.detach().half().contiguous() for k, v in tensors.items()}
        with whole(path) as part:
            save_file({**tensors, 'words': self.words.int()}, str(part),
                      metadata={**self._meta(), 'topics': json.dumps(self.topics)})

    def load(self, path: str | Path):
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            SchemaError: it is of another language model, sites or row schema.

        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f'{path} is missing; make it with python -m dylora_ros '
                                    'reward train')
        with safe_open(str(path), 'pt') as file:
            found, wanted = file.metadata() or {}, self._meta()
            for key, value in wanted.items():
                if found.get(key) != value:
                    raise SchemaError(f'{path} is of {key} {found.get(key)}, this speaker of '
                                      f'{value}; make it anew with python -m dylora_ros '
                                      'reward train')
            tensors = {k: file.get_tensor(k).float() for k in file.keys() if k != 'words'}
            self.words = file.get_tensor('words').long()
            self.topics = json.loads(found['topics'])
        self.adapter.load_state_dict({k.removeprefix('adapter.'): v for k, v in tensors.items()
                                      if k.startswith('adapter.')})
        self.bias.load_state_dict({k.removeprefix('bias.'): v for k, v in tensors.items()
                                   if k.startswith('bias.')})

    def _meta(self) -> dict[str, str]:
        return {'format': FORMAT, 'model': self.name,
                'adapter': json.dumps([self.adapter.rank, *self.adapter.schema.sites]),
                'schema': self.schema.to_json()}
