"""Context extension (paper, section 3.1): texts longer than a frozen transformer's window.

The text goes through the frozen model window by window. At every adapted site the encoded input
``x = A h`` of each token (or of each window) enters a first-in-first-out global context, with
the state ``q`` it was read under. ``q`` reads that context and biases the next pass (Eq. 2).
Nothing else crosses from window to window, and nothing of the text but its states reaches a
blinded answer. States written in the same step carry gradient into A and B.

Legend: b batch, n tokens, k entries of the context, s sites, r rank, d width of the reader.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn
import torch.nn.functional as F

from dylora_ros.core.lowrank import Adapter
from dylora_ros.core.timecode import harmonic

_CODE = 16                              # numbers that tell an entry's place
_SHORTEST, _LONGEST = 2.0, 65536.0      # periods of that code, in tokens


@dataclass(frozen=True)
class LRContext:
    """The global context as tensors: the newest ``capacity`` entries, with their gradient.

    Attributes:
        states: (b, k, 2, s, r): x as encoded, and the q it was encoded under.
        place: (b, k) position in the whole text, in tokens.
        valid: (b, k) bool, False for padding.
        capacity: largest k; 0 is the arm without a context.
    """

    states: torch.Tensor
    place: torch.Tensor
    valid: torch.Tensor
    capacity: int

    @classmethod
    def empty(cls, batch: int, sites: int, rank: int, capacity: int) -> 'LRContext':
        """Return a context that has seen nothing."""
        return cls(torch.zeros(batch, 0, 2, sites, rank), torch.zeros(batch, 0),
                   torch.zeros(batch, 0, dtype=torch.bool), capacity)

    def __len__(self) -> int:
        return self.states.shape[1]

    def append(self, x: torch.Tensor, q: torch.Tensor, place: torch.Tensor,
               valid: torch.Tensor) -> 'LRContext':
        """Return the context with newer entries added and the oldest gone.

        Args:
            x: (b, k, s, r).
            q: (b, s, r), the bias of all these entries.
            place: (b, k).
            valid: (b, k) bool.

        """
        new = torch.stack([x, q.unsqueeze(1).expand_as(x)], 2)
        first = max(0, len(self) + x.shape[1] - self.capacity)
        return replace(self, states=torch.cat([self.states, new], 1)[:, first:],
                       place=torch.cat([self.place, place], 1)[:, first:],
                       valid=torch.cat([self.valid, valid], 1)[:, first:])

    def detach(self) -> 'LRContext':
        """Return the same entries as data, as the agent's log holds them."""
        return replace(self, states=self.states.detach())


