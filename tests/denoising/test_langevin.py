"""Dynamics by a score against a mixture of normals whose every level is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from gentext import langevin
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
from gentext.denoising.schedule import Schedule
from gentext.flows.ode import solve
from tests.oracles import (
    LINE,
    PLANE,
    cdf_distance,
    cdf_t,
    exact_score,
    log_p_t,
    mixture_log_prob,
    noise_at_the_end,
)

pytestmark = pytest.mark.usefixtures("float64")


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


PROCESSES: dict[str, LinearSDE] = {"vp": VP(), "ve": VE(0.01, 10.0)}


def test_the_oracle_is_the_one_of_the_other_chapters() -> None:
    x = torch.linspace(-4, 4, 21)[:, None].requires_grad_()
    for process in PROCESSES.values():
        level = process.at(0.3)
        ratio = float(level.sigma / level.alpha)
        expected = mixture_log_prob(x[:, 0] / level.alpha, ratio) - level.alpha.log()
        torch.testing.assert_close(log_p_t(process, x, 0.3), expected)
        for means, y in ((LINE, x), (PLANE, torch.randn(9, 2, requires_grad=True))):
            (slope,) = torch.autograd.grad(log_p_t(process, y, 0.3, means).sum(), y)
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
        return drift[:, 0] * log_p_t(process, x, t).exp()

    def p(x: Tensor, t: float) -> Tensor:
        return log_p_t(process, x, t).exp()

    curved = (p(x + d, t) - 2 * p(x, t) + p(x - d, t)) / d**2
    moved = -(flux(x + d) - flux(x - d)) / (2 * d) - eta**2 * g2 / 2 * curved
    torch.testing.assert_close(moved, (p(x, t + d) - p(x, t - d)) / (2 * d), atol=1e-6, rtol=0)


def responses(monkeypatch: pytest.MonkeyPatch, run: Callable[[Tensor], Tensor], n: int) -> float:
    """The variance of a result that is linear in its start and in ``n`` draws of N(0, 1).

    Each row of a batch is given one of these alone; their squares add.
    """
    calls = iter(range(1, n + 1))

    def draw(x: Tensor, generator: object) -> Tensor:
        return torch.eye(n + 1)[:, next(calls)][:, None]

    monkeypatch.setattr(langevin, "normal_like", draw)
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
        cdf_distance(process, langevin.langevin(score, x, h, round(12 / h)), 0.2)
        for h in (0.3, 0.02)
    )
    assert fine < 0.015 < coarse


@pytest.mark.equation("eq-sde-pfode")
@pytest.mark.parametrize("process", PROCESSES.values())
def test_the_rank_of_a_point_stays_on_its_path(process: LinearSDE) -> None:
    """In one dimension: paths do not cross, so as many points are to the left at the end."""
    x, end = torch.linspace(-3, 4, 29)[:, None], 1e-3
    velocity = in_log_snr(pf_velocity(exact_score(process), process), process)
    z = solve(velocity, x, process.log_snr(end), process.log_snr(1.0), 100)
    torch.testing.assert_close(cdf_t(process, z, 1.0), cdf_t(process, x, end), atol=1e-5, rtol=0)
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


def test_a_path_passes_the_laws_of_its_times() -> None:
    process = VP()
    start = noise_at_the_end(process, 10_000)
    times = time_grid(process, 100, 1e-3)
    for eta in (0.3, 1.5):
        path = list(reverse_path(exact_score(process), process, start, 100, eta=eta))
        assert len(path) == 101
        assert path[0] is start
        for k in (30, 55, 80):
            assert cdf_distance(process, path[k], times[k]) < 0.03


def test_correctors_make_up_for_few_steps() -> None:
    process = VP()
    start, score = noise_at_the_end(process, 20_000), exact_score(process)
    without, corrected = (
        reverse_sde(score, process, start, 6, corrector=count, snr=0.2) for count in (0, 10)
    )
    assert cdf_distance(process, corrected, 1e-3) < 0.5 * cdf_distance(process, without, 1e-3)


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


def test_bad_input_is_explained() -> None:
    process, x = VP(), torch.randn(3, 2)
    score = exact_score(process, PLANE)
    for t in (-0.1, 1.1, math.nan, torch.tensor([0.5, 1.2, 0.1])):
        with pytest.raises(ValueError, match="they run from 0, the data, to 1, the noise"):
            process.at(t)
    with pytest.raises(ValueError, match="got steps=0; steps must be a whole number"):
        reverse_sde(score, process, x, 0)
    for end in (0.0, 1e-300, 1e-13, 1.0):  # at 1e-300 there is no noise, so no log SNR
        with pytest.raises(ValueError, match=f"got end={end}; it must be between 0 and 1"):
            reverse_sde(score, process, x, 5, end=end)
    assert langevin.time_grid(process, 3, 1e-12)[-1] == 1e-12
    for options in ({"repeats": 0}, {"rate": 0.0}):
        with pytest.raises(ValueError, match=f"got {next(iter(options))}=0"):
            langevin.annealed_langevin(score, process, x, 5, **options)
    with pytest.raises(ValueError, match="unknown spacing 'karras': choose one of log-snr, time"):
        reverse_sde(score, process, x, 5, spacing="karras")
    for options in ({"eta": -1.0}, {"corrector": -1}, {"snr": 0.0}):
        with pytest.raises(ValueError, match=f"got {next(iter(options))}="):
            reverse_sde(score, process, x, 5, **options)
    for step, steps in ((0.0, 5), (0.1, 0)):
        with pytest.raises(ValueError, match=f"got step={step} and steps={steps}"):
            langevin.langevin(lambda v: -v, x, step, steps)
    with pytest.raises(FloatingPointError, match="NaN or infinite scores: take more"):
        langevin.langevin(lambda x: x / 0, torch.ones(2, 1), 0.1, 3)
    for kind, ends, message in (
        (VE, (2.0, 1.0), "got sigma from 2.0 to 1.0"),
        (VP, (0.0, 1.0), "got beta from 0.0 to 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            kind(*ends)
