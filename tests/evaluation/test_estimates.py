"""Means over examples against hand computation, and errors that cover the truth."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
import torch
from scipy import stats

from gentext.evaluation import estimates, language


@pytest.mark.equation("eq-data-bpd")
@pytest.mark.parametrize("dims", [1, 3, 784])
def test_bits_per_dim_are_the_digits_that_a_code_of_the_example_needs(dims: int) -> None:
    p = torch.tensor([0.5, 2.0**-7, 0.1], dtype=torch.float64)
    found = estimates.bits_per_dim(p.log(), dims)
    assert found.tolist() == pytest.approx([1 / dims, 7 / dims, math.log2(10) / dims])


def test_an_estimate_shows_its_error() -> None:
    assert str(estimates.mean_and_error(torch.tensor([1.0, 2.0, 3.0]))) == "2.000 ± 0.577"


def test_mean_and_error_cover_the_truth_as_often_as_they_should() -> None:
    values = torch.randn(4000, 50, dtype=torch.float64) * 3 + 1
    found = [estimates.mean_and_error(row) for row in values]
    inside = sum(abs(e.mean - 1) < 2 * e.se for e in found) / 4000
    assert abs(inside - 0.949) < 0.015  # Student's t with 49 degrees of freedom
    assert abs(found[0].se - float(values[0].std()) / math.sqrt(50)) < 1e-12


def test_paired_difference_is_that_of_the_differences() -> None:
    shared = torch.randn(500, dtype=torch.float64) * 10
    a, b = shared + 1 + torch.randn(500), shared + torch.randn(500)
    paired = estimates.paired_difference(a, b)
    assert abs(paired.mean - float(a.mean() - b.mean())) < 1e-12
    variance = float(a.var() + b.var() - 2 * torch.cov(torch.stack([a, b]))[0, 1])
    assert abs(paired.se - math.sqrt(variance / 500)) < 1e-12
    assert paired.se < 0.2 * estimates.mean_and_error(a).se


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="dims=0; dims must be a whole number"):
        estimates.bits_per_dim(torch.zeros(3), 0)
    with pytest.raises(ValueError, match="at least 2 values, but got 1"):
        estimates.mean_and_error(torch.zeros(1))
    with pytest.raises(ValueError, match="3 and 4 values"):
        estimates.paired_difference(torch.zeros(3), torch.zeros(4))


def test_the_bootstrap_of_a_mean_is_that_of_all_resamples() -> None:
    """Of three values there are 27, whose means can be counted; quantiles between two of them."""
    values = torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64)
    means = torch.cartesian_prod(values, values, values).mean(1).sort().values
    for level, outside in ((0.9, 1), (0.6, 5)):  # (1 − level)/2 of 27 lies inside a step
        found = estimates.bootstrap_interval(
            values, level=level, draws=4000, generator=torch.Generator().manual_seed(0)
        )
        assert found.low == pytest.approx(float(means[outside]))
        assert found.high == pytest.approx(float(means[-1 - outside]))


def test_the_interval_of_a_mean_comes_to_the_closed_form() -> None:
    """Mean ± z sd/√N; a quantile of draws has the error √(q(1 − q)/draws)/density."""
    values = torch.randn(2000, dtype=torch.float64).exp()
    draws = 2000
    found = estimates.bootstrap_interval(
        values, level=0.9, draws=draws, generator=torch.Generator().manual_seed(0)
    )
    sd, normal = float(values.std()) / math.sqrt(2000), NormalDist()
    z = normal.inv_cdf(0.95)
    error = 4 * math.sqrt(0.05 * 0.95 / draws) / normal.pdf(z) * sd
    skew = 0.1 * sd  # of the mean, which the normal has not
    for end, sign in zip(found, (-1, 1), strict=True):
        assert abs(end - (float(values.mean()) + sign * z * sd)) < error + skew


def test_intervals_cover_the_truth_as_often_as_they_should() -> None:
    """As z√((n−1)/n) does of Student's t, within 4 standard errors; draws make them a bit rough."""
    n, sets, level = 40, 400, 0.8
    torch.manual_seed(0)
    data = torch.randn(sets, n, dtype=torch.float64)
    found = [estimates.bootstrap_interval(row, level=level, draws=300) for row in data]
    covered = sum(low < 0 < high for low, high in found) / sets
    z = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt((n - 1) / n)
    expected = 2 * stats.t.cdf(z, n - 1) - 1
    assert abs(covered - expected) < 4 * math.sqrt(expected * (1 - expected) / sets)


