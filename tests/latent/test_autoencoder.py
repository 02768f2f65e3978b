"""Autoencoders against principal components, closed forms and quadrature."""

from __future__ import annotations

import math

import pytest
import torch
from oracles import (
    MEANS,
    STDS,
    WEIGHTS,
    gauss_hermite,
    minimize,
    mixture_log_prob,
    mixture_posterior,
    multivariate_normal,
)
from torch import Tensor

from gentext.core import Bound, Density, Encodes, Samples
from gentext.latent.autoencoder import (
    PPCA,
    Autoencoder,
    DenoisingAutoencoder,
    denoising_error,
    principal_components,
    small_noise_penalty,
    squared_error,
    tweedie,
    tweedie_covariance,
)

pytestmark = pytest.mark.usefixtures("float64")


def correlated(n: int, d: int) -> Tensor:
    return torch.randn(n, d) @ torch.randn(d, d) + torch.randn(d)


def score_of(log_prob, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(log_prob(x).sum(), x)[0]


@pytest.mark.equation("eq-ae-pca")
def test_a_linear_autoencoder_finds_the_principal_subspace() -> None:
    x = correlated(60, 6)
    pca = principal_components(x)
    model = Autoencoder(shape=(6,), latent=2, net="linear").double()
    least = minimize(lambda: model(x), list(model.parameters()), 600)
    assert abs(least - pca.residual(2)) < 1e-6
    encoder, decoder = model.encoder.head.weight, model.decoder.network.weight
    projector = pca.directions[:, :2] @ pca.directions[:, :2].T
    torch.testing.assert_close((decoder @ encoder).detach(), projector, atol=1e-4, rtol=0)


@pytest.mark.equation("eq-ae-pca")
def test_residual_of_principal_components_is_their_reconstruction_error() -> None:
    x = correlated(40, 5)
    pca = principal_components(x)
    for k in (1, 3):
        error = squared_error(pca.decode(pca.encode(x, k)), x).mean()
        assert abs(float(error) - pca.residual(k)) < 1e-10
    for _ in range(20):  # no other projection does better
        q = torch.linalg.qr(torch.randn(5, 3))[0]
        centred = x - x.mean(0)
        assert squared_error(centred @ q @ q.T, centred).mean() >= pca.residual(3) - 1e-10


def test_a_number_of_components_below_0_is_refused() -> None:
    """Python would count it from the end, and leave out the last components."""
    x = correlated(40, 5)
    pca = principal_components(x)
    assert pca.encode(x, 0).shape == (40, 0)
    for call in (lambda: pca.encode(x, -1), lambda: pca.residual(-1)):
        with pytest.raises(ValueError, match="got k=-1; k must be a whole number"):
            call()


@pytest.mark.equation("eq-ae-ppca")
def test_ppca_maximises_the_likelihood() -> None:
    x = correlated(80, 5)
    best = PPCA.fit(x, 2)
    covariance = best.weight @ best.weight.T + best.variance * torch.eye(5)
    expected = multivariate_normal(x.mean(0), covariance).log_prob(x)
    torch.testing.assert_close(best.log_prob(x), expected, atol=1e-9, rtol=0)

    mean, weight, log_var = torch.zeros(5), torch.randn(5, 2), torch.zeros(())
    free = [p.requires_grad_() for p in (mean, weight, log_var)]
    least = minimize(lambda: -PPCA(mean, weight, log_var.exp()).log_prob(x).mean(), free, 500)
    assert abs(-least - float(best.log_prob(x).mean())) < 1e-6

    rotation = torch.linalg.qr(torch.randn(2, 2))[0]
    rotated = PPCA(best.mean, best.weight @ rotation, best.variance)
    torch.testing.assert_close(rotated.log_prob(x), best.log_prob(x), atol=1e-9, rtol=0)


@pytest.mark.equation("eq-ae-ppca")
def test_ppca_has_no_slope_at_its_fit() -> None:
    x = correlated(80, 5)
    best = PPCA.fit(x, 2)
    weight, variance = best.weight.clone().requires_grad_(), best.variance.clone().requires_grad_()
    loss = PPCA(best.mean, weight, variance).log_prob(x).mean()
    for slope in torch.autograd.grad(loss, [weight, variance]):
        torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-9, rtol=0)


@pytest.mark.equation("eq-vae-linpost")
def test_ppca_posterior_is_the_conditional_of_the_joint_normal() -> None:
    model = PPCA.fit(correlated(50, 4), 2)
    x = torch.randn(7, 4)
    mean, covariance = model.posterior(x)
    total = model.weight @ model.weight.T + model.variance * torch.eye(4)
    gain = torch.linalg.solve(total, model.weight).T  # Cov(z, x) Cov(x)⁻¹
    torch.testing.assert_close(mean, (x - model.mean) @ gain.T, atol=1e-10, rtol=0)
    expected = torch.eye(2) - gain @ model.weight
    torch.testing.assert_close(covariance, expected, atol=1e-10, rtol=0)


