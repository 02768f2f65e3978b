"""Steps back from noise: marginals, orders of error, a mixture drawn, and a peer's schedulers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from oracles import MEANS, STDS, WEIGHTS, mixture_posterior
from torch import Tensor

from gentext.denoising.samplers import (
    SAMPLERS,
    SPACINGS,
    ddim_step,
    ddpm_step,
    dpmpp_step,
    heun_step,
    sample_path,
    time_steps,
)
from gentext.denoising.schedule import Level, Schedule, to_eps, to_x0

pytestmark = pytest.mark.usefixtures("float64")


def in_float64(make: Callable[[], Schedule]) -> Schedule:
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return make()
    finally:
        torch.set_default_dtype(dtype)


LINE = in_float64(lambda: Schedule.line(641, 8.0, -8.0))


def exact(schedule: Schedule) -> Callable[[Tensor, Tensor], Tensor]:
    """E[x_0 | x_t] of the book's mixture of three normals."""

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        level = schedule.at(int(t[0]))
        return mixture_posterior(x_t / level.alpha, float(level.sigma / level.alpha))[0]

    return denoiser


def run(
    sampler: str, x: Tensor, levels: list[int], schedule: Schedule = LINE, **options: Any
) -> list[Tensor]:
    def draw(like: Tensor) -> Tensor:
        return torch.randn_like(like)

    steps = sample_path(
        exact(schedule), schedule, x, sampler=sampler, levels=levels, draw=draw, **options
    )
    return list(steps)


@pytest.mark.equation("eq-diff-ddim")
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_every_share_of_noise_keeps_the_law_of_x_s(eta: float) -> None:
    """Where x_0 is known, x_s = α_s x_0 + (something of variance σ_s²)."""
    t, s = LINE.at(400), LINE.at(150)
    x_0 = torch.tensor(0.7)

    def step(eps: float, noise: float) -> Tensor:
        x_t = t.alpha * x_0 + t.sigma * eps
        return ddim_step(x_t, x_0, t, s, eta, torch.tensor(noise))

    mean = step(0, 0)
    of_eps, of_noise = step(1, 0) - mean, step(0, 1) - mean
    torch.testing.assert_close(mean, s.alpha * x_0, atol=1e-13, rtol=0)
    torch.testing.assert_close(of_eps**2 + of_noise**2, s.sigma**2, atol=1e-13, rtol=0)
    assert float(of_eps) > 0
    fresh = s.sigma**2 / t.sigma**2 * (1 - t.alpha**2 / s.alpha**2)
    torch.testing.assert_close(of_noise, eta * fresh.sqrt(), atol=1e-13, rtol=0)


@pytest.mark.equation("eq-diff-ddim")
def test_all_the_noise_is_the_ancestral_step_and_none_needs_no_draw() -> None:
    t, s = LINE.at(400), LINE.at(150)
    x_t, x_0, noise = torch.randn(3, 5)
    ancestral = ddpm_step(x_t, x_0, t, s, noise)
    torch.testing.assert_close(ddim_step(x_t, x_0, t, s, 1.0, noise), ancestral, atol=1e-12, rtol=0)
    torch.testing.assert_close(ddim_step(x_t, x_0, t, s), ddim_step(x_t, x_0, t, s, 0.0, noise))


def test_every_sampler_ends_at_the_predicted_data() -> None:
    t, s = LINE.at(0), LINE.at(-1)
    x_t, x_0, noise = torch.randn(3, 5)
    for made in (
        ddpm_step(x_t, x_0, t, s, noise),
        ddim_step(x_t, x_0, t, s, 0.5, noise),
        dpmpp_step(x_t, x_0, t, s),
    ):
        torch.testing.assert_close(made, x_0, atol=1e-13, rtol=0)


@pytest.mark.equation("eq-sde-dpm2")
def test_the_second_order_step_is_the_one_of_the_paper() -> None:
    """x_s = σ_s/σ_t x_t − α_s (e^{−h} − 1) D, D = (1 + 1/2r) x̂_t − 1/2r x̂_u, λ = log α/σ."""
    u, t, s = LINE.at(500), LINE.at(400), LINE.at(250)
    x_t, x_0, x_u = torch.randn(3, 5)
    before, now, after = (v.log_snr / 2 for v in (u, t, s))
    h, r = after - now, (now - before) / (after - now)
    mixed = (1 + 1 / (2 * r)) * x_0 - x_u / (2 * r)
    expected = s.sigma / t.sigma * x_t - s.alpha * torch.expm1(-h) * mixed
    torch.testing.assert_close(dpmpp_step(x_t, x_0, t, s, (x_u, u)), expected, atol=1e-13, rtol=0)