def test_pairs_are_resampled_together() -> None:
    """b = a − 1 leaves no doubt, though each varies by ten; a − b alone decides of noise."""
    torch.manual_seed(0)
    a = 10 * torch.randn(200, dtype=torch.float64)
    assert estimates.paired_bootstrap(a, a - 1, draws=50) == pytest.approx((1, 1, 1, 1))
    assert estimates.paired_bootstrap(a - 1, a, draws=50).better == 0
    same = estimates.paired_bootstrap(a, a, draws=50)
    assert same == (0, 0, 0, 0.5)
    b = a + torch.randn(200)
    found = estimates.paired_bootstrap(a, b, generator=torch.Generator().manual_seed(1))
    alone = estimates.bootstrap_interval(a - b, generator=torch.Generator().manual_seed(1))
    assert (found.low, found.high) == pytest.approx(alone, abs=1e-12)
    assert found.difference == pytest.approx(float((a - b).mean()), abs=1e-12)


def test_the_share_of_draws_is_the_level_at_which_a_normal_mean_is_above_0() -> None:
    gap = torch.randn(400, dtype=torch.float64)
    gap = (gap - gap.mean()) / gap.std() + 1 / math.sqrt(400)  # one standard error above 0
    found = estimates.paired_bootstrap(gap, torch.zeros(400), draws=2000)
    assert abs(found.better - NormalDist().cdf(1)) < 4 * math.sqrt(0.84 * 0.16 / 2000) + 0.01


def test_scores_of_a_corpus_are_computed_on_resampled_pairs() -> None:
    """The accuracy of pairs as a function is the mean of hits, with the same draws."""
    pairs = [("a", "a"), ("b", "a"), ("c", "c"), ("d", "d")] * 5
    hits = torch.tensor([float(a == b) for a, b in pairs])

    def accuracy(pairs: list[tuple[str, str]]) -> float:
        return sum(a == b for a, b in pairs) / len(pairs)

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    found = estimates.bootstrap_interval(pairs, accuracy, draws=200, generator=seeded())
    assert found == pytest.approx(
        estimates.bootstrap_interval(hits, draws=200, generator=seeded()), abs=1e-12
    )
    other = [(b, b) for _, b in pairs]
    better = estimates.paired_bootstrap(other, pairs, accuracy, draws=200, generator=seeded())
    assert better.difference == pytest.approx(0.25)
    again = estimates.paired_bootstrap(other, pairs, accuracy, draws=200, generator=seeded())
    assert better == again


def test_bleu_of_equal_translations_leaves_no_doubt() -> None:
    texts = ["a b c d e", "f g h i j", "k l m n o"]

    def bleu(pairs: list[tuple[str, str]]) -> float:
        return language.translation_scores(*map(list, zip(*pairs, strict=True)))["bleu"]

    exact = list(zip(texts, texts, strict=True))
    assert estimates.bootstrap_interval(exact, bleu, draws=5) == pytest.approx((100, 100))
    worse = [(text[:7], text) for text in texts]
    found = estimates.paired_bootstrap(exact, worse, bleu, draws=5)
    assert found == pytest.approx((100 * (1 - math.exp(1 - 5 / 4)),) * 3 + (1,))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"level": 1.0}, r"level=1\.0"),
        ({"draws": 0}, "draws=0"),
        ({"statistic": lambda values: math.nan}, "NaN or infinite"),
    ],
)
def test_bootstraps_that_cannot_be_are_refused(given, message) -> None:
    values = torch.zeros(3)
    with pytest.raises(ValueError, match=message):
        estimates.bootstrap_interval(values, **given)
    with pytest.raises(ValueError, match=message):
        estimates.paired_bootstrap(values, values, **given)


def test_bootstraps_need_two_values_and_pairs() -> None:
    with pytest.raises(ValueError, match="at least 2 values, but got 1"):
        estimates.bootstrap_interval(torch.zeros(1))
    for values in (torch.zeros(3, 2), torch.zeros(3).cfloat()):
        with pytest.raises(ValueError, match="one real number an example"):
            estimates.bootstrap_interval(values)
    with pytest.raises(ValueError, match="3 and 4 values"):
        estimates.paired_bootstrap(torch.zeros(3), torch.zeros(4))
