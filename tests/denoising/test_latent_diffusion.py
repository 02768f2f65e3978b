"""The bound of two stages against normal models; scales, draws, checkpoints, bad input."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles import F64, gauss_hermite, normal_log_prob
from torch import Tensor, nn

from gentext import checkpoint, diffusion, latent_diffusion
from gentext.core import Bound, Density, Encodes, Model, Samples
from gentext.denoising.diffusion import Diffusion
from gentext.denoising.flow_matching import FlowMatching
from gentext.denoising.latent_diffusion import (
    JITTER,
    LatentDiffusion,
    built,
    described,
    draw,
    latent_scale,
    latent_shape,
    shifted,
)
from gentext.denoising.schedule import Schedule, from_x0
from gentext.latent.autoencoder import Autoencoder
from gentext.latent.conditional_vae import ConditionalVAE
from gentext.latent.image_vae import ImageVAE
from gentext.latent.vae import VAE
from gentext.sequences.vqvae import VQVAE

pytestmark = pytest.mark.usefixtures("float64")

# Two pixels are N(W z, NOISE²), given one code z, and q(z | x) is N(GAIN · x + SHIFT, STD²).
W, NOISE = torch.tensor([0.9, -0.4], dtype=F64), 0.45
GAIN, SHIFT, STD = torch.tensor([0.5, -0.2], dtype=F64), 0.1, 0.39
SCALE = 1.7
NODES = 12


class Affine(nn.Module):
    """weight · x + bias, with rows of the shape asked for."""

    def __init__(self, weight: Tensor, bias: Tensor, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight, self.bias, self.shape = nn.Parameter(weight), nn.Parameter(bias), shape

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.T + self.bias).view(-1, *self.shape)


def linear_vae() -> VAE:
    weight = torch.stack([GAIN, torch.zeros(2)])
    encoder = Affine(weight, torch.tensor([SHIFT, 2 * math.log(STD)]), (2,))
    decoder = Affine(W[:, None].clone(), torch.zeros(2), (1, 2))
    model = VAE(shape=(2,), latent=1, net=(encoder, decoder), likelihood="normal", scale=NOISE)
    return model.double().eval()


class Best(nn.Module):
    """The best prediction of the noise where the data are N(mean, var)."""

    def __init__(self, schedule: Schedule, mean: float, var: float) -> None:
        super().__init__()
        self.schedule, self.mean, self.var = schedule, mean, var
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        level = self.schedule.at(t, 1)
        gain = level.alpha * self.var / (level.alpha**2 * self.var + level.sigma**2)
        x_0 = self.mean + gain * (x_t - level.alpha * self.mean)
        return from_x0("eps", x_0, x_t, level)


def normal_diffusion(schedule: Schedule, mean: float = 0.0, var: float = 1.0) -> Diffusion:
    return Diffusion(Best(schedule, mean, var), schedule, shape=(1,), levels=None).eval()


class Chain(Model):
    """A chain of T normals, p(z_{t−1} | z_t) = N(a z_t + b, c), begun at N(0, 1).

    Its bound is exact for the two signs of noise, which is what the terms are quadratic in.
    """

    shape = (1,)

    def __init__(self, schedule: Schedule, steps: list[tuple[float, float, float]]) -> None:
        super().__init__()
        self.schedule, self.steps = schedule, steps

    def elbo(self, z: Tensor, *, generator: Any = None) -> Tensor:
        z, one = z[:, 0], torch.ones(())
        bar = self.schedule.alpha_bar
        last = torch.distributions.Normal(bar[-1].sqrt() * z, (1 - bar[-1]).sqrt())
        total = -torch.distributions.kl_divergence(last, torch.distributions.Normal(0.0, one))
        for t in range(len(bar)):
            for sign in (1, -1):
                a, b, c = self.steps[t]
                z_t = bar[t].sqrt() * z + sign * (1 - bar[t]).sqrt()
                p = torch.distributions.Normal(a * z_t + b, math.sqrt(c))
                if t == 0:
                    total = total + p.log_prob(z) / 2
                    continue
                beta, var = 1 - bar[t] / bar[t - 1], 1 - bar[t - 1]
                mean = bar[t - 1].sqrt() * beta * z + (1 - beta).sqrt() * var * z_t
                q = torch.distributions.Normal(
                    mean / (1 - bar[t]), (var / (1 - bar[t]) * beta).sqrt()
                )
                total = total - torch.distributions.kl_divergence(q, p) / 2
        return total

    def check(self, *_: Tensor) -> None:
        pass

    def moments(self) -> tuple[Tensor, Tensor]:
        mean, var = torch.zeros(()), torch.ones(())
        for a, b, c in reversed(self.steps):
            mean, var = a * mean + b, a**2 * var + c
        return mean, var


class Unit(Model):
    """The density N(0, I)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def log_prob(self, z: Tensor, *, generator: Any = None) -> Tensor:
        return normal_log_prob(z, torch.zeros(()), torch.ones(())).flatten(1).sum(1)

    def check(self, *_: Tensor) -> None:
        pass


