"""The plain networks beside which ours are timed compute the same, with the same gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks._plain_gpt import PlainGPT
from benchmarks._plain_unet import PlainUNet
from gentext.denoising.unet import UNet
from gentext.sequences.gpt import GPT

pytestmark = pytest.mark.usefixtures("float64")


def moved(model: nn.Module) -> nn.Module:
    """With weights that leave no layer at 0."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def same(ours: Tensor, theirs: Tensor, model: nn.Module, plain: nn.Module) -> None:
    """Outputs agree, and the norm of all gradients."""
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)
    norms = []
    for output, network in ((ours, model), (theirs, plain)):
        output.square().mean().backward()
        norms.append(torch.stack([p.grad.norm() for p in network.parameters()]).norm())
    torch.testing.assert_close(norms[0], norms[1], rtol=1e-6, atol=1e-8)


def test_the_plain_unet_is_ours() -> None:
    model = moved(UNet(shape=(3, 16, 16), channels=8))
    plain = PlainUNet(model)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 700])
    same(model(x, t), plain(x, t), model, plain)
    count = sum(p.numel() for p in model.parameters())
    assert sum(p.numel() for p in plain.parameters()) == count


def test_the_plain_unet_refuses_what_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="blocks=1"):
        PlainUNet(UNet(shape=(3, 16, 16), channels=8, blocks=2))


def test_the_plain_gpt_is_ours() -> None:
    model = moved(GPT(vocab_size=11, context=8, layers=2, heads=2, width=16))
    plain = PlainGPT(model)
    tokens = torch.randint(11, (3, 8))
    read = F.pad(tokens[:, :-1], (1, 0), value=model.bos)
    same(model.loss(tokens), plain(read, tokens), model, plain)
