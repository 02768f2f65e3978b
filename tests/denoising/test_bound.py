"""Parts of the chain's bound against normals; integrals of denoising errors against a mixture."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from oracles import gauss_hermite, mixture_log_prob, mixture_posterior

from gentext.denoising.bound import (
    Terms,
    continuous_bound,
    continuous_nll,
    grey_nll,
    pointwise_nll,
    prior_kl,
    ranges,
    step_kl,
)
from gentext.denoising.schedule import Schedule, posterior

pytestmark = pytest.mark.usefixtures("float64")


# A chain of levels


@pytest.mark.equation("eq-diff-vlb")
def test_the_last_level_costs_the_divergence_from_the_prior() -> None:
    x_0, last = torch.randn(4, 2, 3), Schedule.linear(20).at(19)
    q = torch.distributions.Normal(last.alpha * x_0, last.sigma)
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(prior_kl(x_0, last), kl.sum((1, 2)), atol=1e-12, rtol=1e-10)


@pytest.mark.equation("eq-diff-snr")
@pytest.mark.parametrize(("t", "s"), [(4, 3), (19, 2)])
def test_a_step_costs_the_divergence_of_two_posteriors(t: int, s: int) -> None:
    x_0, predicted, x_t = torch.randn(3, 4, 5)
    schedule = Schedule.linear(20)
    level, after = schedule.at(t), schedule.at(s)
    q, p = (
        torch.distributions.Normal(mean, variance.sqrt())
        for mean, variance in (posterior(x, x_t, level, after) for x in (x_0, predicted))
    )
    kl = torch.distributions.kl_divergence(q, p).sum(1)
    torch.testing.assert_close(step_kl(x_0, predicted, level, after), kl, atol=0, rtol=1e-8)


@pytest.mark.equation("eq-diff-vlb")
def test_data_that_are_not_grey_cost_the_entropy_of_their_noise() -> None:
    entropy = torch.distributions.Normal(0.0, torch.tensor(0.2)).entropy()
    got = continuous_nll(torch.randn(4, 2, 3), torch.tensor(0.2))
    torch.testing.assert_close(got, (6 * entropy).expand(4))


@pytest.mark.equation("eq-diff-vlb")
def test_the_bound_is_what_the_three_parts_leave() -> None:
    parts = Terms(*torch.rand(3, 5))
    torch.testing.assert_close(parts.bound, -sum(parts))


def test_many_examples_are_weighed_in_parts() -> None:
    x_0 = 2 * torch.randint(17, (150, 3)) / 16 - 1
    seen, width = x_0 + 0.1 * torch.randn(150, 3), torch.tensor(0.1)
    each = torch.cat([grey_nll(x_0[[n]], seen[[n]], width, 17) for n in range(150)])
    torch.testing.assert_close(grey_nll(x_0, seen, width, 17), each)


def test_ranges_cover_every_level_once_and_are_as_equal_as_can_be() -> None:
    assert ranges(0, 5, None) == [1, 2, 3, 4, 5]
    assert ranges(0, 5, 99) == [1, 2, 3, 4, 5]
    assert ranges(2, 5, 1) == [3, 5]
    for first, T, terms in ((0, 1000, 32), (9, 991, 7), (3, 10, 4)):
        edges = ranges(first, T, terms)
        assert (edges[0], edges[-1], len(edges)) == (first + 1, T, terms + 1)
        sizes = [high - low for low, high in pairwise(edges)]
        assert max(sizes) - min(sizes) <= 1
    for first in (-1, 9):
        with pytest.raises(ValueError, match=rf"first={first}.*0 to 8"):
            ranges(first, 10, None)


def test_the_probabilities_of_grey_levels_sum_to_one() -> None:
    grid = torch.linspace(-1, 1, 17)[:, None].expand(17, 64)
    seen = torch.randn(64).expand(17, 64)
    each = [-grey_nll(grid[:, [i]], seen[:, [i]], torch.tensor(0.1), 17) for i in range(64)]
    torch.testing.assert_close(torch.stack(each).exp().sum(1), torch.ones(64))


def test_the_likeliest_grey_level_is_the_nearest() -> None:
    """p(x_0 | x_1) ∝ q(x_1 | x_0), against the formula of the normal density."""
    width = torch.tensor(0.2)
    grid = torch.linspace(-1, 1, 17)
    seen = torch.tensor([0.3])
    log_p = torch.distributions.Normal(grid, width).log_prob(seen).log_softmax(0)
    for k in range(17):
        got = -grey_nll(grid[k].view(1, 1), seen.view(1, 1), width, 17)
        torch.testing.assert_close(got[0], log_p[k])


# All levels


@pytest.mark.equation("eq-diff-vdm")
def test_only_the_ends_of_a_schedule_matter() -> None:
    """Three ways from SNR e⁸ to e⁻⁸, the errors of N(0, c²), whose integral is a logarithm."""
    c2, t = 0.6, torch.linspace(0, 1, 20_001)
    bend = torch.sigmoid(12 * (t - 0.5))
    bend = (bend - bend[0]) / (bend[-1] - bend[0])
    expected = 0.5 * (math.log1p(c2 * math.exp(8)) - math.log1p(c2 * math.exp(-8)))
    for way in (t, t.square(), bend):
        log_snr = 8 - 16 * way
        error = c2 / (1 + c2 * log_snr.exp())
        got = continuous_bound(log_snr, error[:, None])
        assert float(got) == pytest.approx(expected, abs=1e-5)


@pytest.mark.equation("eq-diff-vdm")
def test_the_sum_over_levels_tends_to_the_integral() -> None:
    """For both schedules between the same ends; with T levels it is too large by about 1/T."""
    c2 = 0.6

    def mmse(snr: torch.Tensor) -> torch.Tensor:
        return c2 / (1 + c2 * snr)

    limit = 0.5 * (math.log1p(c2 * math.exp(6)) - math.log1p(c2 * math.exp(-6)))
    gaps = []
    for T in (200, 400):
        snr = Schedule.line(T, 6.0, -6.0).snr
        total = float(((snr[:-1] - snr[1:]) * mmse(snr[1:])).sum() / 2)
        gaps.append(total - limit)
    assert gaps[0] > 0
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.05)


@pytest.mark.equation("eq-diff-mmse")
def test_errors_of_the_best_denoiser_give_the_density_of_a_mixture() -> None:
    z, weights = gauss_hermite(120)
    log_snr = torch.linspace(-12, 14, 801)
    x = torch.tensor([-2.0, 0.1, 1.7])
    errors = []
    for gamma in log_snr.exp():
        sigma = float(gamma**-0.5)  # of y = x + σε
        best, _ = mixture_posterior(x + z[:, None] * sigma, sigma)
        errors.append((weights[:, None] * (x - best) ** 2).sum(0))
    got = pointwise_nll(log_snr, torch.stack(errors), 1)
    torch.testing.assert_close(got, -mixture_log_prob(x), atol=3e-4, rtol=0)


@pytest.mark.equation("eq-diff-mmse")
def test_for_normal_data_of_many_values() -> None:
    """x̂ = c²γ/(1 + c²γ) y, whose error at x has two parts."""
    c2, x = 0.6, torch.randn(4, 3)
    log_snr = torch.linspace(-16, 16, 4001)
    gamma = log_snr.exp()[:, None]
    gain = c2 * gamma / (1 + c2 * gamma)
    error = (1 - gain) ** 2 * x.square().sum(1) + 3 * gain**2 / gamma
    expected = 1.5 * math.log(2 * math.pi * c2) + x.square().sum(1) / (2 * c2)
    torch.testing.assert_close(pointwise_nll(log_snr, error, 3), expected, atol=1e-4, rtol=0)