class _Block(nn.Module):
    """Pre-norm transformer block; queries may come from elsewhere."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm, self.norm_query = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(),
                                 nn.Linear(2 * width, width))

    def forward(self, here: torch.Tensor, there: torch.Tensor,
                mask: torch.Tensor | None) -> torch.Tensor:
        """Update ``here`` (b, m, d) by reading ``there`` (b, k, d) where ``mask`` (b, 1, 1, k)."""
        def split(t):
            return t.float().unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(self.norm(there)).chunk(2, -1)
        query = self.query(self.norm_query(here))
        # in float32 under autocast too: on a CPU the fused kernel is slower in bfloat16, enough
        # to cost a training step with a context a thirtieth
        with torch.autocast(here.device.type, enabled=False):
            read = F.scaled_dot_product_attention(split(query), split(key), split(value),
                                                  attn_mask=mask)
        here = here + self.out(read.transpose(1, 2).flatten(2))
        return here + self.mlp(here)


class ContextReader(nn.Module):
    """q: reads the context by attention and predicts every site's state.

    Entries are embedded with their place, mixed by ``depth`` self-attention blocks, and read by
    one learned query a site. With no entry, q is exactly zero.

    Args:
        sites: s.
        rank: r.
        width: d.
        heads: attention heads.
        depth: blocks over the entries before the sites read them.
    """

    def __init__(self, sites: int, rank: int, width: int = 128, heads: int = 4, depth: int = 1):
        super().__init__()
        self.embed = nn.Linear(2 * sites * rank + _CODE, width)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.sites = nn.Parameter(torch.randn(sites, width) * 0.5)
        self.read = _Block(width, heads)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, rank))

    def forward(self, context: LRContext) -> torch.Tensor:
        """Map a context to q (b, s, r)."""
        batch = context.states.shape[0]
        if len(context) == 0:
            return context.states.new_zeros(batch, *context.states.shape[-2:])
        code = harmonic(context.place, _CODE, _SHORTEST, _LONGEST)
        entries = self.norm(self.embed(torch.cat([context.states.flatten(2), code], -1)))
        some = context.valid.any(1)
        mask = (context.valid | ~some[:, None])[:, None, None]     # no row without a key
        for block in self.blocks:
            entries = block(entries, entries, mask)
        read = self.read(self.sites.expand(batch, -1, -1), entries, mask)
        return self.out(read).float() * some[:, None, None]


class ExtendedEncoder(nn.Module):
    """A frozen transformers encoder with adapted sites, a global context and q.

    ``write`` takes a text of any length in; ``answer`` runs the model once on a local context
    under the bias that q reads. gamma is 1: with an empty context this is LoRA (Eq. 1).

    Args:
        model: the frozen encoder, called with ``input_ids`` and companions.
        adapter: of the model (:func:`dylora_ros.core.lowrank.inject`).
        reader: q.
        window: tokens of one pass.
        capacity: entries of the context; 0 for the arm without.
        per_token: one entry a token, or one (the mean) a window.
    """

    def __init__(self, model: nn.Module, adapter: Adapter, reader: ContextReader,
                 window: int = 128, capacity: int = 1024, per_token: bool = True):
        super().__init__()
        if window < 1 or capacity < 0:
            raise ValueError(f'window must be positive and capacity not negative, got {window} '
                             f'and {capacity}')
        self.model, self.adapter, self.reader = model, adapter, reader
        self.window, self.capacity, self.per_token = window, capacity, per_token
        self.register_buffer('kept', torch.ones(adapter.rank))

    def limit_rank(self, rank: int):
        """Use the first ``rank`` columns of every state only (nested rank, as DyLoRA 2023).

        Raises:
            ValueError: not between 1 and the adapter's rank.

        """
        if not 1 <= rank <= self.adapter.rank:
            raise ValueError(f'rank must be 1 to {self.adapter.rank}, got {rank}')
        self.kept = (torch.arange(self.adapter.rank) < rank).float()

    def empty(self, batch: int) -> LRContext:
        """Return the context before anything was written."""
        return LRContext.empty(batch, len(self.adapter.layers), self.adapter.rank, self.capacity)

    def write(self, inputs: dict[str, torch.Tensor],
              context: LRContext | None = None) -> LRContext:
        """Pass a text through, window by window, and return the context it leaves.

        Args:
            inputs: ``input_ids`` (b, n), ``attention_mask`` (b, n) and what else the model
                takes per token.
            context: what came before; empty when None.

        """
        return self._pass(inputs, context, whole=False)[0]

    def write_whole(self, inputs: dict[str, torch.Tensor], context: LRContext | None = None
                    ) -> tuple[LRContext, torch.Tensor]:
        """Write as :meth:`write` and run the passes to their end.

        Returns:
            The context, and the last hidden states (b, n, width) of the passes themselves.

        """
        context, hidden = self._pass(inputs, context, whole=True)
        return context, torch.cat(hidden, 1)

    def _pass(self, inputs: dict[str, torch.Tensor], context: LRContext | None, whole: bool
              ) -> tuple[LRContext, list[torch.Tensor]]:
        batch, length = inputs['input_ids'].shape
        context = self.empty(batch) if context is None else context
        hidden: list[torch.Tensor] = []
        if self.capacity == 0 and not whole:
            return context, hidden
        start = 0 if len(context) == 0 else float(context.place.max()) + 1
        for first in range(0, length, self.window):
            part = {k: v[:, first:first + self.window] for k, v in inputs.items()}
            q = self._bias(context)
            if whole:
                hidden.append(self.model(**part).last_hidden_state)
                x = self.adapter.read_tokens()
            else:
                x = self.adapter.encode(**part)
            x = x * self.kept
            valid = part['attention_mask'].bool()
            place = torch.arange(start + first, start + first + x.shape[1]).expand(batch, -1)
            if not self.per_token:
                weight = valid[..., None, None].float()
                x = (x * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
                place, valid = place[:, -1:], valid.any(1, keepdim=True)
            context = context.append(x, q, place, valid)
        return context, hidden

    def answer(self, inputs: dict[str, torch.Tensor], context: LRContext) -> torch.Tensor:
        """Return the last hidden states (b, n, width) of a local context under q's bias."""
        self._bias(context)
        return self.model(**inputs).last_hidden_state

    def _bias(self, context: LRContext) -> torch.Tensor:
        q = self.reader(context) * self.kept
        whole = bool(self.kept.all())
        self.adapter.set_state(q if len(context) else None,
                               None if whole else self.kept.expand(len(self.adapter.layers), -1)
                               .unsqueeze(0))
        return q


