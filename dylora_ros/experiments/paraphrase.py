"""The paraphrase model of the MRPC experiment: one code path for all its arms."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file
import torch
from torch import nn
import torch.nn.functional as F

from dylora_ros.core.blinding import pad_tokens
from dylora_ros.core.extension import ContextReader, ExtendedEncoder
from dylora_ros.core.files import whole
from dylora_ros.core.lowrank import inject
from dylora_ros.experiments.pairs import Pairs
from dylora_ros.experiments.statistics import f1_score

CAPACITY = 256      # entries: more than the tokens of any pair
WINDOW = 128
# not zero: a blinded answer sees the text through B alone, and at zero neither q nor the writing
# pass would get a gradient
B_START = 0.02
# q's learning rate over that of A, B and the head: at 1 the transformer in q stays at the
# majority class (docs/decisions/021-learning-through-the-context.md)
Q_SHARE = 0.25


@dataclass(frozen=True)
class Arm:
    """One curve of Figure 5: what the answering pass sees, and whether there is a context."""

    blinded: bool
    capacity: int


ARMS = {'lora': Arm(False, 0), 'blinded_no_gc': Arm(True, 0),
        'blinded_gc': Arm(True, CAPACITY), 'gc': Arm(False, CAPACITY)}


def _head(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))


def _mean(hidden: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    mask = inputs['attention_mask'].unsqueeze(-1)
    return (hidden.float() * mask).sum(1) / mask.sum(1)


class Paraphrase(nn.Module):
    """Frozen encoder, low-rank sites, context, q, and a classifier on the answering pass.

    Args:
        model: a frozen transformers encoder.
        sites: pattern of the adapted layers.
        rank: of every site.
        arm: what is ablated.
        bfloat16: run the passes in bfloat16 (low-rank weights, optimizer and loss stay float32).
    """

    def __init__(self, model: nn.Module, sites: str, rank: int, arm: Arm, bfloat16: bool):
        super().__init__()
        adapter = inject(model, sites, rank)
        reader = ContextReader(len(adapter.layers), rank)
        self.arm, self.bfloat16 = arm, bfloat16
        self.encoder = ExtendedEncoder(model, adapter, reader, WINDOW, arm.capacity)
        width = model.config.hidden_size
        self.head = _head(width)
        self.writing_head = _head(width) if arm.blinded and arm.capacity else None

    def write(self, text: dict[str, torch.Tensor]):
        """Take the text in; return the context it leaves (empty in an arm without)."""
        return self.encoder.write(text)

    def answer(self, text: dict[str, torch.Tensor], context, pad_id: int) -> torch.Tensor:
        """Return logits (b, 2) from the local context (PAD if blinded) and the context."""
        local = pad_tokens(text, pad_id) if self.arm.blinded else text
        return self.head(_mean(self.encoder.answer(local, context), local))

    def forward(self, text: dict[str, torch.Tensor], pad_id: int) -> torch.Tensor:
        """Write, then answer."""
        with torch.autocast('cpu', torch.bfloat16, enabled=self.bfloat16):
            return self.answer(text, self.write(text), pad_id).float()

    def losses(self, text: dict[str, torch.Tensor], labels: torch.Tensor,
               pad_id: int) -> list[torch.Tensor]:
        """Return the loss of the answer and, in the blinded arm, that of the writing pass.

        A and B are shared by both passes. In the arms that see the text while answering they
        learn from it directly; in the blinded arm the writing pass is the one that sees, so it
        classifies too while training. Its classifier is never used for an answer.
        """
        if self.writing_head is None:
            return [F.cross_entropy(self(text, pad_id), labels)]
        with torch.autocast('cpu', torch.bfloat16, enabled=self.bfloat16):
            context, hidden = self.encoder.write_whole(text)
            logits = [self.answer(text, context, pad_id), self.writing_head(_mean(hidden, text))]
        return [F.cross_entropy(found.float(), labels) for found in logits]

    def trained(self) -> dict[str, nn.Parameter]:
        """Return by name all that training may change: A, B, q and the head."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


@torch.no_grad()
def initialise(model: Paraphrase, data: Pairs, pairs: int = 384):
    """Start A at the principal directions of its site's input, and B small and random.

    As EVA (Paischer et al. 2024) starts LoRA: whitened and centred, so that the states carry as
    much of the text as their rank allows from the first step. Sites with the same input (query
    and value of one layer) share its directions out. The same start is given to all arms.

    Args:
        model: newborn.
        data: training pairs, of which the first ``pairs`` are looked at.
        pairs: how many.
    """
    layers = list(model.encoder.adapter.layers.values())
    inputs: list[list[torch.Tensor]] = [[] for _ in layers]
    hooks = [layer.register_forward_pre_hook(lambda _, args, i=i: inputs[i].append(args[0]))
             for i, layer in enumerate(layers)]
    seen: list[list[torch.Tensor]] = [[] for _ in layers]
    groups: dict[int, list[int]] = {}
    for index in data.take(np.arange(min(pairs, len(data)))).batches(32, None):
        text, _ = data.batch(index)
        model.encoder.model(**text)
        valid = text['attention_mask'].bool()
        groups = {}
        for i, got in enumerate(inputs):
            groups.setdefault(id(got[0]), []).append(i)
            seen[i].append(got[0][valid])
        for got in inputs:
            got.clear()
    for hook in hooks:
        hook.remove()
    for group in groups.values():
        rows = torch.cat(seen[group[0]])
        mean = rows.mean(0)
        _, scale, directions = torch.linalg.svd(rows - mean, full_matrices=False)
        for place, i in enumerate(group):
            layer = layers[i]
            own = slice(place, place + layer.rank * len(group), len(group))
            layer.A.copy_(directions[own] / (scale[own, None] / len(rows) ** 0.5))
            layer.centre.copy_(layer.A @ mean)
            nn.init.normal_(layer.B, std=B_START)


