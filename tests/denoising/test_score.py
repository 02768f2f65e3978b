"""Score models and their dynamics against a mixture of normals whose every level is known."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles import F64, MEANS, STDS, WEIGHTS, gauss_hermite, mixture_log_prob
from torch import Tensor, nn
from torch.distributions import Normal

from gentext import checkpoint, langevin
from gentext.core import Bound, Density, Encodes, Samples
from gentext.denoising.langevin import (
    VE,
    VP,
    LinearSDE,
    annealed_langevin,
    corrector_step,
    in_log_snr,
    pf_velocity,
    reverse_path,
    reverse_sde,
    time_grid,
)
from gentext.denoising.samplers import ddim_step
from gentext.denoising.schedule import Level, Schedule, to_x0
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
from gentext.flows.continuous import ode_log_prob
from gentext.flows.dequantization import dequantize
from gentext.flows.ode import solve

pytestmark = pytest.mark.usefixtures("float64")

LINE = MEANS[:, None]
PLANE = torch.tensor([[-2.0, 0.5], [0.3, -1.0], [1.5, 1.8]], dtype=F64)
PROCESSES: dict[str, LinearSDE] = {"vp": VP(), "ve": VE(0.01, 10.0)}


class Cosine(LinearSDE):
    """α = cos t, σ = sin t."""

    def log_alpha(self, t: Tensor) -> Tensor:
        return t.cos().log()

    def variance(self, t: Tensor) -> Tensor:
        return t.sin().square()

    def time(self, log_snr: float) -> float:
        return math.atan(math.exp(-log_snr / 2))


class Line(LinearSDE):
    """α = 1 − t, σ = t, as in flow matching."""

    def log_alpha(self, t: Tensor) -> Tensor:
        return (1 - t).log()

    def variance(self, t: Tensor) -> Tensor:
        return t.square()


def component_terms(x: Tensor, level: Level, means: Tensor) -> tuple[Tensor, Tensor]:
    """log(weight × density) of each component at x (n, d), and the components' variances."""
    variance = level.alpha**2 * STDS**2 + level.sigma**2
    squares = (x[:, None] - level.alpha * means).square().sum(-1)
    log_p = -squares / (2 * variance) - x.shape[1] / 2 * (2 * math.pi * variance).log()
    return WEIGHTS.log() + log_p, variance


def log_p(process: LinearSDE, x: Tensor, t: float, means: Tensor = LINE) -> Tensor:
    return component_terms(x, process.at(t), means)[0].logsumexp(1)


def exact_score(process: LinearSDE, means: Tensor = LINE) -> Callable[[Tensor, float], Tensor]:
    def score(x: Tensor, t: float) -> Tensor:
        level = process.at(t)
        terms, variance = component_terms(x, level, means)
        slopes = (level.alpha * means - x[:, None]) / variance[:, None]
        return (terms.softmax(1)[..., None] * slopes).sum(1)

    return score


def cdf(process: LinearSDE, x: Tensor, t: float) -> Tensor:
    level = process.at(t)
    std = (level.alpha**2 * STDS**2 + level.sigma**2).sqrt()
    return (WEIGHTS * Normal(level.alpha * MEANS, std).cdf(x)).sum(1)


def noise_at_the_end(process: LinearSDE, n: int, means: Tensor = LINE) -> Tensor:
    """Draws of the law at t = 1, exactly."""
    level, k = process.at(1.0), torch.multinomial(WEIGHTS, n, replacement=True)
    std = (level.alpha**2 * STDS**2 + level.sigma**2).sqrt()
    return level.alpha * means[k] + std[k][:, None] * torch.randn(n, means.shape[1])


def off(process: LinearSDE, x: Tensor, t: float) -> float:
    """The largest distance of the distribution functions, of the draws x and the law at t."""
    found = cdf(process, x.sort(0).values, t)
    return float((found - (torch.arange(len(x)) + 0.5) / len(x)).abs().max())


def test_the_oracle_is_the_one_of_the_other_chapters() -> None:
    x = torch.linspace(-4, 4, 21)[:, None].requires_grad_()
    for process in PROCESSES.values():
        level = process.at(0.3)
        ratio = float(level.sigma / level.alpha)
        expected = mixture_log_prob(x[:, 0] / level.alpha, ratio) - level.alpha.log()
        torch.testing.assert_close(log_p(process, x, 0.3), expected)
        for means, y in ((LINE, x), (PLANE, torch.randn(9, 2, requires_grad=True))):
            (slope,) = torch.autograd.grad(log_p(process, y, 0.3, means).sum(), y)
            torch.testing.assert_close(exact_score(process, means)(y, 0.3), slope)


