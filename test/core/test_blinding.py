"""Blinding leaves nothing of the local context."""

import numpy as np
import pytest
import torch

from dylora_ros.core.blinding import grey_frame, pad_tokens, silence


def text(length):
    ids = torch.randint(5, 99, (2, length))
    return {'input_ids': ids, 'attention_mask': torch.ones_like(ids),
            'token_type_ids': torch.ones_like(ids)}


def test_blinded_texts_are_the_same_whatever_they_said_and_however_long():
    one, other = pad_tokens(text(5), 3), pad_tokens(text(50), 3)
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert one.keys() == text(5).keys()
    assert (one['input_ids'] == 3).all()
    assert (one['attention_mask'] == 1).all()


def test_the_text_itself_is_untouched():
    words = text(5)
    before = words['input_ids'].clone()
    pad_tokens(words, 3)
    assert torch.equal(words['input_ids'], before)


@pytest.mark.parametrize(('dtype', 'grey'), [(np.uint8, 128), (np.float32, 0.5)])
def test_grey(dtype, grey):
    frame = np.random.default_rng(0).uniform(0, 1, (4, 5, 3)).astype(dtype)
    blind = grey_frame(frame)
    assert (blind == grey).all()
    assert (blind.shape, blind.dtype) == (frame.shape, frame.dtype)


def test_silence():
    blind = silence(np.ones((2, 160), np.int16))
    assert blind.dtype == np.int16
    assert not blind.any()
