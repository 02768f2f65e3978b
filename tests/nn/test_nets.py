"""Shared networks against the same maps written out, and what cannot be built."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gentext.latent.autoencoder import Autoencoder
from gentext.nn.nets import (
    NETWORKS,
    Decoder,
    Encoder,
    Residual,
    mlp,
    residual_decoder,
    residual_encoder,
    stacked,
    zeros,
)

pytestmark = pytest.mark.usefixtures("float64")


def test_a_perceptron_is_linear_maps_with_silu_between_them() -> None:
    net, x = mlp(3, 2, (5, 4)), torch.randn(7, 3)
    first, _, second, _, last = net
    expected = last(F.silu(second(F.silu(first(x)))))
    torch.testing.assert_close(net(x), expected)
    assert [p.shape for p in net.parameters() if p.ndim == 2] == [(5, 3), (4, 5), (2, 4)]
    assert isinstance(mlp(3, 2, ())[0], nn.Linear)


def test_dropout_stands_after_each_activation_and_only_in_training() -> None:
    kinds = [type(layer) for layer in mlp(3, 2, (50,), dropout=0.4)]
    assert kinds == [nn.Linear, nn.SiLU, nn.Dropout, nn.Linear]
    net = stacked([nn.Identity(), nn.Identity()], 0.4)
    kept = net(torch.full((10_000,), 3.0))
    assert abs(float((kept == 0).double().mean()) - 0.4) < 4 * math.sqrt(0.24 / 10_000)
    torch.testing.assert_close(net.eval()(torch.tensor(3.0)), F.silu(torch.tensor(3.0)))


@pytest.mark.parametrize("net", NETWORKS)
def test_encoders_and_decoders_have_the_shapes_they_are_asked_for(net: str) -> None:
    shape = (3, 8, 12)
    x, context = torch.randn(5, *shape), torch.randn(5, 2)
    encoder = Encoder(shape, 7, hidden=16, net=net, context=2)
    assert encoder(x, context).shape == (5, 7)
    assert not encoder(x, context).allclose(encoder(x, context + 1))
    assert Encoder(shape, 7, hidden=16, net=net)(x).shape == (5, 7)
    assert Decoder(7, shape, hidden=16, net=net, per_value=2)(torch.randn(5, 7)).shape == (
        5,
        2,
        *shape,
    )


def test_linear_networks_are_affine() -> None:
    encoder = Encoder((2, 3), 4, hidden=1, net="linear", context=2)
    x, context = torch.randn(5, 2, 3), torch.randn(5, 2)
    expected = torch.cat([x.flatten(1), context], 1) @ encoder.head.weight.T + encoder.head.bias
    torch.testing.assert_close(encoder(x, context), expected)
    decoder = Decoder(4, (2, 3), hidden=1, net="linear", per_value=2)
    z = torch.randn(5, 4)
    expected = (z @ decoder.network.weight.T + decoder.network.bias).view(5, 2, 2, 3)
    torch.testing.assert_close(decoder(z), expected)


def test_transposed_convolutions_undo_the_shape_of_convolutions() -> None:
    for shape in ((1, 8, 8), (3, 16, 16), (1, 28, 28)):
        model = Autoencoder(shape=shape, latent=4, hidden=32, net="conv").double()
        x = torch.rand(2, *shape)
        assert model.encode(x).shape == (2, 4)
        assert model.reconstruct(x).shape == x.shape


def test_residual_networks_move_with_the_image() -> None:
    """Four pixels of the image are one place of the map, away from the edges."""
    encoder, decoder = residual_encoder(3, 5, 8), residual_decoder(5, 6, 8)
    x = torch.randn(2, 3, 32, 32)
    z = encoder(x)
    assert z.shape == (2, 5, 8, 8)
    moved = encoder(x.roll(4, 2))
    torch.testing.assert_close(moved[:, :, 3:6], z[:, :, 2:5])
    y = decoder(z)
    assert y.shape == (2, 6, 32, 32)
    torch.testing.assert_close(decoder(z.roll(1, 3))[..., 16:20], y[..., 12:16])


def test_a_residual_network_without_its_branch_is_the_identity() -> None:
    block, x = Residual(4), torch.randn(2, 4, 6, 6)
    expected = x + block.f[3](F.silu(block.f[1](F.silu(x))))
    torch.testing.assert_close(block(x), expected)
    zeros(block.f[3])
    assert block(x).equal(x)
    layer = zeros(nn.Linear(3, 2))
    assert not any(p.any() for p in layer.parameters())


@pytest.mark.parametrize(
    ("net", "shape", "hidden", "message"),
    [
        ("cnn", (1, 8, 8), 16, "unknown net 'cnn'.*linear, mlp, conv"),
        ("conv", (1, 9, 8), 16, "divisible by 4"),
        ("conv", (4,), 16, "images"),
        ("conv", (1, 8, 8), 4, "hidden >= 8"),
        ("mlp", (4,), 0, "hidden=0"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(
    net: str, shape: tuple[int, ...], hidden: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Encoder(shape, 2, hidden=hidden, net=net)
    with pytest.raises(ValueError, match=message):
        Decoder(2, shape, hidden=hidden, net=net)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, math.nan])
def test_dropout_that_is_no_share_is_refused(dropout: float) -> None:
    with pytest.raises(
        ValueError, match=f"dropout={dropout}; dropout must be at least 0 and below 1"
    ):
        mlp(2, 2, dropout=dropout)
