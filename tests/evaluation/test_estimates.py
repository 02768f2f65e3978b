"""Means over examples against hand computation, and errors that cover the truth."""

from __future__ import annotations

import math

import pytest
import torch

from gentext.evaluation import estimates


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
