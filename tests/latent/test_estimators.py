"""Estimators of the gradient of an expectation, by exact quadrature over their noise."""

from __future__ import annotations

import pytest
import torch
from oracles import gauss_hermite
from torch import Tensor

from gentext.latent.estimators import reparameterized_gradient, score_function_gradient

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.equation("eq-vae-reparam")
def test_reparameterized_gradient_of_a_cubic() -> None:
    nodes, weights = gauss_hermite(40)
    draws = reparameterized_gradient(lambda z: z**3, 0.7, 1.3, nodes)
    mean = (weights[:, None] * draws).sum(0)
    expected = torch.tensor([3 * 0.7**2 + 3 * 1.3**2, 6 * 0.7 * 1.3])
    torch.testing.assert_close(mean, expected, atol=1e-9, rtol=0)


@pytest.mark.equation("eq-vae-score")
def test_score_function_gradient_has_the_same_mean_and_the_stated_variance() -> None:
    nodes, weights = gauss_hermite(40)

    def moments(draws: Tensor) -> tuple[Tensor, Tensor]:
        mean = (weights[:, None] * draws).sum(0)
        return mean, (weights[:, None] * (draws - mean) ** 2).sum(0)

    for mu in (0.0, 1.0, 2.0):
        mean, variance = moments(score_function_gradient(torch.square, mu, 1.0, nodes))
        other, least = moments(reparameterized_gradient(torch.square, mu, 1.0, nodes))
        torch.testing.assert_close(mean, other, atol=1e-9, rtol=0)
        assert abs(float(variance[0]) - (mu**4 + 14 * mu**2 + 15)) < 1e-7
        assert abs(float(least[0]) - 4) < 1e-8
    cubic, _ = moments(score_function_gradient(lambda z: z**3, 0.7, 1.3, nodes))
    expected = torch.tensor([3 * 0.7**2 + 3 * 1.3**2, 6 * 0.7 * 1.3])
    torch.testing.assert_close(cubic, expected, atol=1e-8, rtol=0)


@pytest.mark.equation("eq-vae-score")
def test_a_step_has_a_gradient_only_for_the_score_function() -> None:
    """∂/∂μ of P(z > 0) is the density of N(μ, σ²) at 0; the derivative of a step is 0."""
    eps = torch.randn(400_000, generator=torch.Generator().manual_seed(0))
    draws = score_function_gradient(lambda z: (z > 0).double(), 0.4, 0.9, eps)[:, 0]
    exact = torch.distributions.Normal(0.4, 0.9).log_prob(torch.zeros(())).exp()
    assert abs(float(draws.mean() - exact)) < 4.5 * float(draws.std()) / 400_000**0.5
    assert (reparameterized_gradient(lambda z: (z > 0) + 0 * z, 0.4, 0.9, eps[:9]) == 0).all()
