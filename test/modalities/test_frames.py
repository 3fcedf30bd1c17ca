"""The frame decoder without any packaged weights."""

import pytest
import torch

from dylora_ros.modalities.frames import FrameDecoder

GRID, WIDTH, SITES, RANK, MOTION = 3, 8, 2, 2, 4
SIDE = 4 * GRID


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return FrameDecoder(GRID, WIDTH, SITES, RANK, MOTION).eval()


def inputs(seed=0, batch=2):
    made = torch.Generator().manual_seed(seed)
    return {'tokens': torch.randn(batch, GRID * GRID, WIDTH, generator=made),
            'frames': torch.rand(batch, 2, 3, SIDE, SIDE, generator=made),
            'body': torch.randn(batch, 3, MOTION, generator=made),
            'change': torch.randn(batch, SITES, RANK, generator=made)}


@torch.inference_mode()
def test_a_newborn_expects_no_change(decoder):
    given = inputs()
    torch.testing.assert_close(decoder(**given), given['frames'][:, 1], atol=0.03, rtol=0)


@torch.inference_mode()
def test_a_frame_is_between_black_and_white_whatever_comes(decoder):
    for p in decoder.parameters():
        p.mul_(30)
    given = {k: 20 * v if k != 'frames' else v for k, v in inputs().items()}
    after = decoder(**given)
    assert 0 <= after.min() <= after.max() <= 1


@torch.inference_mode()
def test_the_view_moves_with_the_turn(decoder):
    """A constant flow of two pixels: what comes is the frame two pixels on."""
    with torch.no_grad():
        decoder.turn[2].bias[0] = 2 * 2 / SIDE                  # u, in half frames
    given = inputs()
    given['frames'] = given['frames'][:, 1:].expand(-1, 2, -1, -1, -1)
    after = decoder(**given)
    torch.testing.assert_close(after[..., 1:-3], given['frames'][:, 1][..., 3:-1], atol=0.04,
                               rtol=0)


@pytest.mark.parametrize('name', ['tokens', 'frames', 'body', 'change'])
def test_every_input_reaches_the_prediction(decoder, name):
    for layer in (decoder.turn[2], decoder.out, decoder.bias):
        torch.nn.init.normal_(layer.weight, std=0.1)
    first, second = inputs(0), inputs(0)
    second[name] = inputs(1)[name]
    with torch.inference_mode():
        assert (decoder(**first) - decoder(**second)).abs().max() > 1e-4