@dataclass
class Budget:
    """What is equal for all arms."""

    epochs: int = 3
    batch: int = 32
    warmup: float = 0.1
    clip: float = 1.0


class Training:
    """One run: AdamW, linear warm-up and decay; saved and resumed between epochs.

    Args:
        model: to train.
        data: training pairs.
        budget: epochs and batch.
        lr: highest learning rate.
        seed: of the order of the data.
        ranks: one of these is drawn each step (nested rank); None uses the full rank.
    """

    def __init__(self, model: Paraphrase, data: Pairs, budget: Budget, lr: float, seed: int,
                 ranks: tuple[int, ...] | None = None):
        self.model, self.data, self.budget, self.seed = model, data, budget, seed
        self.ranks = ranks
        self.named = model.trained()
        q = [p for name, p in self.named.items() if '.reader.' in name]
        rest = [p for name, p in self.named.items() if '.reader.' not in name]
        self.optimizer = torch.optim.AdamW([{'params': rest, 'share': 1.0},
                                            {'params': q, 'share': Q_SHARE}], weight_decay=0.0)
        per_epoch = -(-len(data) // budget.batch)
        total, warm = per_epoch * budget.epochs, budget.warmup * per_epoch * budget.epochs
        self._lr = [lr * min((i + 1) / warm, (total - i) / (total - warm)) for i in range(total)]
        self.epoch, self.step = 0, 0

    def run_epoch(self, progress=lambda done, total, loss: None) -> float:
        """Train one epoch and return its mean loss."""
        rng = np.random.default_rng([self.seed, self.epoch])
        groups = list(self.data.batches(self.budget.batch, rng))
        total = 0.0
        for done, index in enumerate(groups, 1):
            if self.ranks:
                self.model.encoder.limit_rank(int(rng.choice(self.ranks)))
            total += self.train_step(index)
            progress(done, len(groups), total / done)
        self.epoch += 1
        return total / len(groups)

    def train_step(self, index: np.ndarray) -> float:
        """Train on one batch of pairs and return the loss of the answer."""
        text, labels = self.data.batch(index)
        losses = self.model.losses(text, labels, self.data.pad_id)
        self.optimizer.zero_grad()
        sum(losses).backward()
        nn.utils.clip_grad_norm_(self.named.values(), self.budget.clip)
        for group in self.optimizer.param_groups:
            group['lr'] = self._lr[self.step] * group['share']
        self.optimizer.step()
        self.step += 1
        return losses[0].item()

    def save(self, path: Path):
        """Write weights and optimizer as safetensors, whole or not at all."""
        tensors = {f'model.{k}': v.detach().contiguous() for k, v in self.named.items()}
        for name, p in self.named.items():
            for key, value in self.optimizer.state.get(p, {}).items():
                tensors[f'{key}.{name}'] = value.contiguous()
        with whole(path) as part:
            save_file(tensors, str(part),
                      metadata={'epoch': str(self.epoch), 'step': str(self.step)})

    @torch.no_grad()
    def load(self, path: Path):
        """Go on where :meth:`save` left off."""
        with safe_open(str(path), 'pt') as file:
            self.epoch, self.step = (int(file.metadata()[k]) for k in ('epoch', 'step'))
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        for name, p in self.named.items():
            p.copy_(tensors[f'model.{name}'])
            state = {key: tensors[f'{key}.{name}'] for key in ('step', 'exp_avg', 'exp_avg_sq')
                     if f'{key}.{name}' in tensors}
            if state:
                self.optimizer.state[p] = state


@torch.no_grad()
def evaluate(model: Paraphrase, data: Pairs, batch: int = 64) -> dict:
    """Return accuracy, F1, mean loss and the predicted class (n,) of every pair."""
    predicted = np.empty(len(data), np.int64)
    loss = 0.0
    for index in data.batches(batch, None):
        text, labels = data.batch(index)
        logits = model(text, data.pad_id)
        predicted[index] = logits.argmax(1).numpy()
        loss += F.cross_entropy(logits, labels, reduction='sum').item()
    return {'accuracy': float((predicted == data.labels).mean()),
            'f1': f1_score(predicted, data.labels), 'loss': loss / len(data),
            'predicted': predicted}
