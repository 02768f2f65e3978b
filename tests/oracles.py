"""Exact things that tests compare with: quadrature, a known mixture, a quasi-Newton optimum."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

F64 = torch.float64
WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=F64)
MEANS = torch.tensor([-2.0, 0.3, 2.5], dtype=F64)
STDS = torch.tensor([0.4, 0.7, 0.5], dtype=F64)


def gauss_hermite(points: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights that integrate polynomials of degree 2 ``points`` − 1 against N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    return torch.tensor(nodes), torch.tensor(weights / math.sqrt(2 * math.pi))


def normal_log_prob(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return -0.5 * ((x - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)


def mixture_log_prob(x: Tensor, sigma: float = 0.0) -> Tensor:
    """log p_σ(x) of the book's mixture of three normals with noise N(0, σ²) added."""
    std = (STDS**2 + sigma**2).sqrt()
    return torch.logsumexp(WEIGHTS.log() + normal_log_prob(x[..., None], MEANS, std), -1)


def mixture_posterior(x_t: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Mean and variance of x given x_t = x + σε under the mixture, component by component."""
    var = STDS**2 + sigma**2
    share = (WEIGHTS.log() + normal_log_prob(x_t[..., None], MEANS, var.sqrt())).softmax(-1)
    means = MEANS + STDS**2 / var * (x_t[..., None] - MEANS)
    mean = (share * means).sum(-1)
    second = (share * (STDS**2 * sigma**2 / var + means**2)).sum(-1)
    return mean, second - mean**2


def minimize(loss: Callable[[], Tensor], parameters: list[Tensor], steps: int = 300) -> float:
    """The least value of ``loss`` that a quasi-Newton method finds."""
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=steps,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    for _ in range(3):
        optimizer.step(closure)
    return float(loss().detach())


def random_covariance(d: int) -> Tensor:
    a = torch.randn(d, d, dtype=F64)
    return a @ a.T / d + 0.3 * torch.eye(d, dtype=F64)


def multivariate_normal(mean: Tensor, covariance: Tensor) -> MultivariateNormal:
    return MultivariateNormal(mean, covariance)
