"""Fit the decoders, and B of vision and hearing, to predict the next input.

The frozen weights never change; A stays as it was whitened; B and the decoders are trained
together, so that the predicted LR state biases encoding and decoding (paper, 3.3).
"""

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from dylora_ros.experiments.babble import AUDIO_EVERY, VISION_EVERY
from dylora_ros.experiments.pretrain_states import Heard, Seen, upper_blocks
from dylora_ros.experiments.progress import say
from dylora_ros.modalities.audio import upper_layers
from dylora_ros.modalities.body import MARGIN
from dylora_ros.modalities.specs import EARS

NOISE = 0.5           # on what the encoder says of a frame, in its standard deviations


def fit(parameters, loss, steps: int, lr: float, label: str):
    """Adam with cosine decay on ``loss(step)``; prints a few losses."""
    parameters = list(parameters)
    for p in parameters:
        p.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    shown, part = 0.0, max(1, steps // 5)
    for step in range(steps):
        value = loss(step)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        shown += value.item()
        if (step + 1) % part == 0:
            say(f'{label} {step + 1}/{steps} loss {shown / part:.5f}')
            shown = 0.0
    for p in parameters:
        p.requires_grad_(False)


def matrices_b(adapter):
    """Yield B of every site."""
    for layer in adapter.layers.values():
        yield layer.B


def fit_body_encoder(body, data: dict, rng):
    """Encoder: the change of the signal whatever the command."""
    now, _, after = _steps(data)
    scale = (after - now).std(0) + 1e-3

    def loss(_):
        i = rng.integers(0, len(now), 256)
        body.adapter.set_state(None, gamma=0.0)
        return F.mse_loss(body.encoder(now[i]) / scale, (after[i] - now[i]) / scale)

    fit([p for n, p in body.encoder.named_parameters() if '.base.' in n], loss, 2000, 2e-3,
        'body encoder')


def fit_body(body, data: dict, x: np.ndarray, q: np.ndarray, noise: float, rng):
    """Inverse and forward model.

    B of the encoder stays zero: the body's q carries the exploration noise, which would go
    through B into the body's own x, the state that all senses are told.

    Args:
        body: the sense, its encoder fitted and whitened.
        data: the babble.
        x: (n, s, r) LR states of the babble.
        q: (n, s, r) predictions of the next ones.
        noise: of exploration, which at run time is part of the body's q.
        rng: numpy generator.

    """
    same = np.flatnonzero(np.diff(data['life']) == 0)
    now, command, after = _steps(data)
    x_after, q = torch.from_numpy(x)[same + 1], torch.from_numpy(q)[same]

    def inverse(_):
        i = rng.integers(0, len(now), 256)
        noisy = x_after[i] + 0.1 * torch.randn_like(x_after[i])
        return F.mse_loss(body.decoder(now[i], noisy), command[i])

    fit(body.decoder.parameters(), inverse, 3000, 2e-3, 'body inverse')
    forward = body.forward_model
    with torch.no_grad():
        driven = torch.cat([now, command, torch.ones(len(now), 1)], 1).double()
        best = torch.linalg.lstsq(driven, (after - now).double(), driver='gelsd').solution
        forward.straight.weight.copy_(best[:-1].T)
        forward.straight.bias.copy_(best[-1])
        margin = MARGIN * (after.amax(0) - after.amin(0))
        forward.low.copy_(after.amin(0) - margin)
        forward.high.copy_(after.amax(0) + margin)
    scale = (after - now).std(0) + 1e-3
    body.adapter.set_state(None, gamma=0.0)
    with torch.no_grad():
        changes = body.encoder(now)

    def foresee(_):
        i = rng.integers(0, len(now), 256)
        guess = forward(now[i], changes[i], command[i], q[i] + noise * torch.randn_like(q[i]))
        return F.mse_loss(guess / scale, after[i] / scale)

    fit(forward.parameters(), foresee, 3000, 1e-3, 'body forward')


def _steps(data: dict):
    """Return (signal, command given then, next signal) of all consecutive cycles."""
    same = np.flatnonzero(np.diff(data['life']) == 0)
    signals, commands = (torch.from_numpy(data[k]) for k in ('signals', 'commands'))
    return signals[same], commands[same], signals[same + 1]


class FrameData:
    """Frames with all that the decoder is given beside them.

    Frame f comes in cycle 4 f; what is known last before it is the row of cycle 4 f - 1.
    """

    def __init__(self, seen: Seen, data: dict, x: np.ndarray, q: np.ndarray, body: np.ndarray):
        self.seen = seen
        self.x = torch.from_numpy(x)                          # (f, s, r)
        before = np.maximum(np.arange(len(x)) * VISION_EVERY - 1, 0)
        self.body = torch.from_numpy(body.reshape(len(body), -1))[before]     # (f, m)
        self.q = torch.from_numpy(q)[before]                  # (f, s, r): predicted for frame f
        self.life = data['life'][::VISION_EVERY]

    def starts(self, ahead: int) -> np.ndarray:
        """Return the frames with one before (and a row before that) and ``ahead`` after."""
        i = np.arange(2, len(self.life) - ahead)
        return i[self.life[i - 2] == self.life[i + ahead]]


def roll(decoder, data: FrameData, i: np.ndarray, tokens: torch.Tensor, change: torch.Tensor,
         ahead: int):
    """Yield predictions of the frames i + 1 .. i + ahead, each from the ones before.

    From the second on there are no tokens and no change of LR state: those of the true frames
    would tell what was to be foreseen.
    """
    previous, present = data.seen.frames[i - 1], data.seen.frames[i]
    for k in range(1, ahead + 1):
        body = torch.stack([data.body[i + k - 2], data.body[i + k - 1], data.body[i + k]], 1)
        after = decoder(tokens, torch.stack([previous, present], 1), body, change)
        yield after
        previous, present = present, after
        tokens, change = torch.zeros_like(tokens), torch.zeros_like(change)


def frame_loss(guess: torch.Tensor, data: FrameData, i: np.ndarray, k: int) -> torch.Tensor:
    """Squared error, and the same relative to that of "nothing changes": rest counts too."""
    truth = data.seen.frames[i + k]
    error = (guess - truth).square().mean((1, 2, 3))
    still = (data.seen.frames[i] - truth).square().mean((1, 2, 3))
    return 100 * error.mean() + (error / (still + 2e-3)).mean()


def fit_vision(vision, data: FrameData, rng, steps: tuple[int, int, int] = (1600, 600, 300)):
    """One step ahead; then unrolled further and further; then with B of the encoder.

    Args:
        vision: the sense.
        data: its frames.
        rng: numpy generator.
        steps: of the three parts.

    """
    decoder = vision.decoder
    once, several, jointly = steps
    starts = {k: data.starts(k) for k in (1, 3, 6)}

    def blur(tokens, change):
        """Noise, and often nothing as far on in a dream: few frames are easily remembered."""
        keep = torch.from_numpy(rng.random(len(tokens)) < 0.5).float()[:, None, None]
        return (keep * (tokens + NOISE * tokens.std() * torch.randn_like(tokens)),
                keep * (change + NOISE * torch.randn_like(change)))

    def one(i):
        return blur(data.seen.tokens[i].float(), data.q[i + 1] - data.x[i])

    def loss(_):
        i = rng.choice(starts[1], 16)
        guess = next(roll(decoder, data, i, *one(i), 1))
        return frame_loss(guess, data, i, 1)

    fit(decoder.parameters(), loss, once, 2e-3, 'vision, one frame')

    def unrolled(step):
        ahead = 3 if step < several // 3 else 6
        i = rng.choice(starts[ahead], 8)
        total = 0.0
        for k, guess in enumerate(roll(decoder, data, i, *one(i), ahead), 1):
            total = total + frame_loss(guess, data, i, k)
        return total / ahead

    fit(decoder.parameters(), unrolled, several, 1e-3, 'vision, six frames')

    def joint(_):
        i = rng.choice(starts[1], 8)
        vision.adapter.set_state(data.q[i], gamma=0.0)
        tokens = upper_blocks(vision, data.seen.hidden[i].float())[:, 1:]
        tokens, change = blur(tokens, data.q[i + 1] - vision.adapter.read_x())
        return frame_loss(next(roll(decoder, data, i, tokens, change, 1)), data, i, 1)

    if jointly:
        fit([*(p for n, p in decoder.named_parameters() if n.startswith(('squeeze', 'bias'))),
             *matrices_b(vision.adapter)], joint, jointly, 1e-3, 'vision, B')


def fit_audio(audio, heard: Heard, data: dict, x: np.ndarray, q: np.ndarray, rng,
              steps: tuple[int, int] = (2500, 150)):
    """The decoder on cached windows; then with B of the encoder."""
    life = data['life'][heard.cycles]
    starts = np.flatnonzero(life[:-1] == life[1:])
    x = torch.from_numpy(x)
    # q of the row before a window biases its encoding, q of the row before the next one decoding
    q = torch.from_numpy(q)
    now_q = q[heard.cycles - 1]
    next_q = q[np.minimum(heard.cycles + AUDIO_EVERY - 1, len(q) - 1)]
    hop = audio.hop // 160

    def loss(_):
        i = rng.choice(starts, 64)
        guess = audio.decoder(heard.pooled[i], heard.means[i], next_q[i], x[i])
        return 10 * F.mse_loss(guess, heard.means[i + 1][:, :, 1])

    fit(audio.decoder.parameters(), loss, steps[0], 1e-3, 'audio decoder')
    embedded = heard.embedded.view(len(heard.cycles), EARS, *heard.embedded.shape[1:])

    def joint(_):
        i = rng.choice(starts, 12)
        rank = x.shape[2]
        audio.adapter.set_state(now_q[i].reshape(len(i) * EARS, -1, rank), gamma=0.0)
        tokens = upper_layers(audio.encoder, embedded[i].flatten(0, 1).float())
        pooled = tokens[:, -hop // 2:].mean(1).view(len(i), EARS, -1)
        state = audio.adapter.read_x().reshape(len(i), -1, rank)
        guess = audio.decoder(pooled, heard.means[i], next_q[i], state)
        return 10 * F.mse_loss(guess, heard.means[i + 1][:, :, 1])

    fit([*audio.decoder.parameters(), *matrices_b(audio.adapter)], joint, steps[1], 5e-4,
        'audio, B')
