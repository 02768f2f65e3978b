"""Levels of noise: marginals, posteriors, conversions and weights against explicit Gaussians."""

from __future__ import annotations

import math

import pytest
import torch
from oracles import F64, mixture_log_prob, mixture_posterior
from torch import Tensor

from gentext.denoising.schedule import (
    PREDICTIONS,
    SCHEDULES,
    LearnedSchedule,
    Level,
    Schedule,
    eps_to_score,
    eps_weight,
    from_x0,
    loss_weight,
    posterior,
    q_sample,
    snr_ratio,
    snr_weight,
    to_eps,
    to_x0,
)

pytestmark = pytest.mark.usefixtures("float64")


def chain(T: int = 8) -> tuple[Tensor, Schedule]:
    beta = torch.linspace(0.05, 0.7, T)
    return beta, Schedule.from_beta(beta)


@pytest.mark.equation("eq-diff-fwd")
def test_a_thousand_small_steps_are_one_large_one() -> None:
    """Mean and variance, step by step; the number of the linear schedule's last level is known."""
    beta = torch.linspace(1e-4, 0.02, 1000)
    schedule, mean, variance = Schedule.linear(), 1.0, 0.0
    for t in range(1000):
        mean *= math.sqrt(1 - float(beta[t]))
        variance = variance * (1 - float(beta[t])) + float(beta[t])
        level = schedule.at(t)
        assert float(level.alpha) == pytest.approx(mean, abs=1e-12)
        assert float(level.sigma**2) == pytest.approx(variance, abs=1e-12)
    assert float(schedule.alpha_bar[-1]) == pytest.approx(4.0358e-05, abs=1e-8)
    x_0, eps = torch.randn(5), torch.randn(5)
    x_t = q_sample(x_0, eps, schedule.at(400))
    by_hand = schedule.alpha_bar[400].sqrt() * x_0 + (1 - schedule.alpha_bar[400]).sqrt() * eps
    torch.testing.assert_close(x_t, by_hand, atol=1e-12, rtol=0)


@pytest.mark.equation("eq-diff-posterior")
@pytest.mark.parametrize(("t", "s"), [(5, 4), (6, 2), (7, 0)])
def test_the_posterior_is_that_of_the_joint_normal(t: int, s: int) -> None:
    """Conditioning of (x_s, x_t) given x_0, with covariances built step by step."""
    beta, schedule = chain()
    bar = schedule.alpha_bar
    x_0, x_t = torch.tensor(0.8), torch.tensor(-0.3)
    cov = (1 - bar[s]) * (1 - beta[s + 1 : t + 1]).prod().sqrt()
    mean = bar[s].sqrt() * x_0 + cov / (1 - bar[t]) * (x_t - bar[t].sqrt() * x_0)
    variance = 1 - bar[s] - cov**2 / (1 - bar[t])
    got = posterior(x_0, x_t, schedule.at(t), schedule.at(s))
    torch.testing.assert_close(got[0], mean, atol=1e-13, rtol=0)
    torch.testing.assert_close(got[1], variance, atol=1e-13, rtol=0)


@pytest.mark.equation("eq-diff-posterior")
def test_the_posterior_is_the_one_that_papers_write_with_beta() -> None:
    beta, schedule = chain()
    bar, t = schedule.alpha_bar, 5
    x_0, x_t = torch.randn(4), torch.randn(4)
    mean, variance = posterior(x_0, x_t, schedule.at(t), schedule.at(t - 1))
    of_x_0 = bar[t - 1].sqrt() * beta[t] / (1 - bar[t])
    of_x_t = (1 - beta[t]).sqrt() * (1 - bar[t - 1]) / (1 - bar[t])
    torch.testing.assert_close(mean, of_x_0 * x_0 + of_x_t * x_t, atol=1e-13, rtol=0)
    tilde = (1 - bar[t - 1]) / (1 - bar[t]) * beta[t]
    torch.testing.assert_close(variance, tilde, atol=1e-13, rtol=0)
    eps = to_eps(x_0, x_t, schedule.at(t))
    by_noise = (x_t - beta[t] / (1 - bar[t]).sqrt() * eps) / (1 - beta[t]).sqrt()
    torch.testing.assert_close(mean, by_noise, atol=1e-13, rtol=0)


