"""The continuous Bernoulli distribution against quadrature, closed forms in 60 digits, torch."""

from __future__ import annotations

import mpmath
import pytest
import torch
from torch import Tensor
from torch.distributions import ContinuousBernoulli as Theirs

from gentext.core.draws import drawing_from
from gentext.nn.continuous_bernoulli import NEAR_ZERO, SERIES, ContinuousBernoulli
from gentext.nn.distributions import ContinuousBernoulliImage

LOGITS = [-1e6, -100.0, -30.0, -16.5, -3.0, -0.5, -1e-4, 0.0, 1e-9, 1e-4, 0.3, 0.5, 7.0, 30.0, 1e3]
X = [0.0, 0.01, 0.4, 0.97, 1.0]


def exact(logit: float, x: float) -> tuple[float, float, float]:
    """log p(x), the mean and the derivative x − mean, with 60 digits."""
    with mpmath.workdps(60):
        eta, x = mpmath.mpf(logit), mpmath.mpf(x)
        if not eta:
            return 0.0, 0.5, float(x - 0.5)
        log_p = eta * x - mpmath.log(mpmath.expm1(eta) / eta)
        mean = 1 / (1 - mpmath.exp(-eta)) - 1 / eta
        return float(log_p), float(mean), float(x - mean)


@pytest.mark.equation("eq-vae-bernoulli")
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-6), (torch.float64, 5e-15)])
@pytest.mark.parametrize("logit", LOGITS)
def test_density_mean_and_gradient_are_right_for_all_logits(
    logit: float, dtype: torch.dtype, near: float
) -> None:
    eta = torch.full((len(X),), logit, dtype=dtype, requires_grad=True)
    p, x = ContinuousBernoulli(eta), torch.tensor(X, dtype=dtype)
    log_p = p.log_prob(x)
    (slope,) = torch.autograd.grad(log_p.sum(), eta)
    wanted = torch.tensor([exact(eta.tolist()[0], v) for v in x.tolist()], dtype=dtype)
    torch.testing.assert_close(log_p, wanted[:, 0], rtol=near, atol=near)
    torch.testing.assert_close(p.mean, wanted[:, 1], rtol=near, atol=near * abs(wanted[0, 1]))
    torch.testing.assert_close(slope, wanted[:, 2], rtol=near, atol=near)


@pytest.mark.parametrize("logit", [-1e6, -30.0, -0.6, -0.2, 0.0, 1e-4, 5.0, 30.0])
def test_the_slope_of_the_mean_is_the_variance_by_quadrature(logit: float) -> None:
    eta = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(ContinuousBernoulli(eta).mean.sum(), eta)
    with mpmath.workdps(30):  # the density of the distance a X from the likelier end, a = |logit|
        a = mpmath.mpf(abs(logit))
        total, first, second = (
            mpmath.quad(lambda x, k=k: x**k * mpmath.exp(-a * x), _pieces(abs(logit)))
            for k in range(3)
        )
        variance = float(second / total - (first / total) ** 2)
    assert abs(float(slope) / variance - 1) < 1e-9
    assert abs(float(ContinuousBernoulli(eta.detach()).variance) / variance - 1) < 1e-9


@pytest.mark.parametrize("logit", LOGITS)
def test_shares_and_entropy_are_right_for_all_logits(logit: float) -> None:
    p = ContinuousBernoulli(torch.full((len(X),), logit, dtype=torch.float64))
    with mpmath.workdps(60):
        eta = mpmath.mpf(logit)
        shares = [float(mpmath.expm1(eta * x) / mpmath.expm1(eta)) if eta else x for x in X]
    wanted = torch.tensor(shares, dtype=torch.float64)
    x = torch.tensor(X, dtype=torch.float64)
    torch.testing.assert_close(p.cdf(x), wanted, rtol=1e-12, atol=1e-14)
    # minus the mean of log p, by the midpoints of equal shares
    u = (torch.arange(20_000, dtype=torch.float64)[:, None] + 0.5) / 20_000
    torch.testing.assert_close(p.entropy(), -p.log_prob(p.icdf(u)).mean(0), rtol=1e-3, atol=1e-3)


def _pieces(a: float) -> list[float]:
    return [0, 1] if a < 1 else [0, 1 / a, min(1, 8 / a), min(1, 80 / a)]


def test_within_the_range_of_torch_all_is_as_there() -> None:
    eta = torch.linspace(-10, 10, 41, dtype=torch.float64)
    x = torch.rand(41, dtype=torch.float64)
    theirs = Theirs(logits=eta, lims=(0.4999, 0.5001))
    ours = ContinuousBernoulli(eta)
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(ours.mean, theirs.mean, rtol=1e-8, atol=1e-8)
    with drawing_from(torch.Generator().manual_seed(1)):
        ours_drawn = ours.sample((50,))
    with drawing_from(torch.Generator().manual_seed(1)):
        theirs_drawn = theirs.sample((50,))
    torch.testing.assert_close(ours_drawn, theirs_drawn, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("logit", [-1e6, -30.0, -1.0, -1e-7, 0.0, 1e-3, 40.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_have_the_mean_of_the_density(logit: float, dtype: torch.dtype) -> None:
    p = ContinuousBernoulli(torch.tensor(logit, dtype=dtype))
    with drawing_from(torch.Generator().manual_seed(2)):
        x = p.sample((40_000,)).double()
    end = 1.0 if logit > 0 else 0.0
    error = (x - end).abs().mean() - abs(exact(logit, 0)[1] - end)
    assert abs(error) < 4 * x.std() / 200
    assert 0 <= x.min() < x.max() <= 1


@pytest.mark.parametrize("logit", [-50.0, -3.0, -1e-6, 0.0, 2e-3, 3.0])
def test_draws_have_the_gradient_of_the_inverse_distribution(logit: float) -> None:
    """dx/dη = −(∂F/∂η)/p(x), by F = (e^{ηx} − 1)/(e^η − 1) in 60 digits."""
    eta = torch.tensor(logit, dtype=torch.float64, requires_grad=True)
    for u in (0.1, 0.5, 0.9):
        (slope,) = torch.autograd.grad(ContinuousBernoulli(eta).icdf(torch.tensor(u).double()), eta)
        with mpmath.workdps(60):
            at = mpmath.mpf(logit) or mpmath.mpf("1e-25")
            share = mpmath.mpf(float(torch.tensor(u).double()))
            wanted = mpmath.diff(lambda e, s=share: mpmath.log1p(s * mpmath.expm1(e)) / e, at)
        assert abs(float(slope) - float(wanted)) < 1e-9


def test_the_series_has_bernoullis_numbers_and_ends_where_double_precision_does() -> None:
    for k, c in enumerate(SERIES, 1):
        wanted = mpmath.bernoulli(2 * k) / (2 * k * mpmath.factorial(2 * k))
        assert abs(c / float(wanted) - 1) < 1e-14
    k = len(SERIES) + 1
    left = abs(mpmath.bernoulli(2 * k) / mpmath.factorial(2 * k)) * NEAR_ZERO ** (2 * k - 1)
    assert left < 2e-15


def test_an_image_far_in_the_dark_still_teaches_its_decoder() -> None:
    logits = torch.tensor([[[-30.0]]], requires_grad=True)
    x: Tensor = torch.tensor([[0.2]])
    ContinuousBernoulliImage((1,))(logits).log_prob(x).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(float(logits.grad), 0.2 - 1 / 30, rtol=1e-6, atol=0)
