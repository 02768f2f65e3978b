"""Integrals of denoising errors against closed forms and a mixture."""

from __future__ import annotations

import math

import pytest
import torch
from oracles import gauss_hermite, mixture_log_prob, mixture_posterior

from gentext.denoising.bound import continuous_bound, pointwise_nll
from gentext.denoising.schedule import Schedule

pytestmark = pytest.mark.usefixtures("float64")


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
