"""Sentence pairs with a label (MRPC): reading, splitting, batching."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

FILES = {'train': 'msr_paraphrase_train*.txt', 'test': 'msr_paraphrase_test*.txt'}


class DataError(ValueError):
    """The data set is missing or not in the expected form; says what was expected."""


@dataclass
class Pairs:
    """Tokenized pairs: token ids and segment of each, and labels (n,)."""

    encoded: list[dict[str, list[int]]]
    labels: np.ndarray
    pad_id: int

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> 'Pairs':
        """Return some of the pairs."""
        return Pairs([self.encoded[i] for i in index], self.labels[index], self.pad_id)

    def batch(self, index: np.ndarray) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return model inputs (b, n) padded on the right, and labels (b,)."""
        rows = [self.encoded[i] for i in index]
        longest = max(len(row['input_ids']) for row in rows)
        out = {}
        for name in rows[0]:
            fill = self.pad_id if name == 'input_ids' else 0
            out[name] = torch.tensor([row[name] + [fill] * (longest - len(row[name]))
                                      for row in rows])
        return out, torch.from_numpy(self.labels[index])

    def batches(self, size: int, rng: np.random.Generator | None) -> Iterator[np.ndarray]:
        """Yield index batches of similar length; random order with ``rng``, all of them once.

        Pools of 16 batches are shuffled, sorted by length inside, and their batches shuffled.
        """
        order = np.arange(len(self)) if rng is None else rng.permutation(len(self))
        lengths = np.array([len(row['input_ids']) for row in self.encoded])
        pool = len(self) if rng is None else 16 * size
        groups = []
        for first in range(0, len(self), pool):
            part = order[first:first + pool]
            part = part[np.argsort(lengths[part], kind='stable')]
            groups += [part[i:i + size] for i in range(0, len(part), size)]
        if rng is not None:
            groups = [groups[i] for i in rng.permutation(len(groups))]
        yield from groups


def read_msr(path: Path) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Read a file of the Microsoft Research Paraphrase Corpus.

    Raises:
        DataError: a line is not label, id, id, sentence, sentence.

    """
    sentences, labels = [], []
    lines = path.read_text(encoding='utf-8-sig').splitlines()[1:]     # the first names columns
    for number, line in enumerate(lines, 2):
        cells = line.split('\t')
        if len(cells) != 5 or cells[0] not in ('0', '1'):
            raise DataError(f'{path}, line {number}: expected label (0 or 1), id, id, sentence, '
                            f'sentence separated by tabs, got {line[:60]!r}')
        sentences.append((cells[3], cells[4]))
        labels.append(int(cells[0]))
    return sentences, np.array(labels, np.int64)


def load(source: str, split: str) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Read a split of MRPC from a folder of its two text files, or from the hub.

    Args:
        source: a folder with ``msr_paraphrase_train*.txt`` and ``msr_paraphrase_test*.txt``, or
            a hub name such as ``nyu-mll/glue`` (needs the package ``datasets``).
        split: ``train`` (with the hub's validation split, as in the original) or ``test``.

    Raises:
        DataError: nothing is there; says how to get it.

    """
    folder = Path(source)
    if folder.is_dir():
        found = sorted(folder.glob(FILES[split]))
        if not found:
            raise DataError(f'{folder} holds no {FILES[split]}; it is part of the Microsoft '
                            'Research Paraphrase Corpus')
        return read_msr(found[0])
    if not source.replace('-', '').replace('_', '').replace('/', '').replace('.', '').isalnum():
        raise DataError(f'{source!r} is neither a folder nor a hub name')
    try:
        import datasets
    except ImportError as error:
        raise DataError(f'{source} is no folder; to load it from the hub: pip install datasets'
                        ) from error
    try:
        parts = [datasets.load_dataset(source, 'mrpc', split=name)
                 for name in (['train', 'validation'] if split == 'train' else ['test'])]
    except Exception as error:    # the hub's client raises many kinds
        raise DataError(f'cannot load {source} (mrpc) from the hub: {error}') from error
    sentences = [(row['sentence1'], row['sentence2']) for part in parts for row in part]
    return sentences, np.array([row['label'] for part in parts for row in part], np.int64)


def tokenize(tokenizer, sentences: list[tuple[str, str]], labels: np.ndarray,
             longest: int = 128) -> Pairs:
    """Tokenize pairs as one sequence each: [CLS] a [SEP] b [SEP]."""
    first, second = zip(*sentences, strict=True)
    encoded = tokenizer(list(first), list(second), truncation=True, max_length=longest)
    names = list(encoded.keys())
    return Pairs([{name: encoded[name][i] for name in names} for i in range(len(labels))],
                 labels, tokenizer.pad_token_id)


def split(pairs: Pairs, fraction: float, seed: int = 0) -> tuple[Pairs, Pairs]:
    """Return the pairs without, and with, a random held-out fraction."""
    order = np.random.default_rng(seed).permutation(len(pairs))
    held = round(fraction * len(pairs))
    return pairs.take(order[held:]), pairs.take(order[:held])
