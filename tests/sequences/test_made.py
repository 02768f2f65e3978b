"""MADE: masks by autograd, the distribution by enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from gentext.core import Density, Samples
from gentext.nn.masked import made_masks
from gentext.sequences.made import MADE

pytestmark = pytest.mark.usefixtures("float64")
D = 6


@pytest.fixture
def model() -> MADE:
    model = MADE(features=D, hidden=30).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


@pytest.mark.equation("eq-ar-made")
def test_an_output_sees_exactly_the_inputs_before_it(model: MADE) -> None:
    jacobian = torch.func.jacrev(lambda x: model.logits(x[None])[0])(torch.rand(D)).detach()
    earlier = torch.ones(D, D).tril(-1).bool()
    assert (jacobian[~earlier] == 0).all()
    assert (jacobian[earlier] != 0).all()


@pytest.mark.equation("eq-ar-made")
def test_the_product_of_the_masks_counts_paths_to_earlier_inputs_only() -> None:
    first, second, last = made_masks(D, (30, 20), 2)
    paths = last @ second @ first
    assert ((paths.view(2, D, D) > 0) == torch.ones(D, D).tril(-1).bool()).all()


@pytest.mark.equation("eq-ar-made")
def test_all_binary_vectors_sum_to_one(model: MADE) -> None:
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=D)))
    assert math.isclose(float(model.log_prob(x).exp().sum().detach()), 1.0)
    torch.testing.assert_close(model.loss(x), -model.log_prob(x).mean())
    assert isinstance(model, Density)
    assert isinstance(model, Samples)


def test_samples_follow_the_model(model: MADE) -> None:
    n = 20_000
    drawn = model.sample(n, generator=torch.Generator().manual_seed(0))
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=D)))
    code = (drawn * 2.0 ** torch.arange(D - 1, -1, -1)).sum(1).long()
    p = model.log_prob(x).exp().detach()
    share = torch.bincount(code, minlength=2**D) / n
    assert ((share - p).abs() <= 4.5 * (p * (1 - p) / n).sqrt() + 1e-9).all()


def test_bad_sizes_and_values_are_refused(model: MADE) -> None:
    with pytest.raises(ValueError, match="features=0"):
        MADE(features=0)
    with pytest.raises(ValueError, match=r"values from 0 to 2"):
        model.log_prob(torch.tensor([[0.0, 0, 0, 0, 0, 2.0]]))
