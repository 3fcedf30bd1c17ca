"""The decoder of vision: where the view turns, what moves in it, and what comes into it.

The next frame is the present one, moved as the body's LR state says that the head has turned,
then moved a little here and there, and painted where nothing can be moved from. So a still head
sees a still picture by construction, and every value is between 0 and 1 however long a dream
goes on.

Legend: b batch, g patch grid side, p = 4g side of the frame, d encoder width, s sites, r rank,
m numbers of the body's LR state.
"""

import torch
from torch import nn
import torch.nn.functional as F

SHIFT = 0.3           # reach of the small local motions, in half frames
KEEP = 4.0            # logit with which a newborn keeps a moved pixel instead of painting it
_THIN, _WIDE, _SEEN = 24, 48, 4


class FrameDecoder(nn.Module):
    """Predict the next frame, p x p.

    Its convolutions are DyLoRA sites themselves: the LR state biases decoding as it biases
    encoding (paper, 3.3).
    """

    def __init__(self, grid: int, width: int, sites: int, rank: int, motion: int):
        super().__init__()
        side = 4 * grid
        self.turn = nn.Sequential(nn.Linear(2 * motion, 64), nn.GELU(), nn.Linear(64, 12))
        self.place = nn.Sequential(
            nn.Linear(motion, 64), nn.GELU(), nn.Linear(64, 3 * grid * grid),
            nn.Unflatten(1, (3, grid, grid)))
        self.squeeze = nn.Conv2d(width, _SEEN, 1)
        self.fine = nn.Conv2d(3 + 3 + 1 + 2 + 3, _THIN, 3, padding=1)
        self.coarse = nn.Conv2d(_THIN, _WIDE, 3, stride=2, padding=1)
        self.mix = nn.Conv2d(_WIDE + _SEEN, _WIDE, 3, padding=1)
        self.up = nn.Conv2d(_WIDE + _THIN, _THIN, 3, padding=1)
        self.out = nn.Conv2d(_THIN, 3 + 2 + 1, 3, padding=1)
        # B q of every decoder layer: the LR state of the encoder's sites, mapped once
        self.bias = nn.Linear(sites * rank, 2 * _WIDE + _THIN)
        for layer in (self.turn[2], self.out, self.bias):    # a newborn expects no change
            nn.init.zeros_(layer.bias)
            nn.init.zeros_(layer.weight)
        nn.init.constant_(self.out.bias[5:], KEEP)
        line = (torch.arange(side) + 0.5) * 2 / side - 1
        v, u = torch.meshgrid(line, line, indexing='ij')
        self.register_buffer('_where', torch.stack([u, v], -1), persistent=False)
        # the flow of a turning camera is quadratic in the place, up to a few per cent
        self.register_buffer('_flows', torch.stack(
            [torch.ones_like(u), u, v, u * v, u * u, v * v]), persistent=False)

    def forward(self, tokens: torch.Tensor, frames: torch.Tensor, body: torch.Tensor,
                change: torch.Tensor) -> torch.Tensor:
        """Predict.

        Args:
            tokens: (b, g * g, d) patches of the present frame as the encoder sees them.
            frames: (b, 2, 3, p, p) previous and present frame, 0 .. 1.
            body: (b, 3, m) LR state of the body at the previous frame, at the present one, and
                the newest.
            change: (b, s, r) predicted LR state minus the encoded input, q - x.

        Returns:
            (b, 3, p, p) in 0 .. 1.

        """
        previous, present = frames.unbind(1)
        before, then, now = body.unbind(1)
        difference = present - self._move(previous, self.turned(before, then))
        flow = self.turned(then, now)
        moved = self._move(torch.cat([present, difference], 1), flow)
        inside = ((self._where + flow).abs() <= 1).all(-1, keepdim=True).permute(0, 3, 1, 2)
        b, side = len(present), present.shape[-1]
        grid = side // 4
        place = F.interpolate(self.place(now), scale_factor=4, mode='bilinear')
        where = self._where.permute(2, 0, 1).expand(b, -1, -1, -1)
        q1, q2, q3 = self.bias(change.flatten(1))[:, :, None, None].split(
            (_WIDE, _WIDE, _THIN), 1)
        fine = F.gelu(self.fine(torch.cat([moved, inside.float(), where, place], 1)))
        coarse = F.gelu(self.coarse(fine) + q1)
        seen = self.squeeze(tokens.transpose(1, 2).reshape(b, -1, grid, grid))
        coarse = F.gelu(self.mix(torch.cat([coarse, F.interpolate(seen, scale_factor=2)], 1)) + q2)
        fine = F.gelu(self.up(torch.cat([F.interpolate(coarse, scale_factor=2), fine], 1)) + q3)
        paint, local, keep = self.out(fine).split((3, 2, 1), 1)
        local = SHIFT * torch.tanh(local.permute(0, 2, 3, 1))
        keep = torch.sigmoid(keep)
        # sampled once more from the moved picture: a pixel may come from its moved neighbour
        again = self._move(moved[:, :3], local)
        return keep * again + (1 - keep) * torch.sigmoid(paint + place)

    def turned(self, earlier: torch.Tensor, later: torch.Tensor) -> torch.Tensor:
        """Return how far off each place of the later view lay in the earlier, (b, p, p, 2)."""
        weights = self.turn(torch.cat([later - earlier, later], 1)).view(-1, 2, 6)
        return torch.einsum('bck,khw->bhwc', weights, self._flows)

    def _move(self, image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        return F.grid_sample(image, self._where + flow, padding_mode='border',
                             align_corners=False)
