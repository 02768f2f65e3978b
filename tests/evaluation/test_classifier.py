"""Classifiers against one that is known exactly, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gentext import data, metrics, recipes
from gentext.evaluation.classifier import NOISE, Classifier, NoisyClassifier
from gentext.evaluation.report import PART
from gentext.training.config import TrainConfig
from gentext.training.train import fit

SHAPE = (1, 8, 8)


def classifier(**arguments) -> Classifier:
    return Classifier(**{"shape": SHAPE, "classes": 3, "channels": 8, "features": 5, **arguments})


def stripes(n: int) -> tuple[Tensor, Tensor]:
    """Images whose class 0, 1 or 2 is which third of them is bright."""
    y = torch.arange(n) % 3
    x = 0.5 * torch.rand(n, *SHAPE)
    for k in range(3):
        x[y == k, :, :, 3 * k : 3 * k + 2] += 0.5
    return x, y


@torch.no_grad()
def test_the_loss_and_the_accuracy_are_those_of_the_probabilities() -> None:
    model, (x, y) = classifier().eval(), stripes(30)
    p = model.logits(x).softmax(1)
    nats = [-math.log(float(p[i, y[i]])) for i in range(30)]
    assert float(model.loss(x, y)) == pytest.approx(sum(nats) / 30, rel=1e-5)
    best = [max(range(3), key=lambda k, i=i: float(p[i, k])) for i in range(30)]
    assert model.predict(x).tolist() == best
    right = sum(a == b for a, b in zip(best, y.tolist(), strict=True))
    assert float(model.accuracy(x, y)) == pytest.approx(right / 30)


def test_training_finds_the_classes() -> None:
    model = classifier()
    fit(model, stripes(300), TrainConfig(steps=60, lr=1e-2), progress=False)
    assert model.eval().accuracy(*stripes(99)) > 0.95


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 9, 16), (3, 32, 32)])
def test_codes_are_what_the_last_layer_sees(shape: tuple[int, ...]) -> None:
    model, x = classifier(shape=shape), torch.rand(4, *shape)
    codes = model.encode(x)
    assert codes.shape == (4, 5)
    torch.testing.assert_close(model.last(codes), model.logits(x))
    torch.testing.assert_close(model.encode(x[:1]), codes[:1])  # also in training


def test_a_mirror_turns_half_of_the_images_and_only_in_training() -> None:
    model, (x, y) = classifier(mirror=True), stripes(300)
    seen: list[Tensor] = []
    model.features.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.loss(x, y)
    turned = (seen[0] == x.flip(-1)).flatten(1).all(1)
    assert torch.equal(torch.where(turned[:, None, None, None], x.flip(-1), x), seen[0])
    assert 110 < int(turned.sum()) < 190
    model.eval().loss(x, y)
    assert torch.equal(seen[1], x)


@torch.no_grad()
def test_evaluate_reports_the_accuracy_of_all_examples() -> None:
    digits = data.load("digits")
    model = Classifier(shape=SHAPE, classes=10, channels=8).eval()
    model.last.bias.data[3] = 2.0
    report = metrics.evaluate(model, digits)
    x, y = digits.test
    assert len(y) > PART
    right = (model.logits(x).argmax(1) == y).sum()
    assert report["accuracy"] == pytest.approx(int(right) / len(y))
    assert report["loss"] == pytest.approx(float(model.loss(x, y)), rel=1e-4)
    assert metrics.evaluate(model, digits, limit=7)["accuracy"] * 7 == pytest.approx(
        int((model.predict(x[:7]) == y[:7]).sum())
    )


# --- noise ---------------------------------------------------------------------------------------


def test_class_log_prob_is_that_of_a_distribution_and_sees_the_level() -> None:
    model = NoisyClassifier(shape=SHAPE, classes=3, channels=8).eval()
    x_t, level = torch.randn(6, *SHAPE), torch.tensor(0.5)
    each = [model.class_log_prob(x_t, torch.full((6,), y), level) for y in range(3)]
    torch.testing.assert_close(torch.stack(each).exp().sum(0), torch.ones(6))
    levels = torch.tensor([0.5, 0.5, 0.5, -4.0, -4.0, -4.0])
    both = model.class_log_prob(x_t, torch.zeros(6, dtype=torch.long), levels)
    torch.testing.assert_close(both[:3], each[0][:3])
    assert not torch.isclose(both[3:], each[0][3:]).any()


def test_levels_beyond_those_of_the_training_are_the_last_of_them() -> None:
    model, x = NoisyClassifier(shape=SHAPE, classes=3, channels=8).eval(), torch.randn(2, *SHAPE)
    for level in (math.inf, -math.inf):  # the data themselves have an infinite log SNR
        last = torch.tensor(math.copysign(NOISE, level))
        assert torch.equal(model.logits(x, torch.tensor(level)), model.logits(x, last))


def test_the_noise_of_the_loss_has_the_level_that_the_network_is_told() -> None:
    """Where x = ½ the image is 0, so x_t is noise of variance 1/(1 + SNR) alone; elsewhere ±α."""
    model = NoisyClassifier(shape=SHAPE, classes=3, channels=8)
    seen: list[Tensor] = []
    model.features.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x, y = torch.full((6000, *SHAPE), 0.5), torch.zeros(6000, dtype=torch.long)
    x[:, :, :, 4:] = 1.0
    model.loss(x, y)
    x_t, told = seen[0][:, :1], seen[0][:, 1:]
    log_snr = NOISE * told[:, 0, 0, 0]
    assert (told == told[:, :, :1, :1]).all()
    assert log_snr.abs().max() <= NOISE
    for share in (0.1, 0.5, 0.9):  # uniform
        assert abs(float(log_snr.quantile(share)) - NOISE * (2 * share - 1)) < 0.4
    for low in (-9.0, -3.0, 0.0, 3.0, 6.0):
        here = (log_snr > low) & (log_snr < low + 1)
        alpha, sigma_2 = torch.sigmoid(log_snr[here]).sqrt(), torch.sigmoid(-log_snr[here])
        error = (sigma_2 / here.sum() / 32).sqrt().max()
        dark, bright = x_t[here][..., :4], x_t[here][..., 4:]
        assert float(dark.square().mean() / sigma_2.mean()) == pytest.approx(1, abs=0.05)
        assert abs(float(bright.mean() - alpha.mean())) < 5 * float(error)


def test_trained_on_two_images_it_is_the_exact_posterior() -> None:
    """Of x_0 = ±μ with equal odds the log-odds given x_t are 2αμ·x_t/σ²."""
    model = NoisyClassifier(shape=SHAPE, classes=2, channels=8, features=16)
    mu = torch.zeros(1, *SHAPE)
    mu[..., :2, :2] = 0.5
    x, y = torch.cat([(1 + mu) / 2, (1 - mu) / 2]).repeat(256, 1, 1, 1), torch.arange(512) % 2
    fit(model, (x, y), TrainConfig(steps=500, lr=5e-3, schedule="cosine"), progress=False)
    model.eval().requires_grad_(False)
    for log_snr in (-2.0, 0.0, 2.0):
        level = torch.tensor(log_snr)
        alpha, sigma = torch.sigmoid(level).sqrt(), torch.sigmoid(-level).sqrt()
        x_t = alpha * (2 * x - 1) + sigma * torch.randn(len(x), *SHAPE)
        exact = (2 * alpha * mu * x_t / sigma**2).sum((1, 2, 3)).sigmoid()
        found = model.class_log_prob(x_t, torch.zeros_like(y), level).exp()
        assert float((found - exact).abs().mean()) < 0.08


def test_the_gradient_of_guidance_reaches_the_image() -> None:
    model, x_t = NoisyClassifier(shape=SHAPE, classes=3, channels=8), torch.randn(2, *SHAPE)
    x_t.requires_grad_()
    y = torch.tensor([0, 2])
    (slope,) = torch.autograd.grad(model.class_log_prob(x_t, y, torch.tensor(0.0)).sum(), x_t)
    assert slope.shape == x_t.shape
    assert slope.abs().sum((1, 2, 3)).min() > 0


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Classifier, NoisyClassifier])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (64,)}, r"got shape \(64,\); give images"),
        ({"shape": (1, 7, 7)}, r"got shape \(1, 7, 7\).*longer than 7"),
        ({"classes": 1}, "classes=1; classes must be a whole number, at least 2"),
        ({"channels": 12}, "channels=12; give a multiple of 8"),
        ({"channels": 0}, "channels=0; give a multiple of 8"),
        ({"features": 0}, "features=0"),
        ({"dropout": 1.0}, "dropout=1"),
    ],
)
def test_sizes_that_make_no_network_are_refused(kind, arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**{"shape": SHAPE, "classes": 3, **arguments})


@pytest.mark.parametrize("name", ["classifier_digits", "noisy_classifier_fashion"])
def test_images_and_labels_that_do_not_fit_are_refused(name: str) -> None:
    model, dataset, _ = recipes.build(name, "quick")
    x, y = (t[:4] for t in dataset.train)
    with pytest.raises(ValueError, match=r"from 0 to 2, but .* \[0, 1\]"):
        model.loss(2 * x / x.max(), y)
    with pytest.raises(ValueError, match="this model was built for"):
        model.loss(x[..., 1:], y)
    with pytest.raises(ValueError, match="got label 10"):
        fit(model, (x, y.clamp(min=10)), TrainConfig(steps=1), progress=False)


def test_codes_are_of_images_in_the_unit_interval() -> None:
    with pytest.raises(ValueError, match=r"from -1 to 1, but .* \[0, 1\]"):
        classifier().encode(torch.linspace(-1, 1, 64).view(1, *SHAPE))
