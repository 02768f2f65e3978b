"""Distributions of pixels against torch's categorical one and enumeration of the grey levels."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from gentext.sequences.pixel_likelihoods import PIXEL_LIKELIHOODS, CategoricalImage, GreyLevels

pytestmark = pytest.mark.usefixtures("float64")


def test_grey_levels_are_a_categorical_distribution() -> None:
    logits = torch.randn(2, 3, 5)
    p, peer = GreyLevels(logits), torch.distributions.Categorical(logits=logits)
    k = torch.randint(5, (2, 3))
    torch.testing.assert_close(p.log_prob(k / 4), peer.log_prob(k))
    torch.testing.assert_close(p.mean, (peer.probs * torch.arange(5.0)).sum(-1) / 4)
    draws = p.sample((4000,))
    assert draws.shape == (4000, 2, 3)
    assert (draws.mean(0) - p.mean).abs().max() < 4.5 * float(draws.std(0).max()) / math.sqrt(4000)


def test_a_categorical_image_is_the_softmax_of_its_channels() -> None:
    logits, k = torch.randn(2, 4, 3, 5), torch.randint(4, (2, 3, 5))
    p = CategoricalImage((3, 5), 4)(logits)
    expected = -F.cross_entropy(logits, k, reduction="none").sum((1, 2))
    torch.testing.assert_close(p.log_prob(k / 3), expected)
    assert p.event_shape == (3, 5)


@pytest.mark.parametrize("name", PIXEL_LIKELIHOODS)
def test_the_probabilities_of_all_levels_sum_to_one(name: str) -> None:
    likelihood = PIXEL_LIKELIHOODS[name]((1,), 9)
    parameters = torch.randn(6, likelihood.per_value, 1)
    p = likelihood(parameters)
    log_p = torch.stack([p.log_prob(torch.full((6, 1), k / 8)) for k in range(9)])
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones(6), atol=1e-12, rtol=0)


def test_five_logistics_are_mixed() -> None:
    assert PIXEL_LIKELIHOODS["logistic"]((1,), 9).components == 5


def test_another_number_of_logits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"CategoricalImage needs .*\(n, 4, 2\).*\(3, 5, 2\)"):
        CategoricalImage((2,), 4)(torch.zeros(3, 5, 2))
