"""Score models and their solvers against a mixture of normals whose every level is known."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from gentext import checkpoint
from gentext.core import Bound, Density, Encodes, Samples
from gentext.denoising.langevin import (
    VE,
    VP,
    LinearSDE,
    annealed_langevin,
    in_log_snr,
    pf_velocity,
    reverse_sde,
)
from gentext.denoising.samplers import ddim_step
from gentext.denoising.schedule import Level, to_x0
from gentext.denoising.score import (
    SAMPLERS,
    ImageScoreSDE,
    ScoreSDE,
    dpm1_step,
    dpm_solver,
    dsm_loss,
    ism_loss,
    precondition,
)
from gentext.flows.dequantization import dequantize
from gentext.flows.ode import solve
from tests.oracles import (
    LINE,
    MEANS,
    PLANE,
    STDS,
    WEIGHTS,
    cdf_distance,
    component_terms,
    exact_score,
    gauss_hermite,
    mixture_log_prob,
    noise_at_the_end,
)

pytestmark = pytest.mark.usefixtures("float64")

PROCESSES: dict[str, LinearSDE] = {"vp": VP(), "ve": VE(0.01, 10.0)}


class Line(LinearSDE):
    """α = 1 − t, σ = t, as in flow matching."""

    def log_alpha(self, t: Tensor) -> Tensor:
        return (1 - t).log()

    def variance(self, t: Tensor) -> Tensor:
        return t.square()


@pytest.mark.equation("eq-sde-dsm")
def test_denoising_measures_the_error_of_the_score() -> None:
    """By quadrature over x_0 and ε: both errors differ by D/σ² − E‖∇log p_t‖²."""
    level = Level(torch.tensor(0.6), torch.tensor(0.8))
    z, w = gauss_hermite(60)
    grid = torch.linspace(-12, 12, 24_001)[:, None]
    terms, variance = component_terms(grid, level, LINE)
    p = terms.logsumexp(1).exp() * 1e-3
    true = (terms.softmax(1) * (level.alpha * MEANS - grid) / variance).sum(1, keepdim=True)

    def both(score: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        denoising = torch.zeros(())
        for weight, mean, std in zip(WEIGHTS, MEANS, STDS, strict=True):
            x_0, eps = (v.reshape(-1, 1) for v in torch.meshgrid(mean + std * z, z, indexing="ij"))
            x_t = level.alpha * x_0 + level.sigma * eps
            errors = dsm_loss(score, x_t, eps, level.sigma)
            denoising = denoising + weight * (torch.outer(w, w).flatten() * errors).sum()
        return denoising, (p * (score(grid) - true).square()[:, 0]).sum()

    constant = 1 / level.sigma**2 - (p * true.square()[:, 0]).sum()
    for score in (lambda x: -x, lambda x: torch.sin(2 * x) - 0.3 * x):
        denoising, explicit = both(score)
        torch.testing.assert_close(denoising - explicit, constant, atol=1e-7, rtol=0)


@pytest.mark.equation("eq-sde-dsm")
def test_the_loss_of_an_example_adds_over_its_values() -> None:
    x_t, eps, sigma = torch.randn(3, 2, 2), torch.randn(3, 2, 2), torch.tensor([0.1, 0.5, 2.0])
    got = dsm_loss(lambda x: 2 * x, x_t, eps, sigma[:, None, None])
    by_hand = [float(((2 * a + b / s) ** 2).sum()) for a, b, s in zip(x_t, eps, sigma, strict=True)]
    torch.testing.assert_close(got, torch.tensor(by_hand))


@pytest.mark.equation("eq-sde-ism")
def test_without_noise_the_divergence_stands_in_for_the_score() -> None:
    """½ E‖s − ∇log p‖² = E[½‖s‖² + ∇·s] + ½ E‖∇log p‖², on a grid in one and two dimensions."""
    data = VP().at(0.0)
    for means, points in ((LINE, 4001), (PLANE, 301)):
        line = torch.linspace(-8, 8, points)
        x = line[:, None] if means is LINE else torch.cartesian_prod(line, line)
        terms, variance = component_terms(x, data, means)
        p = terms.logsumexp(1).exp() * (16 / (points - 1)) ** x.shape[1]
        true = (terms.softmax(1)[..., None] * (means - x[:, None]) / variance[:, None]).sum(1)

        def score(x: Tensor) -> Tensor:
            return torch.sin(x + x.roll(1, 1)) - 0.4 * x

        explicit = (p * (score(x) - true).square().sum(1)).sum() / 2
        constant = (p * true.square().sum(1)).sum() / 2
        implicit = (p * ism_loss(score, x)).sum()
        torch.testing.assert_close(explicit, implicit + constant, atol=1e-8, rtol=0)


def test_the_implicit_loss_can_be_trained() -> None:
    """The best linear score of data of variance 4 is −x/4."""
    weight = torch.tensor(0.0, requires_grad=True)
    x = 2 * torch.randn(40_000, 1)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        ism_loss(lambda v: weight * v, x).mean().backward()
        optimizer.step()
    assert float(weight.detach()) == pytest.approx(-0.25, abs=1e-2)


@pytest.mark.equation("eq-sde-dpm1")
@pytest.mark.parametrize("process", [*PROCESSES.values(), Line()])
def test_the_exponential_step_is_that_of_ddim(process: LinearSDE) -> None:
    x_t, eps = torch.randn(2, 5)
    for after, before in ((0.8, 0.5), (0.5, 0.1)):
        t, s = process.at(after), process.at(before)
        expected = ddim_step(x_t, to_x0("eps", eps, x_t, t), t, s)
        torch.testing.assert_close(dpm1_step(x_t, eps, t, s), expected, atol=1e-12, rtol=0)
        h = math.log(float(s.alpha / s.sigma)) - math.log(float(t.alpha / t.sigma))
        by_hand = s.alpha / t.alpha * x_t - s.sigma * (math.exp(h) - 1) * eps
        torch.testing.assert_close(dpm1_step(x_t, eps, t, s), by_hand, atol=1e-12, rtol=0)


@pytest.mark.equation("eq-sde-dpm2")
@pytest.mark.parametrize(("order", "least", "most"), [(1, 1.7, 2.3), (2, 3.2, 5.0)])
def test_solvers_have_their_orders_on_the_mixture(order: int, least: float, most: float) -> None:
    process, x, end = VP(4.0, 4.001), torch.linspace(-1.5, 1.5, 7)[:, None], 0.05
    score = exact_score(process)
    clock = in_log_snr(pf_velocity(score, process), process)
    reference = solve(clock, x, process.log_snr(1.0), process.log_snr(end), 400)
    errors = [
        float((dpm_solver(score, process, x, n, end=end, order=order) - reference).abs().max())
        for n in (20, 40)
    ]
    assert least < errors[0] / errors[1] < most


@pytest.mark.equation("eq-sde-edm")
@pytest.mark.parametrize("data_std", [0.5, 1.3])
def test_scales_of_the_network_give_variance_one(data_std: float) -> None:
    """Of input and target, for data and noise of known variances; and c_out is least."""
    varsigma = torch.tensor([0.02, 0.5, 10.0])
    c_skip, c_out, c_in = precondition(varsigma, data_std)

    def target_variance(skip: Tensor) -> Tensor:
        """Of x_0 − c_skip (x_0 + ςε)."""
        return (1 - skip) ** 2 * data_std**2 + skip**2 * varsigma**2

    one = torch.ones(3)
    torch.testing.assert_close(c_in**2 * (data_std**2 + varsigma**2), one)
    torch.testing.assert_close(target_variance(c_skip) / c_out**2, one)
    for other in (c_skip + 0.01, c_skip - 0.01):
        assert bool((target_variance(other) > c_out**2).all())
    assert bool((torch.stack([c_skip, c_out, c_in]) > 0).all())


@pytest.mark.equation("eq-sde-edm")
def test_with_preserved_variance_the_network_predicts_minus_the_velocity() -> None:
    model, x_t, t = small(2), torch.randn(5, 2), torch.rand(5)
    level = model.process.at(t, 1)
    seen: list[Tensor] = []
    model.net.register_forward_hook(lambda net, args, out: seen.extend([args[0], out]))
    x_0 = model.denoise(x_t, t)
    torch.testing.assert_close(seen[0], x_t)
    torch.testing.assert_close(x_0, to_x0("v", -seen[1], x_t, level))


def small(d: int, seed: int = 0, **options: Any) -> ScoreSDE:
    """A model whose network is no longer the zero that it begins as."""
    torch.manual_seed(seed)
    model = ScoreSDE(shape=(d,), hidden=16, layers=2, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.to(torch.get_default_dtype()).eval()


def test_the_score_is_the_one_of_the_denoiser() -> None:
    """By Tweedie's formula; a number and a column of the same times give the same."""
    for process in ("vp", "ve"):
        model, x_t = small(3, process=process, data_std=0.7), torch.randn(4, 3)
        level = model.process.at(0.3)
        by_number, by_column = (model.score(x_t, t) for t in (0.3, torch.full((4,), 0.3)))
        torch.testing.assert_close(by_number, by_column)
        tweedie = (x_t + level.sigma**2 * by_number) / level.alpha
        torch.testing.assert_close(tweedie, model.denoise(x_t, 0.3))