@pytest.mark.equation("eq-sde-linear")
def test_rates_are_those_of_the_closed_forms() -> None:
    t = torch.tensor([1e-3, 0.1, 0.37, 0.8, 1.0])
    beta, growth = 0.3 + t * (7.0 - 0.3), math.log(9 / 0.2)
    variance = (0.2 * (9 / 0.2) ** t).square()
    for process, f, g2 in (
        (VP(0.3, 7.0), -beta / 2, beta),
        (VE(0.2, 9.0), 0 * t, 2 * variance * growth),
        (Cosine(), -t.tan(), 2 * t.tan()),
        (Line(), -1 / (1 - t), 2 * t / (1 - t)),
    ):
        inner = len(t) - isinstance(process, Line)  # α = 0 at the end of the line
        got = process.rates(t[:inner])
        torch.testing.assert_close(got[0], f[:inner], atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(got[1], g2[:inner], atol=1e-12, rtol=1e-10)
        assert float(process.rates(0.1)[1]) == pytest.approx(float(g2[1]), rel=1e-12)
        with torch.inference_mode():
            assert torch.equal(process.rates(0.1)[1], process.rates(t[1])[1])


def test_levels_of_the_processes() -> None:
    t = torch.rand(6)
    vp, ve = VP().at(t), VE(0.2, 9.0).at(t)
    torch.testing.assert_close(vp.alpha**2 + vp.sigma**2, torch.ones(6))
    torch.testing.assert_close(vp.alpha.log(), -(0.1 * t + 19.9 * t**2 / 2) / 2)
    assert torch.equal(ve.alpha, torch.ones(6))
    torch.testing.assert_close(ve.sigma**2, 0.04 * (45 ** (2 * t) - 1))
    assert VP().at(t, 3).sigma.shape == (6, 1, 1, 1)
    assert VP().at(0.4, 3).sigma.shape == ()
    for process in PROCESSES.values():
        assert [float(v) for v in process.at(0.0)] == [1.0, 0.0]


@pytest.mark.parametrize("process", [*PROCESSES.values(), VP(3.0, 3.5), Cosine()])
def test_a_time_is_found_again_by_its_log_snr(process: LinearSDE) -> None:
    for t in (1e-5, 1e-3, 0.2, 0.7, 1.0):
        assert process.time(process.log_snr(t)) == pytest.approx(t, rel=1e-9)


def test_the_linear_schedule_with_ever_more_levels_is_the_process() -> None:
    def gap(T: int) -> float:
        schedule, level = Schedule.linear(T), VP(0.1, 20.0).at((torch.arange(T) + 1) / T)
        a = (schedule.alpha_bar.sqrt() - level.alpha).abs().max()
        b = ((1 - schedule.alpha_bar).sqrt() - level.sigma).abs().max()
        return max(float(a), float(b))

    assert gap(1000) < 3e-3
    assert gap(1000) / gap(2000) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("process", PROCESSES.values())
def test_grids_are_even_in_time_or_in_log_snr(process: LinearSDE) -> None:
    for spacing, axis in (("time", float), ("log-snr", process.log_snr)):
        times = time_grid(process, 8, 1e-3, spacing)
        assert times[0] == 1
        assert times[-1] == 1e-3
        steps = torch.tensor([axis(t) for t in times]).diff()
        torch.testing.assert_close(steps, steps.mean().expand(8), atol=1e-9, rtol=1e-9)
    assert time_grid(process, 1, 0.1) == [1.0, 0.1]


@pytest.mark.equation("eq-sde-reverse")
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 2.0])
def test_a_step_back_is_the_one_of_euler_and_maruyama(eta: float) -> None:
    process, x, end = VP(2.0, 5.0), torch.randn(4, 1), 0.7
    score = exact_score(process)
    f, g2, h = -2.5, 5.0, 0.3
    torch.manual_seed(1)
    got = reverse_sde(score, process, x, 1, eta=eta, end=end)
    torch.manual_seed(1)
    drift = f * x - (1 + eta**2) / 2 * g2 * score(x, 1.0)
    expected = x - h * drift + eta * math.sqrt(g2 * h) * torch.randn(4, 1)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)


