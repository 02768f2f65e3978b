"""Velocities: exact ones of a mixture, what else they say, and what their errors weigh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gentext.denoising.flow_matching import FlowMatching
from gentext.denoising.schedule import Level, from_x0, q_sample
from gentext.denoising.velocity import (
    Rate,
    matching_error,
    score_to_velocity,
    straight,
    velocity_to_eps,
    velocity_to_score,
    velocity_to_x0,
)
from tests.oracles import (
    F64,
    MEANS,
    STDS,
    WEIGHTS,
    MixtureVelocity,
    gauss_hermite,
    mixture_at,
)

pytestmark = pytest.mark.usefixtures("float64")


def exact(shape: tuple[int, ...] = (1,), **options: Any) -> FlowMatching:
    return FlowMatching(shape=shape, net=MixtureVelocity(), **options)


@pytest.mark.equation("eq-sde-cfm")
def test_the_error_is_that_of_the_true_velocity_and_a_constant() -> None:
    """By quadrature over data and noise on one side, over x_t on the other."""
    t, (z, w) = 0.4, gauss_hermite(60)
    x_0 = (MEANS[:, None, None] + STDS[:, None, None] * z[:, None]).expand(3, 60, 60)
    weight = WEIGHTS[:, None, None] * w[:, None] * w
    eps = z.expand(3, 60, 60)
    grid = torch.linspace(-12, 12, 6001)
    p = mixture_at(grid, t).exp() * 24 / 6000
    u = exact().velocity(grid[:, None], t)[:, 0]

    def constant(f: Callable[[Tensor], Tensor]) -> float:
        times = torch.full((x_0.numel(),), t)
        error = matching_error(
            lambda x, _: f(x), x_0.reshape(-1, 1), eps.reshape(-1, 1), times
        ).view_as(weight)
        return float((weight * error).sum() - (p * (f(grid) - u) ** 2).sum())

    expected = constant(lambda x: -x)
    for f in (torch.cos, lambda x: 0.3 * x + torch.sin(2 * x), torch.zeros_like):
        assert constant(f) == pytest.approx(expected, abs=1e-7)
    assert expected > 0.1  # what no network can predict


@pytest.mark.equation("eq-sde-cfm")
@pytest.mark.parametrize("t", [0.15, 0.4, 0.8])
def test_the_best_velocity_moves_the_law_of_x_t(t: float) -> None:
    """∂p/∂t + ∂(pu)/∂x = 0, by differences."""
    x, h, model = torch.linspace(-3, 3, 25), 1e-5, exact()

    def flux(x: Tensor) -> Tensor:
        return mixture_at(x, t).exp() * model.velocity(x[:, None], t)[:, 0]

    change = (mixture_at(x, t + h).exp() - mixture_at(x, t - h).exp()) / (2 * h)
    torch.testing.assert_close(change, -(flux(x + h) - flux(x - h)) / (2 * h), atol=1e-7, rtol=0)


X = torch.linspace(-3, 3, 31, dtype=F64)


@pytest.mark.equation("eq-sde-fmscore")
@pytest.mark.parametrize("t", [0.1, 0.4, 0.9])
def test_the_velocity_of_a_mixture_is_its_score(t: float) -> None:
    x = X.clone().requires_grad_()
    (score,) = torch.autograd.grad(mixture_at(x, t).sum(), x)
    u, level = exact().velocity(X[:, None], t)[:, 0], straight(torch.tensor(t))
    torch.testing.assert_close(velocity_to_score(u, X, level), score, atol=1e-11, rtol=0)
    torch.testing.assert_close(score_to_velocity(score, X, level), u, atol=1e-11, rtol=0)
    torch.testing.assert_close(score, -(X + (1 - t) * u) / t, atol=1e-11, rtol=0)
    torch.testing.assert_close(u, -(X + t * score) / (1 - t), atol=1e-11, rtol=0)


LINES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "straight": (lambda t: 1 - t, lambda t: t),
    "variance kept": (lambda t: (-2 * t).exp(), lambda t: (1 - (-4 * t).exp()).sqrt()),
    "variance added": (torch.ones_like, lambda t: 0.1 * 50**t),
    "circle": (torch.cos, torch.sin),
}


def on(line: str, t: float) -> tuple[Level, Rate]:
    """The level, and its derivative by automatic differentiation."""
    at = torch.tensor(t, requires_grad=True)
    values = [f(at) for f in LINES[line]]
    rates = [
        torch.autograd.grad(v, at, allow_unused=True, retain_graph=True)[0]
        if v.requires_grad
        else None
        for v in values
    ]
    a, b = (torch.zeros(()) if rate is None else rate for rate in rates)
    return Level(*(v.detach() for v in values)), Rate(a, b)


@pytest.mark.equation("eq-sde-fmscore")
@pytest.mark.parametrize("line", LINES)
def test_on_every_line_the_flow_by_the_score_moves_its_normal_laws(line: str) -> None:
    """Of N(m, s²) the flow keeps (x − αm)/√(α²s² + σ²); differentiated along the path."""
    m, s, t = 1.3, 0.6, 0.3
    level, rate = on(line, t)
    std = (level.alpha**2 * s**2 + level.sigma**2).sqrt()
    score = -(X - level.alpha * m) / std**2
    std_rate = (level.alpha * rate.alpha * s**2 + level.sigma * rate.sigma) / std
    u = rate.alpha * m + std_rate * (X - level.alpha * m) / std
    torch.testing.assert_close(score_to_velocity(score, X, level, rate), u, atol=1e-11, rtol=0)
    torch.testing.assert_close(velocity_to_score(u, X, level, rate), score, atol=1e-11, rtol=0)
    if line == "straight":
        torch.testing.assert_close(score_to_velocity(score, X, level), u, atol=1e-11, rtol=0)


@pytest.mark.equation("eq-sde-fmscore")
@pytest.mark.parametrize("line", LINES)
def test_velocities_give_data_and_noise_back(line: str) -> None:
    (level, rate), x_0, eps = on(line, 0.35), torch.randn(9), torch.randn(9)
    x_t, u = q_sample(x_0, eps, level), rate.alpha * x_0 + rate.sigma * eps
    torch.testing.assert_close(velocity_to_x0(u, x_t, level, rate), x_0, atol=1e-12, rtol=0)
    torch.testing.assert_close(velocity_to_eps(u, x_t, level, rate), eps, atol=1e-12, rtol=0)


@pytest.mark.parametrize("t", [0.2, 0.7])
def test_errors_of_the_velocity_are_errors_of_noise_or_data_with_a_weight(t: float) -> None:
    level, x_t, u, other = straight(torch.tensor(t)), *torch.randn(3, 9)
    error = (u - other).square()
    noise = velocity_to_eps(u, x_t, level) - velocity_to_eps(other, x_t, level)
    data = velocity_to_x0(u, x_t, level) - velocity_to_x0(other, x_t, level)
    torch.testing.assert_close(error, noise.square() / (1 - t) ** 2, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(error, data.square() / t**2, atol=1e-12, rtol=1e-10)
    x_0 = velocity_to_x0(u, x_t, level)
    v = level.alpha * velocity_to_eps(u, x_t, level) - level.sigma * x_0
    torch.testing.assert_close(from_x0("v", x_0, x_t, level), v, atol=1e-12, rtol=0)
