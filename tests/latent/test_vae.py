"""VAEs against the linear-Gaussian model, where everything is known, and against enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from oracles import gauss_hermite, minimize, normal_log_prob
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from gentext.core import Bound, Classifies, Density, Encodes, Samples
from gentext.evaluation.metrics import bits_per_dim
from gentext.latent.autoencoder import PPCA
from gentext.latent.vae import IWAE, VAE, active_units, elbo_surgery, importance_bound

pytestmark = pytest.mark.usefixtures("float64")


def linear_vae(ppca: PPCA, *, orthogonal: bool = True, **arguments) -> VAE:
    """The VAE whose decoder is ``ppca`` and whose encoder is its exact posterior.

    Its posterior has independent codes because the columns of W are orthogonal.
    """
    d, k = ppca.weight.shape
    scale = math.sqrt(float(ppca.variance))
    model = VAE(shape=(d,), latent=k, net="linear", likelihood="normal", scale=scale, **arguments)
    model = model.double()
    model.likelihood.log_scale = torch.tensor(math.log(scale))
    mean_at_zero, covariance = ppca.posterior(torch.zeros(1, d))
    gain = covariance @ ppca.weight.T / ppca.variance
    with torch.no_grad():
        model.decoder.network.weight.copy_(ppca.weight)
        model.decoder.network.bias.copy_(ppca.mean)
        model.encoder.head.weight.copy_(torch.cat([gain, torch.zeros(k, d)]))
        model.encoder.head.bias.copy_(torch.cat([mean_at_zero[0], covariance.diagonal().log()]))
    return model


@pytest.fixture
def ppca() -> PPCA:
    return PPCA.fit(torch.randn(60, 4) @ torch.randn(4, 4) + torch.randn(4), 2)


def exact_elbo_terms(model: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Reconstruction and KL of a model with two codes by quadrature, for a batch x."""
    nodes, weights = gauss_hermite(12)
    eps = torch.cartesian_prod(nodes, nodes)
    share = (weights[:, None] * weights).reshape(-1, 1)
    q = model.encode(x)
    z = q.base_dist.loc + q.base_dist.scale * eps[:, None]
    decoded = model.decode(z.flatten(0, 1))
    fit = decoded.log_prob(x.repeat(len(eps), 1)).unflatten(0, (len(eps), -1))
    kl = kl_divergence(q.base_dist, torch.distributions.Normal(0.0, 1.0)).sum(1)
    return (share * fit).sum(0), kl


@pytest.mark.equation("eq-vae-split", "eq-vae-linpost")
def test_bound_is_tight_at_the_true_posterior(ppca: PPCA) -> None:
    x = torch.randn(6, 4)
    model = linear_vae(ppca)
    reconstruction, kl = exact_elbo_terms(model, x)
    torch.testing.assert_close(reconstruction - kl, ppca.log_prob(x), atol=1e-9, rtol=0)
    _, ours = model.elbo_terms(x)
    torch.testing.assert_close(ours, kl, atol=1e-12, rtol=0)


@pytest.mark.equation("eq-vae-split")
def test_bound_by_sampling_equals_quadrature_and_lies_below(ppca: PPCA) -> None:
    x = torch.randn(5, 4)
    model = linear_vae(ppca)
    with torch.no_grad():
        model.encoder.head.bias += 0.3 * torch.randn(4)
        draws = model.elbo(x.repeat(4000, 1)).unflatten(0, (4000, 5))
        reconstruction, kl = exact_elbo_terms(model, x)
    exact = reconstruction - kl
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - exact).abs() < 4.5 * error).all()
    gap = ppca.log_prob(x) - exact
    mean, covariance = ppca.posterior(x)
    q = model.encode(x)
    for i in range(5):
        wrong = MultivariateNormal(q.mean[i], q.variance[i].diag())
        expected = kl_divergence(wrong, MultivariateNormal(mean[i], covariance))
        torch.testing.assert_close(gap[i], expected, atol=1e-9, rtol=0)


