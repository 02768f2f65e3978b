"""The convolutional VAE: its codes are maps that move with the image."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gentext.core import Bound, Density, Encodes, Samples
from gentext.latent.image_vae import ImageVAE

pytestmark = pytest.mark.usefixtures("float64")


def small(**options: Any) -> ImageVAE:
    settings: dict[str, Any] = {"shape": (1, 8, 12), "channels": 3, "hidden": 8, "levels": 17}
    return ImageVAE(**(settings | options))


def test_the_maps_of_an_image_vae_are_its_codes_in_another_shape() -> None:
    """Shifting an image by four pixels shifts the map by one, away from the edges."""
    model = small(shape=(1, 32, 32)).double()
    assert model.map == (3, 8, 8)
    assert model.latent == 192
    x = torch.zeros(2, 1, 32, 32)
    x[0, 0, 12:16, 12:16] = 1
    x[1, 0, 16:20, 12:16] = 1
    first, second = model.encode(x).mean.view(2, 3, 8, 8)
    torch.testing.assert_close(second[:, 3:6], first[:, 2:5])
    assert not first[:, 3:6].allclose(first[:, 2:5])
    z = torch.randn(1, 3, 8, 8)
    p = model.decode(z.flatten(1)).base_dist
    moved = model.decode(z.roll(1, 2).flatten(1)).base_dist
    torch.testing.assert_close(moved.loc[0, 0, 16:20], p.loc[0, 0, 12:16])
    x = torch.randint(17, (4, 1, 32, 32)) / 16
    torch.testing.assert_close(
        model.elbo(x).mean(), model.elbo(x, samples=20).mean(), rtol=0.02, atol=0
    )
    colour = small(shape=(3, 8, 8)).double()
    assert colour.sample(2).shape == (2, 3, 8, 8)
    likelihood = small(likelihood="normal", scale=0.2).likelihood
    assert float(likelihood.log_scale.exp()) == pytest.approx(0.2)


@pytest.mark.parametrize("likelihood", ["logistic", "normal", "bernoulli", "continuous-bernoulli"])
def test_every_likelihood_gets_its_numbers_for_each_value(likelihood: str) -> None:
    model, x = small(likelihood=likelihood, shape=(3, 8, 12)), torch.randint(2, (5, 3, 8, 12)) / 1.0
    assert model.decoder(torch.randn(5, model.latent)).shape[1] == model.likelihood.per_value
    loss = model.loss(x)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_beta_weighs_the_divergence_alone() -> None:
    x, losses = torch.randint(17, (5, 1, 8, 12)) / 16, []
    for beta in (0.0, 1.0, 3.0):
        torch.manual_seed(1)
        model = small(beta=beta)
        losses.append(model.loss(x))
    torch.manual_seed(1)
    kl = small().elbo_terms(x)[1].mean()
    torch.testing.assert_close(losses[1] - losses[0], kl)
    torch.testing.assert_close(losses[2] - losses[0], 3 * kl)


def test_capabilities_are_those_that_exist() -> None:
    model = small()
    assert isinstance(model, Samples)
    assert isinstance(model, Bound)
    assert isinstance(model, Encodes)
    assert not isinstance(model, Density)


def test_sizes_that_make_no_maps_are_refused() -> None:
    for shape in ((1, 8, 10), (1, 9, 8)):
        with pytest.raises(ValueError, match="divisible by 4"):
            small(shape=shape)
    with pytest.raises(ValueError, match="channels=0"):
        small(channels=0)
    with pytest.raises(ValueError, match="hidden=1; hidden must be a whole number, at least 2"):
        small(hidden=1)
