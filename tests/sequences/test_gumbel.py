"""Gumbel noise: draws against the softmax by quadrature, the relaxation against its density."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli

from gentext.sequences.gumbel import gumbel_max, gumbel_softmax

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.equation("eq-vq-gumbel")
def test_gumbel_max_draws_from_the_softmax() -> None:
    """By quadrature: the share of a fine grid of uniform noise on which each class is largest."""
    logits = torch.tensor([0.2, -1.0, 1.3])
    p = logits.softmax(0)
    u = (torch.arange(120) + 0.5) / 120
    noise = torch.cartesian_prod(u, u, u)
    share = torch.bincount(gumbel_max(logits.expand(len(noise), 3), noise=noise)) / len(noise)
    torch.testing.assert_close(share, p, atol=2e-3, rtol=0)

    def inverse_cdf(g: Tensor) -> Tensor:  # u with G(u) = g
        return (-(-g).exp()).exp()

    grid = torch.linspace(-6, 40, 60_001)  # of the largest perturbed logit
    for j in range(3):
        others = [i for i in range(3) if i != j]
        density = (-(grid - logits[j]) - (-(grid - logits[j])).exp()).exp()
        below = torch.stack([inverse_cdf(grid - logits[i]) for i in others]).prod(0)
        torch.testing.assert_close(torch.trapezoid(density * below, grid), p[j], atol=1e-8, rtol=0)
        # at the edge that this integral draws, our perturbed logits are equal
        noise = inverse_cdf(torch.linspace(-1, 5, 50)[:, None] - logits)
        equal = gumbel_softmax(logits.expand(50, 3), noise=noise)
        torch.testing.assert_close(equal, torch.full((50, 3), 1 / 3), atol=1e-10, rtol=0)
    n = 40_000
    drawn = gumbel_max(logits.expand(n, 3), generator=torch.Generator().manual_seed(0))
    share = torch.bincount(drawn, minlength=3) / n
    assert ((share - p).abs() < 4 * (p * (1 - p) / n).sqrt()).all()


@pytest.mark.equation("eq-vq-gumbel")
def test_the_relaxation_has_the_concrete_density_and_its_limits() -> None:
    """Two classes: the odds are logistic, and P(y > 1/2) does not depend on tau (ex-concrete)."""
    logits, n = torch.tensor([math.log(1.8), 0.0]), 40_000
    noise = torch.rand(n, 2, generator=torch.Generator().manual_seed(0))
    chosen = gumbel_max(logits.expand(n, 2), noise=noise)
    for tau in (0.1, 0.7, 3.0):
        y = gumbel_softmax(logits.expand(n, 2), tau, noise=noise)
        torch.testing.assert_close(y.sum(1), torch.ones(n))
        assert ((y[:, 0] > 0.5) == (chosen == 0)).all()
        hard = gumbel_softmax(logits.expand(n, 2), tau, hard=True, noise=noise)
        assert hard.round().equal(torch.nn.functional.one_hot(chosen, 2).to(hard))
        peer = LogitRelaxedBernoulli(torch.tensor(tau), logits=logits[0] - logits[1])
        odds = y[:, 0].log() - y[:, 1].log()
        grid = torch.linspace(-30, 30, 20_001) / tau
        for edge in (-1.0, 0.0, 0.5, 2.0):
            inside = grid <= edge
            expected = torch.trapezoid(peer.log_prob(grid[inside]).exp(), grid[inside])
            error = math.sqrt(float(expected) * (1 - float(expected)) / n)
            assert abs(float((odds <= edge).double().mean() - expected)) < 4 * error + 1e-3
    sharp = gumbel_softmax(logits.expand(n, 2), 1e-3, noise=noise)
    assert (sharp.max(1).values > 0.999).double().mean() > 0.99


@pytest.mark.equation("eq-vq-gumbel")
def test_the_relaxation_passes_its_gradient_on() -> None:
    logits, noise = torch.randn(4), torch.rand(4)
    w = torch.randn(4)

    def score(logits: Tensor, hard: bool) -> Tensor:
        return gumbel_softmax(logits, 0.6, hard=hard, noise=noise) @ w

    y = gumbel_softmax(logits, 0.6, noise=noise)
    expected = (y * w - y * (y @ w)) / 0.6
    for hard in (False, True):
        torch.testing.assert_close(torch.func.grad(score)(logits, hard), expected)
    with pytest.raises(ValueError, match="tau must be positive and finite, but got 0"):
        gumbel_softmax(logits, 0.0)


@pytest.mark.equation("eq-vq-gumbel")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_limit_of_the_relaxation_is_the_exact_draw_in_every_type(dtype: torch.dtype) -> None:
    logits, noise = (50 * torch.randn(200, 5)).to(dtype), torch.rand(200, 5)
    chosen = gumbel_max(logits, noise=noise)
    for tau in (1e-20, 1e-38, 1e-45, 1e-320):
        y = gumbel_softmax(logits, tau, noise=noise)
        assert y.double().equal(torch.nn.functional.one_hot(chosen, 5).double())
