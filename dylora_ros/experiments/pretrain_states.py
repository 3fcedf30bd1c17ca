"""First LR states: A and centre of every site, from the babble; caches of frozen parts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
import json

import numpy as np
import torch

from dylora_ros.experiments.babble import windows
from dylora_ros.modalities.audio import embed_mel, upper_layers
from dylora_ros.modalities.specs import EARS
from dylora_ros.modalities.vision import pixels

FIRST_BLOCK = 4       # of vision's adapted ones; those below never change


def whiten(adapter, inputs: dict[str, np.ndarray]):
    """Set A and centre of every site to the whitened principal directions of its inputs."""
    for name, layer in adapter.layers.items():
        data = inputs[name].astype(np.float64)
        mean = data.mean(0)
        _, values, directions = np.linalg.svd(data - mean, full_matrices=False)
        scale = values[:layer.rank] / np.sqrt(len(data)) + 1e-6
        a = directions[:layer.rank] / scale[:, None]
        with torch.no_grad():
            layer.A.copy_(torch.from_numpy(a).float().view_as(layer.A))
            layer.centre.copy_(torch.from_numpy(a @ mean).float())


def gather(adapter, runs: Iterable) -> dict[str, np.ndarray]:
    """Run each thunk and collect the pooled inputs of every site."""
    kept: dict[str, list] = {name: [] for name in adapter.layers}
    for layer in adapter.layers.values():
        layer.calibrating = True
    with torch.inference_mode():
        for run in runs:
            run()
            for name, layer in adapter.layers.items():
                kept[name].append(layer.inputs.numpy().copy())
    for layer in adapter.layers.values():
        layer.calibrating, layer.inputs = False, None
    return {name: np.concatenate(v) for name, v in kept.items()}


def states_of(adapter, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Return x = A input - centre of every site, (n, s, r): exact while nothing is biased."""
    return np.stack([
        (inputs[name] @ layer.A.detach().flatten(1).numpy().T
         - layer.centre.numpy()).astype(np.float32)
        for name, layer in adapter.layers.items()], 1)


@dataclass
class Seen:
    """What the frozen part of vision makes of the babble's frames.

    Attributes:
        frames: (f, 3, p, p) targets of the decoder.
        hidden: (f, tokens, d) half precision, before the first adapted block.
        tokens: (f, g * g, d) half precision, the encoder's output without bias.
    """

    frames: torch.Tensor
    hidden: torch.Tensor
    tokens: torch.Tensor


def upper_blocks(vision, hidden: torch.Tensor) -> torch.Tensor:
    """Run the adapted blocks and the last norm on cached hidden states (b, tokens, d)."""
    for block in vision.encoder.encoder.layer[FIRST_BLOCK:]:
        hidden = _hidden(block(hidden))
    return vision.encoder.layernorm(hidden)


def see(vision, images: np.ndarray,
        fit: Callable | None = None) -> tuple[Seen, np.ndarray]:
    """Encode all frames (f, h, w, 3) without bias; return the caches and x (f, s, r).

    Args:
        vision: the sense.
        images: (f, h, w, 3) uint8.
        fit: called with the adapter and the pooled inputs of its sites; sets A and centre.

    """
    vision.adapter.set_state(None, gamma=0.0)
    hiddens, tokens = [], []

    def run(images):
        hidden = vision.encoder.embeddings(torch.cat([pixels(f) for f in images]))
        for block in vision.encoder.encoder.layer[:FIRST_BLOCK]:
            hidden = _hidden(block(hidden))
        hiddens.append(hidden.half())
        tokens.append(upper_blocks(vision, hidden)[:, 1:].half())

    inputs = gather(vision.adapter, [lambda i=i: run(images[i:i + 16])
                                     for i in range(0, len(images), 16)])
    if fit is not None:
        fit(vision.adapter, inputs)
    frames = torch.from_numpy(np.stack([vision.target(f) for f in images]))
    return (Seen(frames, torch.cat(hiddens).clone(), torch.cat(tokens).clone()),
            states_of(vision.adapter, inputs))


@dataclass
class Heard:
    """Windows of the babble's sound.

    Attributes:
        cycles: (n,) at which each ends.
        embedded: (n * EARS, tokens, d) half precision, before the first adapted layer.
        pooled: (n, EARS, d) mean of the newest tokens without bias.
        means: (n, EARS, 2, MELS) mean spectrum of the previous and the newest hop.
    """

    cycles: np.ndarray
    embedded: torch.Tensor
    pooled: torch.Tensor
    means: torch.Tensor


def hear(audio, data: dict, fit: Callable | None = None) -> tuple[Heard, np.ndarray]:
    """Encode all windows without bias; return the caches and x (n, s, r); ``fit`` as in see."""
    hop = audio.hop // 160
    audio.adapter.set_state(None, gamma=0.0)
    cycles, mels = zip(*windows(audio, data), strict=True)
    mel = torch.stack(mels)                                    # (n, EARS, MELS, frames)
    embedded, pooled = [], []

    def run(part):
        h = embed_mel(audio.encoder, part.flatten(0, 1))
        embedded.append(h.half())
        tokens = upper_layers(audio.encoder, h)
        pooled.append(tokens[:, -hop // 2:].mean(1).unflatten(0, (-1, EARS)))

    inputs = gather(audio.adapter, [lambda p=p: run(p) for p in mel.split(16)])
    means = torch.stack([mel[..., -2 * hop:-hop].mean(-1), mel[..., -hop:].mean(-1)], 2)
    if fit is not None:
        fit(audio.adapter, inputs)
    x = states_of(audio.adapter, inputs)                       # (n * EARS, s / EARS, r)
    heard = Heard(np.array(cycles), torch.cat(embedded).clone(), torch.cat(pooled).clone(), means)
    return heard, x.reshape(len(cycles), -1, x.shape[2])


def read(text, data: dict):
    """Whiten the sites of text on the captions of the babble."""
    sentences = sorted({s for c in data['captions'] for s in json.loads(c)})
    text.adapter.set_state(None, gamma=0.0)
    whiten(text.adapter, gather(
        text.adapter, [lambda s=s: text.sentences.forward([s]) for s in sentences]))


def feel(body, signals: np.ndarray) -> np.ndarray:
    """Whiten the sites of the body; return x (n, s, r)."""
    body.adapter.set_state(None, gamma=0.0)
    inputs = gather(body.adapter, [lambda: body.encoder(torch.from_numpy(signals))])
    whiten(body.adapter, inputs)
    return states_of(body.adapter, inputs)


def _hidden(got):
    return got[0] if isinstance(got, tuple) else got

