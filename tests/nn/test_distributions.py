"""Distributions of codes and images against closed forms, quadrature and torch's own."""

from __future__ import annotations

import math

import pytest
import scipy.integrate
import torch
import torch.nn.functional as F
from oracles import gauss_hermite, minimize, multivariate_normal, random_covariance
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from gentext.core.draws import drawing_from
from gentext.nn.distributions import (
    BernoulliImage,
    ContinuousBernoulliImage,
    DiagonalNormal,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    NormalImage,
    StandardNormal,
    kl_multivariate_normal,
    kl_normal,
    make_likelihood,
)

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.equation("eq-vae-kl")
def test_kl_normal_equals_torch_and_quadrature() -> None:
    mean, std = torch.randn(9, 4), torch.rand(9, 4) + 0.2
    ours = kl_normal(mean, std)
    theirs = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    nodes, weights = gauss_hermite(20)
    z = mean[..., None] + std[..., None] * nodes
    log_ratio = Normal(mean[..., None], std[..., None]).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    torch.testing.assert_close(ours, (weights * log_ratio).sum((-1, -2)), atol=1e-10, rtol=0)


@pytest.mark.equation("eq-vae-klfull")
def test_kl_of_full_covariances_equals_torch() -> None:
    m1, m2, c1, c2 = torch.randn(3), torch.randn(3), random_covariance(3), random_covariance(3)
    theirs = kl_divergence(multivariate_normal(m1, c1), multivariate_normal(m2, c2))
    torch.testing.assert_close(kl_multivariate_normal(m1, c1, m2, c2), theirs, atol=1e-10, rtol=0)


def test_the_two_kl_formulas_agree_on_a_diagonal() -> None:
    mean, std = torch.randn(1, 3), torch.rand(1, 3) + 0.5
    full = kl_multivariate_normal(mean[0], std[0].square().diag(), torch.zeros(3), torch.eye(3))
    torch.testing.assert_close(kl_normal(mean, std)[0], full)


def test_standard_and_diagonal_normal_are_per_example() -> None:
    parameters = torch.randn(5, 6)
    q = DiagonalNormal()(parameters)
    z = torch.randn(5, 3)
    expected = Normal(parameters[:, :3], (parameters[:, 3:] / 2).exp()).log_prob(z).sum(1)
    torch.testing.assert_close(q.log_prob(z), expected)
    expected = Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(StandardNormal(3)().log_prob(z), expected)


@pytest.mark.equation("eq-data-dlogistic")
def test_discretized_logistic_sums_to_one_and_is_the_integral_of_its_density() -> None:
    levels, loc, log_scale = 17, torch.tensor(5.3), torch.tensor(1.7).log()
    p = DiscretizedLogistic(loc, log_scale, levels)
    probabilities = p.log_prob(torch.arange(levels) / (levels - 1)).exp()
    assert abs(float(probabilities.sum()) - 1) < 1e-14

    def density(t: float) -> float:
        e = math.exp(-(t - 5.3) / 1.7)
        return e / (1.7 * (1 + e) ** 2)

    for k, (a, b) in {0: (-60, 0.5), 7: (6.5, 7.5), 16: (15.5, 90)}.items():
        integral, _ = scipy.integrate.quad(density, a, b)
        assert abs(float(probabilities[k]) - integral) < 1e-8


@pytest.mark.equation("eq-data-dlogistic")
def test_discretized_logistic_keeps_its_digits_far_in_the_tail() -> None:
    p = DiscretizedLogistic(torch.tensor(10.0), torch.tensor(0.1).log(), 256)
    value = p.log_prob(torch.tensor(200 / 255))
    a, b = (199.5 - 10) / 0.1, (200.5 - 10) / 0.1
    assert abs(float(value) - (-a + math.log1p(-math.exp(a - b)))) < 1e-8


def test_discretized_logistic_draws_and_mean_match_its_probabilities() -> None:
    p = DiscretizedLogistic(torch.tensor(2.2), torch.tensor(0.5), 9)
    grey = torch.arange(9) / 8
    probabilities = p.log_prob(grey).exp()
    torch.testing.assert_close(p.mean, (probabilities * grey).sum())
    draws = p.sample((40_000,))
    share = (draws[:, None] == grey).double().mean(0)
    error = (probabilities * (1 - probabilities) / 40_000).sqrt()
    assert ((share - probabilities).abs() < 4.5 * error + 1e-12).all()


@pytest.mark.parametrize("components", [1, 3])
def test_logistic_mixture_image_sums_to_one(components: int) -> None:
    head = DiscretizedLogisticMixture((1, 1, 2), levels=5, components=components)
    raw = torch.randn(1, head.per_value, 1, 1, 2)
    grey = torch.arange(5) / 4
    x = torch.cartesian_prod(grey, grey).reshape(25, 1, 1, 2)
    total = head(raw.expand(25, -1, -1, -1, -1)).log_prob(x).exp().sum()
    torch.testing.assert_close(total, torch.tensor(1.0))


