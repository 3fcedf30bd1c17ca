"""Teach a frozen language model to speak of the inner state: pairs of a moment and a caption.

What is true of a moment is said in many ways, and the model learns to say it: maximum likelihood
of the words under the bias of the moment's LR states. Its odds of two sentences are then the odds
that the first and not the second is true; these order moments, as a reward must.
"""

from collections.abc import Callable
import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file
import torch
from torch import nn

from dylora_ros.core.files import whole
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.precision import narrow
from dylora_ros.core.speaker import Sentences, Speaker
from dylora_ros.experiments.progress import Left
from dylora_ros.experiments.teaching import NOISE, PARAPHRASES, ways_to_say

STEPS, BATCH = 500, 32
RATE, BIAS_RATE = 3e-3, 1e-2                # of Adam: A and B, the map of the state to q
EVERY = 25            # steps between checkpoints
SPREAD = 0.6          # what a sentence's rarity counts for when it is drawn


class Lesson:
    """Pairs of a moment and a way to say one thing that is true of it.

    Args:
        state: (n, w + m) moments.
        vocabulary: the captions there are.
        truth: (n, c) which were true when.
        width: w; presence gets no noise.

    Attributes:
        ways: every way to say every caption.
        rarity: of each caption, the logarithm of how much rarer it is drawn than it is true, but
            for a constant.
    """

    def __init__(self, state: np.ndarray, vocabulary: list[str], truth: np.ndarray, width: int):
        self.state = torch.from_numpy(np.ascontiguousarray(state, np.float32))
        self._noise = torch.zeros(state.shape[1])
        self._noise[:width] = NOISE
        self._when = [np.flatnonzero(column) for column in truth.T]
        often = np.array([len(when) for when in self._when])
        weight = often ** (1 - SPREAD)
        self._weight = weight / weight.sum()
        self.rarity = dict(zip(vocabulary, SPREAD * np.log(often / len(state)), strict=True))
        self.ways: list[str] = []
        self._of: list[np.ndarray] = []           # caption -> its ways
        for caption in vocabulary:
            said = ways_to_say(caption, PARAPHRASES)
            self._of.append(len(self.ways) + np.arange(len(said)))
            self.ways += said

    def draw(self, rng: np.random.Generator, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return moments (size, w + m) and the number of the way to say what is true of each."""
        captions = rng.choice(len(self._of), size, p=self._weight)
        moments = [rng.choice(self._when[c]) for c in captions]
        # the caption itself as often as all other ways together
        ways = [self._of[c][0] if rng.random() < 0.5 else rng.choice(self._of[c])
                for c in captions]
        state = self.state[moments]
        noise = torch.from_numpy(rng.standard_normal(state.shape, np.float32))
        return state + self._noise * noise, torch.from_numpy(np.array(ways))


def topics(captions: list[list[str]], rarity: dict[str, float]) -> list[dict[str, float]]:
    """Return which sentences exclude each other: those told at the same place of the captions.

    Args:
        captions: of each moment, in a world's fixed order.
        rarity: of each sentence, how much rarer it is drawn than it is true (logarithm).

    """
    places = min(map(len, captions))
    return [{s: round(float(rarity[s]), 4) for s in sorted({c[i] for c in captions})}
            for i in range(places)]


def tokens(tokenizer, sentences: list[str]) -> list[list[int]]:
    """Return the tokens of each sentence behind the mark of a beginning."""
    begin = tokenizer.bos_token_id
    if begin is None:
        begin = tokenizer.eos_token_id
    return [[begin, *row] for row in tokenizer(sentences, add_special_tokens=False)['input_ids']]


def fit(speaker: Speaker, lesson: Lesson, said: Sentences, steps: int, seed: int, work: Path,
        say: Callable[[str], None]):
    """Train the speaker's small weights; goes on from the checkpoint in ``work``.

    Every step draws by its own seed, so that a resumed training is the same training.

    Raises:
        SchemaError: the checkpoint is of another training.

    """
    values = list(speaker.parameters())
    for p in values:
        p.requires_grad_(True)
    rates = RATE, BIAS_RATE
    optimizer = torch.optim.Adam([{'params': list(speaker.adapter.parameters())},
                                  {'params': list(speaker.bias.parameters())}])
    path, start = work / 'speaker.part.safetensors', 0
    of = json.dumps([speaker.name, speaker.schema.to_json(), steps, seed, len(lesson.state)])
    if path.exists():
        start = _resume(path, values, optimizer, of)
        say(f'goes on from step {start}')
    left, shown = Left(steps - start), []
    for step in range(start, steps):
        rng = np.random.default_rng([seed, step])
        state, way = lesson.draw(rng, BATCH)
        part = said.take(way)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group['lr'] = rate * _shape(step, steps)
        with narrow():
            likely = speaker.token_likelihood(state, part)
        loss = -likely.sum() / (part.length - 1).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(values, 1.0)
        optimizer.step()
        shown.append(loss.item())
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            _keep(path, values, optimizer, step + 1, of)
            say(f'speaker {step + 1}/{steps}, {np.mean(shown):.3f} nats a word, '
                f'{left.after(step + 1 - start)}')
            shown = []
    for p in values:
        p.requires_grad_(False)


def _shape(step: int, steps: int) -> float:
    """Return the share of the rate: a short rise, then a cosine to nothing."""
    return min(1.0, (step + 1) / 20) * 0.5 * (1 + np.cos(np.pi * step / steps))


def _keep(path: Path, values: list, optimizer, step: int, of: str):
    tensors = {'step': torch.tensor(step)}
    for i, p in enumerate(values):
        moments = optimizer.state[p]
        tensors |= {f'{i}.value': p.detach(), f'{i}.mean': moments['exp_avg'],
                    f'{i}.square': moments['exp_avg_sq']}
    with whole(path) as part:
        save_file({k: v.contiguous() for k, v in tensors.items()}, str(part), metadata={'of': of})


def _resume(path: Path, values: list, optimizer, of: str) -> int:
    with safe_open(str(path), 'pt') as file:
        if file.metadata().get('of') != of:
            raise SchemaError(f'{path} is the checkpoint of another training (model, senses, '
                              'steps, seed or life differ); remove it, or choose another --work')
        step = int(file.get_tensor('step'))
        for i, p in enumerate(values):
            with torch.no_grad():
                p.copy_(file.get_tensor(f'{i}.value'))
            optimizer.state[p] = {'step': torch.tensor(float(step)),
                                  'exp_avg': file.get_tensor(f'{i}.mean'),
                                  'exp_avg_sq': file.get_tensor(f'{i}.square')}
    return step
