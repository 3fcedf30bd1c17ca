"""Synthesized stereo sound: sources with pitch and timbre, two ears, impacts."""

from dataclasses import dataclass

import numpy as np

SPEED = 343.0          # m/s
SHADOW = 0.55          # how much the head dims the far ear


@dataclass(frozen=True)
class Voice:
    """How a source sounds.

    Args:
        pitch: fundamental in Hz.
        harmonics: amplitudes of the fundamental and its overtones.
        pulse: loudness pulses a second.
    """

    pitch: float
    harmonics: tuple[float, ...]
    pulse: float

    def at(self, time: np.ndarray) -> np.ndarray:
        """Return the wave at emission times in seconds."""
        wave = np.zeros_like(time)
        for i, amplitude in enumerate(self.harmonics, 1):
            wave += amplitude * np.sin(2 * np.pi * self.pitch * i * time)
        swell = 0.55 + 0.45 * np.sin(2 * np.pi * self.pulse * time)
        return wave * swell / sum(self.harmonics)


@dataclass
class Source:
    """A sounding thing, relative to the head.

    Attributes:
        voice: how it sounds.
        loudness: amplitude at one metre.
        ears: (2, 3) vectors from each ear to the source, world frame, m.
        axis: (3,) unit vector of the head from right to left ear.
    """

    voice: Voice
    loudness: float
    ears: np.ndarray
    axis: np.ndarray


class Synthesizer:
    """Render chunks of stereo sound; phases and delays are continuous across chunks.

    The time difference between the ears comes from each ear's own path length, the level
    difference from distance and head shadow.

    Args:
        rate: samples a second.
        seed: of the noise floor and impacts.
    """

    def __init__(self, rate: int = 16000, seed: int = 0):
        self.rate = rate
        self._rng = np.random.default_rng(seed)
        self._last: dict[Voice, tuple[np.ndarray, np.ndarray]] = {}
        self._sample = 0
        self._ring = np.zeros((2, 0), np.float32)

    def chunk(self, samples: int, sources: list[Source], impact: float = 0.0) -> np.ndarray:
        """Return the next (2, samples) float32: left ear, right ear.

        Args:
            samples: length.
            sources: what sounds now.
            impact: strength 0 .. 1 of a collision at the start of the chunk.

        """
        time = (self._sample + np.arange(samples)) / self.rate
        ramp = np.linspace(0, 1, samples, endpoint=False)
        out = self._rng.standard_normal((2, samples)) * 2e-4
        heard = {}
        for source in sources:
            distance = np.linalg.norm(source.ears, axis=1)              # (2,)
            side = source.ears @ source.axis / np.maximum(distance, 1e-6)
            facing = np.array([1.0, -1.0]) * side                       # +1: ear turned to it
            gain = source.loudness / np.maximum(distance, 0.2) * (1 - SHADOW * (1 - facing) / 2)
            old_distance, old_gain = self._last.get(source.voice, (distance, np.zeros(2)))
            for ear in range(2):
                path = old_distance[ear] + ramp * (distance[ear] - old_distance[ear])
                level = old_gain[ear] + ramp * (gain[ear] - old_gain[ear])
                out[ear] += level * source.voice.at(time - path / SPEED)
            heard[source.voice] = (distance, gain)
        self._last = heard
        out = out.astype(np.float32)
        self._add_ring(out, impact)
        self._sample += samples
        return np.clip(out, -1, 1)

    def _add_ring(self, out: np.ndarray, impact: float):
        """Add the decaying knock of impacts."""
        if impact > 0:
            t = np.arange(int(0.15 * self.rate)) / self.rate
            knock = impact * np.exp(-t * 40) * np.sin(2 * np.pi * 410 * t)
            fresh = np.zeros((2, max(len(t), self._ring.shape[1])), np.float32)
            fresh[:, :self._ring.shape[1]] += self._ring
            fresh[:, :len(t)] += knock
            self._ring = fresh
        n = min(out.shape[1], self._ring.shape[1])
        out[:, :n] += self._ring[:, :n]
        self._ring = self._ring[:, n:]