@pytest.mark.equation("eq-vae-mse")
def test_squared_error_is_a_normal_likelihood_of_fixed_scale() -> None:
    d, s = 7, 0.6
    x, mean = torch.randn(3, d), torch.randn(3, d)
    ours = NormalImage((d,), scale=s)(mean[:, None]).log_prob(x)
    squared = (x - mean).square().sum(1)
    expected = -squared / (2 * s * s) - d / 2 * math.log(2 * math.pi * s * s)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)
    for reduction, variance in ((squared, 0.5), (squared / d, d / 2)):  # summed, averaged
        p = NormalImage((d,), scale=math.sqrt(variance))(mean[:, None])
        constant = p.log_prob(x) + reduction
        torch.testing.assert_close(constant, constant[:1].expand(3), atol=1e-12, rtol=0)


@pytest.mark.equation("eq-vae-mse")
def test_learned_scale_is_the_root_mean_squared_error() -> None:
    x, mean = torch.randn(3, 7), torch.randn(3, 7)
    head = NormalImage((7,)).double()
    minimize(lambda: -head(mean[:, None]).log_prob(x).mean(), list(head.parameters()))
    variance = (2 * head.log_scale.detach()).exp()
    torch.testing.assert_close(variance, (x - mean).square().mean(), atol=1e-8, rtol=0)


@pytest.mark.equation("eq-vae-bernoulli")
def test_cross_entropy_is_minus_the_bernoulli_log_likelihood() -> None:
    logits, x = torch.randn(2, 6), torch.tensor([[0.0, 1, 1, 0, 1, 0], [1.0, 1, 0, 0, 0, 1]])
    ours = BernoulliImage((6,))(logits[:, None]).log_prob(x)
    expected = Independent(Bernoulli(probs=logits.sigmoid()), 1).log_prob(x)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    torch.testing.assert_close(ours, -cross_entropy, atol=1e-12, rtol=0)


@pytest.mark.equation("eq-vae-bernoulli")
@pytest.mark.parametrize("lam", [0.1, 0.3, 0.5, 0.8])
def test_continuous_bernoulli_integrates_to_one_and_has_the_stated_constant(lam: float) -> None:
    head = ContinuousBernoulliImage((1,))
    raw = torch.tensor([[[math.log(lam / (1 - lam))]]])

    def density(t: float) -> float:
        return float(head(raw).log_prob(torch.tensor([[t]])).exp())

    assert abs(scipy.integrate.quad(density, 0, 1)[0] - 1) < 1e-8
    constant = 2.0 if lam == 0.5 else 2 * math.atanh(1 - 2 * lam) / (1 - 2 * lam)
    assert abs(density(0.3) - constant * lam**0.3 * (1 - lam) ** 0.7) < 1e-8
    bernoulli = float(BernoulliImage((1,))(raw).log_prob(torch.tensor([[0.3]])).exp())
    assert abs(density(0.3) / bernoulli - constant) < 1e-8


def test_likelihoods_compute_in_single_precision_what_a_network_gives_in_half() -> None:
    for name in ("normal", "bernoulli", "continuous-bernoulli", "logistic"):
        head = make_likelihood(name, (4,)).float()
        raw = torch.randn(3, head.per_value, 4).bfloat16()
        assert head(raw).log_prob(torch.zeros(3, 4, dtype=torch.float32)).dtype == torch.float32


def test_draws_follow_the_generator_and_leave_the_global_stream_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    draws = []
    for _ in range(2):
        with drawing_from(torch.Generator().manual_seed(1)):
            draws.append(torch.rand(3))
    torch.testing.assert_close(draws[0], draws[1], atol=0, rtol=0)
    torch.testing.assert_close(torch.rand(1), expected, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("name", "x", "message"),
    [
        ("bernoulli", [[0.5, 1.5]], r"0\.5 to 1\.5.*\[0, 1\]"),
        ("logistic", [[-0.5, 0.5]], r"-0\.5 to 0\.5.*\[0, 1\]"),
        ("logistic", [[0.5, 0.3]], "between the 17 grey levels"),
        ("normal", [[0.5, math.nan]], "NaN"),
    ],
)
def test_values_outside_the_support_are_refused(name: str, x: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_likelihood(name, (2,), levels=17).check(torch.tensor(x))


def test_unknown_likelihood_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"'poisson'.*normal, bernoulli"):
        make_likelihood("poisson", (2,))


def test_grey_values_have_no_bernoulli_likelihood() -> None:
    """The cross-entropy of grey values is no density: over [0, 1] its exponential is not one."""
    likelihood = BernoulliImage((2,))
    likelihood.check(torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
    for grey in (0.5, 1 / 16, 1 - 1e-6):
        with pytest.raises(ValueError, match=r"between 0 and 1.*'logistic'.*'continuous-b"):
            likelihood.check(torch.tensor([[0.0, grey]]))
    p = likelihood(torch.zeros(1, 1, 2))
    total, _ = scipy.integrate.quad(lambda v: float(p.log_prob(torch.full((1, 2), v)).exp()), 0, 1)
    assert total == pytest.approx(0.25)