@pytest.mark.equation("eq-vae-collapse")
def test_codes_below_the_noise_die_in_the_linear_model() -> None:
    z = torch.randn(200, 3)
    z = torch.linalg.qr(z - z.mean(0))[0] * math.sqrt(200)
    x = z * torch.tensor([3.0, 1.2, 0.4]).sqrt()  # covariance exactly diag(3, 1.2, 0.4)
    x = torch.cat([x, torch.zeros(200, 1)], 1)
    model = PPCA.fit(x, 3, variance=0.7)
    norms = model.weight.square().sum(0)
    torch.testing.assert_close(norms, torch.tensor([2.3, 0.5, 0.0]), atol=1e-9, rtol=0)

    weight = (torch.randn(4, 3) * 0.5).requires_grad_()
    s2 = torch.tensor(0.7)
    minimize(lambda: -PPCA(x.mean(0), weight, s2).log_prob(x).mean(), [weight], 500)
    found = torch.linalg.eigvalsh((weight.T @ weight).detach()).flip(0)
    torch.testing.assert_close(found, norms, atol=2e-4, rtol=0)


def test_ppca_draws_have_its_moments() -> None:
    model = PPCA.fit(correlated(50, 3), 1)
    x = model.sample(40_000, generator=torch.Generator().manual_seed(0))
    expected = model.weight @ model.weight.T + model.variance * torch.eye(3)
    torch.testing.assert_close(torch.cov(x.T), expected, atol=0.15, rtol=0.05)
    torch.testing.assert_close(x.mean(0), model.mean, atol=0.05, rtol=0)


@pytest.mark.equation("eq-ae-dae")
def test_the_posterior_mean_is_the_best_denoiser_and_excess_risk_is_its_distance() -> None:
    sigma = 0.8
    nodes, weights = gauss_hermite(80)

    def risk(r) -> float:
        """E ‖r(x + σε) − x‖² under the mixture, by quadrature over x and ε."""
        total = 0.0
        for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True):
            x = (m + s * nodes[:, None]).expand(-1, 80).reshape(-1, 1)
            x_t = x + sigma * nodes.repeat(80)[:, None]
            share = (weights[:, None] * weights).reshape(-1)
            total += float(w * (share * denoising_error(r, x, x_t)).sum())
        return total

    def best(t: Tensor) -> Tensor:
        return mixture_posterior(t[:, 0], sigma)[0][:, None]

    grid = torch.linspace(-14, 14, 8001)
    density = mixture_log_prob(grid, sigma).exp()
    excess = torch.trapezoid(density * (0.3 * grid.sin()) ** 2, grid)
    measured = risk(lambda t: best(t) + 0.3 * t.sin()) - risk(best)
    assert abs(measured - float(excess)) < 1e-8


@pytest.mark.equation("eq-ae-dae")
def test_the_training_loss_adds_noise_of_the_stated_size() -> None:
    model = DenoisingAutoencoder(shape=(3,), latent=2, sigma=0.5, net="linear").double()
    for p in model.parameters():
        torch.nn.init.zeros_(p)
    x = torch.randn(4, 3)
    torch.testing.assert_close(model(x), x.square().sum(1).mean())  # r = 0 ignores the noise
    with torch.no_grad():  # r = identity through a wide code: what is left is the noise
        wide = DenoisingAutoencoder(shape=(3,), latent=3, sigma=0.5, net="linear").double()
        for linear in (wide.encoder.head, wide.decoder.network):
            linear.weight.copy_(torch.eye(3))
            linear.bias.zero_()
        loss = wide(torch.randn(100_000, 3))
    assert abs(float(loss) - 3 * 0.25) < 4 * 0.25 * math.sqrt(6 / 100_000)


@pytest.mark.equation("eq-ae-tweedie")
def test_tweedie_gives_the_posterior_mean_and_covariance() -> None:
    sigma, x_t = 0.8, torch.linspace(-4, 4, 41)
    mean, variance = mixture_posterior(x_t, sigma)
    score = score_of(lambda t: mixture_log_prob(t, sigma), x_t)
    torch.testing.assert_close(tweedie(x_t, score, sigma), mean, atol=1e-12, rtol=0)
    hessian = torch.autograd.functional.hessian(lambda t: mixture_log_prob(t, sigma).sum(), x_t)
    covariance = tweedie_covariance(hessian.diagonal()[:, None, None], sigma)
    torch.testing.assert_close(covariance[:, 0, 0], variance, atol=1e-10, rtol=0)