def test_before_training_a_model_knows_normal_data() -> None:
    """Its network is 0, so what it says is right for N(0, data_std²) — and so is its likelihood."""
    model = ScoreSDE(shape=(2,), hidden=8, data_std=1.7).double()
    x = torch.randn(6, 2)
    assert not bool(model.net(x, torch.rand(6)).any())
    level = model.process.at(0.4)
    expected = -x / (level.alpha**2 * 1.7**2 + level.sigma**2)
    torch.testing.assert_close(model.score(x, 0.4), expected)
    log_prob = Normal(0.0, 1.7).log_prob(x).sum(1)
    torch.testing.assert_close(model.log_prob(x, steps=60), log_prob, atol=2e-5, rtol=0)


def test_the_network_sees_times_from_0_to_1000() -> None:
    seen = []
    model = ScoreSDE(shape=(1,), hidden=8)
    model.net.register_forward_pre_hook(lambda net, args: seen.append(float(args[1][0])))
    for t in (0.0, model.end, 1.0):
        model.denoise(torch.zeros(2, 1), t)
    assert seen == pytest.approx([0, 0, 1000], abs=1e-3)


@pytest.mark.equation("eq-sde-dsm")
@pytest.mark.parametrize("process", ["vp", "ve"])
def test_the_loss_is_the_error_of_x_0_over_that_of_the_network(process: str) -> None:
    model = small(3, process=process, data_std=0.6, end=0.2)
    x = torch.randn(5, 3)
    torch.manual_seed(7)
    got = model.loss(x)
    torch.manual_seed(7)
    t = 0.2 + 0.8 * ((torch.arange(5) / 5 + torch.rand(())) % 1)
    level, eps = model.process.at(t, 1), torch.randn(5, 3)
    _, c_out, _ = precondition(level.sigma / level.alpha, 0.6)
    x_0 = model.denoise(level.alpha * x + level.sigma * eps, t)
    torch.testing.assert_close(got, ((x - x_0) / c_out).square().mean())