def test_the_step_to_the_data_is_certain() -> None:
    _, schedule = chain()
    x_0, x_t = torch.randn(3), torch.randn(3)
    mean, variance = posterior(x_0, x_t, schedule.at(4), schedule.at(-1))
    assert torch.equal(mean, x_0)
    assert float(variance) == 0


def test_without_any_signal_left_the_posterior_forgets_x_t() -> None:
    """α_t = 0: nothing is divided by it."""
    _, schedule = chain()
    s = schedule.at(3)
    x_0 = torch.randn(3)
    mean, variance = posterior(x_0, torch.randn(3), Level(torch.zeros(()), torch.ones(())), s)
    torch.testing.assert_close(mean, s.alpha * x_0)
    torch.testing.assert_close(variance, s.sigma**2)


@pytest.mark.equation("eq-diff-epskl")
@pytest.mark.parametrize(("t", "s"), [(4, 3), (7, 2)])
def test_equal_variances_make_the_divergence_an_error_of_the_noise(t: int, s: int) -> None:
    _, schedule = chain()
    a, b = schedule.at(t), schedule.at(s)
    x_0, eps, other = torch.randn(5), torch.randn(5), torch.randn(5)
    x_t, variance = q_sample(x_0, eps, a), torch.tensor(0.13)
    true = posterior(x_0, x_t, a, b)[0]
    model = posterior(to_x0("eps", other, x_t, a), x_t, a, b)[0]
    expected = (true - model).square().sum() / (2 * variance)
    got = eps_weight(a, b, variance) * (eps - other).square().sum()
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)


@pytest.mark.equation("eq-diff-epskl")
def test_the_weight_of_the_noise_is_the_one_that_papers_write_with_beta() -> None:
    beta, schedule = chain()
    t, bar = 4, schedule.alpha_bar
    expected = beta[t] ** 2 / (2 * 0.3 * (1 - beta[t]) * (1 - bar[t]))
    got = eps_weight(schedule.at(t), schedule.at(t - 1), torch.tensor(0.3))
    torch.testing.assert_close(got, expected, atol=1e-13, rtol=0)


@pytest.mark.equation("eq-diff-snr")
@pytest.mark.parametrize(("t", "s"), [(4, 3), (7, 2)])
def test_with_the_posteriors_variance_the_weight_is_a_difference_of_snr(t: int, s: int) -> None:
    _, schedule = chain()
    a, b = schedule.at(t), schedule.at(s)
    x_0, other, x_t = torch.randn(5), torch.randn(5), torch.randn(5)
    mean, variance = posterior(x_0, x_t, a, b)
    model, _ = posterior(other, x_t, a, b)
    expected = (mean - model).square().sum() / (2 * variance)
    got = snr_weight(a, b) * (x_0 - other).square().sum()
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)
    assert float(snr_weight(a, b)) == pytest.approx(float((b.snr - a.snr) / 2), abs=1e-12)


LEVELS = {
    name: Level(torch.tensor(alpha, dtype=F64), torch.tensor(sigma, dtype=F64))
    for name, alpha, sigma in (
        ("variance kept", 0.8, 0.6),
        ("straight", 0.7, 0.3),
        ("variance added", 1.0, 2.5),
    )
}


@pytest.mark.equation("eq-diff-params")
@pytest.mark.parametrize("name", LEVELS)
def test_noise_data_and_velocity_say_the_same(name: str) -> None:
    t = LEVELS[name]
    x_0, eps = torch.randn(9), torch.randn(9)
    x_t = t.alpha * x_0 + t.sigma * eps
    truth = {"x0": x_0, "eps": eps, "v": t.alpha * eps - t.sigma * x_0}
    assert set(truth) == set(PREDICTIONS)
    for kind, prediction in truth.items():
        torch.testing.assert_close(to_x0(kind, prediction, x_t, t), x_0, atol=1e-13, rtol=0)
        torch.testing.assert_close(from_x0(kind, x_0, x_t, t), prediction, atol=1e-13, rtol=0)
        torch.testing.assert_close(to_eps(x_0, x_t, t), eps, atol=1e-13, rtol=0)


