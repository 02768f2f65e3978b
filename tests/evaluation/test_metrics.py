"""Metrics against hand computation and their own uncertainty."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from gentext import data, metrics, recipes
from gentext.adversarial.gan import GAN, ImageGAN
from gentext.core import Model
from gentext.data import Dataset
from gentext.evaluation.classifier import Classifier
from gentext.latent.autoencoder import DenoisingAutoencoder
from gentext.latent.vae import VAE
from gentext.sequences.bert import BERT
from gentext.sequences.recurrent import RecurrentLM
from gentext.tokens.tokenizer import EOS, PAD, UNKNOWN, CharTokenizer, rows


def test_mean_and_error_cover_the_truth_as_often_as_they_should() -> None:
    values = torch.randn(4000, 50, dtype=torch.float64) * 3 + 1
    estimates = [metrics.mean_and_error(row) for row in values]
    inside = sum(abs(e.mean - 1) < 2 * e.se for e in estimates) / 4000
    assert abs(inside - 0.949) < 0.015  # Student's t with 49 degrees of freedom
    assert abs(estimates[0].se - float(values[0].std()) / math.sqrt(50)) < 1e-12


def test_paired_difference_is_that_of_the_differences() -> None:
    shared = torch.randn(500, dtype=torch.float64) * 10
    a, b = shared + 1 + torch.randn(500), shared + torch.randn(500)
    paired = metrics.paired_difference(a, b)
    assert abs(paired.mean - float(a.mean() - b.mean())) < 1e-12
    variance = float(a.var() + b.var() - 2 * torch.cov(torch.stack([a, b]))[0, 1])
    assert abs(paired.se - math.sqrt(variance / 500)) < 1e-12
    assert paired.se < 0.2 * metrics.mean_and_error(a).se


def test_evaluate_reports_what_the_model_says_of_the_test_examples() -> None:
    digits = data.load("digits").without_labels()
    model = VAE(shape=(1, 8, 8), latent=2, hidden=16, likelihood="logistic", levels=17)
    report = metrics.evaluate(model, digits, limit=50, k=20)
    again = metrics.evaluate(model, digits, limit=50, k=20)
    assert report == again
    assert report["n"] == 50
    x = digits.test[0][:50]
    with torch.no_grad():
        many = torch.stack([model.elbo(x).mean() for _ in range(300)])
    assert abs(report["elbo"] - float(many.mean())) < 5 * float(many.std())
    assert report["iw_bound"] > report["elbo"]
    expected = -report["elbo"] / (64 * math.log(2))
    assert abs(report["elbo_bits_per_dim"] - expected) < 1e-5
    short = metrics.evaluate(model, digits, limit=50, k=0)
    assert short["elbo"] == report["elbo"]
    assert not any("iw_bound" in name for name in short)
    with pytest.raises(ValueError, match="got k=-1 samples; give at least 1, or 0"):
        metrics.evaluate(model, digits, limit=50, k=-1)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="dims must be at least 1, but got 0"):
        metrics.bits_per_dim(torch.zeros(3), 0)
    with pytest.raises(ValueError, match="at least 2 values, but got 1"):
        metrics.mean_and_error(torch.zeros(1))
    with pytest.raises(ValueError, match="3 and 4 values"):
        metrics.paired_difference(torch.zeros(3), torch.zeros(4))


# --- texts ---------------------------------------------------------------------------------------

LETTERS = CharTokenizer("abc")  # tokens 4, 5, 6
TABLE = torch.tensor([0.05, 0.05, 0.2, 0.1, 0.3, 0.2, 0.1])  # what every token follows


def texts(test: tuple[Tensor, ...]) -> Dataset:
    return Dataset(name="own", train=test, test=test, shape=test[0].shape[1:], tokenizer=LETTERS)


class Memoryless(RecurrentLM):
    """Draws every token from TABLE."""

    def logits(self, tokens: Tensor) -> Tensor:
        return TABLE.log().expand(*tokens.shape, -1)


@pytest.mark.parametrize("pad", [PAD, None])
def test_perplexity_counts_tokens_and_bits_count_characters(pad: int | None) -> None:
    test = rows(LETTERS, ["ab", "c", "aaa"], 4)
    report = metrics.evaluate(Memoryless(vocab_size=7, hidden=2, pad=pad), texts((test,)))
    tokens = [4, 5, EOS, 6, EOS, 4, 4, 4, EOS] + ([PAD] * 3 if pad is None else [])
    nats = -sum(math.log(TABLE[t]) for t in tokens)
    assert report["perplexity"] == pytest.approx(math.exp(nats / len(tokens)), rel=1e-5)
    assert report["bits_per_char"] == pytest.approx(nats / math.log(2) / 6, rel=1e-5)
    assert report["log_prob"] == pytest.approx(-nats / 3, rel=1e-5)
    assert report["n"] == 3
    assert "log_prob_bits_per_dim" not in report


def test_pixels_are_measured_in_bits_for_each_of_them() -> None:
    digits = recipes.pixels(data.load("digits"))
    model = RecurrentLM(vocab_size=18, hidden=2, bos=17)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)  # all 18 tokens are as probable
    report = metrics.evaluate(model, digits, limit=10)
    assert report["log_prob_bits_per_dim"] == pytest.approx(math.log2(18), rel=1e-5)
    assert "perplexity" not in report


def test_masked_models_have_a_pseudo_likelihood() -> None:
    test = rows(LETTERS, ["ab", "c"], 4)
    model = BERT(vocab_size=7, context=4, layers=1, heads=1, width=4, pad=PAD)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    model.bias.data = TABLE.log()  # and the context says nothing
    report = metrics.evaluate(model, texts((test,)))
    nats = -sum(math.log(TABLE[t]) for t in [4, 5, EOS, 6, EOS])
    assert report["pseudo_perplexity"] == pytest.approx(math.exp(nats / 5), rel=1e-5)
    assert report["pseudo_log_prob"] == pytest.approx(-nats / 2, rel=1e-5)
    assert not report.keys() & {"perplexity", "log_prob", "bits_per_char"}


class Spells(Model):
    """Translates by adding one to every letter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def translate(self, source: Tensor) -> Tensor:
        return torch.where(source > UNKNOWN, source + 1, source)