@pytest.mark.equation("eq-vae-elbo")
def test_evidence_is_mean_log_weight_plus_kl_to_the_posterior() -> None:
    """One code, a decoder that is no Gaussian model: everything by integration over z."""
    torch.manual_seed(3)
    model = VAE(shape=(3,), latent=1, hidden=8, likelihood="bernoulli").double()
    x = torch.tensor([[1.0, 0.0, 1.0]])
    z = torch.linspace(-12, 12, 6001)
    q = model.encode(x)
    with torch.no_grad():
        joint = model.decode(z[:, None]).log_prob(x.expand(6001, 3)) + normal_log_prob(
            z, torch.zeros(()), torch.ones(())
        )
        log_q = q.log_prob(z[:, None])
        evidence = torch.trapezoid(joint.exp(), z).log()
        kl = torch.trapezoid(log_q.exp() * (log_q - (joint - evidence)), z)
        weights = model.log_weights(x, k=40_000)
    assert weights.shape == (40_000, 1)
    error = float(weights.std()) / 200
    assert abs(float(evidence - (weights.mean() + kl))) < 4.5 * error
    assert float(kl) > 20 * error  # so that dropping it would be seen
    bound = torch.trapezoid(log_q.exp() * (joint - log_q), z)
    torch.testing.assert_close(bound, evidence - kl, atol=1e-8, rtol=0)


@pytest.mark.equation("eq-vae-beta")
def test_beta_tempers_the_posterior(ppca: PPCA) -> None:
    beta, x = 3.0, torch.randn(6, 4)
    model = linear_vae(ppca, beta=beta)
    parameters = [*model.encoder.parameters()]
    for p in model.decoder.parameters():
        p.requires_grad_(False)

    def loss() -> Tensor:
        reconstruction, kl = exact_elbo_terms(model, x)
        return (beta * kl - reconstruction).mean()

    minimize(loss, parameters, 100)
    precision = torch.eye(2) + ppca.weight.T @ ppca.weight / (beta * ppca.variance)
    variance = model.encode(x).variance
    expected = torch.linalg.inv(precision).diagonal().expand(6, 2)
    torch.testing.assert_close(variance, expected, atol=1e-6, rtol=0)
    torch.manual_seed(1)
    with torch.no_grad():
        draws = torch.stack([model.loss(x.repeat(500, 1)) for _ in range(20)])
        error = float(draws.std()) / math.sqrt(20)
        assert abs(float(draws.mean() - loss())) < 5 * error


def multinomial_bound(q: list[float], w: list[float], k: int) -> float:
    """E log (1/K) Σ w(z_k) for z_k ~ q over a few states, by summing over all counts."""
    total = 0.0
    for counts in itertools.product(range(k + 1), repeat=len(q)):
        if sum(counts) != k:
            continue
        log_p = math.lgamma(k + 1) - sum(math.lgamma(c + 1) for c in counts)
        log_p += sum(c * math.log(a) for c, a in zip(counts, q, strict=True))
        log_w = torch.tensor(
            [math.log(b) for b, c in zip(w, counts, strict=True) for _ in range(c)]
        )
        total += math.exp(log_p) * float(importance_bound(log_w[:, None]))
    return total


@pytest.mark.equation("eq-vae-iwae")
def test_more_samples_give_a_tighter_bound_with_the_stated_gap() -> None:
    q, joint = [0.5, 0.3, 0.2], [0.10, 0.02, 0.06]
    w = [a / b for a, b in zip(joint, q, strict=True)]
    evidence = math.log(sum(joint))
    bounds = [multinomial_bound(q, w, k) for k in (1, 2, 3, 5, 10)]
    assert all(a < b for a, b in itertools.pairwise([*bounds, evidence]))
    assert abs(bounds[0] - sum(a * math.log(b) for a, b in zip(q, w, strict=True))) < 1e-12
    variance = sum(a * b**2 for a, b in zip(q, w, strict=True)) - sum(joint) ** 2
    gap = evidence - multinomial_bound(q, w, 40)
    assert abs(40 * gap / (variance / (2 * sum(joint) ** 2)) - 1) < 0.05


@pytest.mark.equation("eq-vae-iwae")
def test_importance_bound_of_a_model_reaches_the_exact_likelihood(ppca: PPCA) -> None:
    x = torch.randn(5, 4)
    model = linear_vae(ppca)
    exact = ppca.log_prob(x)
    torch.testing.assert_close(model.importance_log_prob(x, 7), exact, atol=1e-9, rtol=0)
    with torch.no_grad():
        model.encoder.head.bias[2:] += 0.5  # wider than the posterior: bounded weights
        elbo = model.elbo(x, samples=2000)
    few = model.importance_log_prob(x, 10)
    many = model.importance_log_prob(x, 20_000, chunk=999)
    assert (many > elbo + 0.05).all()
    assert (few - exact).abs().max() > (many - exact).abs().max()
    torch.testing.assert_close(many, exact, atol=0.02, rtol=0)