@pytest.mark.equation("eq-ae-tweedie")
def test_a_denoiser_that_returns_the_posterior_mean_has_the_true_score() -> None:
    sigma = 0.8
    model = DenoisingAutoencoder(shape=(1,), latent=1, sigma=sigma, net="linear").double()
    model.reconstruct = lambda t: mixture_posterior(t[:, 0], sigma)[0][:, None]
    x_t = torch.linspace(-3, 3, 13)
    score = score_of(lambda t: mixture_log_prob(t, sigma), x_t)
    torch.testing.assert_close(model.score(x_t[:, None])[:, 0], score, atol=1e-10, rtol=0)


@pytest.mark.equation("eq-ae-cae")
def test_small_noise_adds_the_jacobian_and_the_curvature_term() -> None:
    a, b, q, x = torch.randn(2, 2), torch.randn(2), torch.randn(2, 2, 2) * 0.4, torch.randn(2)

    def r(y: Tensor) -> Tensor:
        return a @ y + b + torch.einsum("kij,i,j->k", q, y, y)

    nodes, weights = gauss_hermite(12)

    def expected(sigma: float) -> Tensor:
        eps = torch.cartesian_prod(nodes, nodes)
        share = (weights[:, None] * weights).reshape(-1)
        errors = torch.stack([(r(x + sigma * e) - x).square().sum() for e in eps])
        return (share * errors).sum()

    base, penalty = (r(x) - x).square().sum(), small_noise_penalty(r, x)
    left = [expected(s) - base - s**2 * penalty for s in (0.1, 0.05)]
    assert abs(float(left[0] / left[1]) - 16) < 1e-4  # the remainder is of fourth order
    jacobian = torch.func.jacrev(r)(x).square().sum()
    assert abs(float((expected(0.01) - base) / 1e-4 - jacobian)) > 1e-2  # it alone is not enough


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (4,), "latent": 0}, "got latent=0; latent must be a whole number, at least 1"),
        ({"shape": (4,), "latent": 2, "net": "cnn"}, "'cnn'.*linear, mlp, conv"),
        ({"shape": (1, 9, 9), "latent": 2, "net": "conv"}, "divisible by 4"),
        ({"shape": (4,), "latent": 2, "net": "conv"}, "images"),
        ({"shape": (1, 8, 8), "latent": 2, "net": "conv", "hidden": 4}, "hidden >= 8"),
    ],
)
def test_impossible_models_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Autoencoder(**arguments)


def test_impossible_data_and_settings_are_refused() -> None:
    model = Autoencoder(shape=(4,), latent=2).double()
    for x, message in [
        (torch.randn(3, 5), r"\(3, 5\).*\(n, 4\)"),
        (torch.ones(3, 4, dtype=torch.uint8), "uint8.*floating-point"),
        (torch.empty(0, 4), "n >= 1"),
        (torch.full((1, 4), math.inf), "infinite"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.encode(x)
    with pytest.raises(ValueError, match=r"got sigma=0\.0; sigma must be above 0"):
        DenoisingAutoencoder(shape=(4,), latent=2, sigma=0.0)
    with pytest.raises(ValueError, match="0 < k < 4"):
        PPCA.fit(torch.randn(9, 4), 4)
    with pytest.raises(ValueError, match="flatten"):
        principal_components(torch.randn(9, 2, 2))


def test_capabilities_are_those_that_exist() -> None:
    model = Autoencoder(shape=(4,), latent=2)
    assert isinstance(model, Encodes)
    assert not isinstance(model, Samples | Bound | Density)
    ppca = PPCA.fit(correlated(50, 4), 2)
    assert isinstance(ppca, Density)
    assert isinstance(ppca, Samples)
    assert isinstance(ppca, Encodes)
    assert not isinstance(ppca, Bound)


@pytest.mark.equation("eq-vae-linpost")
def test_codes_of_ppca_follow_bayes() -> None:
    """log p(z | x) = log p(z) + log p(x | z) − log p(x), for any z."""
    model = PPCA.fit(correlated(50, 4), 2)
    x, z = torch.randn(7, 4), torch.randn(7, 2)
    normal = torch.distributions.Normal
    prior = normal(0.0, 1.0).log_prob(z).sum(1)
    mean = model.mean + z @ model.weight.T
    likelihood = normal(mean, model.variance.sqrt()).log_prob(x).sum(1)
    expected = prior + likelihood - model.log_prob(x)
    torch.testing.assert_close(model.encode(x).log_prob(z), expected, atol=1e-9, rtol=0)
