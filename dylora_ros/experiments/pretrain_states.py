"""First LR states: A and centre of every site, whitened on the babble; caches of frozen parts."""

from collections.abc import Iterable
from dataclasses import dataclass
import json

import numpy as np
import torch
import torch.nn.functional as F

from dylora_ros.experiments.babble import windows
from dylora_ros.modalities.audio import encode_mel
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


def see(vision, images: np.ndarray, fit: bool = True) -> tuple[Seen, np.ndarray]:
    """Encode all frames (f, h, w, 3) without bias; return the caches and x (f, s, r).

    Args:
        vision: its A and centre are set when ``fit``.
        images: (f, h, w, 3) uint8.
        fit: whiten first.

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
    if fit:
        whiten(vision.adapter, inputs)
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


def hear(audio, data: dict, fit: bool = True) -> tuple[Heard, np.ndarray]:
    """Encode all windows without bias; return the caches and x (n, s, r)."""
    hop = audio.hop // 160
    audio.adapter.set_state(None, gamma=0.0)
    cycles, embedded, pooled, means = [], [], [], []

    def run(cycle, mel):
        cycles.append(cycle)
        embedded.append(embed_mel(audio.encoder, mel).half())
        tokens = encode_mel(audio.encoder, mel)
        pooled.append(tokens[:, -hop // 2:].mean(1)[None])
        means.append(torch.stack([mel[:, :, -2 * hop:-hop].mean(2), mel[:, :, -hop:].mean(2)],
                                 1)[None])

    inputs = gather(audio.adapter, (lambda c=c, m=m: run(c, m) for c, m in windows(audio, data)))
    if fit:
        whiten(audio.adapter, inputs)
    x = states_of(audio.adapter, inputs)                       # (n * EARS, s / EARS, r)
    heard = Heard(np.array(cycles), *(torch.cat(v).clone() for v in (embedded, pooled, means)))
    return heard, x.reshape(len(cycles), -1, x.shape[2])


def embed_mel(encoder, mel: torch.Tensor) -> torch.Tensor:
    """Return Whisper's hidden states (b, n, d) before its first layer."""
    h = F.gelu(encoder.conv1(mel))
    h = F.gelu(encoder.conv2(h)).transpose(1, 2)
    return h + encoder.embed_positions.weight[:h.shape[1]]


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

