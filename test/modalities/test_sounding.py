"""From spectra back to sound."""

from types import SimpleNamespace
import wave

import numpy as np
import pytest
import torch

from dylora_ros.modalities.audio import Audio, HOP, mel_filters, N_FFT
from dylora_ros.modalities.sounding import sound_of, write_wave
from dylora_ros.modalities.specs import RATE


@pytest.fixture(scope='module')
def ears():
    """Return what Audio needs to make a spectrum, without its encoder."""
    return SimpleNamespace(_bank=mel_filters(), _hann=torch.hann_window(N_FFT))


@pytest.fixture(scope='module')
def tone():
    """Return a tone of 1 kHz, half as strong in the right ear."""
    wave_ = 0.4 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    return np.float32([wave_, 0.5 * wave_])


def test_a_tone_comes_back_in_its_pitch_and_from_its_side(ears, tone):
    mel = Audio.log_mel(ears, torch.from_numpy(tone)).numpy()
    back = sound_of(mel, ears._bank, N_FFT, HOP)
    spectrum = np.abs(np.fft.rfft(back[0]))
    pitch = spectrum.argmax() * RATE / back.shape[1]
    assert abs(pitch - 1000) < 60                       # a mel band is as wide there
    left, right = back.std(1)
    assert right / left == pytest.approx(0.5, abs=0.05)
    assert left == pytest.approx(tone[0].std(), rel=0.4)


def test_silence_stays_silent(ears):
    mel = Audio.log_mel(ears, torch.zeros(2, RATE)).numpy()
    assert np.abs(sound_of(mel, ears._bank, N_FFT, HOP)).max() < 1e-3


def test_a_wave_file_holds_the_sound(tmp_path, tone):
    write_wave(tmp_path / 'tone.wav', tone)
    with wave.open(str(tmp_path / 'tone.wav')) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, RATE, RATE)
        read = np.frombuffer(file.readframes(RATE), '<i2').reshape(-1, 2).T / 32767
    np.testing.assert_allclose(read, tone, atol=1e-4)