def test_the_first_order_of_the_solver_is_ddim() -> None:
    t, s = LINE.at(400), LINE.at(150)
    x_t, x_0 = torch.randn(2, 5)
    made = dpmpp_step(x_t, x_0, t, s)
    torch.testing.assert_close(made, ddim_step(x_t, x_0, t, s), atol=1e-13, rtol=0)


def test_equal_slopes_make_heuns_step_one_of_ddim() -> None:
    t, s = LINE.at(400), LINE.at(150)
    x_t, eps = torch.randn(2, 5)
    made = heun_step(x_t, eps, eps, t, s)
    expected = ddim_step(x_t, to_x0("eps", eps, x_t, t), t, s)
    torch.testing.assert_close(made, expected, atol=1e-13, rtol=0)


@cache
def reached(n: int, sampler: str) -> Tensor:
    """Where a few points of noise are at level 0, before the step to the data."""
    return run(sampler, torch.linspace(-1.5, 1.5, 7), list(range(640, -1, -640 // n)))[-2]


@pytest.mark.equation("eq-sde-dpm2")
@pytest.mark.parametrize("sampler", [s for s, how in SAMPLERS.items() if how.noise != "always"])
def test_errors_fall_at_the_order_that_the_sampler_declares(sampler: str) -> None:
    """Of the map from noise to nearly clean data, with the exact denoiser of a mixture."""
    order = SAMPLERS[sampler].order
    assert order == {"ddim": 1, "dpm++": 2, "heun": 2}[sampler]
    best = reached(320, "heun")
    coarse, fine = (float((reached(n, sampler) - best).abs().max()) for n in (40, 80))
    assert 0.8 * 2**order < coarse / fine < 1.35 * 2**order


@pytest.mark.parametrize(
    ("sampler", "steps", "eta"),
    [
        ("ddpm", 320, 0.0),
        ("ddim", 160, 0.0),
        ("ddim", 160, 0.5),
        ("dpm++", 40, 0.0),
        ("dpm++", 80, 1.0),
        ("heun", 40, 0.0),
    ],
)
def test_with_the_exact_denoiser_every_sampler_draws_the_mixture(
    sampler: str, steps: int, eta: float
) -> None:
    """Moments, and the largest distance between distribution functions, of 10,000 draws."""
    n = 10_000
    levels = list(range(640, -1, -640 // steps))
    drawn = run(sampler, torch.randn(n), levels, eta=eta)[-1]
    mean = (WEIGHTS * MEANS).sum()
    variance = (WEIGHTS * (MEANS**2 + STDS**2)).sum() - mean**2
    assert abs(float(drawn.mean() - mean)) < 4 * math.sqrt(variance / n)
    assert float(drawn.var()) == pytest.approx(float(variance), rel=0.03)
    z = (drawn.sort().values[:, None] - MEANS) / STDS
    exactly = (WEIGHTS * torch.special.ndtr(z)).sum(1)
    empirical = torch.arange(1, n + 1) / n
    assert float((exactly - empirical).abs().max()) < 1.95 / math.sqrt(n)  # 0.1 % by chance


def test_the_spread_of_ancestral_draws_approaches_that_of_the_data_at_first_order() -> None:
    """Normal data: each step is linear, so the variance is followed exactly."""
    spread = 0.25  # of the data; the best denoiser of N(0, spread) is linear

    def variance(n: int) -> float:
        levels, v = list(range(640, -1, -640 // n)), torch.ones(())
        for number, following in zip(levels, [*levels[1:], -1], strict=True):
            t, s = LINE.at(number), LINE.at(following)
            gain = t.alpha * spread / (t.alpha**2 * spread + t.sigma**2)
            of_x = ddpm_step(torch.ones(()), gain, t, s, torch.zeros(()))
            of_noise = ddpm_step(torch.zeros(()), torch.zeros(()), t, s, torch.ones(()))
            v = of_x**2 * v + of_noise**2
        return float(v)

    limit = 2 * variance(640) - variance(320)
    errors = [abs(variance(n) - limit) for n in (40, 80, 160)]
    expected = 2 ** SAMPLERS["ddpm"].order
    assert errors[0] / errors[1] == pytest.approx(expected, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(expected, rel=0.15)


def test_time_steps_fall_from_the_last_level_to_the_first() -> None:
    schedule = Schedule.cosine(1000)
    for spacing in SPACINGS:
        for steps in (2, 7, 50, 999, 1000):
            levels = time_steps(schedule, steps, spacing)
            assert len(levels) == steps
            assert (levels[0], levels[-1]) == (999, 0)
            assert all(a > b for a, b in pairwise(levels))
        assert time_steps(schedule, 1, spacing) == [999]
    assert time_steps(schedule, 4, "time") == [999, 666, 333, 0]
    even = LINE.log_snr[time_steps(LINE, 11, "log-snr")]
    torch.testing.assert_close(even, torch.linspace(-8, 8, 11))
    power = (-LINE.log_snr[time_steps(LINE, 9, "karras")] / 2).exp() ** (1 / 7)  # of σ/α
    wanted = torch.linspace(float(power[0]), float(power[-1]), 9)
    torch.testing.assert_close(power, wanted, atol=2e-3, rtol=0)


def test_what_cannot_be_sampled_is_refused() -> None:
    x = torch.randn(2)
    with pytest.raises(ValueError, match=r"'euler'.*ddpm, ddim, dpm\+\+, heun"):
        run("euler", x, [640, 0])
    with pytest.raises(ValueError, match=r"1000 steps.*641 levels"):
        time_steps(LINE, 1000)
    with pytest.raises(ValueError, match="got steps=0"):
        time_steps(LINE, 0)
    with pytest.raises(ValueError, match=r"'even'.*time, log-snr, karras"):
        time_steps(LINE, 10, "even")

    def broken(x_t: Tensor, t: Tensor) -> Tensor:
        return x_t / (0.0 if int(t[0]) == 320 else 1.0)

    steps = sample_path(
        broken, LINE, x, sampler="ddim", levels=[640, 320, 0], draw=torch.randn_like
    )
    with pytest.raises(FloatingPointError, match=r"NaN or infinite.*level 320"):
        list(steps)


# A peer's schedulers, on predictions that are no one's exact score


def predicted(x: Tensor, t: int) -> Tensor:
    return 0.6 * x + 0.3 * torch.sin(3 * x + t / 300)


@pytest.fixture
def library() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("diffusers")


def levels_of(theirs: Any) -> Schedule:
    """The linear schedule as they round it; their steps are computed in double precision too."""
    theirs.alphas_cumprod = theirs.alphas_cumprod.double()
    bar = theirs.alphas_cumprod
    return Schedule((bar / (1 - bar)).log())


def as_x0(x: Tensor, t: int, level: Level) -> Tensor:
    return to_x0("eps", predicted(x, t), x, level)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("steps", [1000, 20])
def test_the_ancestral_step_is_that_of_diffusers(library: Any, steps: int) -> None:
    theirs = library.DDPMScheduler(clip_sample=False, variance_type="fixed_small")
    theirs.set_timesteps(steps)
    schedule = levels_of(theirs)
    for t in (900, 500, 1000 // steps, 0):
        before = t - 1000 // steps
        x = torch.randn(4, 3)
        noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(5))
        made = ddpm_step(
            x, as_x0(x, t, schedule.at(t)), schedule.at(t), schedule.at(max(before, -1)), noise
        )
        generator = torch.Generator().manual_seed(5)
        expected = theirs.step(predicted(x, t), t, x, generator=generator).prev_sample
        torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_is_that_of_diffusers(library: Any, eta: float) -> None:
    theirs = library.DDIMScheduler(clip_sample=False)
    theirs.set_timesteps(20)
    schedule = levels_of(theirs)
    for t in (950, 500, 50, 0):
        x, noise = torch.randn(2, 4, 3)
        level, after = schedule.at(t), schedule.at(max(t - 50, -1))
        made = ddim_step(x, as_x0(x, t, level), level, after, eta, noise)
        step = theirs.step(predicted(x, t), t, x, eta=eta, variance_noise=noise if eta else None)
        torch.testing.assert_close(made, step.prev_sample, atol=1e-5, rtol=0)


def whole_run(schedule: Schedule, sampler: str, levels: list[int], x: Tensor) -> list[Tensor]:
    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        return as_x0(x_t, int(t[0]), schedule.at(int(t[0])))

    options: dict[str, Any] = {"sampler": sampler, "levels": levels, "draw": torch.randn_like}
    return list(sample_path(denoiser, schedule, x, **options))


@pytest.mark.filterwarnings("ignore")
def test_the_second_order_solver_is_that_of_diffusers(library: Any) -> None:
    theirs = library.DPMSolverMultistepScheduler()
    levels = list(range(950, -1, -50))
    theirs.set_timesteps(timesteps=levels)
    x = torch.randn(4, 3)
    made = whole_run(levels_of(theirs), "dpm++", levels, x)
    for t, now in zip(levels, made, strict=True):
        x = theirs.step(predicted(x, t), t, x).prev_sample
        torch.testing.assert_close(now, x, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_its_stochastic_form_is_that_of_diffusers(library: Any) -> None:
    theirs = library.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++")
    levels = list(range(950, -1, -50))
    theirs.set_timesteps(timesteps=levels)
    schedule, x = levels_of(theirs), torch.randn(4, 3)
    noise = [torch.randn(4, 3) for _ in levels]
    queue = iter(noise)

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        return as_x0(x_t, int(t[0]), schedule.at(int(t[0])))

    steps = sample_path(
        denoiser,
        schedule,
        x,
        sampler="dpm++",
        levels=levels,
        draw=lambda _: next(queue),
        eta=1.0,
    )
    for t, now, z in zip(levels, steps, noise, strict=True):
        x = theirs.step(predicted(x, t), t, x, variance_noise=z).prev_sample
        torch.testing.assert_close(now, x, atol=2e-5, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_heuns_steps_are_those_of_diffusers(library: Any) -> None:
    """Theirs move x/α, and take a call for each of the two predictions of a step."""
    theirs, schedule = (
        library.HeunDiscreteScheduler(beta_start=1e-4, beta_end=0.02),
        Schedule.linear(),
    )
    levels = list(range(950, -1, -50))
    theirs.set_timesteps(timesteps=levels)
    start = torch.randn(4, 3)
    y, made = start / schedule.at(950).alpha, []
    for t in theirs.timesteps:
        x_t = theirs.scale_model_input(y, t)
        y = theirs.step(predicted(x_t, int(t)), t, y).prev_sample
        made.append(y)
    ours = whole_run(schedule, "heun", levels, start)
    for k, following in enumerate([*levels[1:], -1]):
        theirs_now = made[min(2 * k + 1, len(made) - 1)] * schedule.at(following).alpha
        torch.testing.assert_close(ours[k], theirs_now, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_noise_is_drawn_and_predictions_are_made_as_the_sampler_declares(
    sampler: str, eta: float
) -> None:
    how, seen, draws = SAMPLERS[sampler], [], []
    if eta and how.noise != "eta":
        with pytest.raises(ValueError, match=r"got eta=0\.7.*leave it out.*ddim, dpm\+\+"):
            run(sampler, torch.randn(2), [640, 0], eta=eta)
        return

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(int(t[0]))
        return 0.5 * x_t

    def draw(x: Tensor) -> Tensor:
        draws.append(x)
        return torch.ones_like(x)

    levels, options = [640, 400, 200], {"sampler": sampler, "draw": draw, "eta": eta}
    path = list(sample_path(denoiser, LINE, torch.ones(2), levels=levels, **options))
    assert len(path) == 3
    assert len(draws) == (3 if how.noise == "always" or eta else 0)
    assert seen == ([640, 400, 400, 200, 200] if how.correction else levels)


def test_only_a_sampler_that_looks_back_heeds_the_last_prediction() -> None:
    """The step after a first one whose prediction is another, from the same x."""
    for name, how in SAMPLERS.items():
        ends = []
        for first in (0.3, 0.9):

            def denoiser(x_t: Tensor, t: Tensor, first: float = first) -> Tensor:
                return torch.full_like(x_t, first if int(t[0]) == 640 else 0.5)

            path = sample_path(
                denoiser,
                LINE,
                torch.zeros(1),
                sampler=name,
                levels=[640, 400, 200],
                draw=torch.zeros_like,
            )
            before, after, _ = path
            s, t = LINE.at(200), LINE.at(400)
            ends.append(after - s.sigma / t.sigma * before)  # of ddim this is left of x_t
        differ = not torch.allclose(*ends, atol=1e-9)
        assert differ == (how.looks_back or name == "ddpm"), name


def test_the_names_are_the_samplers() -> None:
    for sampler in SAMPLERS:
        assert run(sampler, torch.randn(3), [640, 0])[-1].shape == (3,)
    assert to_eps(torch.zeros(1), torch.ones(1), LINE.at(0)).shape == (1,)


@pytest.mark.parametrize("eta", [-0.1, 1.1, 2.0, math.nan, math.inf])
@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
def test_a_share_of_noise_is_at_most_one(sampler: str, eta: float) -> None:
    """Above, σ_s² minus the fresh variance would be negative, and its root no number."""
    with pytest.raises(ValueError, match=f"got eta={eta}; eta must be at least 0 and at most 1"):
        SAMPLERS[sampler].check(eta)
    SAMPLERS[sampler].check(1.0)
