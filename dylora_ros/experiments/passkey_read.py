"""Sentences to LR states: the frozen text model's lower blocks, and A."""

from pathlib import Path

import numpy as np
import torch

from dylora_ros.core.features import features
from dylora_ros.core.files import whole
from dylora_ros.core.precision import has_fast_bfloat16
from dylora_ros.core.rows import RowSchema
from dylora_ros.experiments.progress import Left, say

BLOCKS, RANK, WIDTH = 4, 32, 384
SCHEMA = RowSchema({'text': (BLOCKS, RANK)}, 1, 1, adapters='passkey')
PERIOD = 40_000_000      # ns a sentence
_PART = 4096


class Reader:
    """The frozen text model's lower blocks: sentences to the mean input of every site."""

    def __init__(self):
        from dylora_ros.core.lowrank import inject
        from dylora_ros.modalities.text import MAX_TOKENS, SentenceEncoder
        encoder = SentenceEncoder()
        self.model, self.tokenizer, self._most = encoder.model, encoder.tokenizer, MAX_TOKENS
        self.model.encoder.layer = self.model.encoder.layer[:BLOCKS]
        self.adapter = inject(self.model, r'attention\.self\.value$', RANK,
                              name='passkey:minilm-l6')
        if has_fast_bfloat16():                # the states are float16 anyway
            self.model.to(torch.bfloat16)
        self.adapter.set_state(None, gamma=0.0)
        for layer in self.adapter.layers.values():
            layer.calibrating = True

    @torch.inference_mode()
    def read(self, texts: list[str]) -> tuple[np.ndarray, int]:
        """Return (n, sites * width) float16 and the number of tokens.

        Sentences of one length are batched together, so that no padding is ever read.
        """
        ids = self.tokenizer(texts, truncation=True, max_length=self._most)['input_ids']
        lengths = np.array([len(i) for i in ids])
        out = np.empty((len(texts), BLOCKS * WIDTH), np.float16)
        for length in np.unique(lengths):
            same = np.flatnonzero(lengths == length)
            for part in np.array_split(same, -(-len(same) * length // 2048)):
                self.model(input_ids=torch.tensor([ids[i] for i in part]))
                out[part] = torch.cat([layer.inputs for layer in
                                       self.adapter.layers.values()], 1).float().numpy()
        return out, int(lengths.sum())


def read_all(texts: list[str], path: Path) -> tuple[np.ndarray, int]:
    """Read sentences once; the result and the number of tokens are kept in ``path`` (.npz)."""
    if not path.exists():
        reader, left, parts, tokens = Reader(), Left(len(texts)), [], 0
        for i in range(0, len(texts), _PART):
            inputs, some = reader.read(texts[i:i + _PART])
            parts.append(inputs)
            tokens += some
            done = min(i + _PART, len(texts))
            say(f'{path.stem}: {done}/{len(texts)} sentences read, {left.after(done)}')
        with whole(path) as part, part.open('wb') as file:
            np.savez(file, inputs=np.concatenate(parts), tokens=tokens)
    with np.load(path) as kept:
        return kept['inputs'], int(kept['tokens'])


class States(torch.nn.Module):
    """A of every site: mean site inputs to LR states.

    The sites see much the same of a sentence. If each kept the largest directions of its own
    input, the four would say the same thing four times and of names next to nothing; so a
    newborn site keeps the largest directions of what the sites above it do not tell.

    Args:
        inputs: (n, sites * width) examples.
    """

    def __init__(self, inputs: torch.Tensor):
        super().__init__()
        sites = inputs.view(len(inputs), BLOCKS, WIDTH)
        a = torch.empty(BLOCKS, RANK, WIDTH)
        told = inputs.new_zeros(len(inputs), 0)
        for site in reversed(range(BLOCKS)):
            part = sites[:, site] - sites[:, site].mean(0)
            gram = told.T @ told
            gram = gram + 1e-4 * len(part) * torch.eye(len(gram))
            new = part - told @ torch.linalg.solve(gram, told.T @ part)
            directions = torch.linalg.svd(new, full_matrices=False)[2][:RANK]
            a[site] = directions / ((part @ directions.T).std(0) + 1e-6)[:, None]
            told = torch.cat([told, part @ a[site].T], 1)
        self.A = torch.nn.Parameter(a)
        self.register_buffer('centre', torch.einsum('sw,srw->sr', sites.mean(0), a))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (n, sites * width) to x (n, sites * rank)."""
        x = torch.einsum('nsw,srw->nsr', inputs.view(len(inputs), BLOCKS, WIDTH), self.A)
        return (x - self.centre).flatten(1)

    @torch.inference_mode()
    def of(self, inputs: np.ndarray) -> np.ndarray:
        """Map (n, sites * width) float16 to x (n, sites * rank) float32, a part at a time."""
        return np.concatenate([self(torch.from_numpy(inputs[i:i + _PART].astype(np.float32)))
                               .numpy() for i in range(0, len(inputs), _PART)])


def row_features(x: torch.Tensor) -> torch.Tensor:
    """Return the features (n, f) of rows with these LR states (n, w) and nothing decided."""
    row = np.zeros(1, SCHEMA.dtype)
    row['mask'] = 1
    rest = torch.from_numpy(features(row, SCHEMA))[:, SCHEMA.width:]
    return torch.cat([x.clamp(-8, 8), rest.expand(len(x), -1)], 1)