@pytest.mark.equation("eq-sde-reverse")
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 2.0])
def test_for_every_share_of_noise_the_law_at_t_is_kept(eta: float) -> None:
    """∂p/∂t of the law that moves by this equation is that of the mixture, by differences."""
    process, t, d = VP(1.0, 6.0), 0.4, 1e-4
    x, (f, g2) = torch.linspace(-3, 3, 13)[:, None], process.rates(t)

    def flux(x: Tensor) -> Tensor:
        drift = f * x - (1 + eta**2) / 2 * g2 * exact_score(process)(x, t)
        return drift[:, 0] * log_p(process, x, t).exp()

    def p(x: Tensor, t: float) -> Tensor:
        return log_p(process, x, t).exp()

    curved = (p(x + d, t) - 2 * p(x, t) + p(x - d, t)) / d**2
    moved = -(flux(x + d) - flux(x - d)) / (2 * d) - eta**2 * g2 / 2 * curved
    torch.testing.assert_close(moved, (p(x, t + d) - p(x, t - d)) / (2 * d), atol=1e-6, rtol=0)


def responses(monkeypatch: pytest.MonkeyPatch, run: Callable[[Tensor], Tensor], n: int) -> float:
    """The variance of a result that is linear in its start and in ``n`` draws of N(0, 1).

    Each row of a batch is given one of these alone; their squares add.
    """
    calls = iter(range(1, n + 1))

    def draw(x: Tensor, kind: str, generator: object) -> Tensor:
        return torch.eye(n + 1)[:, next(calls)][:, None]

    monkeypatch.setattr(langevin, "draw_noise", draw)
    variance = float(run(torch.eye(n + 1)[:, :1]).square().sum())
    assert next(calls, None) is None
    return variance


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("spacing", ["time", "log-snr"])
def test_for_normal_data_the_variance_errs_by_the_step(
    eta: float, spacing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, std = VP(1.0, 6.0), 0.6

    def variance(t: float) -> float:
        level = process.at(t)
        return float(level.alpha**2 * std**2 + level.sigma**2)

    def score(x: Tensor, t: float) -> Tensor:
        return -x / variance(t)

    start = math.sqrt(variance(1.0))

    def error(steps: int) -> float:
        def run(x: Tensor) -> Tensor:
            first = torch.cat([start * x[:1], x[1:]])
            return reverse_sde(score, process, first, steps, eta=eta, end=0.02, spacing=spacing)

        return abs(responses(monkeypatch, run, steps) - variance(0.02))

    coarse, fine = error(100), error(200)
    assert fine < 0.02
    assert coarse / fine == pytest.approx(2, rel=0.25)


@pytest.mark.equation("eq-sde-ula")
def test_langevins_variance_is_known_on_a_normal_law(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of N(0, 1), from a step read off a single draw, and after 400 steps from far away."""
    h = 0.3
    g = torch.Generator().manual_seed(4)
    z = torch.randn(5, 1, generator=g.clone_state())
    moved = langevin.langevin(lambda x: -x, torch.full((5, 1), 2.0), h, 1, g)
    torch.testing.assert_close(moved, (1 - h) * 2 + math.sqrt(2 * h) * z, atol=1e-14, rtol=0)
    got = responses(monkeypatch, lambda x: langevin.langevin(lambda v: -v, 9 * x, h, 400), 400)
    assert got == pytest.approx(1 / (1 - h / 2), abs=1e-12)


@pytest.mark.equation("eq-sde-ula")
def test_langevin_draws_a_mixture_better_with_smaller_steps() -> None:
    process = VE(0.01, 10.0)
    x = noise_at_the_end(VE(0.01, 1.0), 20_000)
    score = partial(exact_score(process), t=0.2)
    coarse, fine = (
        off(process, langevin.langevin(score, x, h, round(12 / h)), 0.2) for h in (0.3, 0.02)
    )
    assert fine < 0.015 < coarse


@pytest.mark.equation("eq-sde-pfode")
@pytest.mark.parametrize("process", PROCESSES.values())
def test_the_rank_of_a_point_stays_on_its_path(process: LinearSDE) -> None:
    """In one dimension: paths do not cross, so as many points are to the left at the end."""
    x, end = torch.linspace(-3, 4, 29)[:, None], 1e-3
    velocity = in_log_snr(pf_velocity(exact_score(process), process), process)
    z = solve(velocity, x, process.log_snr(end), process.log_snr(1.0), 100)
    torch.testing.assert_close(cdf(process, z, 1.0), cdf(process, x, end), atol=1e-5, rtol=0)
    back = solve(velocity, z, process.log_snr(1.0), process.log_snr(end), 100)
    torch.testing.assert_close(back, x, atol=1e-3, rtol=0)


@pytest.mark.equation("eq-sde-pfode")
def test_the_velocity_is_that_of_the_closed_form() -> None:
    process, x = VP(2.0, 5.0), torch.randn(6, 1)
    score = exact_score(process)
    expected = -0.5 * 3.5 * x - 0.5 * 3.5 * score(x, 0.5)
    torch.testing.assert_close(pf_velocity(score, process)(x, 0.5), expected, atol=1e-12, rtol=0)


def test_both_clocks_follow_the_same_path() -> None:
    process, x = VP(1.0, 6.0), torch.linspace(-3, 3, 7)[:, None]
    velocity, start = pf_velocity(exact_score(process), process), 0.05
    by_time = solve(velocity, x, start, 1.0, 400)
    by_clock = solve(
        in_log_snr(velocity, process), x, process.log_snr(start), process.log_snr(1.0), 100
    )
    torch.testing.assert_close(by_clock, by_time, atol=1e-7, rtol=0)


@pytest.mark.equation("eq-sde-loglik")
@pytest.mark.parametrize("end", [1e-3, 1e-5])
@pytest.mark.parametrize("means", [LINE, PLANE])
@pytest.mark.parametrize("name", PROCESSES)
def test_the_likelihood_is_the_mixtures(name: str, means: Tensor, end: float) -> None:
    process = PROCESSES[name]
    line = torch.linspace(-3.5, 4, 16 if means is LINE else 6)
    x = line[:, None] if means is LINE else torch.cartesian_prod(line, line)
    velocity = in_log_snr(pf_velocity(exact_score(process, means), process), process)
    with torch.no_grad():
        got = ode_log_prob(
            velocity,
            x,
            prior_log_prob=lambda z: log_p(process, z, 1.0, means),
            start=process.log_snr(end),
            end=process.log_snr(1.0),
            steps=100 if means is LINE else 150,
            method="rk4",
        )
    torch.testing.assert_close(got, log_p(process, x, end, means), atol=1e-4, rtol=0)


@pytest.mark.equation("eq-sde-loglik")
def test_the_two_draws_of_signs_lie_around_the_likelihood() -> None:
    """In the plane only the product of the signs matters, so there are two values."""
    process, n = VP(), 60
    velocity = in_log_snr(pf_velocity(exact_score(process, PLANE), process), process)
    options: dict[str, Any] = {
        "prior_log_prob": lambda z: log_p(process, z, 1.0, PLANE),
        "start": process.log_snr(1e-3),
        "end": process.log_snr(1.0),
        "steps": 60,
        "method": "rk4",
    }
    x = torch.tensor([[0.4, -0.3]]).expand(n, 2)
    with torch.no_grad():
        exact = ode_log_prob(velocity, x[:1], **options)
        g = torch.Generator().manual_seed(0)
        drawn = ode_log_prob(velocity, x, divergence="hutchinson", generator=g, **options)
    low, high = drawn.min(), drawn.max()
    assert float(high - low) > 0.01
    torch.testing.assert_close((low + high)[None] / 2, exact, atol=1e-9, rtol=0)
    assert bool((((drawn - low) < 1e-9) | ((high - drawn) < 1e-9)).all())


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
        assert off(model.process, drawn, 0.0) < 0.08, sampler


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
    assert off(process, x, 1e-3) < 0.02


def test_a_path_passes_the_laws_of_its_times() -> None:
    process = VP()
    start = noise_at_the_end(process, 10_000)
    times = time_grid(process, 100, 1e-3)
    for eta in (0.3, 1.5):
        path = list(reverse_path(exact_score(process), process, start, 100, eta=eta))
        assert len(path) == 101
        assert path[0] is start
        for k in (30, 55, 80):
            assert off(process, path[k], times[k]) < 0.03


def test_correctors_make_up_for_few_steps() -> None:
    process = VP()
    start, score = noise_at_the_end(process, 20_000), exact_score(process)
    without, corrected = (
        reverse_sde(score, process, start, 6, corrector=count, snr=0.2) for count in (0, 10)
    )
    assert off(process, corrected, 1e-3) < 0.5 * off(process, without, 1e-3)


def test_the_correctors_step_follows_from_the_signal_to_noise_ratio() -> None:
    score = torch.tensor([[3.0, 1.0], [1.0, 1.0]])
    assert float(corrector_step(score, 0.2)) == pytest.approx(2 * 0.04 / 3)


def test_a_corrector_follows_each_step_at_its_new_time() -> None:
    process, x, end = VP(2.0, 5.0), torch.randn(4, 1), 0.7
    score = exact_score(process)
    torch.manual_seed(1)
    got = reverse_sde(score, process, x, 1, end=end, corrector=1, snr=0.3)
    torch.manual_seed(1)
    x = reverse_sde(score, process, x, 1, end=end)
    s = score(x, end)
    h = 2 * 0.3**2 / s.square().mean()
    torch.testing.assert_close(got, x + h * s + (2 * h).sqrt() * torch.randn(4, 1))


def test_langevin_at_a_level_takes_steps_of_its_variance() -> None:
    process, x, end = VP(2.0, 5.0), torch.randn(4, 1), 0.7
    score, level = exact_score(process), process.at(end)
    torch.manual_seed(1)
    got = annealed_langevin(score, process, x, 1, repeats=1, rate=0.2, end=end)
    torch.manual_seed(1)
    x = level.alpha / process.at(1.0).alpha * x
    h = 0.2 * level.sigma.square()
    torch.testing.assert_close(got, x + h * score(x, end) + (2 * h).sqrt() * torch.randn(4, 1))


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
        (Encodes, True, False),
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
        with pytest.raises(FloatingPointError, match=r"NaN or infinite at t = 0\.\d+: take more"):
            model.sample(3, sampler=sampler, steps=10)
    with pytest.raises(FloatingPointError, match="NaN or infinite at t"):
        model.log_prob(torch.zeros(1, 2), steps=10)
    with pytest.raises(FloatingPointError, match="NaN or infinite: take more"):
        langevin.langevin(lambda x: x / 0, torch.ones(2, 1), 0.1, 3)


def test_bad_input_is_explained() -> None:
    model, process, x = small(2), VP(), torch.randn(3, 2)
    score = exact_score(process, PLANE)
    for t in (-0.1, 1.1, math.nan, torch.tensor([0.5, 1.2, 0.1])):
        with pytest.raises(ValueError, match="they run from 0, the data, to 1, the noise"):
            model.denoise(x, t)
    with pytest.raises(ValueError, match=r"built for \(n, 2\)"):
        model.log_prob(torch.randn(3, 4))
    with pytest.raises(ValueError, match="NaN"):
        model.encode(x * math.nan)
    for steps, end in ((0, 1e-3), (5, 0.0), (5, 1.0)):
        with pytest.raises(ValueError, match=f"got steps={steps} and end={end}"):
            reverse_sde(score, process, x, steps, end=end)
    with pytest.raises(ValueError, match="unknown spacing 'karras': choose one of log-snr, time"):
        reverse_sde(score, process, x, 5, spacing="karras")
    for options in ({"eta": -1.0}, {"corrector": -1}, {"snr": 0.0}):
        with pytest.raises(ValueError, match="the last is above 0"):
            reverse_sde(score, process, x, 5, **options)
    for step, steps in ((0.0, 5), (0.1, 0)):
        with pytest.raises(ValueError, match=f"got step={step} and steps={steps}"):
            langevin.langevin(lambda v: -v, x, step, steps)
    with pytest.raises(ValueError, match="unknown sampler 'ddpm': choose one of ddim, dpm"):
        model.sample(2, sampler="ddpm")
    with pytest.raises(ValueError, match="unknown method 'dopri'"):
        model.sample(2, sampler="ode", method="dopri")
    with pytest.raises(ValueError, match="unknown divergence 'none'"):
        model.log_prob(x, divergence="none")
    with pytest.raises(TypeError, match="eta"):
        model.sample(2, sampler="dpm++", eta=1.0)


def test_bad_models_are_explained() -> None:
    for options, message in (
        ({"process": "vpp"}, "unknown process 'vpp': choose one of vp, ve, or give one"),
        ({"net": "cnn"}, "unknown net 'cnn': choose one of unet, mlp, or give one"),
        ({"data_std": 0.0}, "got data_std=0.0"),
        ({"end": 1.0}, "end below 1"),
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
