"""Flows on discrete values: noise that makes them continuous, and the bound that it gives.

A density may put all its mass on a few points; on discrete data its likelihood has no limit. So a
value k is taken for k + u, u in [0, 1), and the density of all of these bounds the probability of k
from below. Logits then carry the interval to the whole line.

Notation: ``x`` grey values in [0, 1], of ``levels`` levels; ``k`` = x (levels − 1) their numbers;
``u`` the noise, ``q`` its density; ``y`` what the flow sees.

Source: Theis et al., ICLR 2016 (uniform); Ho et al., ICML 2019 (variational).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gentext.core import Model, check_examples, check_grey_levels, grey_levels
from gentext.core.shapes import Batch, Flat, PerExample, Scalar
from gentext.flows.flow import MAF, NSF, Flow, RealNVP
from gentext.flows.glow import Glow

EDGE = 0.05  # of the unit interval, kept free before taking logits
FLOWS = {"realnvp": RealNVP, "maf": MAF, "nsf": NSF, "glow": Glow}
NOISES = ("uniform", "variational")


def dequantize(x: Tensor, levels: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Grey values of ``levels`` levels with noise: (k + u)/levels, uniform within each level.

    Equation: :eq:`eq-flow-dequant`

    Source: Theis et al., ICLR 2016.
    """
    k = grey_levels(x, levels)
    u = torch.rand(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    return (k + u) / levels


def quantize(v: Tensor, levels: int) -> Tensor:
    """The grey values whose interval ``v`` in [0, 1] is in."""
    return (v * levels).floor().clamp(0, levels - 1) / (levels - 1)


def to_logits(v: Tensor) -> tuple[Tensor, Tensor]:
    """y = logit(a + (1 − 2a) v) for v in [0, 1], and Σ log dy/dv over all but the first axis.

    Equation: :eq:`eq-flow-logit`
    """
    s = EDGE + (1 - 2 * EDGE) * v
    y = s.log() - (-s).log1p()
    each = math.log(1 - 2 * EDGE) - s.log() - (-s).log1p()
    return y, each.flatten(1).sum(1)


def from_logits(y: Tensor) -> Tensor:
    """v with ``to_logits(v)`` = y."""
    return (torch.sigmoid(y) - EDGE) / (1 - 2 * EDGE)


class ImageFlow(Model):
    """A flow on images of ``levels`` grey levels, by dequantization and logits.

    It knows no probability of an image exactly, but a lower bound of its logarithm.

    Arguments:
        shape: (channels, h, w); flow: "realnvp", "maf", "nsf" or "glow", with its ``options``.
        noise: "uniform", or "variational": drawn by a second flow that is shown the image.

    Source: Theis et al., ICLR 2016; Ho et al., ICML 2019.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        levels: int = 256,
        flow: str = "realnvp",
        noise: str = "uniform",
        **options: Any,
    ) -> None:
        super().__init__()
        if flow not in FLOWS:
            raise ValueError(f"unknown flow {flow!r}: choose one of {', '.join(FLOWS)}")
        if noise not in NOISES:
            raise ValueError(f"unknown noise {noise!r}: choose one of {', '.join(NOISES)}")
        check_grey_levels(levels)
        self.shape, self.levels, size = tuple(shape), levels, math.prod(shape)
        place = {"shape": shape} if flow == "glow" else {"features": size}
        self.flow: Flow = FLOWS[flow](**place, **options)
        self.noise = (
            RealNVP(features=size, context=size, transforms=2) if noise == "variational" else None
        )

    def check(self, x: Tensor) -> None:
        """Raise ValueError for images of another shape or number of levels."""
        check_examples(x, self.shape, low=0.0, high=1.0)
        grey_levels(x, self.levels)

    def elbo(self, x: Batch, *, generator: torch.Generator | None = None) -> PerExample:
        """log p(k + u) − log q(u | k) in nats, for one draw of the noise: its mean bounds log P(k).

        Equation: :eq:`eq-flow-dequant`
        """
        self.check(x)
        x = x.flatten(1)
        v, log_q = self._add_noise(x, generator)
        y, log_det = to_logits(v)
        return self.flow.log_prob(y) + log_det - x.shape[1] * math.log(self.levels) - log_q

    def _add_noise(self, x: Flat, generator: torch.Generator | None) -> tuple[Flat, PerExample]:
        """(k + u)/levels and log q(u)."""
        if self.noise is None:
            return dequantize(x, self.levels, generator=generator), x.new_zeros(len(x))
        start = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
        h, log_det = self.noise.map.inverse_and_log_det(start, x - 0.5)
        log_q = self.noise.base.log_prob(start) - log_det
        log_q = log_q - (logsigmoid(h) + logsigmoid(-h)).sum(1)
        return (grey_levels(x, self.levels) + torch.sigmoid(h)) / self.levels, log_q

    def loss(self, x: Batch) -> Scalar:
        """The mean of the negative bound, in nats."""
        return -self.elbo(x).mean()

    @torch.no_grad()
    def sample(
        self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Batch:
        """``n`` images, of the levels that the data have."""
        y = self.flow.sample(n, temperature=temperature, generator=generator)
        return quantize(from_logits(y), self.levels).unflatten(1, self.shape)