@pytest.mark.parametrize("process", ["vp", "ve"])
def test_a_model_in_one_dimension_has_mass_one(process: str) -> None:
    model = small(1, process=process, noise=(0.01, 10.0) if process == "ve" else None, end=1e-3)
    x = torch.linspace(-6, 6, 601)[:, None]
    with torch.no_grad():
        p = model.log_prob(x, steps=40).exp()
    assert float(p.sum() * 0.02) == pytest.approx(1, abs=2e-3)
    assert float((p - Normal(0.0, 1.0).log_prob(x)[:, 0].exp()).abs().max()) > 0.01


def test_codes_decode_to_what_they_encode() -> None:
    for process in ("vp", "ve"):
        model, x = small(2, process=process, noise=(0.1, 10.0), end=1e-3), torch.randn(5, 2)
        with torch.no_grad():
            z = model.encode(x)
            torch.testing.assert_close(model.decode(z), x, atol=1e-4, rtol=0)
        assert float((z - x).abs().max()) > 0.1


def test_a_trained_model_knows_the_mixture() -> None:
    g = torch.Generator().manual_seed(0)
    k = torch.multinomial(WEIGHTS, 20_000, replacement=True, generator=g)
    x = (MEANS[k] + STDS[k] * torch.randn(20_000, generator=g))[:, None].float()
    torch.set_default_dtype(torch.float32)
    model = ScoreSDE(shape=(1,), hidden=64, data_std=float(x.std()), end=1e-3)
    before = float(model.log_prob(x[:500], steps=20).detach().mean())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(500):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 500)
        optimizer.zero_grad()
        model(x[torch.randint(20_000, (256,))]).backward()
        optimizer.step()
    with torch.no_grad():
        log_prob = float(model.log_prob(x[:500], steps=40).mean())
    best = float(mixture_log_prob(x[:500, 0].double()).mean())
    assert best - 0.08 < log_prob < best + 0.01
    assert before < best - 0.15
    for sampler in SAMPLERS:
        drawn = model.sample(2000, sampler=sampler, steps=60, generator=g).double()
        assert cdf_distance(model.process, drawn, 0.0) < 0.08, sampler


