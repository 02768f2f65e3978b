"""Exact things that tests compare with: quadrature, a known mixture, a quasi-Newton optimum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

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


# The mixture with the noise of a linear process: ``process.at(t)`` is its level.

LINE = MEANS[:, None]
PLANE = torch.tensor([[-2.0, 0.5], [0.3, -1.0], [1.5, 1.8]], dtype=F64)


def component_terms(x: Tensor, level: Any, means: Tensor) -> tuple[Tensor, Tensor]:
    """log(weight × density) of each component at x (n, d), and the components' variances."""
    variance = level.alpha**2 * STDS**2 + level.sigma**2
    squares = (x[:, None] - level.alpha * means).square().sum(-1)
    log_p = -squares / (2 * variance) - x.shape[1] / 2 * (2 * math.pi * variance).log()
    return WEIGHTS.log() + log_p, variance


def log_p_t(process: Any, x: Tensor, t: float, means: Tensor = LINE) -> Tensor:
    return component_terms(x, process.at(t), means)[0].logsumexp(1)


def exact_score(process: Any, means: Tensor = LINE) -> Callable[[Tensor, float], Tensor]:
    def score(x: Tensor, t: float) -> Tensor:
        level = process.at(t)
        terms, variance = component_terms(x, level, means)
        slopes = (level.alpha * means - x[:, None]) / variance[:, None]
        return (terms.softmax(1)[..., None] * slopes).sum(1)

    return score


def cdf_t(process: Any, x: Tensor, t: float) -> Tensor:
    level = process.at(t)
    std = (level.alpha**2 * STDS**2 + level.sigma**2).sqrt()
    return (WEIGHTS * Normal(level.alpha * MEANS, std).cdf(x)).sum(1)


def noise_at_the_end(process: Any, n: int, means: Tensor = LINE) -> Tensor:
    """Draws of the law at t = 1, exactly."""
    level, k = process.at(1.0), torch.multinomial(WEIGHTS, n, replacement=True)
    std = (level.alpha**2 * STDS**2 + level.sigma**2).sqrt()
    return level.alpha * means[k] + std[k][:, None] * torch.randn(n, means.shape[1])


def cdf_distance(process: Any, x: Tensor, t: float) -> float:
    """The largest distance of the distribution functions, of the draws x and the law at t."""
    found = cdf_t(process, x.sort(0).values, t)
    return float((found - (torch.arange(len(x)) + 0.5) / len(x)).abs().max())


# The mixture on the straight line of flow matching.


def mixture_at(x: Tensor, t: float) -> Tensor:
    """log p_t(x) on the straight line."""
    std = ((1 - t) ** 2 * STDS**2 + t**2).sqrt()
    return torch.logsumexp(WEIGHTS.log() + normal_log_prob(x[..., None], (1 - t) * MEANS, std), -1)


class MixtureVelocity(nn.Module):
    """The velocity of independent values with the law of a mixture of normals; the book's at first.

    Where there are labels, each says the component, and the number of components none.
    """

    def __init__(
        self, weights: Tensor = WEIGHTS, means: Tensor = MEANS, stds: Tensor = STDS
    ) -> None:
        super().__init__()
        self.weights, self.means, self.stds = weights, means, stds

    def forward(self, x: Tensor, time: Tensor, y: Tensor | None = None) -> Tensor:
        t = (time / 1000).view(-1, *(1 for _ in x.shape[1:]), 1)
        a = 1 - t
        variance = a**2 * self.stds**2 + t**2
        offset = x[..., None] - a * self.means
        each = (t - a * self.stds**2) / variance * offset - self.means  # E[ε − x_0 | component]
        logits = self.weights.log() - offset**2 / (2 * variance) - variance.log() / 2
        if y is not None:
            said = y.view(*t.shape) < len(self.means)
            other = torch.arange(len(self.means)) != y.view(*t.shape)
            logits = logits.masked_fill(said & other, -math.inf)
        return (logits.softmax(-1) * each).sum(-1)


# Checks of any invertible layer.


def scrambled_transform(make: Callable[[], Any], noise: float = 0.4) -> Any:
    """Away from the identity at which layers begin, and in double precision."""
    transform = make().double().eval()
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return transform


def check_transform(transform: Any, x: Tensor, context: Tensor | None) -> None:
    """Inverse, log-determinants in both directions, and the Jacobian of each example."""
    z, log_det = transform.forward_and_log_det(x, context)
    back, log_back = transform.inverse_and_log_det(z, context)
    torch.testing.assert_close(back, x, atol=1e-8, rtol=0)
    torch.testing.assert_close(log_back, -log_det, atol=1e-8, rtol=0)
    assert torch.equal(transform(x, context)[0], z)
    for k in range(len(x)):
        row = None if context is None else context[k : k + 1]

        def alone(flat: Tensor, row: Tensor | None = row) -> Tensor:
            return transform(flat.view(1, *x.shape[1:]), row)[0].flatten()

        jacobian = torch.autograd.functional.jacobian(alone, x[k].flatten())
        expected = torch.linalg.slogdet(jacobian)[1]
        torch.testing.assert_close(log_det[k], expected, atol=1e-8, rtol=0)


def check_gradients(transform: Any, x: Tensor, context: Tensor | None) -> None:
    """Both directions have a finite gradient by each parameter."""
    for change in (transform.forward_and_log_det, transform.inverse_and_log_det):
        z, log_det = change(x, context)
        loss = (z * torch.linspace(-1, 2, z.numel()).view_as(z)).sum() + (log_det**2).sum()
        for parameter, gradient in zip(
            transform.parameters(),
            torch.autograd.grad(loss, list(transform.parameters()), allow_unused=True)
            if list(transform.parameters())
            else [],
            strict=True,
        ):
            assert gradient is not None
            assert bool(torch.isfinite(gradient).all())
            assert float(gradient.abs().sum()) > 0, parameter.shape
