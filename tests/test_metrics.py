"""Metrics against hand computation and their own uncertainty."""

from __future__ import annotations

import math

import pytest
import torch

from gentext import data, metrics
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
