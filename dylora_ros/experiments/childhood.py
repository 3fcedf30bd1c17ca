"""What the lives of ``experiment life`` begin with: sight that sentences taught, q, a reward.

1. Look around in several worlds and hear what is said about the view (captions).
2. A of vision: of each site, the directions of its pooled input that tell most about the
   sentences and that the sites before it did not tell (reduced-rank ridge regression). Principal
   directions do not show where a toy is (decision 060). B of vision stays zero.
3. The projector, from vision's states to the sentences; held-out worlds judge it.

Every step leaves a file in the work folder and is skipped when it is there.
"""

import json
from pathlib import Path
import shutil

import numpy as np
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
import torch
import torch.nn.functional as F

from dylora_ros.core.reward import Projector
from dylora_ros.experiments.babble import PERIOD
from dylora_ros.experiments.pretrain_fit import fit, say
from dylora_ros.experiments.pretrain_states import gather, states_of
from dylora_ros.experiments.statistics import auc
from dylora_ros.modalities import registry
from dylora_ros.modalities.vision import pixels
from dylora_ros.sim.batch import Batch

WORLDS, LOOKS, BETWEEN = 10, 500, 8      # looks in each world, cycles between two of them
HELD_OUT = 2                             # worlds that judge
_FIRST_SEED = 5000
_RIDGE = 300.0


def look_around(vision, path: Path) -> dict[str, np.ndarray]:
    """Step 1: pooled inputs of every site (n, d) and ``captions`` as JSON bytes, by look."""
    if not path.exists():
        batch = Batch('gaze', WORLDS, _FIRST_SEED, PERIOD, frame_every=BETWEEN)
        rng, captions = np.random.default_rng(0), []
        wish = np.zeros((WORLDS, 2))
        reach = np.array([2.2, 0.6])
        batch.reset()

        def looks():
            nonlocal wish
            for i in range(LOOKS):
                for _ in range(BETWEEN):
                    joints = np.stack([w.joints().position for w in batch.worlds])
                    wish = np.clip(0.95 * wish + 0.3 * rng.standard_normal(wish.shape), -1, 1)
                    senses = batch.step(np.clip(wish - 0.5 * joints / reach, -1, 1))
                captions.append([w.captions() for w in batch.worlds])
                if i % 50 == 49:
                    say(f'looked {(i + 1) * WORLDS} of {LOOKS * WORLDS} times')
                frames = torch.cat([pixels(f) for f in senses.image])
                yield lambda frames=frames: see(vision, frames)

        inputs = gather(vision.adapter, looks())
        batch.close()
        text = json.dumps([c for moment in captions for c in moment]).encode()
        part = path.with_suffix('.part')
        save_arrays({**inputs, 'captions': np.frombuffer(text, np.uint8).copy()}, str(part))
        part.replace(path)
    return load_arrays(str(path))


def see(vision, frames: torch.Tensor) -> np.ndarray:
    """Return vision's x (b, s, r) of frames (b, 3, p, p) without bias.

    Matrix products are in bfloat16: a frame of a batch then costs half of one alone, and x
    differs by 0.005 (it has unit variance).
    """
    vision.adapter.set_state(torch.zeros(len(frames), vision.spec.sites, vision.spec.rank), 0.0)
    with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
        vision.encoder(frames)
        return vision.adapter.read_x().float().numpy()


def said(captions: list[list[str]]) -> tuple[list[str], np.ndarray]:
    """Return the sentences there are and which were true when, (n, sentences) 0 or 1."""
    vocabulary = sorted({s for c in captions for s in c})
    number = {s: i for i, s in enumerate(vocabulary)}
    truth = np.zeros((len(captions), len(vocabulary)), np.float32)
    for i, sentences in enumerate(captions):
        truth[i, [number[s] for s in sentences]] = 1
    return vocabulary, truth


def align(adapter, inputs: dict[str, np.ndarray], truth: np.ndarray):
    """Step 2: set A and centre of every site (see the module); x has unit variance.

    Args:
        adapter: its sites are taken in order.
        inputs: site -> pooled inputs (n, d).
        truth: (n, sentences) 0 or 1. Rare sentences weigh as much as frequent ones.

    """
    wanted = (truth - truth.mean(0)) / np.sqrt(truth.mean(0) + 0.002)
    residual, known = wanted.copy(), np.zeros((len(truth), 0))
    for name, layer in adapter.layers.items():
        data = inputs[name].astype(np.float64)
        mean = data.mean(0)
        spread = (data - mean).std()
        unit = (data - mean) / spread
        full = np.linalg.solve(unit.T @ unit + _RIDGE * np.eye(unit.shape[1]),
                               unit.T @ residual)
        _, _, best = np.linalg.svd(unit @ full, full_matrices=False)
        directions = full @ best[:layer.rank].T                                     # (d, r)
        size = (unit @ directions).std(0) + 1e-9
        a = (directions / size).T / spread
        with torch.no_grad():
            layer.A.copy_(torch.from_numpy(a).float().view_as(layer.A))
            layer.centre.copy_(torch.from_numpy(a @ mean).float())
            layer.B.zero_()
        known = np.concatenate([known, unit @ (directions / size)], 1)
        explained = np.linalg.solve(known.T @ known + 10 * np.eye(known.shape[1]),
                                    known.T @ wanted)
        residual = wanted - known @ explained


