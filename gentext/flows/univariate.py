"""Maps of one value, given the parameters that a network made for it: what layers of flows bend by.

A layer decides which values its network reads and which it bends; how each is bent, by a line or by
a spline, is decided here.

Notation: ``x`` before, ``z`` after; ``s``, ``a`` log scales, ``t``, ``mean`` shifts.

Source: Dinh et al., ICLR 2017; Papamakarios et al., NeurIPS 2017; Durkan et al., NeurIPS 2019.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gentext.core.signatures import keep_contract
from gentext.flows import spline, spline_kernel

BOUND = 5.0  # splines bend what lies within ±BOUND
LOG_SCALE = 3.0  # most that an affine map scales by, as a logarithm

Mapped = tuple[Tensor, Tensor]  # values, and the logarithms of what they are stretched by


class Univariate(nn.Module):
    """How a layer maps each value, given the parameters that a network made for it.

    Maps (d, n) elementwise by parameters (per_value, d, n): the batch is the last axis, for speed.
    ``start`` are the parameters of the identity.
    """

    per_value: int
    start: Tensor

    def forward(self, parameters: Tensor, x: Tensor) -> Mapped:
        """z and log dz/dx, both (d, n)."""
        raise NotImplementedError

    def inverse(self, parameters: Tensor, z: Tensor) -> Mapped:
        """x and log dx/dz."""
        raise NotImplementedError


class Affine(Univariate):
    """z = x eˢ + t, with s within ±``LOG_SCALE`` so that no network can overflow it.

    Equation: :eq:`eq-flow-coupling`
    """

    def __init__(self) -> None:
        super().__init__()
        self.per_value, self.start = 2, torch.zeros(2)

    def forward(self, parameters: Tensor, x: Tensor) -> Mapped:
        """z and s."""
        raw, t = parameters
        s = LOG_SCALE * torch.tanh(raw / LOG_SCALE)
        return torch.addcmul(t, x, s.exp()), s

    def inverse(self, parameters: Tensor, z: Tensor) -> Mapped:
        """x = (z − t) e⁻ˢ and −s."""
        raw, t = parameters
        s = -LOG_SCALE * torch.tanh(raw / LOG_SCALE)
        return (z - t) * s.exp(), s


class ShiftAndScale(Univariate):
    """z = (x − μ) e⁻ᵃ: a Gaussian of mean μ and standard deviation eᵃ becomes a standard one.

    Equation: :eq:`eq-flow-maf`
    """

    def __init__(self) -> None:
        super().__init__()
        self.per_value, self.start = 2, torch.zeros(2)

    def forward(self, parameters: Tensor, x: Tensor) -> Mapped:
        """z and −a."""
        mean, raw = parameters
        a = -LOG_SCALE * torch.tanh(raw / LOG_SCALE)
        return (x - mean) * a.exp(), a

    def inverse(self, parameters: Tensor, z: Tensor) -> Mapped:
        """x = z eᵃ + μ and a."""
        mean, raw = parameters
        a = LOG_SCALE * torch.tanh(raw / LOG_SCALE)
        return torch.addcmul(mean, z, a.exp()), a


class Spline(Univariate):
    """A rational-quadratic spline of ``bins`` bins within ±``bound``, the identity outside."""

    def __init__(self, bins: int = 8, bound: float = BOUND) -> None:
        super().__init__()
        if not 0 < bound < math.inf:
            raise ValueError(f"got bound={bound}; it must be above 0 and finite")
        self.per_value, self.bound = spline.parameters_per_value(bins), bound
        self.start = spline.identity_parameters(bins)

    def forward(self, parameters: Tensor, x: Tensor) -> Mapped:
        """z and log dz/dx."""
        return spline_kernel.bend(parameters, x, self.bound)

    def inverse(self, parameters: Tensor, z: Tensor) -> Mapped:
        """x and log dx/dz."""
        return spline_kernel.bend(parameters, z, self.bound, inverse=True)


keep_contract(globals())