SDE = {
    "noise": (reverse_sde, {"eta": 1.0}),
    "half the noise": (reverse_sde, {"eta": 0.5}),
    "no noise": (reverse_sde, {"eta": 0.0}),
    "even in time": (reverse_sde, {"spacing": "time"}),
    "corrected": (reverse_sde, {"corrector": 1}),
    "annealed": (annealed_langevin, {"repeats": 10}),
    "dpm": (dpm_solver, {}),
}


@pytest.mark.parametrize("name", SDE)
@pytest.mark.parametrize("process", PROCESSES.values())
def test_every_sampler_draws_the_mixture_from_its_score(process: LinearSDE, name: str) -> None:
    by, options = SDE[name]
    steps = {"even in time": 600, "no noise": 600}.get(name, 150)
    x = by(exact_score(process), process, noise_at_the_end(process, 10_000), steps, **options)
    mean = (WEIGHTS * MEANS).sum()
    variance = (WEIGHTS * (STDS**2 + MEANS**2)).sum() - mean**2
    assert float(x.mean()) == pytest.approx(float(mean), abs=0.06)
    assert float(x.var()) == pytest.approx(float(variance), rel=0.05)
    assert cdf_distance(process, x, 1e-3) < 0.02


def test_draws_follow_their_generator() -> None:
    model = small(2)
    for sampler in SAMPLERS:
        first, second = (
            model.sample(3, sampler=sampler, steps=4, generator=torch.Generator().manual_seed(5))
            for _ in range(2)
        )
        assert torch.equal(first, second)
        assert not torch.equal(first, model.sample(3, sampler=sampler, steps=4))


def test_models_of_images_bound_and_others_know_their_density() -> None:
    points, images = small(2), ImageScoreSDE(shape=(1, 4, 4), levels=5, net="mlp", hidden=8)
    for protocol, of_points, of_images in (
        (Density, True, False),
        (Bound, False, True),
        (Samples, True, True),
        (Encodes, True, True),
    ):
        assert isinstance(points, protocol) == of_points
        assert isinstance(images, protocol) == of_images


def test_the_bounds_of_all_grey_values_share_one_density() -> None:
    """Averaged over the noise, e^bound is the mass of the model within the value's interval."""
    model = ImageScoreSDE(shape=(1,), levels=3, net="mlp", hidden=8, end=1e-2).double().eval()
    model.sde = small(1, 3, end=1e-2)
    n, options = 1500, {"steps": 15, "divergence": "exact"}
    with torch.no_grad():
        for k in range(3):
            x = torch.full((n, 1), k / 2)
            mass = model.elbo(x, generator=torch.Generator().manual_seed(1), **options).exp()
            left = -1 + 2 * k / 3
            v = left + (torch.arange(200)[:, None] + 0.5) / 300
            expected = model.sde.log_prob(v, steps=15).exp().sum() / 300
            assert float(mass.mean()) == pytest.approx(float(expected), rel=0.01)


