"""Metrics against hand computation and their own uncertainty."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gentext import data, metrics, recipes
from gentext.autoencoder import DenoisingAutoencoder
from gentext.bert import BERT
from gentext.core import Model
from gentext.data import Dataset
from gentext.recurrent import RecurrentLM
from gentext.tokenizer import EOS, PAD, UNKNOWN, CharTokenizer, rows
from gentext.vae import VAE


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