class StreamingLM:
    """A frozen causal language model that reads and writes on for ever.

    The local window holds at most ``window`` tokens with their attention cache. When it is
    full its older half leaves: the states of those tokens enter the global context, q reads it
    anew, and the kept half is read again under the new bias. So a token is read at most twice,
    and neither memory nor the cost of a token grows with the text. Inference only.

    Args:
        model: a transformers causal language model, called with ``input_ids``,
            ``past_key_values`` and ``use_cache``.
        adapter: of the model.
        reader: q.
        window: tokens of the local context, at least 2.
        capacity: entries of the global context; 0 forgets what leaves the window.
    """

    def __init__(self, model: nn.Module, adapter: Adapter, reader: ContextReader,
                 window: int = 128, capacity: int = 512):
        if window < 2 or capacity < 0:
            raise ValueError(f'window must be at least 2 and capacity not negative, got {window} '
                             f'and {capacity}')
        self.model, self.adapter, self.reader = model, adapter, reader
        self.window = window
        self.context = LRContext.empty(1, len(adapter.layers), adapter.rank, capacity)
        self.seen = 0                                       # tokens since the beginning
        self.q = self.reader(self.context)                  # (1, s, r) of the current window
        self._local = torch.zeros(1, 0, dtype=torch.long)
        self._states: list[torch.Tensor] = []               # x of the local tokens
        self._cache = None

    @property
    def local(self) -> torch.Tensor:
        """Token ids (n,) in the local window."""
        return self._local[0]

    @torch.inference_mode()
    def feed(self, ids: torch.Tensor) -> torch.Tensor:
        """Read tokens (n,) and return the logits (vocabulary,) of what comes next.

        Raises:
            ValueError: no token.

        """
        if ids.dim() != 1 or len(ids) == 0:
            raise ValueError(f'expected a row of at least one token, got {tuple(ids.shape)}')
        while len(ids):
            if self._local.shape[1] == self.window:
                self._slide()
            part = ids[:self.window - self._local.shape[1]]
            logits = self._read(part[None])
            ids = ids[len(part):]
            self.seen += len(part)
        return logits

    def generate(self, prompt: torch.Tensor, count: int, end: int | None = None) -> torch.Tensor:
        """Read a prompt (n,) and continue it greedily.

        Args:
            prompt: token ids.
            count: most tokens to make.
            end: stop behind this token.

        Returns:
            (m,) new tokens, m <= count.

        """
        made: list[int] = []
        logits = self.feed(prompt)
        while len(made) < count:
            made.append(int(logits.argmax()))
            if made[-1] == end:
                break
            logits = self.feed(torch.tensor(made[-1:]))
        return torch.tensor(made)

    def _read(self, ids: torch.Tensor) -> torch.Tensor:
        self.adapter.set_state(self.q if len(self.context) else None)
        out = self.model(input_ids=ids, past_key_values=self._cache, use_cache=True)
        self._cache = out.past_key_values
        self._states.append(self.adapter.read_tokens())
        self._local = torch.cat([self._local, ids], 1)
        return out.logits[0, -1]

    def _slide(self):
        """Let the older half of the window leave into the context."""
        leaving = self.window - self.window // 2
        x = torch.cat(self._states, 1)[:, :leaving]
        first = self.seen - self.window
        place = torch.arange(first, first + leaving, dtype=torch.float)[None]
        valid = torch.ones(1, leaving, dtype=torch.bool)
        self.context = self.context.append(x, self.q, place, valid)
        # places count from the newest entry back, or they would grow with the text
        self.q = self.reader(replace(self.context, place=self.seen - self.context.place))
        kept = self._local[:, leaving:]
        self._local, self._states, self._cache = kept[:, :0], [], None
        self._read(kept)