@pytest.mark.equation("eq-diff-params")
def test_on_the_circle_the_velocity_is_the_derivative_by_the_angle() -> None:
    """α = cos φ, σ = sin φ; and ε = σ x_t + α v there."""
    phi = torch.tensor(0.7, requires_grad=True)
    x_0, eps = torch.randn(()), torch.randn(())
    x_t = phi.cos() * x_0 + phi.sin() * eps
    (v,) = torch.autograd.grad(x_t, phi)
    t = Level(phi.detach().cos(), phi.detach().sin())
    torch.testing.assert_close(from_x0("v", x_0, x_t.detach(), t), v, atol=1e-13, rtol=0)
    torch.testing.assert_close(t.sigma * x_t.detach() + t.alpha * v, eps, atol=1e-13, rtol=0)


@pytest.mark.equation("eq-diff-lossw")
@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("name", LEVELS)
def test_errors_of_one_kind_are_errors_of_another_with_a_weight(name: str, kind: str) -> None:
    t = LEVELS[name]
    x_t, x_0, other = torch.randn(3, 9)
    error = (from_x0(kind, x_0, x_t, t) - from_x0(kind, other, x_t, t)).square().sum()
    expected = loss_weight(kind, t) * (x_0 - other).square().sum()
    torch.testing.assert_close(error, expected, atol=1e-11, rtol=0)
    if name == "variance kept":
        snr = {"eps": t.snr, "v": 1 + t.snr, "x0": torch.ones(())}[kind]
        torch.testing.assert_close(loss_weight(kind, t), snr, atol=1e-12, rtol=0)


@pytest.mark.equation("eq-diff-score")
def test_the_best_noise_is_the_score_of_a_mixture() -> None:
    t = Level(torch.tensor(0.6), torch.tensor(0.8))
    x_t = torch.linspace(-3, 3, 31, requires_grad=True)

    def log_prob(x: Tensor) -> Tensor:  # of αx_0 + σε, by y = x/α, whose noise has size σ/α
        return mixture_log_prob(x / t.alpha, float(t.sigma / t.alpha)) - t.alpha.log()

    (score,) = torch.autograd.grad(log_prob(x_t).sum(), x_t)
    x_0, _ = mixture_posterior(x_t.detach() / t.alpha, float(t.sigma / t.alpha))
    eps = to_eps(x_0, x_t.detach(), t)
    torch.testing.assert_close(eps_to_score(eps, t), score, atol=1e-11, rtol=0)


@pytest.mark.equation("eq-diff-cosine")
def test_the_cosine_schedule_is_a_squared_cosine_but_for_its_last_step() -> None:
    T, shift = 1000, 0.008
    t = torch.arange(T + 1) / T
    wave = ((t + shift) / (1 + shift) * math.pi / 2).cos().square()
    bar = wave[1:] / wave[0]
    got = Schedule.cosine().alpha_bar
    torch.testing.assert_close(got[:-1], bar[:-1], atol=1e-12, rtol=0)
    assert float(got[-1] / got[-2]) == pytest.approx(1e-3)  # the last beta is cut to 0.999
    plain = Schedule.cosine(T, shift=1e-12)
    phi = math.pi * t[1:-1] / 2
    torch.testing.assert_close(plain.log_snr[:-1], -2 * phi.tan().log(), atol=1e-6, rtol=0)


def test_a_linear_schedule_of_fewer_levels_ends_where_the_long_one_does() -> None:
    for T in (50, 200, 4000):
        last = float(Schedule.linear(T).log_snr[-1])
        assert last == pytest.approx(float(Schedule.linear().log_snr[-1]), abs=2)


