"""Divergences against enumeration, their duals, linear programs and SciPy."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance
from torch import Tensor

from gentext.adversarial.f_divergence import (
    DIVERGENCES,
    f_divergence,
    js_divergence,
    le_cam,
    optimal_critic,
    optimal_discriminator,
    total_variation,
    variational_bound,
    wasserstein1,
)
from gentext.adversarial.objectives import game_value
from tests.oracles import F64, minimize, normal_log_prob

pytestmark = pytest.mark.usefixtures("float64")

GRID = torch.linspace(-14, 14, 8001, dtype=F64)
STEP = float(GRID[1] - GRID[0])


def distributions(k: int = 6) -> tuple[Tensor, Tensor]:
    """Two distributions on k points."""
    return torch.randn(k).softmax(0), torch.randn(k).softmax(0)


def normal(mean: float, std: float) -> Tensor:
    """The log-density of a normal on the grid."""
    return normal_log_prob(GRID, torch.tensor(mean), torch.tensor(std))


def value(log_d: Tensor, log_not: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """V for distributions given on points, D by its logarithm and that of 1 − D."""
    return (p * log_d + q * log_not).sum()


@pytest.mark.equation("eq-gan-dstar")
def test_the_best_discriminator_beats_those_beside_it() -> None:
    log_p, log_q = normal(0.5, 1.0), normal(-1.0, 1.4)
    p, q = log_p.exp() * STEP, log_q.exp() * STEP
    logits = torch.logit(optimal_discriminator(log_p, log_q).clamp(1e-15, 1 - 1e-15))

    def value_of(logits: Tensor) -> float:
        log_d = torch.nn.functional.logsigmoid
        return float(value(log_d(logits), log_d(-logits), p, q))

    best = value_of(logits)
    for _ in range(20):
        other = logits + 0.3 * torch.randn(()) * torch.sin(GRID + torch.randn(()))
        assert value_of(other) < best


@pytest.mark.equation("eq-gan-dstar")
def test_between_normals_of_equal_width_its_logit_is_a_line_that_regression_finds() -> None:
    low, high, s = -0.6, 0.9, 0.8
    log_p, log_q = normal(high, s), normal(low, s)
    slope, offset = (high - low) / s**2, -(high**2 - low**2) / (2 * s**2)
    inside = (GRID - 0.15).abs() < 4
    found = torch.logit(optimal_discriminator(log_p, log_q))[inside]
    torch.testing.assert_close(found, (slope * GRID + offset)[inside], atol=1e-9, rtol=1e-7)
    line = torch.zeros(2, requires_grad=True)

    def cross_entropy() -> Tensor:
        logits = line[0] * GRID + line[1]
        soft = torch.nn.functional.softplus
        return ((log_p.exp() * soft(-logits) + log_q.exp() * soft(logits)) * STEP).sum()

    minimize(cross_entropy, [line])
    torch.testing.assert_close(line.detach(), torch.tensor([slope, offset]), atol=1e-5, rtol=1e-5)


@pytest.mark.equation("eq-gan-js")
def test_the_value_at_the_best_discriminator_is_the_jensen_shannon_divergence() -> None:
    log_p, log_q = normal(0.5, 1.0), normal(-1.0, 1.4)
    p, q = log_p.exp() * STEP, log_q.exp() * STEP
    d = optimal_discriminator(log_p, log_q)
    log_not = optimal_discriminator(log_q, log_p).log()
    expected = 2 * js_divergence(p, q) - 2 * math.log(2)
    torch.testing.assert_close(value(d.log(), log_not, p, q), expected, atol=1e-9, rtol=0)
    assert 0 < js_divergence(p, q) < math.log(2)


@pytest.mark.equation("eq-gan-js")
def test_of_distributions_without_a_common_point_it_is_log_2_and_of_equal_ones_0() -> None:
    p, q = torch.tensor([0.25, 0.75, 0, 0]), torch.tensor([0, 0, 0.5, 0.5])
    assert float(js_divergence(p, q)) == pytest.approx(math.log(2), abs=1e-12)
    assert float(js_divergence(p, p)) == 0


def test_the_value_of_equal_distributions_is_minus_2_log_2() -> None:
    zero = torch.zeros(5)
    assert float(game_value(zero, zero)) == pytest.approx(-2 * math.log(2))


REFERENCE = {
    "kl": lambda p, q: (p * (p / q).log()).sum(),
    "reverse-kl": lambda p, q: (q * (q / p).log()).sum(),
    "chi2": lambda p, q: ((p - q) ** 2 / q).sum(),
    "gan": lambda p, q: (q * DIVERGENCES["gan"].f(p / q)).sum(),
}


@pytest.mark.equation("eq-gan-fgan")
@pytest.mark.parametrize("name", DIVERGENCES)
def test_an_f_divergence_is_the_top_of_its_bound(name: str) -> None:
    p, q = distributions()
    divergence = f_divergence(p, q, name)
    torch.testing.assert_close(divergence, REFERENCE[name](p, q), atol=1e-12, rtol=0)
    best = optimal_critic(p, q, name)
    bound = variational_bound(best, p, q, name)
    torch.testing.assert_close(bound, divergence, atol=1e-11, rtol=0)
    for _ in range(30):
        other = optimal_critic(p * (0.3 * torch.randn(6)).exp(), q, name)
        assert variational_bound(other, p, q, name) < divergence


@pytest.mark.equation("eq-gan-fgan")
@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_conjugate_is_the_largest_gap_between_a_line_and_f(name: str) -> None:
    divergence = DIVERGENCES[name]
    u = torch.linspace(-7, 7, 200_001).exp()
    for t in divergence.output(torch.tensor([-1.5, -0.2, 0.4, 1.0])):
        searched = (t * u - divergence.f(u)).max()
        torch.testing.assert_close(divergence.conjugate(t), searched, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(divergence.f(torch.ones(())), torch.zeros(()))


@pytest.mark.equation("eq-gan-fgan")
@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_conjugate_after_the_last_step_is_the_same_in_one(name: str) -> None:
    divergence, v = DIVERGENCES[name], torch.linspace(-6, 6, 25)
    torch.testing.assert_close(
        divergence.conjugate_of_output(v), divergence.conjugate(divergence.output(v))
    )


@pytest.mark.equation("eq-gan-fgan")
def test_divergences_of_distributions_with_empty_points() -> None:
    """Points that one lacks, and one that both lack: finite where the divergence is."""
    p, q = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.5, 0.5, 0.0])
    two = math.log(2)
    expected = {"kl": two, "reverse-kl": math.inf, "chi2": 1.0}
    for name, value in expected.items():
        assert float(f_divergence(p, q, name)) == pytest.approx(value)
    assert float(f_divergence(q, p, "kl")) == math.inf
    assert float(f_divergence(q, p, "reverse-kl")) == pytest.approx(two)
    assert float(f_divergence(q, p, "chi2")) == math.inf
    for a, b in ((p, q), (q, p)):
        torch.testing.assert_close(f_divergence(a, b, "gan"), 2 * js_divergence(a, b))
    apart = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert float(f_divergence(*apart, "gan")) == pytest.approx(2 * two)


@pytest.mark.equation("eq-gan-fgan")
@pytest.mark.parametrize("name", DIVERGENCES)
def test_gradients_of_divergences_are_those_of_their_definitions(name: str) -> None:
    pair = [p.requires_grad_() for p in distributions()]
    ours = torch.autograd.grad(f_divergence(*pair, name), pair)
    torch.testing.assert_close(ours, torch.autograd.grad(REFERENCE[name](*pair), pair))


@pytest.mark.equation("eq-gan-fgan")
@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize(
    ("p", "q"),
    [([0.0, 1.0], [0.5, 0.5]), ([0.5, 0.5], [1.0, 0.0]), ([0.3, 0.7, 0.0], [0.6, 0.4, 0.0])],
)
def test_the_bound_is_tight_where_points_are_empty(
    name: str, p: list[float], q: list[float]
) -> None:
    first, second = torch.tensor(p), torch.tensor(q)
    best = optimal_critic(first, second, name)
    bound = variational_bound(best, first, second, name)
    torch.testing.assert_close(bound, f_divergence(first, second, name))
    assert not best.isnan().any()


@pytest.mark.equation("eq-gan-fgan")
def test_the_conjugate_is_infinite_outside_its_domain_and_flat_below_chi2() -> None:
    p, q = distributions(3)
    for name in ("reverse-kl", "gan"):
        outside = torch.tensor([1.0, -1.0, -1.0])
        assert float(DIVERGENCES[name].conjugate(outside)[0]) == math.inf
        assert float(variational_bound(outside, p, q, name)) == -math.inf
    assert (
        float(DIVERGENCES["chi2"].conjugate(torch.tensor(-6.0))) == -1
    )  # its supremum is at u = 0


def test_a_ratio_too_large_for_single_precision_does_no_harm() -> None:
    p, q = torch.tensor([0.5, 0.5]).float(), torch.tensor([1e-37, 1.0]).float()
    for name in ("kl", "reverse-kl", "gan"):
        exact = f_divergence(p.double(), q.double(), name)
        assert float(f_divergence(p, q, name)) == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.parametrize("u", [0.0, 1e-6, 1.0, 1e8, 1e30])
def test_f_of_gan_keeps_its_digits_for_any_ratio(u: float) -> None:
    """u log u − (u + 1) log (u + 1) is nearly the difference of two equal numbers."""
    with mpmath.workdps(60):
        v = mpmath.mpf(u)
        of_u = v * mpmath.log(v) if u else 0
        exact = float(of_u - (v + 1) * mpmath.log(v + 1) + mpmath.log(4))
    ours = DIVERGENCES["gan"].f(torch.tensor(u).float())
    assert float(ours) == pytest.approx(exact, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("measure", [js_divergence, total_variation, le_cam])
def test_what_is_no_distribution_is_refused(measure) -> None:
    half = torch.tensor([0.5, 0.5])
    for other in (
        torch.tensor([2.0, 2.0]),
        torch.tensor([-1.0, 2.0]),
        torch.tensor([0.5, math.nan]),
    ):
        for pair in ((half, other), (other, half)):
            with pytest.raises(ValueError, match=r"sum to 1"):
                measure(*pair)
    with pytest.raises(ValueError, match=r"\(2,\) and \(1,\).*same k points"):
        measure(half, torch.ones(1))
    with pytest.raises(ValueError, match=r"points \(3,\) for distributions \(2,\)"):
        wasserstein1(torch.arange(3.0), half, half)
    with pytest.raises(ValueError, match="sum to 1"):
        wasserstein1(half, half, 2 * half)


@pytest.mark.equation("eq-gan-w1")
def test_wasserstein_agrees_with_both_linear_programs() -> None:
    """The cheapest plan, the steepest allowed critic, and the areas between the two sums."""
    n = 8
    (p, q), x = distributions(n), torch.randn(n)
    ours = float(wasserstein1(x, p, q))
    cost = (x[:, None] - x).abs().numpy()
    rows = np.kron(np.eye(n), np.ones(n))
    columns = np.kron(np.ones(n), np.eye(n))
    plan = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([p, q])).fun
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    gaps = np.array([np.eye(n)[i] - np.eye(n)[j] for i, j in pairs])
    limits = [cost[i, j] for i, j in pairs]
    steep = linprog(-(p - q).numpy(), A_ub=gaps, b_ub=limits, bounds=[(None, None)] * n).fun
    assert ours == pytest.approx(plan, abs=1e-9)
    assert ours == pytest.approx(-steep, abs=1e-9)
    assert ours == pytest.approx(wasserstein_distance(x, x, p, q), abs=1e-9)


@pytest.mark.equation("eq-gan-hinge")
def test_total_variation_is_the_largest_gap_of_an_event() -> None:
    p, q = distributions(7)
    events = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 7)
    assert float(total_variation(p, q)) == pytest.approx(float((events @ (p - q)).max()))


@pytest.mark.equation("eq-gan-ls")
def test_le_cam_is_twice_the_chi_square_to_the_middle() -> None:
    p, q = distributions()
    m = (p + q) / 2
    torch.testing.assert_close(le_cam(p, q), ((p - m) ** 2 / m).sum() * 2)
    apart = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    assert float(le_cam(*apart)) == 2


def test_unknown_divergences_list_the_known() -> None:
    p, q = distributions()
    with pytest.raises(ValueError, match=r"'jeffreys'.*reverse-kl"):
        f_divergence(p, q, "jeffreys")
