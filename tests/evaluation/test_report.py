"""What ``evaluate`` reports of each kind of model, against hand computation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from gentext import data, metrics
from gentext.adversarial.gan import GAN, ImageGAN
from gentext.core import Model
from gentext.data import Dataset, prepared
from gentext.evaluation.classifier import Classifier
from gentext.latent.autoencoder import DenoisingAutoencoder
from gentext.latent.vae import VAE
from gentext.sequences.bert import BERT
from gentext.sequences.recurrent import RecurrentLM
from gentext.tokens.tokenizer import EOS, PAD, UNKNOWN, CharTokenizer, rows
from gentext.transfer.pretraining import Contrastive


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
    with pytest.raises(ValueError, match="got k=-1; k must be a whole number, at least 0"):
        metrics.evaluate(model, digits, limit=50, k=-1)


def test_a_loss_with_noise_is_the_same_for_the_same_seed() -> None:
    digits = data.load("digits").without_labels()
    model = DenoisingAutoencoder(shape=(1, 8, 8), latent=4, hidden=8, sigma=0.5)
    first = metrics.evaluate(model, digits, limit=20, seed=3)
    before = torch.get_rng_state()
    assert metrics.evaluate(model, digits, limit=20, seed=3) == first
    assert metrics.evaluate(model, digits, limit=20, seed=4) != first
    assert torch.equal(torch.get_rng_state(), before)


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
    digits = prepared.pixels(data.load("digits"))
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


# --- samples and data ----------------------------------------------------------------------------


def test_of_models_that_only_draw_samples_are_compared_with_the_test_examples() -> None:
    points = prepared.plane("eight-gaussians", 100)
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
    other = prepared.plane("pinwheel", 100)
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
    assert features.training
    features.eval()
    x, y = digits.test
    g = torch.Generator().manual_seed(0)
    made = torch.cat([gan.sample(len(part), part, generator=g) for part in y.split(256)])
    with torch.no_grad():
        real, fake = features.encode(x), features.encode(made)
        assert report.pop("frechet") == pytest.approx(float(metrics.frechet_distance(real, fake)))
        near = metrics.precision_recall(real, fake)._asdict()
        expected = near | {"accuracy": float(features.accuracy(made, y)), "n": len(y)}
        assert report == pytest.approx(expected)


# --- mistakes ------------------------------------------------------------------------------------


def test_a_model_in_training_is_measured_as_in_use_and_trains_on() -> None:
    digits = data.load("digits")
    model = Classifier(shape=(1, 8, 8), classes=10, channels=8, dropout=0.5)
    used = metrics.evaluate(model.eval(), digits, limit=20)
    assert metrics.evaluate(model.train(), digits, limit=20) == used
    assert all(module.training for module in model.modules())


def test_what_is_no_data_set_is_refused_with_how_to_make_one() -> None:
    model, x = VAE(shape=(1, 8, 8), latent=2, hidden=16), torch.rand(5, 1, 8, 8).round()
    for wrong, kind in ((x, "Tensor"), ((x, x), "tuple"), ("digits", "str"), (None, "NoneType")):
        with pytest.raises(ValueError, match=rf"type {kind}; give a data set.*test=\(x,\)"):
            metrics.evaluate(model, wrong)
    own = Dataset(name="own", train=(x,), test=(x,), shape=x.shape[1:])
    assert metrics.evaluate(model, own)["n"] == 5
    with pytest.raises(ValueError, match="no test examples"):
        metrics.evaluate(model, Dataset(name="own", train=(x,), test=(), shape=x.shape[1:]))


def test_a_loss_that_compares_examples_is_that_of_all_of_them_at_once() -> None:
    """One image alone has no others to be told from: its loss is 0, which says nothing."""
    torch.manual_seed(0)
    model = Contrastive(shape=(1, 8, 8), channels=8, features=8, views={})
    digits = data.load("digits").without_labels()
    report = metrics.evaluate(model, digits, limit=20)
    with torch.no_grad():
        z = normalize(model.head(model.encode(digits.test[0][:20])), dim=1).repeat(2, 1)
    likely = (z @ z.T / model.temperature).softmax(1)
    nats = [
        -float((likely[i, (i + 20) % 40] / (1 - likely[i, i])).log())  # not itself
        for i in range(40)
    ]
    assert report["loss"] == pytest.approx(sum(nats) / 40, abs=1e-5)
    assert report["guessing"] == pytest.approx(math.log(39))
    assert report["n"] == 20