@pytest.mark.equation("eq-diff-vdm")
def test_a_line_and_its_learned_twin_run_between_their_ends() -> None:
    for schedule in (Schedule.line(5, 6.0, -4.0), LearnedSchedule(5, 6.0, -4.0)):
        expected = torch.tensor([6.0, 3.5, 1.0, -1.5, -4.0])
        torch.testing.assert_close(schedule.log_snr, expected)
        torch.testing.assert_close(schedule.snr, expected.exp())
        torch.testing.assert_close(torch.tensor(schedule.values()), expected)
    (slope,) = torch.autograd.grad(schedule.log_snr[1], list(schedule.parameters()))
    torch.testing.assert_close(slope, torch.tensor([0.75, 0.25]))
    first, last = LearnedSchedule().log_snr[[0, -1]].tolist()
    assert (first, last) == (pytest.approx(13.3), pytest.approx(-5.0))
    with torch.no_grad():
        schedule.ends += 1
    assert schedule.values()[0] == pytest.approx(7)


def test_levels_broadcast_and_minus_one_are_the_data() -> None:
    schedule = Schedule.linear(10)
    level = schedule.at(torch.tensor([3, -1]), dims=3)
    assert level.alpha.shape == (2, 1, 1, 1)
    assert level.alpha.flatten()[1] == 1
    assert level.sigma.flatten()[1] == 0
    assert torch.equal(level.alpha.flatten()[0], schedule.alpha_bar[3].sqrt())
    assert len(schedule) == 10


def test_single_precision_keeps_small_noise() -> None:
    """1 − ᾱ would lose it."""
    schedule = Schedule.line(3, 30.0, -30.0).float()
    torch.testing.assert_close(schedule.at(0).sigma, torch.tensor(math.exp(-15.0)).float())
    torch.testing.assert_close(schedule.at(2).alpha, torch.tensor(math.exp(-15.0)).float())


def test_what_is_kept_of_the_information() -> None:
    _, schedule = chain()
    got = snr_ratio(schedule.at(5), schedule.at(2))
    torch.testing.assert_close(got, schedule.snr[5] / schedule.snr[2])
    assert float(snr_ratio(schedule.at(5), schedule.at(-1))) == 0


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_by_name(name: str) -> None:
    schedule = SCHEDULES[name](20)
    assert len(schedule) == 20
    assert (schedule.log_snr.diff() < 0).all()
    assert isinstance(schedule, LearnedSchedule) == (name == "learned")


def test_bad_schedules_are_refused() -> None:
    with pytest.raises(ValueError, match=r"T=1.*at least 2"):
        Schedule.linear(1)
    with pytest.raises(ValueError, match=r"ends with 0\.88 of the variance.*below 0\.05"):
        Schedule(torch.tensor([4.0, 2.0]))
    with pytest.raises(ValueError, match=r"fall from level to level"):
        Schedule(torch.tensor([4.0, 4.0, -9.0]))
    with pytest.raises(ValueError, match=r"finite"):
        Schedule(torch.tensor([math.inf, 0.0, -9.0]))
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        Schedule(torch.tensor([[4.0, -9.0]]))
    with pytest.raises(ValueError, match=r"outside \(0, 1\)"):
        Schedule.from_beta(torch.tensor([0.1, 1.0]))
    with pytest.raises(ValueError, match=r"'score'.*eps, x0, v"):
        to_x0("score", torch.zeros(1), torch.zeros(1), LEVELS["straight"])


def test_a_class_of_a_reader_and_the_learned_one_make_their_own_kind() -> None:
    class Mine(Schedule):
        pass

    for made in (Mine.line(20), Mine.linear(20), Mine.cosine(20)):
        assert type(made) is Mine
    learned = LearnedSchedule.line(20, 12.0, -6.0)
    assert type(learned) is LearnedSchedule
    assert learned.values()[0] == 12.0
    assert learned.values()[-1] == -6.0
    with pytest.raises(ValueError, match="begins as a line"):
        LearnedSchedule.cosine(20)