def quadrature(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes at the nodes, noise of the diffusion with both signs: all expectations are exact."""
    nodes = gauss_hermite(NODES)[0]

    def signs(x: Tensor, generator: object = None) -> Tensor:
        half = torch.ones(len(x) // 2, *x.shape[1:])
        return torch.cat([half, -half])

    monkeypatch.setattr(
        latent_diffusion, "normal_like", lambda x, generator=None: nodes.repeat(2)[:, None]
    )
    monkeypatch.setattr(diffusion, "normal_like", signs)


def expected_bound(model: LatentDiffusion, x: Tensor, **how: Any) -> float:
    weights = gauss_hermite(NODES)[1].repeat(2) / 2
    return float((weights * model.elbo(x.expand(2 * NODES, 2), **how)).sum())


def vae_elbo(x: Tensor, mean: Tensor, var: Tensor) -> float:
    """E_q log p(x | z) − KL(q ‖ N(mean, var)) in closed form."""
    m = GAIN @ x + SHIFT
    residual = (x - W * m).square().sum() + W.square().sum() * STD**2
    rec = -0.5 * (residual / NOISE**2 + 2 * math.log(2 * math.pi * NOISE**2))
    q = torch.distributions.Normal(m, torch.tensor(STD))
    p = torch.distributions.Normal(mean, var.sqrt())
    return float(rec - torch.distributions.kl_divergence(q, p))


def exact_log_prob(x: Tensor, mean: Tensor, var: Tensor) -> float:
    covariance = var * torch.outer(W, W) + NOISE**2 * torch.eye(2)
    return float(torch.distributions.MultivariateNormal(W * mean, covariance).log_prob(x))


X = torch.tensor([0.7, -0.5], dtype=F64)
FOUR = Schedule.from_beta(torch.tensor([0.2, 0.4, 0.7, 0.9], dtype=F64)).double()


def exact_chain() -> Chain:
    """That of N(0, 1): the way back is the way there."""
    bar = FOUR.alpha_bar
    keep = [float(bar[0]), *(float(bar[t] / bar[t - 1]) for t in range(1, 4))]
    return Chain(FOUR, [(math.sqrt(k), 0.0, 1 - k) for k in keep])


def other_chain() -> Chain:
    """One near it."""
    changes = [(0.95, 0.1, 1.2), (1.05, -0.1, 0.9), (0.9, 0.05, 1.1), (1.1, 0.2, 0.8)]
    steps = zip(exact_chain().steps, changes, strict=True)
    return Chain(FOUR, [(a * f, b, c * g) for (a, _, c), (f, b, g) in steps])


@pytest.mark.equation("eq-ldm-bound")
@pytest.mark.parametrize("scale", [1.0, SCALE])
def test_with_an_exact_chain_the_bound_is_that_of_the_vae(
    monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    """The chain draws N(0, 1), so the codes of the VAE have the prior N(0, scale²)."""
    quadrature(monkeypatch)
    model = LatentDiffusion(autoencoder=linear_vae(), diffusion=exact_chain(), scale=scale)
    expected = vae_elbo(X, torch.zeros(()), torch.tensor(scale**2))
    assert expected_bound(model, X) == pytest.approx(expected, abs=1e-10)


@pytest.mark.equation("eq-ldm-bound")
@pytest.mark.parametrize("scale", [1.0, SCALE])
def test_with_any_chain_it_is_below_that_and_below_the_density(
    monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    quadrature(monkeypatch)
    chain = other_chain()
    model = LatentDiffusion(autoencoder=linear_vae(), diffusion=chain, scale=scale)
    mean, var = (scale * chain.moments()[0], scale**2 * chain.moments()[1])
    for x in (X, torch.tensor([-1.0, 0.2])):
        bound, elbo, exact = (
            expected_bound(model, x),
            vae_elbo(x, mean, var),
            exact_log_prob(x, mean, var),
        )
        assert bound < elbo - 1e-3 < elbo < exact - 1e-3
        assert bound > exact - 1


@pytest.mark.equation("eq-ldm-bound")
def test_a_diffusion_of_ever_more_levels_approaches_the_bound_of_the_vae(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quadrature(monkeypatch)
    mean, var, gaps = 0.3, 0.6, []
    elbo = vae_elbo(X, torch.tensor(SCALE * mean), torch.tensor(SCALE**2 * var))
    for T in (300, 600):
        prior = normal_diffusion(Schedule.line(T, 11.0, -11.0), mean, var)
        model = LatentDiffusion(autoencoder=linear_vae(), diffusion=prior, scale=SCALE)
        gaps.append(elbo - expected_bound(model, X, terms=None))
    assert gaps[1] > 0
    assert gaps[0] / gaps[1] == pytest.approx(2, abs=0.05)
    assert abs(2 * gaps[1] - gaps[0]) < 3e-3


@pytest.mark.equation("eq-ldm-bound")
def test_draws_of_codes_and_noise_are_right_on_average() -> None:
    """Nothing replaced: against the same bound by quadrature."""
    prior = normal_diffusion(FOUR, 0.3, 0.6)
    model = LatentDiffusion(autoencoder=linear_vae(), diffusion=prior, scale=SCALE)
    drawn = model.elbo(X.expand(40_000, 2), terms=2)
    with pytest.MonkeyPatch.context() as patch:
        quadrature(patch)
        expected = expected_bound(model, X, terms=None)
    assert abs(float(drawn.mean()) - expected) < 4 * float(drawn.std()) / 200
    assert expected < exact_log_prob(X, torch.tensor(SCALE * 0.3), torch.tensor(SCALE**2 * 0.6))


@pytest.mark.equation("eq-ldm-bound")
def test_the_parts_of_the_bound() -> None:
    """The entropy against torch; a prior that is a density is taken as it is."""

    model = LatentDiffusion(autoencoder=linear_vae(), diffusion=Unit((1,)), scale=SCALE)
    x = torch.randn(5, 2)
    generator = torch.Generator().manual_seed(1)
    parts = model.elbo_terms(x, generator=generator)
    z = draw(model.encode(x), generator.manual_seed(1))
    entropy = torch.distributions.Normal(torch.tensor(0.0), STD / SCALE).entropy()
    torch.testing.assert_close(parts.entropy, entropy.expand(5))
    likelihood = normal_log_prob(x, SCALE * z * W, torch.tensor(NOISE)).sum(1)
    torch.testing.assert_close(parts.reconstruction, likelihood)
    torch.testing.assert_close(
        parts.prior, normal_log_prob(z[:, 0], torch.zeros(()), torch.ones(()))
    )


# Scales


@pytest.mark.equation("eq-ldm-scale")
def test_codes_of_another_scale_meet_another_schedule() -> None:
    """Denoising c z at the levels of a schedule leaves as much, relatively, as z at the shifted."""
    schedule, c = Schedule.cosine(50), 1.6
    other = shifted(schedule, c)
    assert len(other) == 50
    for t in range(50):
        level, there = schedule.at(t), other.at(t)
        left = level.sigma**2 / (c**2 * level.alpha**2 + level.sigma**2)  # of c z, over c²
        torch.testing.assert_close(left, there.sigma**2 / (there.alpha**2 + there.sigma**2))
        torch.testing.assert_close(there.snr, c**2 * level.snr)


@pytest.mark.equation("eq-ldm-scale")
def test_the_bound_of_a_diffusion_knows_only_the_product_of_scale_and_schedule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Levels of normal data of deviation c weigh as those of 1 with the shifted schedule."""
    monkeypatch.setattr(
        diffusion, "normal_like", lambda x, generator=None: torch.tensor([[1.0], [-1.0]])
    )
    schedule, c, z = Schedule.linear(20), 1.6, torch.full((2, 1), 0.8)
    wide = normal_diffusion(schedule, var=c**2).elbo_terms(c * z, terms=None)
    unit = normal_diffusion(shifted(schedule, c)).elbo_terms(z, terms=None)
    torch.testing.assert_close(wide.levels, unit.levels)
    torch.testing.assert_close(wide.reconstruction - math.log(c), unit.reconstruction)


@pytest.mark.equation("eq-ldm-scale")
def test_codes_divided_by_their_measured_deviation_have_one_of_one() -> None:
    z = 3 + 2.5 * torch.randn(400, 4, 3, 3)
    assert float(latent_scale(z)) == pytest.approx(float(z.flatten().std()), rel=1e-12)
    assert float((z / latent_scale(z)).std()) == pytest.approx(1, rel=1e-12)
    assert latent_scale(z.bfloat16()).dtype == torch.float32
    model = LatentDiffusion(autoencoder=linear_vae(), diffusion=normal_diffusion(FOUR))
    x = torch.randn(20_000, 2) * torch.tensor([2.0, 3.0])
    c = model.fit_scale(x)
    expected = math.sqrt(float((GAIN * torch.tensor([2.0, 3.0])).square().sum()) + STD**2)
    assert c == pytest.approx(expected, rel=0.02)
    assert float(draw(model.encode(x)).std()) == pytest.approx(1, rel=0.02)
    q = model.encode(x[:3])
    torch.testing.assert_close(q.mean, ((x[:3] @ GAIN + SHIFT) / c)[:, None])
    torch.testing.assert_close(q.stddev, torch.full((3, 1), STD / c))
    torch.testing.assert_close(model.decode(q.mean).mean, (x[:3] @ GAIN + SHIFT)[:, None] * W)


# Autoencoders


def image_vae(**options: Any) -> ImageVAE:
    settings: dict[str, Any] = {"shape": (1, 8, 12), "channels": 3, "hidden": 8, "levels": 17}
    return ImageVAE(**(settings | options))


def vqvae() -> VQVAE:
    model = VQVAE(
        shape=(1, 8, 12), codes=5, code_size=3, hidden=8, likelihood="logistic", levels=17
    )
    with torch.no_grad():
        model.quantizer.codebook.normal_()
    return model


def flat_vae() -> VAE:
    return VAE(shape=(1, 8, 12), latent=6, hidden=8, likelihood="logistic", levels=17)


def latent(make: Any = image_vae, **options: Any) -> LatentDiffusion:
    torch.manual_seed(0)
    autoencoder = make()
    shape = latent_shape(autoencoder)
    small: dict[str, Any] = {"width": 8, "layers": 1, "heads": 2, "patch": 1}
    if len(shape) == 1:
        small = {"hidden": 8, "layers": 1}
    prior = Diffusion(
        "dit" if len(shape) == 3 else "mlp",
        shape=shape,
        levels=None,
        steps=20,
        predict="v",
        **(small | options),
    )
    for p in prior.net.parameters():  # so that it does not predict 0
        nn.init.normal_(p, std=0.3)
    model = LatentDiffusion(autoencoder=autoencoder, diffusion=prior)
    model.fit_scale(images(20))
    return model.double().eval()


def images(n: int) -> Tensor:
    return torch.randint(17, (n, 1, 8, 12)) / 16


MAKERS = [image_vae, vqvae, flat_vae]


@pytest.mark.parametrize("make", MAKERS)
def test_codes_are_those_of_the_autoencoder(make: Any) -> None:
    model, x = latent(make), images(5)
    coder, c = model.autoencoder, float(model.scale)
    q = model.encode(x)
    assert q.event_shape == model.latents
    if isinstance(coder, VQVAE):
        assert model.latents == (3, 2, 3)
        torch.testing.assert_close(q.mean, coder.encoder(x) / c)
        torch.testing.assert_close(q.stddev, torch.full_like(q.mean, JITTER))
        z = coder.quantizer.lookup(coder.encode(x))
        torch.testing.assert_close(model.decode(z / c).mean, coder.decode(coder.encode(x)).mean)
        torch.testing.assert_close(model.reconstruct(x), coder.reconstruct(x))
        return
    assert model.latents == (coder.map if make is image_vae else (6,))
    torch.testing.assert_close(q.mean.flatten(1) * c, coder.encode(x).mean)
    torch.testing.assert_close(q.stddev.flatten(1) * c, coder.encode(x).stddev)
    torch.testing.assert_close(model.reconstruct(x), coder.reconstruct(x))


@pytest.mark.equation("eq-ldm-bound")
@pytest.mark.parametrize("make", MAKERS)
def test_with_a_standard_normal_prior_the_bound_is_that_of_the_autoencoder(make: Any) -> None:
    """Of a VQ-VAE that of a VAE whose encoder adds noise, whose decoder quantises."""
    model, x = latent(make), images(6)
    model.diffusion = Unit(model.latents)
    model.scale.fill_(1.0)
    drawn = torch.stack([model.elbo(x) for _ in range(400)])
    q = model.encode(x)
    one = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    kl = torch.distributions.kl_divergence(q.base_dist, one).flatten(1).sum(1)
    log_p = torch.stack([model.decode(draw(q)).log_prob(x) for _ in range(400)])
    error = ((drawn.var(0) + log_p.var(0)) / 400).sqrt()
    assert ((drawn.mean(0) - log_p.mean(0) + kl).abs() < 4 * error).all()
    if not isinstance(model.autoencoder, VQVAE):
        elbo = model.autoencoder.elbo(x, samples=400)
        assert ((drawn.mean(0) - elbo).abs() < 4 * error).all()


@pytest.mark.parametrize("make", MAKERS)
def test_the_autoencoder_stays_as_it_is(make: Any) -> None:
    model = latent(make, classes=2).train()
    before = {name: value.clone() for name, value in model.autoencoder.state_dict().items()}
    assert not model.autoencoder.training
    assert model.diffusion.training
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    x, y = images(8), torch.arange(8) % 2
    for _ in range(3):
        optimizer.zero_grad()
        model(x, y).backward()
        optimizer.step()
    assert all(p.grad is None for p in model.autoencoder.parameters())
    assert all(p.grad is not None for p in model.diffusion.parameters())
    for name, value in model.autoencoder.state_dict().items():
        assert value.equal(before[name]), name
    assert not model.eval().diffusion.training


@pytest.mark.parametrize("make", MAKERS)
def test_the_loss_is_that_of_the_diffusion_of_codes_drawn_afresh(make: Any) -> None:
    model, x, y = latent(make, classes=2), images(8), torch.arange(8) % 2
    torch.manual_seed(4)
    loss = model.loss(x, y)
    torch.manual_seed(4)
    z = draw(model.encode(x))
    torch.testing.assert_close(loss, model.diffusion.loss(z, y))
    assert not z.allclose(draw(model.encode(x)))


@pytest.mark.parametrize("make", MAKERS)
def test_samples_are_decoded_draws_of_codes(make: Any) -> None:
    model, y = latent(make, classes=2), torch.tensor([0, 1, 1])
    generator = torch.Generator().manual_seed(3)
    how: dict[str, Any] = {"steps": 4, "sampler": "ddim", "guidance": 0.5}
    made = model.sample(3, y, mean=True, generator=generator, **how)
    z = model.diffusion.sample(3, y, generator=generator.manual_seed(3), **how)
    torch.testing.assert_close(made, model.decode(z).mean)
    path = list(model.trajectory(3, y, generator=generator.manual_seed(3), **how))
    assert len(path) == 4
    torch.testing.assert_close(path[-1], made)
    drawn = model.sample(3, generator=generator)
    assert drawn.shape == (3, 1, 8, 12)
    torch.testing.assert_close(drawn * 16, (drawn * 16).round())
    assert model.sample(3, generator=generator.manual_seed(3)).equal(
        model.sample(3, generator=generator.manual_seed(3))
    )
    assert not model.sample(3, y, mean=True, **how).requires_grad


def test_in_training_draws_and_bounds_are_those_of_evaluation() -> None:
    model, x, y = latent(classes=2, dropout=0.6), images(3), torch.tensor([0, 1, 1])
    calls: list[Any] = [
        lambda g: model.sample(3, y, steps=3, generator=g),
        lambda g: torch.stack(list(model.trajectory(3, y, steps=3, generator=g))),
        lambda g: model.elbo(x, y, generator=g),
        lambda g: torch.stack(model.elbo_terms(x, y, generator=g)),
    ]
    for call in calls:
        found = [call(torch.Generator().manual_seed(1)) for _ in (model.eval(), model.train())]
        assert torch.equal(*found)
        assert all(part.training for part in model.diffusion.modules())
        assert not any(part.training for part in model.autoencoder.modules())


def test_the_options_of_a_draw_are_its_own_and_those_of_the_diffusion() -> None:
    model = latent()
    options = {"n", "y", "mean", "generator", "how", "sampler", "steps", "guidance", "options"}
    assert set(model.sample_options) == options
    model.diffusion = Unit(model.latents)
    model.diffusion.sample = lambda n, *, temperature=1.0, **how: None
    assert set(model.sample_options) == {"n", "y", "mean", "generator", "how", "temperature"}


def test_parts_are_kept_by_their_public_names() -> None:
    model = latent()
    kept = described(model.autoencoder)
    assert kept == {"class": "ImageVAE", **model.autoencoder.arguments}
    assert type(built(kept)) is ImageVAE
    assert built(model.autoencoder) is model.autoencoder

    class ImageVAE2(ImageVAE):
        """Of no public name."""

    own = ImageVAE2(shape=(1, 8, 12), channels=3, hidden=8, levels=17)
    assert described(own) is own


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("flow", [False, True])
def test_a_checkpoint_rebuilds_both_models(make: Any, flow: bool, tmp_path: Path) -> None:
    model = latent(make)
    if flow:
        small = {"net": "dit", "patch": 1, "width": 8} if len(model.latents) == 3 else {}
        prior = FlowMatching(shape=model.latents, **small)
        model = LatentDiffusion(autoencoder=model.autoencoder, diffusion=prior, scale=0.3).eval()
    file = checkpoint.save(tmp_path / "model.safetensors", model)
    again = checkpoint.load(file)
    assert isinstance(again, LatentDiffusion)
    assert type(again.autoencoder) is type(model.autoencoder)
    assert again.arguments == model.arguments
    assert again.scale.equal(model.scale)
    assert not any(p.requires_grad for p in again.autoencoder.parameters())
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert again.state_dict()[name].equal(value), name
    x = images(3)
    torch.manual_seed(1)
    loss = model.loss(x)
    torch.manual_seed(1)
    assert again.loss(x).equal(loss)
    checkpoint.load(file, model=LatentDiffusion(**model.arguments))


def test_networks_of_ones_own_are_kept_by_the_model_itself(tmp_path: Path) -> None:
    model = LatentDiffusion(autoencoder=linear_vae(), diffusion=normal_diffusion(FOUR), scale=1.0)
    file = checkpoint.save(tmp_path / "model.safetensors", model)
    with pytest.raises(ValueError, match="no plain values"):
        checkpoint.load(file)
    other = LatentDiffusion(autoencoder=linear_vae(), diffusion=normal_diffusion(FOUR))
    assert float(checkpoint.load(file, model=other).scale) == 1.0
    assert described(exact_chain()).__class__ is Chain


def test_a_flow_is_a_prior_too_with_its_exact_density() -> None:
    prior = FlowMatching(shape=(6,), hidden=8, classes=2)
    model = LatentDiffusion(autoencoder=flat_vae(), diffusion=prior, scale=0.5).double().eval()
    x, y = images(4), torch.tensor([0, 1, 0, 1])
    model.check(x, y)
    generator = torch.Generator().manual_seed(1)
    parts = model.elbo_terms(x, y, steps=3, generator=generator)
    z = draw(model.encode(x), generator.manual_seed(1))
    torch.testing.assert_close(parts.prior, prior.log_prob(z, y, steps=3))
    assert model.sample(2, y[:2], steps=3).shape == (2, 1, 8, 12)
    assert len(list(model.trajectory(2, steps=3))) == 4


def test_prompts_reach_the_diffusion() -> None:
    model = latent(vocab_size=5, context=3)
    x, y = images(2), torch.tensor([[1, 2], [3, 0]])
    model.check(x, y)
    model.train().loss(x, y).backward()
    model.eval()
    generator = torch.Generator().manual_seed(1)
    with_text = model.elbo(x, y, terms=2, generator=generator)
    assert not with_text.equal(model.elbo(x, terms=2, generator=generator.manual_seed(1)))
    assert model.sample(2, y, steps=3, guidance=1.0).shape == x.shape
    with pytest.raises(ValueError, match=r"token 5.*0 to 4"):
        model.check(x, y + 2)


@pytest.mark.parametrize("make", MAKERS)
def test_what_it_can_do(make: Any) -> None:
    model = latent(make)
    for protocol in (Bound, Samples, Encodes):
        assert isinstance(model, protocol)
    assert not isinstance(model, Density)


@pytest.mark.parametrize("make", MAKERS)
def test_other_devices_and_precisions(make: Any) -> None:
    model, x, y = latent(make, classes=3).float().train(), images(8).float(), torch.arange(8) % 3
    torch.manual_seed(1)
    exact = model(x, y)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(x, y)
    assert abs(float(rough.detach() - exact.detach())) < 0.05 * float(exact.detach()) + 0.05
    assert model.loss(x[:1], y[:1]).isfinite()
    model, x, y = model.to("meta"), x.to("meta"), y.to("meta")
    model(x, y).backward()
    assert all(part.device.type == "meta" for part in model.elbo_terms(x, y, terms=2))
    assert model.sample(2, y[:2], steps=3).device.type == "meta"


GRAPH = """
import torch
from gentext.denoising.diffusion import Diffusion
from gentext.latent.image_vae import ImageVAE
from gentext.denoising.latent_diffusion import LatentDiffusion
from gentext.sequences.vqvae import VQVAE
for coder in (ImageVAE(shape=(1, 8, 8), channels=3, hidden=8),
              VQVAE(shape=(1, 8, 8), code_size=3, hidden=8)):
    prior = Diffusion("dit", shape=(3, 2, 2), levels=None, patch=1, width=16, classes=2)
    model = LatentDiffusion(autoencoder=coder, diffusion=prior, scale=1.0)
    batch = torch.rand(4, 1, 8, 8), torch.arange(4) % 2
    explained = torch._dynamo.explain(lambda *x: model(*x))(*batch)
    print(explained.graph_break_count, *explained.break_reasons)
"""


def test_the_loss_is_one_graph_for_the_compiler() -> None:
    import subprocess
    import sys

    run = subprocess.run([sys.executable, "-c", GRAPH], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["0", "0"]


@pytest.mark.equation("eq-ldm-scale")
def test_bad_input_is_refused() -> None:
    coder = image_vae()
    prior = Diffusion("dit", shape=(3, 2, 3), levels=None, patch=1, width=8, classes=2)
    model, x = LatentDiffusion(autoencoder=coder, diffusion=prior), images(3)
    for call in (model.loss, model.elbo, model.check, model.reconstruct):
        with pytest.raises(ValueError, match=r"fit_scale\(x\)"):
            call(x)
    with pytest.raises(ValueError, match=r"fit_scale\(x\)"):
        model.sample(2, steps=2)
    with pytest.raises(ValueError, match=r"\(1, 1, 8, 13\).*built for"):
        model.fit_scale(torch.zeros(1, 1, 8, 13))
    model.fit_scale(x)
    with pytest.raises(ValueError, match=r"label 2.*0 to 1"):
        model.check(x, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="17 grey levels"):
        model.elbo(x * 0.99)
    with pytest.raises(ValueError, match="NaN"):
        model.check(x * math.nan)
    with pytest.raises(ValueError, match="guidance=1"):
        model.sample(2, guidance=1.0)
    for scale in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="scale must be a positive number"):
            LatentDiffusion(autoencoder=coder, diffusion=prior, scale=scale)
    with pytest.raises(ValueError, match=r"shape \(3, 4, 4\).*have \(3, 2, 3\).*shape=\(3, 2, 3\)"):
        LatentDiffusion(
            autoencoder=coder, diffusion=Diffusion("dit", shape=(3, 4, 4), levels=None, width=8)
        )
    with pytest.raises(ValueError, match="levels=None"):
        LatentDiffusion(
            autoencoder=coder, diffusion=Diffusion("dit", shape=(3, 2, 3), patch=1, width=8)
        )
    labelled = ConditionalVAE(shape=(1, 8, 8), classes=2, latent=3)
    for odd in (Autoencoder(shape=(1, 8, 8), latent=3), prior, labelled):
        with pytest.raises(ValueError, match=f"got a {type(odd).__name__} as autoencoder"):
            LatentDiffusion(autoencoder=odd, diffusion=prior)
    for odd in ({"class": "Linear"}, {"class": "Model"}, {"class": "load"}, {}):
        with pytest.raises(ValueError, match="give a model, or a dict whose class is one of"):
            built(odd)
    for z in (torch.ones(5), torch.tensor([1.0, math.nan]), torch.ones(1)):
        with pytest.raises(ValueError, match="is the autoencoder trained"):
            latent_scale(z)
    with pytest.raises(ValueError, match=r"c=-1\.0"):
        shifted(FOUR, -1.0)
    with pytest.raises(ValueError, match="starts from noise alone"):
        shifted(FOUR, 50.0)
