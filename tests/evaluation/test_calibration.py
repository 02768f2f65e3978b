"""Calibration against autograd, simulated classifiers whose truth is known, and hand counts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gentext.evaluation import calibration


def simulated(n: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Logits and labels that are drawn from them."""
    torch.manual_seed(seed)
    logits = 2 * torch.randn(n, classes, dtype=torch.float64)
    return logits, torch.distributions.Categorical(logits=logits).sample()


@pytest.mark.equation("eq-bert-cegrad")
@pytest.mark.parametrize("classes", [2, 5])
def test_the_gradient_is_that_of_autograd(classes: int) -> None:
    logits, y = simulated(7, classes, 0)
    logits.requires_grad_()
    (wanted,) = torch.autograd.grad(cross_entropy(logits, y, reduction="sum"), logits)
    found = calibration.cross_entropy_gradient(logits, y)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.equation("eq-bert-tempscale")
@pytest.mark.parametrize("seed", [0, 1])
def test_logits_three_times_too_large_have_a_temperature_of_three(seed: int) -> None:
    logits, y = simulated(4000, 3, seed)
    T = calibration.temperature_scale(3 * logits, y)
    assert abs(T - 3) < 0.2
    assert calibration.temperature_scale(logits, y) == pytest.approx(T / 3, rel=1e-12)
    p = (3 * logits / T).softmax(1)
    before = calibration.expected_calibration_error((3 * logits).softmax(1), y)
    assert calibration.expected_calibration_error(p, y) < 0.05 < before


@pytest.mark.equation("eq-bert-tempscale")
@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_at_the_best_temperature_the_mean_logit_is_that_of_the_labels(factor: float) -> None:
    logits, y = simulated(300, 4, 2)
    logits = factor * logits + 5
    T = calibration.temperature_scale(logits, y)
    expected = ((logits / T).softmax(1) * logits).sum(1).mean()
    wanted = logits.gather(1, y[:, None]).mean()
    torch.testing.assert_close(expected, wanted, rtol=0, atol=1e-10 * factor + 1e-14)
    losses = [cross_entropy(logits / (T * c), y) for c in (0.9, 0.99, 1.0, 1.01, 1.1)]
    assert losses[2] == min(losses)


def test_the_temperature_is_where_the_gradient_of_autograd_vanishes() -> None:
    logits, y = simulated(200, 3, 3)
    T = torch.tensor(calibration.temperature_scale(logits, y), dtype=torch.float64)
    T.requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy(logits / T, y), T)
    assert abs(float(slope)) < 1e-12


def test_there_is_no_best_temperature_of_what_is_always_right_or_no_better_than_chance() -> None:
    logits, y = simulated(50, 3, 4)
    with pytest.raises(ValueError, match="right of every example"):
        calibration.temperature_scale(logits, logits.argmax(1))
    with pytest.raises(ValueError, match="better than chance"):
        calibration.temperature_scale(logits, logits.argmin(1))
    with pytest.raises(ValueError, match="better than chance"):
        calibration.temperature_scale(torch.zeros(50, 3), y)


P = torch.tensor([0.55, 0.4, 0.2, 0.9, 0.95], dtype=torch.float64)
P = torch.stack([P, 1 - P], dim=1)
Y = torch.tensor([1, 1, 1, 0, 1])  # the first and the last are taken for class 0


@pytest.mark.equation("eq-bert-tempscale")
def test_bins_of_equal_width_hold_what_was_counted_by_hand() -> None:
    """Of ten: (.5, .6] has .55 and .6, of which one is right; (.7, .8], (.8, .9], (.9, 1] one."""
    found = calibration.reliability(P, Y, bins=10)
    assert found.counts.tolist() == [2, 1, 1, 1]
    assert found.confidence.tolist() == pytest.approx([0.575, 0.8, 0.9, 0.95])
    assert found.accuracy.tolist() == [0.5, 1, 1, 0]
    error = calibration.expected_calibration_error(P, Y, bins=10)
    assert error == pytest.approx((2 * 0.075 + 0.2 + 0.1 + 0.95) / 5, abs=1e-7)


def test_bins_of_equal_mass_hold_equal_numbers_and_keep_ties_together() -> None:
    found = calibration.reliability(P, Y, bins=2, equal="mass")
    assert found.counts.tolist() == [3, 2]
    assert found.confidence.tolist() == pytest.approx([(0.55 + 0.6 + 0.8) / 3, 0.925])
    tied = torch.tensor([[0.7, 0.3]] * 9 + [[0.2, 0.8]])
    counts = calibration.reliability(tied, torch.zeros(10).long(), bins=5, equal="mass").counts
    assert counts.tolist() == [9, 1]
    p = torch.rand(1000, 3, dtype=torch.float64).softmax(1)
    counts = calibration.reliability(p, torch.zeros(1000).long(), bins=15, equal="mass").counts
    assert sorted(counts.tolist()) == [66] * 5 + [67] * 10


@pytest.mark.parametrize("equal", ["width", "mass"])
def test_one_bin_is_the_difference_of_the_means(equal: str) -> None:
    logits, y = simulated(500, 4, 5)
    p = logits.softmax(1)
    found = calibration.expected_calibration_error(p, y, bins=1, equal=equal)
    wanted = float((p.argmax(1) == y).double().mean() - p.amax(1).mean())
    assert found == pytest.approx(abs(wanted), abs=1e-12)


def test_the_error_of_a_calibrated_classifier_is_that_of_chance() -> None:
    """Each bin's gap is about normal, so its mean absolute value is sd √(2/π)."""
    logits, y = simulated(40_000, 3, 6)
    p = logits.softmax(1)
    confidence, _, counts = calibration.reliability(p, y, bins=10)
    sd = (counts * confidence * (1 - confidence)).sqrt() / counts.sum()
    expected, spread = float(sd.sum()) * math.sqrt(2 / math.pi), float(sd.square().sum()) ** 0.5
    found = calibration.expected_calibration_error(p, y, bins=10)
    assert abs(found - expected) < 4 * spread * math.sqrt(1 - 2 / math.pi)


def test_half_precision_is_counted_in_single() -> None:
    logits, y = simulated(3000, 3, 7)
    p = logits.softmax(1)
    exact = calibration.expected_calibration_error(p, y, bins=10)
    rough = calibration.expected_calibration_error(p.bfloat16(), y, bins=10)
    assert rough == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize(
    ("p", "given", "message"),
    [
        (torch.zeros(2, 3), {}, "logits.softmax"),
        (torch.tensor([[1.5, -0.5]] * 2), {}, "logits.softmax"),
        (torch.ones(2, 1), {}, r"shape \(2, 1\)"),
        (torch.ones(0, 2), {}, r"shape \(0, 2\)"),
        (torch.full((2, 2), 0.5), {"bins": 0}, "bins=0"),
        (torch.full((2, 2), 0.5), {"equal": "area"}, "'area'.*width, mass"),
    ],
)
def test_what_are_no_probabilities_or_bins_is_refused(p, given, message) -> None:
    with pytest.raises(ValueError, match=message):
        calibration.reliability(p, torch.zeros(len(p)).long(), **given)


def test_logits_that_are_no_numbers_are_refused() -> None:
    y = torch.tensor([0, 1])
    for function in (calibration.cross_entropy_gradient, calibration.temperature_scale):
        with pytest.raises(ValueError, match="NaN or infinite logits"):
            function(torch.full((2, 2), math.nan), y)
        with pytest.raises(ValueError, match=r"shape \(2, 1\)"):
            function(torch.ones(2, 1), y)
        with pytest.raises(ValueError, match="label 2"):
            function(torch.ones(2, 2), y + 1)
