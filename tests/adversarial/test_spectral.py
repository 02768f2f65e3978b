"""Spectral normalisation against the SVD and PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gentext.adversarial.spectral import SpectralNorm, power_iteration, spectral_norm

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.equation("eq-gan-specnorm")
def test_power_iteration_finds_the_largest_singular_value() -> None:
    weight = torch.randn(6, 4)
    u, v = power_iteration(weight, torch.randn(6), 400)
    left, values, right = torch.linalg.svd(weight)
    assert float(u @ weight @ v) == pytest.approx(float(values[0]), abs=1e-9)
    assert abs(float(u @ left[:, 0])) == pytest.approx(1, abs=1e-9)
    assert abs(float(v @ right[0])) == pytest.approx(1, abs=1e-9)


def settled(layer: nn.Module, x: Tensor, times: int = 300) -> nn.Module:
    """The layer after many uses in training, when its estimate has come to rest."""
    layer.train()
    with torch.no_grad():
        for _ in range(times):
            layer(x)
    return layer.eval()


def test_normalised_layers_have_the_largest_singular_value_one() -> None:
    for layer, x in [
        (nn.Linear(5, 7), torch.randn(2, 5)),
        (nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8)),
        (nn.Embedding(4, 6), torch.tensor([1, 2])),
    ]:
        weight = settled(spectral_norm(layer), x).weight.detach().flatten(1)
        assert float(torch.linalg.matrix_norm(weight, 2)) == pytest.approx(1, abs=1e-6)


def test_normalised_gradients_are_those_of_pytorch() -> None:
    x = torch.randn(2, 5)
    ours, theirs = nn.Linear(5, 7), nn.Linear(5, 7)
    theirs.load_state_dict(ours.state_dict())
    spectral_norm(ours)
    nn.utils.parametrizations.spectral_norm(theirs)
    gradients = []
    for layer in (ours, theirs):
        settled(layer, x)(x).square().sum().backward()
        gradients.append(layer.parametrizations.weight.original.grad)
    torch.testing.assert_close(*gradients, atol=1e-7, rtol=1e-7)


def test_the_estimate_moves_in_training_only() -> None:
    norm = SpectralNorm(torch.randn(4, 3))
    weight, before = torch.randn(4, 3), norm.u.clone()
    norm.eval()(weight)
    assert norm.u.equal(before)
    norm.train()(weight)
    assert not norm.u.equal(before)


def test_weights_that_are_zero_are_refused() -> None:
    layer = nn.Linear(2, 3)
    nn.init.zeros_(layer.weight)
    with pytest.raises(ValueError, match=r"all 0.*draw them at random"):
        spectral_norm(layer)
