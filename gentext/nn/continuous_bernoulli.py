"""The continuous Bernoulli distribution, right for logits of any size.

On [0, 1] its density is p(x) = e^{ηx − A}, A = log (e^η − 1)/η: the cross-entropy made into a
density. Every formula is written for ``a``, whose exponentials e^{−a} cannot overflow, or as a
series about η = 0, where differences of almost equal numbers would lose their digits.

Notation: ``logits`` η; ``a`` its absolute value; ``u`` uniform noise in [0, 1).

Source: Loaiza-Ganem and Cunningham, NeurIPS 2019.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

NEAR_ZERO = 0.5  # below this |η| the series is as exact as double precision
# B_{2k}/(2k (2k)!) by k from 1, with Bernoulli's numbers: A − η/2 as a series in η²
SERIES = (1 / 24, -1 / 2880, 1 / 181440, -1 / 9676800, 1 / 479001600, -691 / 15692092416000)


class ContinuousBernoulli(Distribution):
    """The density e^{ηx − A} on [0, 1], with ``logits`` η of any shape.

    Equation: :eq:`eq-vae-bernoulli`

    Source: Loaiza-Ganem and Cunningham, NeurIPS 2019.
    """

    arg_constraints: ClassVar = {"logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.near = logits.abs() < NEAR_ZERO
        # Each formula sees only what it is for: neither then overflows, nor spoils gradients.
        self.small = torch.where(self.near, logits, 0.0)
        self.a = torch.where(self.near, 1.0, logits.abs())
        super().__init__(logits.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats: ηx − A, where A is max(η, 0) + log (1 − e^{−a})/a."""
        even = sum(c * self.small.pow(2 * k) for k, c in enumerate(SERIES, 1))
        near = self.small * (value - 0.5) - even
        distance = torch.where(self.logits > 0, 1 - value, value)  # to the more probable end
        far = self.a.log() - (-torch.expm1(-self.a)).log() - self.a * distance
        return torch.where(self.near, near, far)

    @property
    def mean(self) -> Tensor:
        """A′, whose distance to the more probable end is 1/a − e^{−a}/(1 − e^{−a})."""
        odd = sum(2 * k * c * self.small.pow(2 * k - 1) for k, c in enumerate(SERIES, 1))
        distance = 1 / self.a + (-self.a).exp() / torch.expm1(-self.a)
        far = torch.where(self.logits > 0, 1 - distance, distance)
        return torch.where(self.near, 0.5 + odd, far)

    @property
    def variance(self) -> Tensor:
        """A″: 1/a² − e^{−a}/(1 − e^{−a})²."""
        terms = enumerate(SERIES, 1)
        even = sum(2 * k * (2 * k - 1) * c * self.small.pow(2 * k - 2) for k, c in terms)
        far = self.a.pow(-2) - (-self.a).exp() / torch.expm1(-self.a).square()
        return torch.where(self.near, even, far)

    def entropy(self) -> Tensor:
        """−log p at the mean, in nats, since log p is linear in x."""
        return -self.log_prob(self.mean)

    def cdf(self, value: Tensor) -> Tensor:
        """The share below x = ``value``: (e^{ηx} − 1)/(e^η − 1)."""
        up = self.logits > 0
        distance = torch.where(up, 1 - value, value)  # to the more probable end
        close = self.logits.abs() < torch.finfo(self.logits.dtype).eps ** (1 / 2)
        a = torch.where(close, 1.0, self.logits.abs())
        share = torch.expm1(-a * distance) / torch.expm1(-a)
        near = value - self.small * value * (1 - value) / 2
        return torch.where(close, near, torch.where(up, 1 - share, share))

    def icdf(self, value: Tensor) -> Tensor:
        """The x below which lies a share u = ``value``: log(1 + u (e^η − 1))/η."""
        up = self.logits > 0
        share = torch.where(up, 1 - value, value)  # seen from the more probable end
        tiny = torch.finfo(self.logits.dtype).eps ** (1 / 3)  # where a quotient has no more digits
        close = self.logits.abs() < tiny
        a = torch.where(close, 1.0, self.logits.abs())
        distance = -torch.log1p(share * torch.expm1(-a)) / a
        bend = value * (1 - value) * (0.5 + self.small * (1 - 2 * value) / 6)
        far = torch.where(up, 1 - distance, distance)
        return torch.where(close, value + self.small * bend, far).clamp(0, 1)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Values in [0, 1], through which gradients flow."""
        shape = self._extended_shape(torch.Size(sample_shape))
        u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        return self.icdf(u)
