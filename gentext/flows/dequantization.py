"""Discrete values for models of continuous ones: noise between the levels, and its bound.

A density may put all its mass on a few points; on discrete data its likelihood has no limit. So a
value k is taken for k + u, u in [0, 1), and the density of all of these bounds the probability of k
from below. For a flow, logits then carry the interval to the whole line.

Notation: ``x`` grey values in [0, 1], of ``levels`` levels; ``k`` = x (levels − 1) their numbers;
``u`` the noise, ``q`` its density; ``v`` = (k + u)/levels; ``x_0`` what a model of continuous data
sees.

Source: Theis et al., ICLR 2016 (uniform); Ho et al., ICML 2019 (variational).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gentext.core import (
    Model,
    at_hand,
    check_count,
    check_examples,
    check_grey_levels,
    check_shape,
    chosen,
    drawn_by,
    grey_levels,
    heeded,
    if_given,
    in_evaluation,
    normal_like,
)
from gentext.core.shapes import Batch, Flat, PerExample, Scalar
from gentext.core.signatures import keep_contract
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
    u = torch.rand(x.shape, dtype=x.dtype, device=x.device, **drawn_by(generator))
    return (k + u) / levels


def quantize(v: Tensor, levels: int) -> Tensor:
    """The grey values whose interval ``v`` in [0, 1] is in."""
    check_count("levels", levels, 2)
    return (v * levels).floor().clamp(0, levels - 1) / (levels - 1)


def to_logits(v: Tensor) -> tuple[Tensor, Tensor]:
    """y = logit(a + (1 − 2a) v) for v in [0, 1], and Σ log dy/dv over all but the first axis.

    Equation: :eq:`eq-flow-logit`
    """
    if at_hand(v) and ((v < 0) | (v > 1)).any():
        raise ValueError("got v outside [0, 1]; scale the values first")
    s = EDGE + (1 - 2 * EDGE) * v
    y = s.log() - (-s).log1p()
    log_slope = math.log(1 - 2 * EDGE) - s.log() - (-s).log1p()
    return y, log_slope.flatten(1).sum(1)


def from_logits(y: Tensor) -> Tensor:
    """v with ``to_logits(v)`` = y."""
    return (torch.sigmoid(y) - EDGE) / (1 - 2 * EDGE)


class Dequantized(Model):
    """Images of ``levels`` grey levels by a density of k + u.

    It knows no probability of an image exactly, but a lower bound of its logarithm.

    Subclasses name the ``density``, a model of what ``from_data`` makes: values in [−1, 1] with
    uniform noise, unless they say otherwise. ``y`` is what it is told of an image, if anything.

    Source: Theis et al., ICLR 2016.
    """

    ends: tuple[float, float] = (-1.0, 1.0)

    def __init__(self, shape: Sequence[int], levels: int) -> None:
        super().__init__()
        check_grey_levels(levels)
        self.shape, self.levels = check_shape(shape), levels

    @property
    def density(self) -> Any:
        """The model of continuous data."""
        raise NotImplementedError

    def check(self, x: Tensor) -> None:
        """Raise ValueError for images of another shape or number of levels."""
        check_examples(x, self.shape, low=0.0, high=1.0)
        grey_levels(x, self.levels)

    def from_data(self, x: Batch, generator: torch.Generator | None = None) -> Tensor:
        """x_0: images with fresh noise within each level."""
        v, _ = self._add_noise(x, generator)
        return self._stretch(v)[0]

    def to_data(self, x_0: Tensor) -> Batch:
        """Images in grey levels."""
        low, high = self.ends
        return quantize((x_0 - low) / (high - low), self.levels)

    def _add_noise(self, x: Batch, generator: torch.Generator | None) -> tuple[Tensor, PerExample]:
        """v and log q(u | k)."""
        return dequantize(x, self.levels, generator=generator), x.new_zeros(len(x))

    def _stretch(self, v: Batch) -> tuple[Tensor, PerExample]:
        """x_0 of v, which fills ``ends``, and the log-determinant of what else is done to it."""
        low, high = self.ends
        return (high - low) * v + low, v.new_zeros(len(v))

    def loss(self, x: Batch, y: Tensor | None = None) -> Scalar:
        """The loss of the density on images with noise drawn afresh."""
        return self.density.loss(self.from_data(x), *if_given(y))

    @in_evaluation
    def elbo(
        self,
        x: Batch,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        **how: Any,
    ) -> PerExample:
        """log p(k + u) − log q(u | k) in nats, for one draw of the noise: its mean bounds log P(k).

        ``how`` as in ``log_prob`` of the density, where unless told the ``divergence`` is
        "hutchinson", right on average.

        Equation: :eq:`eq-flow-dequant`
        """
        self.check(x, *if_given(y))
        return self._elbo(x, y, generator, **how)

    def _elbo(self, x: Batch, y: Tensor | None, generator: Any, **how: Any) -> PerExample:
        """The same in the mode that the model is in."""
        v, log_q = self._add_noise(x, generator)
        x_0, log_det = self._stretch(v)
        log_p, (low, high) = self._log_prob(x_0, y, generator, **how), self.ends
        filled = math.prod(self.shape) * math.log(self.levels / (high - low))
        return log_p + log_det - filled - log_q

    def _log_prob(
        self,
        x_0: Tensor,
        y: Tensor | None,
        generator: torch.Generator | None,
        *,
        divergence: str = "hutchinson",
        **how: Any,
    ) -> PerExample:
        how |= {"divergence": divergence, "generator": generator}
        return self.density.log_prob(x_0, *if_given(y), **how)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        **how: Any,
    ) -> Batch:
        """``n`` images, of the levels of the data; ``how`` as in ``sample`` of the density."""
        return self.to_data(self.density.sample(n, *if_given(y), generator=generator, **how))

    @property
    def sample_options(self) -> tuple[str, ...]:
        """The names of what ``sample`` heeds: its own arguments and those of the density."""
        return heeded(self, self.density)

    def encode(self, x: Batch, y: Tensor | None = None, **how: Any) -> Tensor:
        """The code of the middle of each grey level."""
        self.check(x, *if_given(y))
        middle, _ = self._stretch((grey_levels(x, self.levels) + 0.5) / self.levels)
        return self.density.encode(middle, *if_given(y), **how)

    def decode(self, z: Tensor, y: Tensor | None = None, **how: Any) -> Batch:
        """The images of codes."""
        return self.to_data(self.density.decode(z, *if_given(y), **how))


class ImageFlow(Dequantized):
    """A flow on images of ``levels`` grey levels, by dequantization and logits.

    It knows no probability of an image exactly, but a lower bound of its logarithm.

    Arguments:
        shape: (channels, h, w); flow: "realnvp", "maf", "nsf" or "glow", with its ``options``.
        noise: "uniform", or "variational": drawn by a second flow that is shown the image.

    Source: Theis et al., ICLR 2016; Ho et al., ICML 2019.
    """

    ends = (0.0, 1.0)

    def __init__(
        self,
        *,
        shape: Sequence[int],
        levels: int = 256,
        flow: str = "realnvp",
        noise: str = "uniform",
        **options: Any,
    ) -> None:
        super().__init__(shape, levels)
        kind, size = chosen("flow", flow, FLOWS), math.prod(shape)
        place = {"shape": shape} if kind is Glow else {"features": size}
        self.flow: Flow = kind(**place, **options)
        drawn = chosen("noise", noise, NOISES) == "variational"
        self.noise = RealNVP(features=size, context=size, transforms=2) if drawn else None

    @property
    def density(self) -> Flow:
        """The flow, of images as rows of logits."""
        return self.flow

    def _add_noise(self, x: Batch, generator: torch.Generator | None) -> tuple[Tensor, PerExample]:
        x = x.flatten(1)
        if self.noise is None:
            return super()._add_noise(x, generator)
        start = normal_like(x, generator)
        h, log_det = self.noise.map.inverse_and_log_det(start, x - 0.5)
        log_q = self.noise.base.log_prob(start) - log_det
        log_q = log_q - (logsigmoid(h) + logsigmoid(-h)).sum(1)
        return (grey_levels(x, self.levels) + torch.sigmoid(h)) / self.levels, log_q

    def _stretch(self, v: Batch) -> tuple[Tensor, PerExample]:
        return to_logits(v.flatten(1))

    def _log_prob(self, x_0: Flat, *_: Any) -> PerExample:
        return self.flow._log_prob(x_0)

    def to_data(self, x_0: Tensor) -> Batch:
        """Images in grey levels, from rows of logits."""
        return super().to_data(from_logits(x_0)).unflatten(1, self.shape)

    def loss(self, x: Batch) -> Scalar:
        """The mean of the negative bound, in nats."""
        self.check(x)
        return -self._elbo(x, None, None).mean()

    def sample(
        self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Batch:
        """``n`` images, of the levels that the data have; ``temperature`` as of the flow."""
        return super().sample(n, temperature=temperature, generator=generator)


keep_contract(globals())
