"""What sentences teach: A of sight, and the projector that the reward rests on.

Captions of the simulator are the teacher (paper, 3.3: human statements about the inner state).
Legend: n moments, d width of a site's pooled input, s sites, r rank, c captions.
"""

import re

import numpy as np
import torch
import torch.nn.functional as F

from dylora_ros.core.reward import Projector, StatementReward
from dylora_ros.core.understanding import Understanding
from dylora_ros.experiments.agreement import grades, order, users, ways
from dylora_ros.experiments.pretrain_fit import fit
from dylora_ros.experiments.pretrain_states import whiten
from dylora_ros.experiments.ways import FURTHER

RIDGE = 3000.0        # less, and a blurred (dreamt) frame gives states far from all that was seen
NOISE = 0.1           # on the states, in their standard deviations
# a caption, and other ways to say it; what a person writes into the statements is neither
PARAPHRASES = {
    r'The (.+) is in the middle of my view\.': (
        'The {} is in the centre of my sight.', 'The {} is right before my eyes.',
        'I have the {} in the middle of the picture.', 'I am facing the {}.',
        'My eyes rest on the {}.', 'The {} is directly in front of me.', 'I am watching the {}.',
        'The {} is centred in what I see.', 'My gaze is fixed on the {}.',
        'I look at the {} and it is where I look.'),
    r'The (.+) is out of my view\.': (
        'The {} is nowhere in my sight.', 'I do not see the {}.', 'The {} is not in the picture.',
        'There is no {} before my eyes.', 'I have lost sight of the {}.',
        'The {} cannot be seen from here.', 'The {} is outside of what I see.',
        'I have no view of the {}.', 'I look elsewhere and miss the {}.'),
    r'The (.+) is on the (left|right) side of my view\.': (
        'I see the {0} on my {1}.', 'The {0} is to the {1} of where I look.',
        'The {0} is near the {1} edge of the picture.', 'The {0} is off to the {1}.'),
    r'The (.+) is at the (top|bottom) of my view\.': (
        'I see the {0} at the {1}.', 'The {0} is near the {1} edge of the picture.'),
    r'I hear the (.+) (from the left|from the right|in front of me)\.': (
        'The sound of the {0} comes {1}.', 'The {0} makes a sound {1}.'),
    r'I touch the (.+) and it feeds me\.': (
        'The {} feeds me.', 'I am eating at the {}.', 'I am at the {} and get food.'),
    r'I touch the (.+) but it is silent\.': (
        'The {} gives me nothing.', 'I am at the {} and it has no food.'),
}


def said(captions: list[list[str]]) -> tuple[list[str], np.ndarray]:
    """Return the sentences there are and which were true when, (n, c) 0 or 1."""
    vocabulary = sorted({s for c in captions for s in c})
    number = {s: i for i, s in enumerate(vocabulary)}
    truth = np.zeros((len(captions), len(vocabulary)), np.float32)
    for i, sentences in enumerate(captions):
        truth[i, [number[s] for s in sentences]] = 1
    return vocabulary, truth


def ways_to_say(caption: str, *tables: dict[str, tuple[str, ...]]) -> list[str]:
    """Return a caption and all other ways to say it."""
    out = [caption]
    for table in tables:
        for pattern, templates in table.items():
            if found := re.fullmatch(pattern, caption):
                out += [t.format(*found.groups()) for t in templates]
    return out


