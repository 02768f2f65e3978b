"""Random draws, each from a generator of one's own where one is given.

Notation: ``x`` the batch (n, ...) that the draws are for, on its device; ``u`` one draw from
[0, 1) that a whole batch shares.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gentext.core.checks import chosen
from gentext.core.shapes import Batch, Labels, PerExample
from gentext.core.signatures import keep_contract

NOISES = ("rademacher", "normal")


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


def drawn_by(generator: torch.Generator | None) -> dict[str, Any]:
    """The argument that names ``generator``, and none where there is none.

    ``generator=None`` would be the same, but PyTorch then cannot compile draws whose shapes vary.
    """
    return {} if generator is None else {"generator": generator}


def normal_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Noise of N(0, I) in the shape of x."""
    return torch.randn(x.shape, dtype=x.dtype, device=x.device, **drawn_by(generator))


def draw_noise(
    like: Tensor, kind: str = "rademacher", generator: torch.Generator | None = None
) -> Batch:
    """Noise of mean 0 and variance 1 in the shape of ``like``: signs, or normal."""
    if chosen("noise", kind, NOISES) == "normal":
        return normal_like(like, generator)
    signs = torch.randint(
        2, like.shape, dtype=like.dtype, device=like.device, **drawn_by(generator)
    )
    return 2 * signs - 1


def stratified(
    x: Batch, generator: torch.Generator | None = None, *, dtype: torch.dtype | None = None
) -> PerExample:
    """A time (i/n + u) mod 1 in [0, 1) for each example: each as likely, all evenly spread.

    The mean of a smooth function over the batch then varies less than with independent times. They
    are of ``dtype``; None: that of x, in single precision at least.

    Source: Kingma et al., NeurIPS 2021.
    """
    dtype = torch.promote_types(x.dtype, torch.float32) if dtype is None else dtype
    u = torch.rand((), dtype=dtype, device=x.device, **drawn_by(generator))
    places = torch.arange(len(x), dtype=dtype, device=x.device).div_(len(x))
    return places.add(u).remainder(1)


def stratified_levels(x: Batch, count: int, generator: torch.Generator | None = None) -> Labels:
    """A number from 0 to ``count`` − 1 for each example, each as likely, all evenly spread.

    Source: Kingma et al., NeurIPS 2021.
    """
    times = stratified(x, generator, dtype=torch.get_default_dtype())
    return (count * times).long().clamp(max=count - 1)


keep_contract(globals())
