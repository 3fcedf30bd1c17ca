"""What the decoder model thinks is perceived, in words, and what moved the reward."""

import os

import numpy as np
import torch

from dylora_ros.core.context import ContextError, GlobalContext
from dylora_ros.core.judging import RewardModel
from dylora_ros.core.reward import Statements
from dylora_ros.core.rows import FLAG_FORGOTTEN
from dylora_ros.core.speaker import Speaker
from dylora_ros.experiments.speaking import tokens

WORDS = 14            # most new tokens of a sentence


def chosen(log: GlobalContext, numbers: list[int], last: int) -> np.ndarray:
    """Return the rows asked for, or the newest ``last``.

    Raises:
        ContextError: the memory is empty, or does not hold such a row.

    """
    if log.committed == log.first:
        raise ContextError(f'{log.path} holds no row; let the agent live first')
    if last < 1:
        raise ContextError(f'--last {last} is not a number of rows')
    wanted = np.array(numbers) if numbers else np.arange(
        max(log.first, log.committed - last), log.committed)
    if wanted.min() < log.first or wanted.max() >= log.committed:
        raise ContextError(f'{log.path} holds rows {log.first} to {log.committed - 1}, not '
                           f'{wanted.tolist()}')
    erased = wanted[(log.take(wanted)['flags'] & FLAG_FORGOTTEN) > 0]
    if len(erased):
        raise ContextError(f'rows {erased.tolist()} were forgotten on request')
    return wanted


def spread(log: GlobalContext, count: int) -> np.ndarray:
    """Return at most ``count`` rows, evenly over the memory."""
    return np.unique(np.linspace(log.first, log.committed - 1, max(1, count)).astype(int))


def beliefs(speaker: Speaker, tokenizer, state: np.ndarray) -> list[tuple[list[str], np.ndarray]]:
    """Return of each thing its sentences, and how probable each is in each state, (n, c)."""
    out = []
    for topic in speaker.topics:
        read = speaker.read(tokens(tokenizer, list(topic)))
        likely = speaker.likelihood(torch.from_numpy(state), read) * (read.length - 1)
        # rare sentences were drawn more often than they are true; that is taken back
        odds = likely + torch.tensor(list(topic.values()))
        out.append((list(topic), odds.softmax(1).numpy()))
    return out


def naming(speaker: Speaker, tokenizer, state: np.ndarray, captions: list[list[str]], most: int,
           seed: int) -> dict[str, float]:
    """Return how often the most probable sentence of each thing is true, and of chance.

    ``chance`` says of every thing what is true of it most often. ``balanced`` is the mean over
    sentences, so that what is rare counts as much.
    """
    index = np.sort(np.random.default_rng(seed).permutation(len(state))[:most])
    right, usual, balanced = [], [], []
    for i, (sentences, probability) in enumerate(beliefs(speaker, tokenizer, state[index])):
        truth = np.array([captions[n][i] for n in index])
        hit = np.array(sentences)[probability.argmax(1)] == truth
        right.append(hit.mean())
        usual.append(max(np.mean(truth == s) for s in sentences))
        balanced.append(np.mean([hit[truth == s].mean() for s in set(truth)]))
    return {k: round(float(np.mean(v)), 4) for k, v in (
        ('right', right), ('chance', usual), ('balanced', balanced),
        ('chance_balanced', [1 / len(t) for t in speaker.topics]))} | {'n': len(index)}


def explain(speaker: Speaker, tokenizer, models: dict[str, RewardModel], statements: Statements,
            state: np.ndarray, usual: np.ndarray, titles: list[str]):
    """Print what states mean.

    Args:
        speaker: the language model.
        tokenizer: its.
        models: reward models of the statements, by name.
        statements: what is good and bad.
        state: (n, w + m) to explain.
        usual: (k, w + m) of the same memory; shares of the reward are told against their mean.
        titles: of the n states.

    """
    prompts = [os.path.commonprefix(list(topic)).rsplit(' ', 1)[0] for topic in speaker.topics]
    free = [_sentences(speaker, tokenizer, state, prompt) for prompt in prompts]
    told = beliefs(speaker, tokenizer, state)
    shares = {name: (model.shares(state), model.shares(usual).mean(0))
              for name, model in models.items()}
    groups = [*(('good', g) for g in statements.good), *(('bad', b) for b in statements.bad)]
    for i, title in enumerate(titles):
        print(f'{title}\n  in its own words')
        for sentences in free:
            print(f'    {sentences[i]}')
        print('  most probable')
        for sentences, probability in told:
            best = np.argsort(probability[i])[::-1][:2]
            print('    ' + '   '.join(f'{probability[i, k]:.2f} {sentences[k]}' for k in best))
        for name, (share, mean) in shares.items():
            print(f'  reward of the {name} model {share[i].sum():+.3f}, usually '
                  f'{mean.sum():+.3f}; moved by')
            for k in np.argsort(-np.abs(share[i] - mean)):
                kind, group = groups[k]
                print(f'    {share[i, k] - mean[k]:+.3f} {kind:4} {group[0]}')


def _sentences(speaker: Speaker, tokenizer, state: np.ndarray, prompt: str) -> list[str]:
    """Let the model go on with a prompt in each state."""
    begun = tokens(tokenizer, [prompt])[0]
    end = {tokenizer.eos_token_id, tokens(tokenizer, ['.'])[0][-1]}
    made = speaker.say(torch.from_numpy(state), begun, WORDS, end)
    return [prompt + tokenizer.decode(row, skip_special_tokens=True) for row in made]
