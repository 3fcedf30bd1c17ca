"""Which caption a sentence says."""

import pytest
import torch
import torch.nn.functional as F

from dylora_ros.core.understanding import Understanding


def ways(places: list[float], loud: float = 0.9) -> torch.Tensor:
    """Return sentences in four dimensions: what they say is small, how they say it is great."""
    generator = torch.Generator().manual_seed(0)
    how = loud * torch.randn(len(places), generator=generator)
    return F.normalize(torch.stack([torch.full_like(how, 2.0), torch.tensor(places), how,
                                    torch.zeros_like(how)], 1), dim=-1)


@pytest.fixture
def taught() -> Understanding:
    """Knows two captions that lie close together, by ways that lie far apart."""
    said = ways([0.3] * 40 + [-0.3] * 40)
    captions = F.normalize(torch.tensor([[2.0, 0.3, 0, 0], [2.0, -0.3, 0, 0]]), dim=-1)
    return Understanding.taught(captions, said, torch.arange(80) // 40)


def test_how_a_thing_is_said_does_not_count(taught):
    loud = F.normalize(torch.tensor([[2.0, 0.3, 1.5, 0], [2.0, -0.3, 1.5, 0]]), dim=-1)
    assert torch.cdist(loud, loud)[0, 1] < torch.cdist(loud, taught.captions)[0, 0]
    assert taught.which(loud).tolist() == [0, 1]


def test_a_sentence_is_read_as_its_caption(taught):
    said = ways([0.25, -0.4])
    assert torch.equal(taught(said), taught.captions)


def test_what_is_about_something_else_stays_itself(taught):
    other = F.normalize(torch.tensor([[0.5, 0.3, 0.0, 2.0]]), dim=-1)
    assert taught.which(other).tolist() == [-1]
    assert torch.equal(taught(other), other)


def test_who_knows_no_captions_leaves_sentences_as_they_are():
    said = ways([0.3])
    assert torch.equal(Understanding(0, 4)(said), said)


def test_captions_that_are_said_in_one_way_alone_can_be_told_apart():
    captions = torch.eye(4)[:3]
    known = Understanding.taught(captions, captions, torch.arange(3))
    assert known.which(captions).tolist() == [0, 1, 2]
