"""Random draws from a generator of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from gentext.core.shapes import Batch, Labels


@contextmanager
def drawing_from(generator: torch.Generator | None) -> Iterator[None]:
    """Let the draws inside come from ``generator`` (None: the global stream).

    ``torch.distributions`` accept no generator of their own, hence the fork and the fresh seed.
    """
    if generator is None:
        yield
        return
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(int(seed))
        yield


def normal_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Noise of N(0, I) in the shape of x."""
    return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)


def stratified_levels(x: Batch, count: int, generator: torch.Generator | None = None) -> Labels:
    """A number from 0 to ``count`` − 1 for each example, each as likely, all evenly spread.

    Source: Kingma et al., NeurIPS 2021.
    """
    start = torch.rand((), device=x.device, generator=generator)
    places = (torch.arange(len(x), device=x.device) / len(x) + start) % 1
    return (count * places).long().clamp(max=count - 1)


NOISES = ("rademacher", "normal")


def draw_noise(
    like: Tensor, kind: str = "rademacher", generator: torch.Generator | None = None
) -> Batch:
    """Noise of mean 0 and variance 1 in the shape of ``like``: signs, or normal."""
    if kind not in NOISES:
        raise ValueError(f"unknown noise {kind!r}: choose one of {', '.join(NOISES)}")
    dtype, device = like.dtype, like.device
    if kind == "normal":
        return torch.randn(like.shape, dtype=dtype, device=device, generator=generator)
    signs = torch.randint(2, like.shape, dtype=dtype, device=device, generator=generator)
    return 2 * signs - 1
