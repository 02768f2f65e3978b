"""Spectral normalisation: weights divided by their largest singular value, which is followed.

A linear map W stretches no vector by more than its largest singular value σ₁, so W/σ₁ stretches
none. Power iteration comes to σ₁ from below, with one step for each use in training.

Notation: W a matrix of weights (kernels as matrices of one row for each output), σ₁ its largest
singular value, ``u`` and ``v`` the unit vectors with W v = σ₁ u.

Source: Miyato et al., ICLR 2018.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gentext.core import check_count, plain_precision
from gentext.core.shapes import Flat, Scalar
from gentext.core.signatures import keep_contract


def power_iteration(weight: Flat, u: Tensor, steps: int = 1) -> tuple[Tensor, Tensor]:
    """u and v after ``steps`` of v ← Wᵀu, u ← Wv, each made a unit vector.

    uᵀWv tends to σ₁, the faster the smaller σ₂/σ₁.

    Equation: :eq:`eq-gan-specnorm`
    """
    check_count("steps", steps)
    for _ in range(steps):
        v = F.normalize(weight.T @ u, dim=0)
        u = F.normalize(weight @ v, dim=0)
    return u, v


class SpectralNorm(nn.Module):
    """A parametrisation W/σ₁ of weights, σ₁ followed by one step of ``power_iteration`` a use.

    Source: Miyato et al., ICLR 2018.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows = weight.detach().flatten(1)
        if rows.device.type != "meta" and not rows.any():
            raise ValueError("weights that are all 0 have no direction: draw them at random first")
        u, v = power_iteration(rows, F.normalize(torch.randn(len(rows)).to(rows), dim=0), 15)
        self.register_buffer("u", u)
        self.register_buffer("v", v)

    def forward(self, weight: Tensor) -> Tensor:
        """W/σ₁."""
        sigma = self.sigma(weight)
        return weight / torch.where(sigma == 0, 1, sigma)  # of no weights nothing is to be divided

    def sigma(self, weight: Tensor) -> Scalar:
        """uᵀWv, which tends to σ₁."""
        if not weight.is_floating_point():
            raise ValueError(f"got weights of {weight.dtype}; they are floating-point numbers")
        rows = weight.flatten(1)
        with plain_precision(weight):
            if self.training:
                with torch.no_grad():
                    u, v = power_iteration(rows.to(self.u), self.u)
                    self.u.copy_(u)
                    self.v.copy_(v)
            # copies, because the next use changes u and v while gradients still need these
            return self.u.clone().to(rows) @ (rows @ self.v.clone().to(rows))


def spectral_norm(layer: nn.Module) -> nn.Module:
    """The layer with its weight divided by the largest singular value."""
    weight: Any = layer.weight
    parametrize.register_parametrization(layer, "weight", SpectralNorm(weight))
    return layer


keep_contract(globals())