def test_the_bound_is_the_likelihood_of_one_draw_within_the_levels() -> None:
    model = ImageScoreSDE(shape=(2,), levels=3, net="mlp", hidden=8).double().eval()
    model.sde, x = small(2, 3), torch.tensor([[0.0, 0.5], [1.0, 0.5], [0.5, 0.5]])
    v = 2 * dequantize(x, 3, generator=torch.Generator().manual_seed(1)) - 1
    expected = model.sde.log_prob(v, steps=10) - 2 * math.log(1.5)
    g = torch.Generator().manual_seed(1)
    torch.testing.assert_close(model.elbo(x, steps=10, divergence="exact", generator=g), expected)
    g = torch.Generator().manual_seed(1)
    assert not torch.allclose(model.elbo(x, steps=10, generator=g), expected)


def test_drawn_images_are_grey_values() -> None:
    model = ImageScoreSDE(shape=(1, 4, 4), levels=5, channels=8, multipliers=(1, 2)).double()
    drawn = model.sample(3, steps=5)
    assert drawn.shape == (3, 1, 4, 4)
    assert set(drawn.unique().tolist()) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert len(drawn.unique()) > 2
    model.loss(drawn).backward()
    assert model.elbo(drawn, steps=2).shape == (3,)


@pytest.mark.parametrize("process", ["vp", "ve"])
def test_in_single_precision_little_is_lost(process: str) -> None:
    torch.set_default_dtype(torch.float32)
    single = small(2, process=process)
    double, x = copy.deepcopy(single).double(), torch.randn(6, 2)
    for t in (1e-5, 1e-3, 0.3, 1.0):
        x_t = single.process.at(t).sigma * x + x.flip(0)
        got, exact = (m.score(v, t) for m, v in ((single, x_t), (double, x_t.double())))
        assert got.dtype == torch.float32
        size = float(exact.detach().abs().max())
        torch.testing.assert_close(got.double() / size, exact / size, atol=2e-3, rtol=0)
    with torch.no_grad():
        a, b = (m.log_prob(v, steps=25) for m, v in ((single, x), (double, x.double())))
    torch.testing.assert_close(a.double(), b, atol=2e-2, rtol=0)


def test_with_bfloat16_the_loss_is_nearly_the_same() -> None:
    torch.set_default_dtype(torch.float32)
    model, x = small(4), torch.randn(64, 4)
    losses = []
    for enabled in (False, True):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(model.loss(x))
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=0.02, atol=0)


def test_no_tensor_is_made_on_another_device() -> None:
    image = ImageScoreSDE(shape=(1, 4, 4), levels=5, channels=8, multipliers=(1, 2)).to("meta")
    x = torch.rand(6, 1, 4, 4, device="meta")
    image.loss(x).backward()
    assert image.elbo(x, steps=1).device.type == "meta"
    model = ScoreSDE(shape=(2,), hidden=8).to("meta")
    x = torch.rand(6, 2, device="meta")
    model.loss(x).backward()
    assert model.log_prob(x, steps=1).device.type == "meta"
    for sampler in SAMPLERS:
        assert model.sample(2, sampler=sampler, steps=2).device.type == "meta"


def test_models_come_back_from_a_file(tmp_path: Path) -> None:
    x, file = torch.randn(4, 2), tmp_path / "model.safetensors"
    model = ScoreSDE(shape=(2,), process="ve", noise=(0.1, 8.0), hidden=8, data_std=2.0).double()
    checkpoint.save(file, model)
    again = checkpoint.load(file)
    assert isinstance(again, ScoreSDE)
    assert again.process == VE(0.1, 8.0)
    assert torch.equal(again.score(x, 0.2), model.score(x, 0.2))
    images = ImageScoreSDE(shape=(1, 4, 4), levels=5, channels=8, multipliers=(1, 2)).double()
    checkpoint.save(file, images)
    x = torch.randn(2, 1, 4, 4)
    loaded = checkpoint.load(file)
    assert isinstance(loaded, ImageScoreSDE)
    assert torch.equal(loaded.sde.score(x, 0.2), images.sde.score(x, 0.2))