def paraphrased(vocabulary: list[str], truth: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Return the sentences with other ways to say each, and (n, more) their truth."""
    said = [ways_to_say(caption, PARAPHRASES) for caption in vocabulary]
    return [way for ways in said for way in ways], truth.repeat([len(w) for w in said], 1)


def understanding(vocabulary: list[str], embed) -> Understanding:
    """Return what reads a sentence as one of these captions.

    Args:
        vocabulary: captions.
        embed: sentences -> (p, 384), the frozen sentence model.

    """
    said = [ways_to_say(caption, PARAPHRASES, FURTHER) for caption in vocabulary]
    which = np.repeat(np.arange(len(said)), [len(w) for w in said])
    return Understanding.taught(
        torch.from_numpy(embed(vocabulary)),
        torch.from_numpy(embed([way for ways in said for way in ways])), torch.from_numpy(which))


def teach(adapter, inputs: dict[str, np.ndarray], truth: np.ndarray):
    """Set A and centre: the first half of the sites by sentences, the others by variance.

    A taught site holds the directions of its pooled input that tell most about the sentences
    and that the sites before it did not tell (reduced-rank ridge regression). Variance alone
    does not show where a thing is; beside four taught sites, four of variance tell more than
    four taught ones (decision 060). x has unit variance; B becomes zero.

    Args:
        adapter: its sites are taken in order.
        inputs: site -> pooled inputs (n, d).
        truth: (n, c) 0 or 1. Rare sentences weigh as much as frequent ones.

    """
    whiten(adapter, inputs)
    wanted = (truth - truth.mean(0)) / np.sqrt(truth.mean(0) + 0.002)
    residual, known = wanted, np.zeros((len(truth), 0))
    layers = list(adapter.layers.items())
    for name, layer in layers[:(len(layers) + 1) // 2]:
        data = inputs[name].astype(np.float64)
        mean = data.mean(0)
        spread = (data - mean).std()
        unit = (data - mean) / spread
        full = np.linalg.solve(unit.T @ unit + RIDGE * np.eye(unit.shape[1]), unit.T @ residual)
        _, _, best = np.linalg.svd(unit @ full, full_matrices=False)
        directions = full @ best[:layer.rank].T                                     # (d, r)
        size = (unit @ directions).std(0) + 1e-9
        a = (directions / size).T / spread
        with torch.no_grad():
            layer.A.copy_(torch.from_numpy(a).float().view_as(layer.A))
            layer.centre.copy_(torch.from_numpy(a @ mean).float())
        known = np.concatenate([known, unit @ (directions / size)], 1)
        explained = np.linalg.solve(known.T @ known + 10 * np.eye(known.shape[1]),
                                    known.T @ wanted)
        residual = wanted - known @ explained
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.B.zero_()


def fit_projector(state: np.ndarray, schema, truth: np.ndarray, vectors: np.ndarray,
                  steps: int, seed: int) -> Projector:
    """Fit composite states to the sentences.

    Each is asked of each moment: is it true now? That orders moments, as a reward must
    (decision 064).

    Args:
        state: (n, w + m) as ``features.inner_states`` returns.
        schema: of the rows.
        truth: (n, c).
        vectors: (c, 384) of the sentence model.
        steps: of Adam.
        seed: of everything.

    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    projector = Projector(schema.width, len(schema.modalities), vectors.shape[1])
    state, truth, vectors = (torch.from_numpy(np.ascontiguousarray(v, np.float32))
                             for v in (state, truth, vectors))
    # one scale and bias for all sentences, so that they hold for those never heard
    bias = torch.full((), -3.0, requires_grad=True)
    scale = torch.tensor(3.0, requires_grad=True)
    rare = 1 / (truth.mean(0) + 0.01).sqrt()
    # of what all sentences share nothing can be told apart: no state points there
    projector.shared.copy_(F.normalize(vectors.mean(0), dim=-1))
    contrast = projector.contrast(vectors)
    noise = torch.zeros(state.shape[1])
    noise[:schema.width] = NOISE

    def loss(_):
        i = rng.integers(0, len(state), 256)
        point = projector(state[i] + noise * torch.randn(256, len(noise)))
        score = scale.exp() * point @ contrast.T + bias
        wrong = F.binary_cross_entropy_with_logits(score, truth[i], reduction='none')
        return (rare * wrong).sum(1).mean() + 30 * (point @ projector.shared).square().mean()

    fit([*projector.parameters(), bias, scale], loss, steps, 1e-3, 'projector')
    with torch.no_grad():
        projector.scale.copy_(scale.exp())
        projector.bias.copy_(bias)
    return projector.eval()


def judge_projector(projector: Projector, state: np.ndarray, captions: list[list[str]],
                    sentences, thing: str, seed: int = 0) -> dict[str, float]:
    """Return how well rewards about a thing order moments that nothing was fitted to.

    ``users_spearman``: by statements of users that nothing was fitted to, one user at a time.
    Most moments have grade 0, so that even perfect order gives little (``most``, see
    ``agreement.order``). ``balanced`` takes equally many moments of each grade.

    Args:
        projector: the fitted one.
        state: (n, w + m) moments.
        captions: true sentences of each.
        sentences: the sentence model.
        thing: what the statements are about, for example ``red ball``.
        seed: of the draw that balances.

    """
    grade = grades(captions, thing)
    rng = np.random.default_rng(seed)
    each = np.bincount(grade, minlength=3)
    few = max(1, each.min())
    even = np.concatenate([rng.choice(np.flatnonzero(grade == g), few, replace=False)
                           for g in range(3) if each[g]])
    told = {'n': len(grade), 'in_view': round(float((grade > 0).mean()), 4),
            'middle': round(float((grade == 2).mean()), 4)}

    def rewards(good: str, bad: str) -> np.ndarray:
        return StatementReward(projector, [sentences.embed([good])], [sentences.embed([bad])],
                               0.0).rewards(state)

    value = rewards(*(s[0] for s in ways(thing)['captions']))
    all_of_them, balanced = order(value, grade), order(value[even], grade[even])
    told |= {'most': all_of_them['most'], 'most_balanced': balanced['most'],
             'captions_spearman': all_of_them['spearman'],
             'captions_spearman_balanced': balanced['spearman'],
             'captions_auc_middle': all_of_them['auc_middle'],
             'captions_auc_in_view': all_of_them['auc_in_view']}
    theirs = [order(rewards(*stated), grade)['spearman'] for stated in users(thing)]
    return told | {'users': len(theirs), 'users_spearman': round(float(np.mean(theirs)), 4),
                   'users_spearman_least': min(theirs), 'users_spearman_each': theirs}


def judge_things(projector: Projector, name: str, state: np.ndarray, captions: list[list[str]],
                 sentences, known: list[str]) -> dict[str, dict[str, float]]:
    """Return :func:`judge_projector` of all things on some moments, by "thing, name"."""
    return {f'{thing}, {name}': judge_projector(projector, state, captions, sentences, thing)
            for thing in known}