@pytest.mark.equation("eq-vae-iwae")
def test_iwae_trains_on_the_bound_it_names() -> None:
    model = IWAE(shape=(3,), latent=2, hidden=8, likelihood="normal", scale=1.0, k=4).double()
    x = torch.randn(6, 3)
    torch.manual_seed(7)
    loss = model.loss(x)
    torch.manual_seed(7)
    log_w = model.log_weights(x, k=4)
    expected = -(log_w.exp().mean(0)).log().mean()
    torch.testing.assert_close(loss, expected)


class Table(nn.Module):
    """An encoder that looks its output up: row i of ``values`` for the input i."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(values)

    def forward(self, x: Tensor) -> Tensor:
        return self.values[x[:, 0].long()]


@pytest.mark.equation("eq-vae-surgery")
def test_surgery_splits_the_mean_kl() -> None:
    parameters = torch.tensor([[-1.0, -1.0], [0.5, -0.5], [2.0, -2.0]])
    model = VAE(
        shape=(1,), latent=1, net=(Table(parameters), nn.Unflatten(1, (1, 1))), likelihood="normal"
    )
    x = torch.arange(3.0)[:, None]
    information, marginal = elbo_surgery(model, x, samples=40_000)

    z = torch.linspace(-14, 14, 8001)
    q = model.encode(x).log_prob(z[:, None, None]).T.exp().detach()
    mixture, prior = q.mean(0), normal_log_prob(z, torch.zeros(()), torch.ones(())).exp()

    def kl(a: Tensor, b: Tensor) -> float:
        tiny = 1e-300
        return float(torch.trapezoid(a * ((a + tiny).log() - (b + tiny).log()), z))

    exact = sum(kl(row, mixture) for row in q) / 3
    assert abs(information - exact) < 0.01
    assert abs(marginal - kl(mixture, prior)) < 0.02
    _, mean_kl = model.elbo_terms(x)
    assert abs(information + marginal - float(mean_kl.detach().mean())) < 0.02
    assert exact < math.log(3)
    apart = Table(torch.tensor([[-40.0, 0.0], [0.0, 0.0], [40.0, 0.0]]))
    model = VAE(shape=(1,), latent=1, net=(apart, nn.Unflatten(1, (1, 1))), likelihood="normal")
    assert abs(elbo_surgery(model, x, samples=500)[0] - math.log(3)) < 1e-9


@pytest.mark.equation("eq-vae-collapse")
def test_linear_vae_keeps_the_codes_that_the_closed_form_keeps() -> None:
    z = torch.randn(300, 3)
    z = torch.linalg.qr(z - z.mean(0))[0] * math.sqrt(300)
    x = z * torch.tensor([3.0, 1.2, 0.4]).sqrt()
    x = torch.cat([x, torch.zeros(300, 1)], 1) @ torch.linalg.qr(torch.randn(4, 4))[0]
    model = linear_vae(PPCA.fit(x, 3, variance=0.7))
    assert active_units(model, x) == 2


def test_linear_vae_trained_by_sampling_reaches_the_likelihood_of_ppca() -> None:
    """Adam on the one-sample bound, with a learned scale, from a random start."""
    x = torch.randn(500, 5) @ torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.5, 0.5]))
    exact = PPCA.fit(x, 2).log_prob(x).mean()
    model = VAE(shape=(5,), latent=2, net="linear", likelihood="normal").double()
    torch.nn.init.zeros_(model.likelihood.log_scale)  # these data are of order one
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
    for _ in range(1500):
        optimizer.zero_grad()
        model.loss(x).backward()
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        reconstruction, kl = exact_elbo_terms(model, x)
    assert abs(float((reconstruction - kl).mean() - exact)) < 1e-2


@pytest.mark.equation("eq-data-bpd")
def test_bits_per_dim_of_a_uniform_code() -> None:
    log_p = torch.full((3,), 64 * math.log(1 / 17))
    torch.testing.assert_close(bits_per_dim(log_p, 64), torch.full((3,), math.log2(17)))


def test_capabilities_are_those_that_exist() -> None:
    for model in (VAE(shape=(4,), latent=2), IWAE(shape=(4,), latent=2)):
        assert isinstance(model, Samples)
        assert isinstance(model, Bound)
        assert isinstance(model, Encodes)
        assert not isinstance(model, Density | Classifies)


def test_interpolation_starts_and_ends_at_reconstructions() -> None:
    model = VAE(shape=(1, 8, 8), latent=3, hidden=32).double()
    a, b = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    path = model.interpolate(a, b, steps=5)
    assert path.shape == (2, 5, 1, 8, 8)
    torch.testing.assert_close(path[:, 0], model.reconstruct(a))
    torch.testing.assert_close(path[:, -1], model.reconstruct(b))


def test_sampling_follows_the_generator() -> None:
    model = VAE(shape=(1, 8, 8), latent=3, hidden=32).double()
    draws = [model.sample(4, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()
    assert set(draws[0].unique().tolist()) == {0.0, 1.0}  # Bernoulli noise, not the mean


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent": 0}, "latent=0; latent must be a whole number, at least 1"),
        ({"latent": 2, "hidden": 0}, "hidden=0"),
        ({"latent": 2, "classes": -1}, "classes=-1"),
        ({"latent": 2, "beta": -1.0}, "beta must be"),
        ({"latent": 2, "beta": math.nan}, "beta must be"),
        ({"latent": 2, "likelihood": "mse"}, "'mse'.*normal, bernoulli"),
        ({"latent": 2, "net": "vit"}, "'vit'.*linear, mlp, conv"),
    ],
)
def test_impossible_models_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VAE(shape=(4,), **arguments)


def test_impossible_data_are_refused() -> None:
    model = VAE(shape=(4,), latent=2).double()
    for x, message in [
        (torch.full((2, 4), 255.0), r"255.*\[0, 1\].*divide"),
        (torch.rand(2, 5), r"\(2, 5\)"),
        (torch.rand(0, 4), "n >= 1"),
        (torch.full((2, 4), math.nan), "NaN"),
        (torch.ones(2, 4, dtype=torch.long), "floating-point"),
    ]:
        for call in (model.elbo, model.loss, lambda x: model.importance_log_prob(x, 2)):
            with pytest.raises(ValueError, match=message):
                call(x)
    with pytest.raises(ValueError, match="takes no labels"):
        model.encode(torch.rand(2, 4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="no beta"):
        IWAE(shape=(4,), latent=2, beta=2.0)
    with pytest.raises(ValueError, match="samples=0; samples must be a whole number, at least 1"):
        model.elbo(torch.ones(2, 4), samples=0)
    with pytest.raises(ValueError, match="k=0; k must be a whole number, at least 1"):
        model.importance_log_prob(torch.ones(2, 4), 0)
    with pytest.raises(ValueError, match="steps=1; steps must be a whole number, at least 2"):
        model.interpolate(torch.rand(1, 4), torch.rand(1, 4), steps=1)


def test_a_decoder_of_the_wrong_shape_is_refused_not_broadcast() -> None:
    decoder = nn.Linear(2, 4)  # gives (n, 4) where (n, 1, 4) is needed
    model = VAE(shape=(4,), latent=2, net=(nn.Linear(4, 4), decoder)).double()
    with pytest.raises(ValueError, match=r"\(n, 1, 4\), but got \(3, 4\)"):
        model.loss(torch.rand(3, 4))


def test_extreme_encoders_give_finite_bounds_and_gradients() -> None:
    for log_var in (-300.0, 200.0):
        table = Table(torch.tensor([[0.0, log_var]]))
        decoder = nn.Unflatten(1, (1, 1))
        model = VAE(shape=(1,), latent=1, net=(table, decoder), likelihood="normal", scale=1.0)
        loss = model.loss(torch.zeros(1, 1))
        loss.backward()
        assert loss.isfinite()
        assert table.values.grad.isfinite().all()


def test_grey_images_have_no_bernoulli_bound_and_are_not_trained_on() -> None:
    model, grey = VAE(shape=(4,), latent=2), torch.full((3, 4), 0.5)
    calls = [model.check, model.elbo, model.elbo_terms, lambda x: model.log_weights(x, k=2)]
    for call in (*calls, lambda x: model.importance_log_prob(x, 2)):
        with pytest.raises(ValueError, match="'bernoulli' is no likelihood"):
            call(grey)
        call(grey.round())
    assert model.reconstruct(grey).shape == (3, 4)  # which is no likelihood