def test_translations_are_compared_with_the_references() -> None:
    source, target = (rows(LETTERS, part, 3) for part in (["a", "b", "ab"], ["b", "c", "bb"]))
    report = metrics.evaluate(Spells(), texts((source, target)))
    assert report["exact"] == pytest.approx(2 / 3)
    assert report["n"] == 3
    assert metrics.evaluate(Spells(), texts((source, target)), limit=2)["exact"] == 1


@pytest.mark.parametrize(
    ("made", "wanted"),
    [("a b c d e", "a b c d f"), ("春眠不觉晓", "春眠不觉晚")],
)
def test_bleu_is_the_geometric_mean_of_the_precisions(made: str, wanted: str) -> None:
    """Words of English and characters of Chinese; 4/5, 3/4, 2/3, 1/2 of the n-grams are found."""
    scores = metrics.translation_scores([made], [wanted])
    assert scores["bleu"] == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert scores["exact"] == 0
    short = metrics.translation_scores([made[:7] if " " in made else made[:4]], [wanted])
    assert short["bleu"] == pytest.approx(100 * math.exp(1 - 5 / 4))  # all found, but too few
    assert metrics.translation_scores([wanted], [wanted])["chrf"] == pytest.approx(100)


def test_chrf_is_the_f2_of_characters() -> None:
    """Of "ab" and "abc": precisions 1, recalls 2/3 and 1/2 of one and two characters."""
    orders = [5 * p * r / (4 * p + r) for p, r in ((1, 2 / 3), (1, 1 / 2))]
    found = metrics.translation_scores(["ab"], ["abc"])["chrf"]
    precision, recall = 1, (2 / 3 + 1 / 2) / 2  # sacrebleu averages these before it takes F2
    assert found == pytest.approx(100 * 5 * precision * recall / (4 * precision + recall))
    assert min(orders) < found / 100 < max(orders)


