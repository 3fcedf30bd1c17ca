"""From a predicted spectrum back to sound that one can listen to.

The mel bank is inverted as far as it can be, phases are found by Griffin and Lim (1984). What is
lost stays lost: a predicted hop is one mean spectrum, so a dream sounds like held tones.

Legend: e ears, n mel frames, m mel bands.
"""

from pathlib import Path
import wave

import numpy as np
import torch

from dylora_ros.modalities.specs import RATE

_ROUNDS = 24


@torch.inference_mode()
def sound_of(log_mel: np.ndarray, bank: torch.Tensor, size: int, hop: int) -> np.ndarray:
    """Return sound (e, (n - 1) * hop) in -1 .. 1 whose log-mel spectrum is about this one.

    Args:
        log_mel: (e, m, n) as ``Audio.log_mel`` gives it.
        bank: (m, size / 2 + 1) mel filters.
        size: of a Fourier frame, samples.
        hop: samples between two frames.

    """
    power = 10.0 ** (4.0 * torch.from_numpy(np.ascontiguousarray(log_mel)) - 4.0)
    power = (power - 1e-7).clamp(min=0.0)              # the floor is silence
    # each frequency gets the mean of the bands that hear it: never negative, as a least-squares
    # inverse can be
    total = bank.sum(1, keepdim=True).clamp(min=1e-9)
    back = (bank / total).T
    spread = back / back.sum(1, keepdim=True).clamp(min=1e-9)
    magnitude = (spread @ (power / total)).sqrt()
    window = torch.hann_window(size)
    phase = torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0)) * 2 * torch.pi
    spectrum = torch.polar(magnitude, phase)
    for _ in range(_ROUNDS):
        sound = torch.istft(spectrum, size, hop, window=window)
        again = torch.stft(sound, size, hop, window=window, return_complex=True)
        spectrum = torch.polar(magnitude, again.angle())
    return torch.istft(spectrum, size, hop, window=window).clamp(-1, 1).numpy()


def write_wave(path: str | Path, sound: np.ndarray):
    """Write sound (e, samples) in -1 .. 1 as a 16-bit file at RATE."""
    with wave.open(str(path), 'wb') as file:
        file.setnchannels(len(sound))
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(sound.T, -1, 1) * 32767).astype('<i2').tobytes())
