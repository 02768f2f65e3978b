"""Guidance against exact scores of a mixture; thresholds; noise put back."""

from __future__ import annotations

import pytest
import torch
from oracles import MEANS, STDS, WEIGHTS, normal_log_prob
from torch import Tensor

from gentext.denoising.guidance import cfg, classifier_guidance, inpaint, renoise, threshold
from gentext.denoising.schedule import Level, Schedule, eps_to_score, to_eps

pytestmark = pytest.mark.usefixtures("float64")

CLASS = 2
T = Level(torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64))
X_T = torch.linspace(-3, 3, 31, dtype=torch.float64)


def joint(x: Tensor) -> Tensor:
    """log p_t(x, y) of every class, whose last axis they are."""
    std = ((T.alpha * STDS).square() + T.sigma.square()).sqrt()
    return WEIGHTS.log() + normal_log_prob(x[..., None], T.alpha * MEANS, std)


def score(log_prob: object, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(log_prob(x).sum(), x)[0]  # type: ignore[operator]


def of_class(x: Tensor) -> Tensor:
    return joint(x)[..., CLASS]


def of_all(x: Tensor) -> Tensor:
    return joint(x).logsumexp(-1)


def given_x(x: Tensor) -> Tensor:
    return of_class(x) - of_all(x)


def x_0_of(score: Tensor) -> Tensor:
    """The denoised value whose score it is."""
    return (X_T + T.sigma.square() * score) / T.alpha


@pytest.mark.equation("eq-diff-cg")
def test_the_classifiers_gradient_turns_the_score_into_that_of_the_class() -> None:
    plain = x_0_of(score(of_all, X_T))
    steered = classifier_guidance(plain, X_T, given_x, T, 1.0)
    got = eps_to_score(to_eps(steered, X_T, T), T)
    torch.testing.assert_close(got, score(of_class, X_T), atol=1e-11, rtol=0)
    stronger = classifier_guidance(plain, X_T, given_x, T, 2.5)
    wanted = score(of_all, X_T) + 2.5 * score(given_x, X_T)
    torch.testing.assert_close(
        eps_to_score(to_eps(stronger, X_T, T), T), wanted, atol=1e-11, rtol=0
    )
    with torch.inference_mode():
        again = classifier_guidance(plain, X_T, given_x, T, 1.0)
    torch.testing.assert_close(again, steered)


@pytest.mark.equation("eq-diff-cfg")
@pytest.mark.parametrize("w", [0.0, 2.5])
def test_extrapolation_is_the_score_of_a_tilted_density(w: float) -> None:
    conditional, unconditional = score(of_class, X_T), score(of_all, X_T)
    tilted = score(lambda x: (1 + w) * of_class(x) - w * of_all(x), X_T)
    torch.testing.assert_close(cfg(conditional, unconditional, w), tilted, atol=1e-12, rtol=0)
    by_data = cfg(x_0_of(conditional), x_0_of(unconditional), w)
    torch.testing.assert_close(by_data, x_0_of(tilted), atol=1e-12, rtol=0)


@pytest.mark.equation("eq-diff-cfg")
def test_the_tilted_density_is_not_the_tilted_data_with_noise() -> None:
    """Tilt at level 0, add noise by quadrature, compare the scores: they differ."""
    w, grid = 2.5, torch.linspace(-12, 12, 6001)
    clean = WEIGHTS.log() + normal_log_prob(grid[:, None], MEANS, STDS)
    tilt = ((1 + w) * clean[:, CLASS] - w * clean.logsumexp(-1)).exp()
    tilt = tilt / torch.trapezoid(tilt, grid)

    def noisy(x: Tensor) -> Tensor:
        kernel = normal_log_prob(x[:, None], T.alpha * grid, T.sigma).exp()
        return torch.trapezoid(tilt * kernel, grid, dim=-1).log()

    x = torch.tensor([0.0, 1.0])
    at_this_level = cfg(score(of_class, x), score(of_all, x), w)
    assert float((score(noisy, x) - at_this_level).abs().max()) > 0.05


def test_thresholds() -> None:
    x = torch.tensor([[0.5, -3.0, 1.0, 2.0], [0.1, 0.2, -0.3, 0.4]])
    assert threshold(x, "none") is x
    assert torch.equal(threshold(x, "static")[0], torch.tensor([0.5, -1, 1, 1]))
    dynamic = threshold(x, "dynamic", share=1.0)
    torch.testing.assert_close(dynamic[0], x[0] / 3)
    assert torch.equal(dynamic[1], x[1])
    part = threshold(x, "dynamic", share=2 / 3)  # the quantile is 2
    torch.testing.assert_close(part[0], torch.tensor([0.25, -1, 0.5, 1]))
    with pytest.raises(ValueError, match=r"'soft'.*none, static, dynamic"):
        threshold(x, "soft")


def test_noise_put_back_gives_the_law_of_the_noisier_level() -> None:
    """α_t x_0 + σ_t ε from α_s x_0 + σ_s ε', by the coefficients."""
    schedule = Schedule.linear(50)
    s, t = schedule.at(10), schedule.at(30)
    one, zero = torch.ones(()), torch.zeros(())
    of_x, of_noise = renoise(one, s, t, zero), renoise(zero, s, t, one)
    torch.testing.assert_close(of_x * s.alpha, t.alpha)
    torch.testing.assert_close((of_x * s.sigma) ** 2 + of_noise**2, t.sigma**2)


def test_inpainting_passes_every_level() -> None:
    schedule = Schedule.linear(50)
    with pytest.raises(ValueError, match=r"repeats=0"):
        inpaint(
            lambda x, t: x,
            schedule,
            X_T,
            X_T > 0,
            levels=[49, 0],
            draw=torch.randn_like,
            repeats=0,
        )


def test_a_mask_may_be_numbers_and_must_fit() -> None:
    schedule, known = Schedule.linear(10), torch.randn(2, 1, 4, 4)
    mask = torch.rand(4, 4) < 0.5

    def filled(mask: Tensor) -> Tensor:
        draw = torch.Generator().manual_seed(0)
        return inpaint(
            lambda x, t: 0 * x,
            schedule,
            known,
            mask,
            levels=[9, 4, 0],
            draw=lambda x: torch.randn(x.shape, generator=draw),
        )

    expected = filled(mask)
    assert expected[:, :, mask].equal(known[:, :, mask])
    for other in (mask.float(), mask.to(torch.uint8), mask.long().expand(2, 1, 4, 4)):
        assert filled(other).equal(expected)
    with pytest.raises(ValueError, match=r"mask of shape \(3, 4\) for examples \(2, 1, 4, 4\)"):
        filled(mask[:3])
    with pytest.raises(ValueError, match="other values than True and False"):
        filled(mask.float() / 2)