def test_gradients_reach_every_parameter_through_loss_and_likelihood() -> None:
    model, x = small(2), torch.randn(4, 2)
    for value in (model.loss(x), model.log_prob(x, steps=2).mean()):
        model.zero_grad()
        value.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            if value.grad_fn is not None and "head.bias" not in name:
                assert float(parameter.grad.abs().sum()) > 0, name


class Broken(nn.Module):
    """A network that breaks down in little noise."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * self.scale / (t > 500)[:, None]


def test_predictions_that_are_not_finite_end_the_sampling() -> None:
    model = ScoreSDE(net=Broken(), shape=(2,))
    for sampler in SAMPLERS:
        with pytest.raises(
            FloatingPointError, match=r"NaN or infinite scores at t = 0\.\d+: take more"
        ):
            model.sample(3, sampler=sampler, steps=10)
    with pytest.raises(FloatingPointError, match="NaN or infinite scores at t"):
        model.log_prob(torch.zeros(1, 2), steps=10)


def test_bad_input_is_explained() -> None:
    model, x = small(2), torch.randn(3, 2)
    for t in (-0.1, 1.1, math.nan, torch.tensor([0.5, 1.2, 0.1])):
        with pytest.raises(ValueError, match="they run from 0, the data, to 1, the noise"):
            model.denoise(x, t)
    with pytest.raises(ValueError, match=r"built for \(n, 2\)"):
        model.log_prob(torch.randn(3, 4))
    with pytest.raises(ValueError, match="NaN"):
        model.encode(x * math.nan)
    with pytest.raises(ValueError, match=r"unknown sampler 'ddpm': .*choose one of ddim, dpm"):
        model.sample(2, sampler="ddpm")
    with pytest.raises(ValueError, match="unknown method 'dopri'"):
        model.sample(2, sampler="ode", method="dopri")
    with pytest.raises(ValueError, match="unknown divergence 'none'"):
        model.log_prob(x, divergence="none")
    with pytest.raises(ValueError, match="unexpected keyword argument 'eta'"):
        model.sample(2, sampler="dpm++", eta=1.0)


def test_bad_models_are_explained() -> None:
    for options, message in (
        ({"process": "vpp"}, "unknown process 'vpp': .*choose one of vp, ve"),
        ({"net": "cnn"}, "unknown net 'cnn': choose one of unet, mlp"),
        ({"data_std": 0.0}, "got data_std=0.0"),
        ({"end": 1.0}, "end must be above 0 and below 1"),
        ({"process": "ve", "noise": (2.0, 1.0)}, "got sigma from 2.0 to 1.0"),
        ({"noise": (0.0, 1.0)}, "got beta from 0.0 to 1.0"),
        ({"net": Broken(), "hidden": 3}, "got options for a net that is made already"),
        ({"process": VP(), "noise": (1.0, 2.0)}, "got options for a process that is made"),
    ):
        with pytest.raises(ValueError, match=message):
            ScoreSDE(shape=(2,), **options)
    with pytest.raises(ValueError, match="got levels=1"):
        ImageScoreSDE(shape=(1, 4, 4), levels=1)
    images = ImageScoreSDE(shape=(1, 4, 4), levels=5, net="mlp", hidden=8)
    x = torch.randint(0, 5, (2, 1, 4, 4)) / 4
    images.check(x)
    for wrong, message in (
        (x + 1, r"needs them in \[0, 1\]"),
        (x * 0.9, "these are not grey values k/4"),
        (x[:, :, :2], r"built for \(n, 1, 4, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            images.elbo(wrong)
    with pytest.raises(ValueError, match="these are not grey values"):
        images.loss(x + 1)
