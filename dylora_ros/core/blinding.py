"""Blinding: take the local context away, so that only the global context can answer.

The ablation of the paper's section 5.1 for any modality: text becomes PAD tokens, a picture a
grey frame, sound silence. Its partner is a context of size 0
(:class:`dylora_ros.core.extension.LRContext` with ``capacity=0``).
"""

import numpy as np
import torch

PAD_LENGTH = 4      # tokens of a blinded text, whatever its length was
GREY = 0.5


def pad_tokens(inputs: dict[str, torch.Tensor], pad_id: int,
               length: int = PAD_LENGTH) -> dict[str, torch.Tensor]:
    """Replace a batch of texts by PAD tokens that the model attends to.

    The length is fixed: PAD tokens as many as the text had would still tell its length.

    Args:
        inputs: the text as the model takes it, ``input_ids`` (b, n) and its companions; only
            the batch size and the names are used.
        pad_id: the tokenizer's PAD.
        length: PAD tokens per text.

    Returns:
        ``input_ids`` all PAD, ``attention_mask`` all one (b, length), every other input zero.

    """
    shape = (inputs['input_ids'].shape[0], length)
    device = inputs['input_ids'].device
    blind = {name: torch.zeros(shape, dtype=torch.long, device=device) for name in inputs}
    blind['input_ids'].fill_(pad_id)
    blind['attention_mask'] = torch.ones(shape, dtype=torch.long, device=device)
    return blind


def grey_frame(frame: np.ndarray) -> np.ndarray:
    """Replace a picture by uniform mid-grey of its shape and type.

    Args:
        frame: any shape; integers are taken as 0 .. the type's maximum, floats as 0 .. 1.

    """
    if frame.dtype.kind in 'ui':
        return np.full_like(frame, round(GREY * np.iinfo(frame.dtype).max))
    return np.full_like(frame, GREY)


def silence(sound: np.ndarray) -> np.ndarray:
    """Replace sound (any shape, signed or float samples) by silence."""
    return np.zeros_like(sound)