@pytest.mark.parametrize(("made", "wanted"), [(["a"], ["a", "b"]), ([], [])])
def test_scores_need_pairs(made: list[str], wanted: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"{len(made)} translations for {len(wanted)} ref"):
        metrics.translation_scores(made, wanted)


def test_a_loss_with_noise_is_the_same_for_the_same_seed() -> None:
    digits = data.load("digits").without_labels()
    model = DenoisingAutoencoder(shape=(1, 8, 8), latent=4, hidden=8, sigma=0.5)
    first = metrics.evaluate(model, digits, limit=20, seed=3)
    before = torch.get_rng_state()
    assert metrics.evaluate(model, digits, limit=20, seed=3) == first
    assert metrics.evaluate(model, digits, limit=20, seed=4) != first
    assert torch.equal(torch.get_rng_state(), before)


# --- samples and data ----------------------------------------------------------------------------


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
    a, b = (rows_of(*law) for law in zip(means, covs, strict=True))
    assert a.T.cov().view(d, d).allclose(covs[0])
    cross = torch.from_numpy(sqrtm((covs[0] @ covs[1]).numpy()).real.copy())  # as it is defined
    expected = (means[0] - means[1]).square().sum() + (covs[0] + covs[1] - 2 * cross).trace()
    assert float(metrics.frechet_distance(a, b)) == pytest.approx(float(expected), rel=1e-8)
    assert metrics.frechet_distance(b, a).allclose(metrics.frechet_distance(a, b))
    assert float(metrics.frechet_distance(a, a)) == pytest.approx(0, abs=1e-8)
    moved = metrics.frechet_distance(a, a.float() + 3)
    assert float(moved) == pytest.approx(9 * d, rel=1e-5)


def test_the_frechet_distance_in_one_dimension_is_that_of_means_and_deviations() -> None:
    a = rows_of(torch.tensor([0.0]).double(), torch.tensor([[1.0]]).double())
    b = rows_of(torch.tensor([1.0]).double(), torch.tensor([[4.0]]).double())
    assert float(metrics.frechet_distance(a, b)) == pytest.approx(1 + (2 - 1) ** 2)


def test_the_frechet_distance_is_the_cost_of_the_optimal_map() -> None:
    """x -> A x with A = Σ_a^-½ (Σ_a^½ Σ_b Σ_a^½)^½ Σ_a^-½ carries one Gaussian to the other."""
    cov_a, cov_b = covariance(3), covariance(3)
    a = rows_of(torch.zeros(3).double(), cov_a)
    inverse = torch.linalg.inv(root(cov_a))
    moved = a @ (inverse @ root(root(cov_a) @ cov_b @ root(cov_a)) @ inverse)
    assert moved.T.cov().allclose(cov_b)
    cost = (a - moved).square().sum() / (len(a) - 1)
    assert float(metrics.frechet_distance(a, moved)) == pytest.approx(float(cost), rel=1e-8)


