"""Comparisons of rows of features against closed forms, loops over pairs and hand computation."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from gentext.evaluation import estimates, fidelity


def rows_of(mean: Tensor, cov: Tensor, n: int = 40) -> Tensor:
    """``n`` rows whose mean and covariance are exactly these."""
    x = torch.randn(n, len(mean), dtype=torch.float64)
    x = torch.linalg.qr(x - x.mean(0))[0] * math.sqrt(n - 1)  # uncorrelated
    return x @ root(cov) + mean


def root(cov: Tensor) -> Tensor:
    """A symmetric R with R² = Σ, by another library."""
    return torch.from_numpy(sqrtm(cov.numpy()).real.copy())


def covariance(d: int) -> Tensor:
    a = torch.randn(d, d, dtype=torch.float64)
    return a @ a.T + 0.1 * torch.eye(d)


@pytest.mark.parametrize("d", [1, 2, 7])
def test_the_frechet_distance_is_that_of_two_gaussians(d: int) -> None:
    means, covs = torch.randn(2, d, dtype=torch.float64), [covariance(d), covariance(d)]
    a, b = (rows_of(*each) for each in zip(means, covs, strict=True))
    assert a.T.cov().view(d, d).allclose(covs[0])
    cross = torch.from_numpy(sqrtm((covs[0] @ covs[1]).numpy()).real.copy())  # as it is defined
    expected = (means[0] - means[1]).square().sum() + (covs[0] + covs[1] - 2 * cross).trace()
    assert float(fidelity.frechet_distance(a, b)) == pytest.approx(float(expected), rel=1e-8)
    assert fidelity.frechet_distance(b, a).allclose(fidelity.frechet_distance(a, b))
    assert float(fidelity.frechet_distance(a, a)) == pytest.approx(0, abs=1e-8)
    moved = fidelity.frechet_distance(a, a.float() + 3)
    assert float(moved) == pytest.approx(9 * d, rel=1e-5)


def test_the_frechet_distance_in_one_dimension_is_that_of_means_and_deviations() -> None:
    a = rows_of(torch.tensor([0.0]).double(), torch.tensor([[1.0]]).double())
    b = rows_of(torch.tensor([1.0]).double(), torch.tensor([[4.0]]).double())
    assert float(fidelity.frechet_distance(a, b)) == pytest.approx(1 + (2 - 1) ** 2)


def test_the_frechet_distance_is_the_cost_of_the_optimal_map() -> None:
    """x -> A x with A = Σ_a^-½ (Σ_a^½ Σ_b Σ_a^½)^½ Σ_a^-½ carries one Gaussian to the other."""
    cov_a, cov_b = covariance(3), covariance(3)
    a = rows_of(torch.zeros(3).double(), cov_a)
    inverse = torch.linalg.inv(root(cov_a))
    moved = a @ (inverse @ root(root(cov_a) @ cov_b @ root(cov_a)) @ inverse)
    assert moved.T.cov().allclose(cov_b)
    cost = (a - moved).square().sum() / (len(a) - 1)
    assert float(fidelity.frechet_distance(a, moved)) == pytest.approx(float(cost), rel=1e-8)


def test_covariances_may_be_singular() -> None:
    """Fewer rows than columns, and columns that never change."""
    a, b = torch.randn(5, 20, dtype=torch.float64), torch.randn(4, 20, dtype=torch.float64)
    a[:, 3] = b[:, 3] = 1.0
    wide = sqrtm((a.T.cov() @ b.T.cov() + 1e-14 * torch.eye(20)).numpy()).real.trace()
    expected = (a.mean(0) - b.mean(0)).square().sum() + a.T.cov().trace() + b.T.cov().trace()
    found = float(fidelity.frechet_distance(a, b))
    assert found == pytest.approx(float(expected) - 2 * wide, abs=1e-4)
    assert float(fidelity.frechet_distance(torch.ones(2, 3), torch.zeros(3, 3))) == 3


def pairwise_mmd(a: Tensor, b: Tensor, s: float) -> float:
    """One pair of rows after the other, none with itself."""

    def k(x: Tensor, y: Tensor) -> float:
        return math.exp(-float((x - y).square().sum()) / (2 * s * s))

    within = [
        sum(k(rows[i], rows[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
        for rows, n in ((a, len(a)), (b, len(b)))
    ]
    return sum(within) - 2 * sum(k(x, y) for x in a for y in b) / (len(a) * len(b))


def test_mmd_of_rows_by_hand() -> None:
    """k(0, 1) = e^-½ within a, k(0, 2) = e^-2 within b; across them 1, e^-2, e^-½, e^-½."""
    a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]])
    one, two = math.exp(-0.5), math.exp(-2)
    expected = one + two - 2 * (1 + two + one + one) / 4
    assert float(fidelity.mmd(a, b, 1.0)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rows", [3, 1024])
def test_mmd_is_that_of_a_loop_over_pairs(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr("gentext.evaluation.fidelity.ROWS", rows)
    a, b = torch.randn(7, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64) + 1
    found = float(fidelity.mmd(a, b, 1.7))
    assert found == pytest.approx(pairwise_mmd(a, b, 1.7), rel=1e-9)
    distances = sorted(float((x - y).norm()) for x, y in combinations(torch.cat([a, b]), 2))
    median = distances[(len(distances) - 1) // 2]
    assert float(fidelity.mmd(a, b)) == pytest.approx(pairwise_mmd(a, b, median), rel=1e-9)


def test_mmd_has_no_bias() -> None:
    """Of equal distributions, and of N(0, 1) and N(1, 2²), where E k(x, y) is known."""

    def mean_kernel(shift: float, variance: float, s: float = 1.5) -> float:
        v = s * s + variance
        return s / math.sqrt(v) * math.exp(-(shift**2) / (2 * v))

    expected = mean_kernel(0, 2) + mean_kernel(0, 8) - 2 * mean_kernel(1, 5)
    for shift, scale, truth in ((0.0, 1.0, 0.0), (1.0, 2.0, expected)):
        found = torch.stack(
            [
                fidelity.mmd(torch.randn(6, 1), shift + scale * torch.randn(4, 1), 1.5)
                for _ in range(2000)
            ]
        )
        estimate = estimates.mean_and_error(found)
        assert abs(estimate.mean - truth) < 4 * estimate.se
        assert found.min() < 0  # as without bias it must be, at times


def test_the_median_distance_of_many_rows_is_that_of_some_from_all_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = torch.randn(600, 2), torch.randn(600, 2) + 4
    exact = float(fidelity.mmd(a, b))
    monkeypatch.setattr("gentext.evaluation.fidelity.MEDIAN", 300)
    assert float(fidelity.mmd(a, b)) == pytest.approx(exact, rel=0.02)


def loop_share(points: Tensor, centres: Tensor, k: int) -> float:
    """The share of points in a ball about a centre up to its k-th nearest other centre."""
    radii = [
        sorted(float((c - o).norm()) for j, o in enumerate(centres) if j != i)[k - 1]
        for i, c in enumerate(centres)
    ]
    inside = [
        any(float((p - c).norm()) <= r for c, r in zip(centres, radii, strict=True)) for p in points
    ]
    return sum(inside) / len(inside)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("rows", [4, 1024])
def test_precision_and_recall_are_those_of_a_loop(
    monkeypatch: pytest.MonkeyPatch, k: int, rows: int
) -> None:
    monkeypatch.setattr("gentext.evaluation.fidelity.ROWS", rows)
    real, made = torch.randn(30, 3), 1.3 * torch.randn(22, 3) + 0.5
    found = fidelity.precision_recall(real, made, k)
    expected = (loop_share(made, real, k), loop_share(real, made, k))
    assert found == pytest.approx(expected)
    assert found.precision == found[0]
    assert 0 < min(found) < max(found) < 1


def test_precision_and_recall_of_sets_by_hand() -> None:
    line = torch.arange(8.0)[:, None]
    assert fidelity.precision_recall(line, line, k=1) == (1, 1)
    assert fidelity.precision_recall(line, line + 100, k=1) == (0, 0)
    # the samples are those of one of two groups; each reaches 1 as k = 1
    two = torch.cat([line, line + 100])
    assert fidelity.precision_recall(two, line, k=1) == (1, 0.5)
    assert fidelity.precision_recall(line, two, k=1) == (0.5, 1)
    # 9 is 2 away from the last real row, which reaches 1 with one neighbour and 2 with two
    made = torch.tensor([[9.0], [8.9], [0.0], [0.1]])
    assert fidelity.precision_recall(line, made, k=1).precision == 0.5
    assert fidelity.precision_recall(line, made, k=2).precision == 1


def test_a_classifier_tells_gaussians_apart_as_well_as_can_be() -> None:
    """The best accuracy is ½ + ½ TV = Φ(δ/2)."""
    for shift, best in ((0.0, 0.5), (1.0, 0.6915), (3.0, 0.9332)):
        a, b = torch.randn(1500, 2), torch.randn(1500, 2)
        b[:, 0] += shift
        assert fidelity.c2st(a, b) == pytest.approx(best, abs=4 * math.sqrt(0.25 / 3000))
    assert fidelity.c2st(torch.randn(500, 4), 3 * torch.randn(500, 4)) > 0.8  # no line does this


def test_a_classifier_is_tested_on_rows_that_it_has_not_seen() -> None:
    """With more columns than rows it could learn all of them by heart."""
    found = [fidelity.c2st(torch.randn(100, 200), torch.randn(100, 200)) for _ in range(5)]
    assert abs(sum(found) / 5 - 0.5) < 4 * math.sqrt(0.25 / 1000)
    # the two sides of the first rows are the other way round in the last
    a, b = (torch.tensor(x).repeat_interleave(200)[:, None] for x in ([0.0, 3.0], [1.0, 2.0]))
    assert fidelity.c2st(a, b) == 1


def test_the_same_seed_trains_the_same_classifier() -> None:
    a, b = torch.randn(60, 3), torch.randn(60, 3) + 0.3
    before = torch.get_rng_state()
    found = {fidelity.c2st(a, b, seed=seed, steps=20) for seed in (0, 0, 1, 2, 3)}
    assert 2 <= len(found) <= 4
    assert fidelity.c2st(a, b, seed=5) == fidelity.c2st(a, b, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "metric", [fidelity.frechet_distance, fidelity.mmd, fidelity.precision_recall, fidelity.c2st]
)
def test_features_that_cannot_be_compared_are_refused(metric) -> None:
    rows = torch.randn(5, 3)
    with pytest.raises(ValueError, match=r"\(5, 3\) and \(5, 4\); give rows"):
        metric(rows, torch.randn(5, 4))
    with pytest.raises(ValueError, match=r"\(5, 3\) and \(5, 3, 2\).*flatten"):
        metric(rows, torch.randn(5, 3, 2))
    with pytest.raises(ValueError, match="got 5 and 1 rows; give at least"):
        metric(rows, rows[:1])
    with pytest.raises(ValueError, match="NaN"):
        metric(rows, rows / 0)


def test_options_of_comparisons_are_checked() -> None:
    rows = torch.randn(4, 3)
    with pytest.raises(ValueError, match="k=0; k must be a whole number, at least 1"):
        fidelity.precision_recall(rows, rows, k=0)
    with pytest.raises(ValueError, match="4 and 4 rows; give at least 5"):
        fidelity.precision_recall(rows, rows, k=4)
    with pytest.raises(ValueError, match="bandwidth 0: it must be above 0"):
        fidelity.mmd(rows, rows, 0.0)
    with pytest.raises(ValueError, match="bandwidth 0: most rows are equal"):
        fidelity.mmd(torch.ones(3, 2), torch.ones(3, 2))
    with pytest.raises(ValueError, match="4 and 5 rows; give as many of both"):
        fidelity.c2st(rows, torch.randn(5, 3))
    with pytest.raises(ValueError, match="steps=0"):
        fidelity.c2st(rows, rows, steps=0)


def test_modes_are_found_by_a_tenth_of_their_share() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    rows = torch.cat([centres[0].expand(60, 2), centres[1].expand(37, 2), centres[2].expand(3, 2)])
    rows[:10] += torch.tensor([3.0, 0.0])
    coverage = fidelity.mode_coverage(rows, centres, 1.0)
    assert coverage.modes == 3  # of the third 3 of 100 rows, of which 2.5 are enough
    assert coverage.near == pytest.approx(0.9)
    share = torch.tensor([0.6, 0.37, 0.03], dtype=torch.float64)
    assert coverage.reverse_kl == pytest.approx(float((share * (4 * share).log()).sum()))
    assert fidelity.mode_coverage(rows[:98], centres, 1.0).modes == 2
    even = fidelity.mode_coverage(centres, centres, 1.0)
    assert even == (4, 1.0, 0.0)
    with pytest.raises(ValueError, match="radius=0"):
        fidelity.mode_coverage(rows, centres, 0.0)


def test_two_samples_are_told_apart_whatever_the_unit_of_their_values() -> None:
    a, b = torch.randn(60, 2), torch.randn(60, 2) + 2
    scores = [fidelity.c2st(unit * a, unit * b, steps=50) for unit in (1.0, 2.0**-40)]
    assert scores[0] == scores[1] > 0.8
