"""Dropout of a linear model's inputs, averaged over all masks."""

from __future__ import annotations

import itertools

import pytest
import torch

from gentext.transfer.regularization import dropout_penalty


@pytest.mark.equation("eq-pre-dropout")
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_the_penalty_is_what_all_masks_add_on_average(rate):
    generator = torch.Generator().manual_seed(0)
    x, y, w = (torch.randn(s, generator=generator).double() for s in ((2, 4), (2,), (4,)))
    mean = torch.zeros(()).double()
    for bits in itertools.product((0.0, 1.0), repeat=8):
        kept = torch.tensor(bits).double().reshape(2, 4)
        probability = (1 - rate) ** kept.sum() * rate ** (8 - kept.sum())
        mean += probability * (y - (kept * x / (1 - rate)) @ w).square().sum()
    plain = (y - x @ w).square().sum()
    torch.testing.assert_close(mean - plain, dropout_penalty(x, w, rate), rtol=1e-12, atol=1e-12)


@pytest.mark.equation("eq-pre-dropout")
def test_its_optimum_is_that_of_a_ridge_on_standardised_inputs():
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(50, 3, generator=generator).double(), torch.randn(50).double()
    x = (x - x.mean(0)) / x.std(0, correction=0)
    ridge = torch.linalg.solve(x.T @ x + 50 * 0.25 * torch.eye(3).double(), x.T @ y)
    w = ridge.clone().requires_grad_()
    loss = (y - x @ w).square().sum() + dropout_penalty(x, w, 0.2)
    (slope,) = torch.autograd.grad(loss, w)
    torch.testing.assert_close(slope, torch.zeros(3).double(), rtol=0, atol=1e-10)


def test_a_rate_of_one_is_refused():
    with pytest.raises(ValueError, match="dropout"):
        dropout_penalty(torch.ones(2, 2), torch.ones(2), 1.0)