def test_covariances_may_be_singular() -> None:
    """Fewer rows than columns, and columns that never change."""
    a, b = torch.randn(5, 20, dtype=torch.float64), torch.randn(4, 20, dtype=torch.float64)
    a[:, 3] = b[:, 3] = 1.0
    wide = sqrtm((a.T.cov() @ b.T.cov() + 1e-14 * torch.eye(20)).numpy()).real.trace()
    expected = (a.mean(0) - b.mean(0)).square().sum() + a.T.cov().trace() + b.T.cov().trace()
    found = float(metrics.frechet_distance(a, b))
    assert found == pytest.approx(float(expected) - 2 * wide, abs=1e-4)
    assert float(metrics.frechet_distance(torch.ones(2, 3), torch.zeros(3, 3))) == 3


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
    assert float(metrics.mmd(a, b, 1.0)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rows", [3, 1024])
def test_mmd_is_that_of_a_loop_over_pairs(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr("gentext.evaluation.fidelity.ROWS", rows)
    a, b = torch.randn(7, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64) + 1
    found = float(metrics.mmd(a, b, 1.7))
    assert found == pytest.approx(pairwise_mmd(a, b, 1.7), rel=1e-9)
    distances = sorted(float((x - y).norm()) for x, y in combinations(torch.cat([a, b]), 2))
    median = distances[(len(distances) - 1) // 2]
    assert float(metrics.mmd(a, b)) == pytest.approx(pairwise_mmd(a, b, median), rel=1e-9)


def test_mmd_has_no_bias() -> None:
    """Of equal laws, and of N(0, 1) and N(1, 2²): E k(x, y) is known where x − y is Gaussian."""

    def mean_kernel(shift: float, variance: float, s: float = 1.5) -> float:
        v = s * s + variance
        return s / math.sqrt(v) * math.exp(-(shift**2) / (2 * v))

    expected = mean_kernel(0, 2) + mean_kernel(0, 8) - 2 * mean_kernel(1, 5)
    for shift, scale, truth in ((0.0, 1.0, 0.0), (1.0, 2.0, expected)):
        found = torch.stack(
            [
                metrics.mmd(torch.randn(6, 1), shift + scale * torch.randn(4, 1), 1.5)
                for _ in range(2000)
            ]
        )
        estimate = metrics.mean_and_error(found)
        assert abs(estimate.mean - truth) < 4 * estimate.se
        assert found.min() < 0  # as without bias it must be, at times


def test_the_median_distance_of_many_rows_is_that_of_some_from_all_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = torch.randn(600, 2), torch.randn(600, 2) + 4
    exact = float(metrics.mmd(a, b))
    monkeypatch.setattr("gentext.evaluation.fidelity.MEDIAN", 300)
    assert float(metrics.mmd(a, b)) == pytest.approx(exact, rel=0.02)


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
    found = metrics.precision_recall(real, made, k)
    expected = (loop_share(made, real, k), loop_share(real, made, k))
    assert found == pytest.approx(expected)
    assert found.precision == found[0]
    assert 0 < min(found) < max(found) < 1


def test_precision_and_recall_of_sets_by_hand() -> None:
    line = torch.arange(8.0)[:, None]
    assert metrics.precision_recall(line, line, k=1) == (1, 1)
    assert metrics.precision_recall(line, line + 100, k=1) == (0, 0)
    # the samples are those of one of two groups; each reaches 1 as k = 1
    two = torch.cat([line, line + 100])
    assert metrics.precision_recall(two, line, k=1) == (1, 0.5)
    assert metrics.precision_recall(line, two, k=1) == (0.5, 1)
    # 9 is 2 away from the last real row, which reaches 1 with one neighbour and 2 with two
    made = torch.tensor([[9.0], [8.9], [0.0], [0.1]])
    assert metrics.precision_recall(line, made, k=1).precision == 0.5
    assert metrics.precision_recall(line, made, k=2).precision == 1


def test_a_classifier_tells_gaussians_apart_as_well_as_can_be() -> None:
    """The best accuracy is ½ + ½ TV = Φ(δ/2)."""
    for shift, best in ((0.0, 0.5), (1.0, 0.6915), (3.0, 0.9332)):
        a, b = torch.randn(1500, 2), torch.randn(1500, 2)
        b[:, 0] += shift
        assert metrics.c2st(a, b) == pytest.approx(best, abs=4 * math.sqrt(0.25 / 3000))
    assert metrics.c2st(torch.randn(500, 4), 3 * torch.randn(500, 4)) > 0.8  # no line does this


def test_a_classifier_is_tested_on_rows_that_it_has_not_seen() -> None:
    """With more columns than rows it could learn all of them by heart."""
    found = [metrics.c2st(torch.randn(100, 200), torch.randn(100, 200)) for _ in range(5)]
    assert abs(sum(found) / 5 - 0.5) < 4 * math.sqrt(0.25 / 1000)
    # the two sides of the first rows are the other way round in the last
    a, b = (torch.tensor(x).repeat_interleave(200)[:, None] for x in ([0.0, 3.0], [1.0, 2.0]))
    assert metrics.c2st(a, b) == 1


def test_the_same_seed_trains_the_same_classifier() -> None:
    a, b = torch.randn(60, 3), torch.randn(60, 3) + 0.3
    before = torch.get_rng_state()
    found = {metrics.c2st(a, b, seed=seed, steps=20) for seed in (0, 0, 1, 2, 3)}
    assert 2 <= len(found) <= 4
    assert metrics.c2st(a, b, seed=5) == metrics.c2st(a, b, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "metric", [metrics.frechet_distance, metrics.mmd, metrics.precision_recall, metrics.c2st]
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
    with pytest.raises(ValueError, match="k=0; a row needs at least one"):
        metrics.precision_recall(rows, rows, k=0)
    with pytest.raises(ValueError, match="4 and 4 rows; give at least 5"):
        metrics.precision_recall(rows, rows, k=4)
    with pytest.raises(ValueError, match="bandwidth 0: it must be above 0"):
        metrics.mmd(rows, rows, 0.0)
    with pytest.raises(ValueError, match="bandwidth 0: most rows are equal"):
        metrics.mmd(torch.ones(3, 2), torch.ones(3, 2))
    with pytest.raises(ValueError, match="4 and 5 rows; give as many of both"):
        metrics.c2st(rows, torch.randn(5, 3))


def test_modes_are_found_by_a_tenth_of_their_share() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    rows = torch.cat([centres[0].expand(60, 2), centres[1].expand(37, 2), centres[2].expand(3, 2)])
    rows[:10] += torch.tensor([3.0, 0.0])
    coverage = metrics.mode_coverage(rows, centres, 1.0)
    assert coverage.modes == 3  # of the third 3 of 100 rows, of which 2.5 are enough
    assert coverage.near == pytest.approx(0.9)
    share = torch.tensor([0.6, 0.37, 0.03], dtype=torch.float64)
    assert coverage.reverse_kl == pytest.approx(float((share * (4 * share).log()).sum()))
    assert metrics.mode_coverage(rows[:98], centres, 1.0).modes == 2
    even = metrics.mode_coverage(centres, centres, 1.0)
    assert even == (4, 1.0, 0.0)
    with pytest.raises(ValueError, match="radius=0"):
        metrics.mode_coverage(rows, centres, 0.0)


def test_of_models_that_only_draw_samples_are_compared_with_the_test_examples() -> None:
    points = recipes.plane("eight-gaussians", 100)
    gan = GAN(shape=(2,), latent=2, hidden=8, layers=1).eval()
    report = metrics.evaluate(gan, points, seed=3)
    drawn = gan.sample(2000, generator=torch.Generator().manual_seed(3))
    assert len(points.test[0]) == report.pop("n") == 2000
    parts = torch.cat(
        [
            gan.sample(k, generator=g)
            for g in [torch.Generator().manual_seed(3)]
            for k in [256] * 7 + [208]
        ]
    )
    assert drawn.shape == parts.shape
    assert report == metrics.mode_coverage(parts, *points.modes)._asdict()
    other = recipes.plane("pinwheel", 100)
    g = torch.Generator().manual_seed(0)
    parts = torch.cat([gan.sample(k, generator=g) for k in [256] * 7 + [208]])
    expected = {"mmd": float(metrics.mmd(other.test[0], parts)), "n": 2000}
    assert metrics.evaluate(gan, other) == expected


def test_samples_of_images_are_compared_in_the_features_of_a_classifier() -> None:
    digits = data.load("digits")
    networks = {"generator": "dcgan", "critic": "dcgan", "channels": 8}
    gan = ImageGAN(shape=(1, 8, 8), latent=4, classes=10, **networks).eval()
    features = Classifier(shape=(1, 8, 8), classes=10, channels=8, features=6, dropout=0.5)
    assert features.training
    report = metrics.evaluate(gan, digits, features=features)
    x, y = digits.test
    g = torch.Generator().manual_seed(0)
    made = torch.cat([gan.sample(len(part), part, generator=g) for part in y.split(256)])
    with torch.no_grad():
        real, fake = features.encode(x), features.encode(made)
        assert report.pop("frechet") == pytest.approx(float(metrics.frechet_distance(real, fake)))
        near = metrics.precision_recall(real, fake)._asdict()
        expected = near | {"accuracy": float(features.accuracy(made, y)), "n": len(y)}
        assert report == pytest.approx(expected)
