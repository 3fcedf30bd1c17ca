"""The dashboard picture and the heat map: plain drawing, no ROS."""

from dataclasses import dataclass, field

import cv2
import numpy as np

WIDTH, HEIGHT = 800, 480
_BACK, _PANEL, _TEXT, _DIM = (24, 26, 30), (36, 39, 46), (235, 235, 235), (150, 155, 165)
COLOURS = {'AWAKE': (90, 200, 110), 'REM': (190, 120, 230), 'NREM': (90, 140, 240),
           'SAFE': (235, 90, 80)}
MODALITY_COLOURS = {'vision': (240, 180, 70), 'audio': (80, 190, 230), 'text': (230, 130, 170),
                    'body': (140, 210, 120)}


@dataclass
class View:
    """What the dashboard shows."""

    phase: str = 'SAFE'
    hz: float = 0.0
    misses: float = 0.0
    cycle_ms: float = 0.0
    fill: float = 0.0
    tiredness: float = 0.0
    rows: int = 0
    progress: float = 0.0
    time_left: float = 0.0
    report: str = ''
    reward: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    surprise: dict[str, list[float]] = field(default_factory=dict)
    camera: np.ndarray | None = None
    expected: np.ndarray | None = None
    dream: np.ndarray | None = None
    heat: np.ndarray | None = None      # (w, time)


def heatmap(states: np.ndarray, scale: float = 3.0) -> np.ndarray:
    """Colour LR states (w, time): blue below, red above usual; (h, w, 3) uint8 RGB."""
    level = np.clip((states / scale + 1) / 2, 0, 1)
    return cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_TWILIGHT_SHIFTED)[
        ..., ::-1].copy()


def _text(image, text, at, size=0.45, colour=_TEXT, bold=1):
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, bold, cv2.LINE_AA)


def _bar(image, x, y, width, share, colour):
    cv2.rectangle(image, (x, y), (x + width, y + 10), (60, 64, 74), -1)
    filled = int(width * min(max(share, 0.0), 1.0))
    cv2.rectangle(image, (x, y), (x + filled, y + 10), colour, -1)


def _curve(image, values, box, colour, low=None, high=None):
    """Draw a sparkline into box (x, y, width, height); returns its range."""
    x, y, width, height = box
    values = np.asarray(values[-width:], float)
    if len(values) < 2:
        return 0.0, 1.0
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    span = max(high - low, 1e-6)
    across = x + width - 1 - np.arange(len(values))[::-1] * (width - 1) / max(len(values) - 1, 1)
    down = y + height - 1 - np.clip((values - low) / span, 0, 1) * (height - 1)
    points = np.stack([across, down], 1).astype(np.int32)
    cv2.polylines(image, [points], False, colour, 1, cv2.LINE_AA)
    return low, high


def _picture(image, picture, box, label):
    x, y, size = box
    cv2.rectangle(image, (x, y), (x + size, y + size), _PANEL, -1)
    if picture is not None:
        image[y:y + size, x:x + size] = cv2.resize(picture, (size, size),
                                                   interpolation=cv2.INTER_NEAREST)
    else:
        _text(image, 'nothing yet', (x + size // 2 - 38, y + size // 2), colour=_DIM)
    _text(image, label, (x + 2, y + size + 16), colour=_DIM)


def draw(view: View) -> np.ndarray:
    """Return the dashboard, (HEIGHT, WIDTH, 3) uint8 RGB."""
    image = np.full((HEIGHT, WIDTH, 3), _BACK, np.uint8)
    colour = COLOURS.get(view.phase, _TEXT)
    cv2.rectangle(image, (0, 0), (WIDTH, 44), _PANEL, -1)
    cv2.rectangle(image, (0, 0), (8, 44), colour, -1)
    _text(image, view.phase, (20, 31), 0.9, colour, 2)
    _text(image, f'{view.hz:.1f} Hz', (150, 29), 0.6)
    _text(image, f'late {100 * view.misses:.1f} %', (250, 29), 0.6)
    _text(image, f'cycle {view.cycle_ms:.1f} ms', (370, 29), 0.6)
    _text(image, f'{view.rows} rows', (530, 29), 0.6)
    _picture(image, view.camera, (16, 60, 200), 'camera')
    _picture(image, view.expected, (228, 60, 200), 'predicted next frame')
    _picture(image, view.dream, (440, 60, 200), 'last dream')
    x = 656
    for i, (label, share) in enumerate((('context', view.fill), ('tired', view.tiredness),
                                        ('sleep', view.progress))):
        y = 74 + 42 * i
        _text(image, f'{label} {100 * share:.1f} %', (x, y))
        _bar(image, x, y + 8, 128, share, colour)
    if view.phase in ('REM', 'NREM'):
        _text(image, f'{view.time_left:.0f} s left', (x, 204))
    top = 300
    for i, (label, values, tint) in enumerate((
            ('reward', view.reward, (250, 215, 90)), ('value', view.value, (130, 230, 200)))):
        box = (110, top + 44 * i, 270, 36)
        cv2.rectangle(image, box[:2], (box[0] + box[2], box[1] + box[3]), _PANEL, -1)
        _curve(image, values, box, tint)
        _text(image, label, (16, box[1] + 14), colour=tint)
        _text(image, f'{values[-1]:+.3f}' if values else '-', (16, box[1] + 32), 0.42)
    for i, (name, tint) in enumerate(MODALITY_COLOURS.items()):
        values = view.surprise.get(name, [])
        box = (500, top + 22 * i, 284, 19)
        cv2.rectangle(image, box[:2], (box[0] + box[2], box[1] + box[3]), _PANEL, -1)
        _curve(image, values, box, tint, 0.0, 4.0)
        _text(image, f'{name} {values[-1]:.1f}' if values else f'{name} -',
              (394, box[1] + 14), 0.42, tint)
    _text(image, 'surprise per sense (1 = as usual)', (500, top + 4 * 22 + 12), 0.38, _DIM)
    if view.heat is not None:
        picture = cv2.resize(heatmap(view.heat), (WIDTH - 32, 52),
                             interpolation=cv2.INTER_AREA)
        image[HEIGHT - 72:HEIGHT - 20, 16:WIDTH - 16] = picture
        _text(image, 'low-rank states of the last seconds: vision, audio, text, body from the top',
              (16, HEIGHT - 6), 0.36, _DIM)
    if view.report:
        _text(image, view.report[:64], (240, 29 + 262), 0.36, _DIM)
    return image