def fit_projector(x: np.ndarray, others: np.ndarray, schema, truth: np.ndarray,
                  vectors: np.ndarray, steps: int, seed: int) -> Projector:
    """Step 3: fit composite states to the sentences about the view.

    Args:
        x: (n, s * r) of vision.
        others: (k, w + m) composites and masks of waking life, from which all other senses'
            parts are drawn at random: what is seen does not depend on them.
        schema: of the rows.
        truth: (n, sentences).
        vectors: (sentences, 384) of the sentence model.
        steps: of Adam.
        seed: of everything.

    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    seen = schema.slices['vision']
    projector = Projector(schema.width, len(schema.modalities))
    x, truth, vectors = (torch.from_numpy(np.ascontiguousarray(v, np.float32))
                         for v in (x, truth, vectors))

    # of each sentence: is it true now? That orders moments, as a reward must. How high a sentence
    # lies in general (its bias) and how close sentences are to each other (scale) is not reward.
    bias = torch.full((len(vectors),), -3.0, requires_grad=True)
    scale = torch.tensor(3.0, requires_grad=True)
    rare = 1 / (truth.mean(0) + 0.01).sqrt()
    # of what all sentences share nothing can be told apart: no state points there
    shared = F.normalize(vectors.mean(0), dim=-1)
    contrast = F.normalize(vectors - (vectors @ shared)[:, None] * shared, dim=-1)

    def loss(_):
        i = rng.integers(0, len(x), 256)
        state = torch.from_numpy(others[rng.integers(0, len(others), 256)])
        state[:, seen] = x[i] + 0.1 * torch.randn(256, x.shape[1])
        state[:, schema.width + list(schema.modalities).index('vision')] = 1
        point = projector(state)
        score = scale.exp() * point @ contrast.T + bias
        wrong = F.binary_cross_entropy_with_logits(score, truth[i], reduction='none')
        return (rare * wrong).sum(1).mean() + 30 * (point @ shared).square().mean()

    fit([*projector.parameters(), bias, scale], loss, steps, 1e-3, 'projector')
    return projector.eval()


def prepare(folder: Path, sentences, others: np.ndarray | None = None,
            steps: int = 2000) -> dict[str, float]:
    """Make vision.safetensors and projector.safetensors in ``folder``, beside copies of the rest.

    Args:
        folder: of weights.
        sentences: the sentence model.
        others: see :func:`fit_projector`; zeros when None.
        steps: of the projector.

    Returns:
        Held-out AUC of every sentence about the view.

    """
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / 'childhood.json'
    if told.exists():
        return json.loads(told.read_text())
    vision = registry.make('vision', weights=None)
    data = look_around(vision, folder / 'looks.safetensors')
    captions = json.loads(data.pop('captions').tobytes())
    captions = [[s for s in c if 'view' in s] for c in captions]
    vocabulary, truth = said(captions)
    judge = np.arange(len(truth)) % WORLDS >= WORLDS - HELD_OUT
    align(vision.adapter, {k: v[~judge] for k, v in data.items()}, truth[~judge])
    x = states_of(vision.adapter, data).reshape(len(truth), -1)
    vision.save(folder / 'vision.safetensors')
    for name in ('audio', 'text', 'body'):
        shutil.copy(registry.SHIPPED / f'{name}.safetensors', folder)
    schema = registry.row_schema(2, folder)
    width = schema.width + len(schema.modalities)
    if others is None:
        others = np.zeros((1, width), np.float32)
    vectors = sentences.embed(vocabulary)
    projector = fit_projector(x[~judge], others, schema, truth[~judge], vectors, steps, 0)
    save_file(projector.state_dict(), str(folder / 'projector.safetensors'))
    state = np.zeros((int(judge.sum()), width), np.float32)
    state[:, schema.slices['vision']] = x[judge]
    state[:, schema.width + list(schema.modalities).index('vision')] = 1
    with torch.inference_mode():
        score = projector(torch.from_numpy(state)).numpy() @ vectors.T
    report = {s: round(auc(score[:, i], truth[judge, i]), 3) for i, s in enumerate(vocabulary)}
    told.write_text(json.dumps(report, indent=1))
    return report


def load_projector(folder: Path, schema) -> Projector:
    """Return the projector that :func:`prepare` made."""
    projector = Projector(schema.width, len(schema.modalities))
    projector.load_state_dict(load_file(str(folder / 'projector.safetensors')))
    return projector.eval()
