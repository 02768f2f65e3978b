"""Networks of GANs: slopes against their bound, labels, shapes, bad sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gentext.adversarial.gan_nets import (
    ConvCritic,
    ConvGenerator,
    FourierFeatures,
    MLPCritic,
    MLPGenerator,
    ResidualCritic,
    ResidualGenerator,
    largest_slope,
)
from gentext.adversarial.spectral import spectral_norm

pytestmark = pytest.mark.usefixtures("float64")

IMAGES = {"dcgan": (ConvGenerator, ConvCritic), "residual": (ResidualGenerator, ResidualCritic)}


@pytest.mark.equation("eq-gan-specnorm")
def test_no_perceptron_is_steeper_than_the_product_of_its_layers() -> None:
    critic = MLPCritic((5,), hidden=8, layers=3)
    limit = largest_slope(critic)
    with torch.no_grad():
        for _ in range(30):
            x, y = torch.randn(2, 1, 5)
            assert (critic(x) - critic(y)).abs() <= limit * (x - y).norm()
    expected = 1.0
    for layer in [*critic.features, critic.last]:
        if isinstance(layer, nn.Linear):
            expected *= float(torch.linalg.svdvals(layer.weight.detach())[0])
    assert limit == pytest.approx(expected)


@pytest.mark.equation("eq-gan-specnorm")
def test_waves_are_as_steep_as_the_bound_says() -> None:
    """The Jacobian of x, sin(Wx), cos(Wx) has the same singular values everywhere."""
    waves = FourierFeatures(2, 6.0)
    jacobian = torch.func.jacrev(waves)(torch.randn(1, 2))[0, :, 0]
    steepest = float(torch.linalg.matrix_norm(jacobian, 2))
    assert largest_slope(waves) == pytest.approx(steepest)
    critic = MLPCritic((2,), hidden=8, layers=1, frequencies=6.0)
    with torch.no_grad():
        for _ in range(30):
            x = torch.randn(1, 2)
            y = x + 1e-4 * torch.randn(1, 2)
            assert (critic(x) - critic(y)).abs() <= largest_slope(critic) * (x - y).norm()


def test_there_is_no_bound_of_slopes_of_convolutions_and_labels() -> None:
    for critic in (ConvCritic((1, 8, 8), channels=8), MLPCritic((2,), 3)):
        with pytest.raises(ValueError, match=r"Conv2d|Embedding"):
            largest_slope(critic)


def test_layers_that_the_bound_knows_nothing_of_are_refused() -> None:
    class Hundred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(100.0))

    for layer in (nn.LayerNorm(2), nn.Conv1d(1, 1, 1), Hundred(), nn.BatchNorm1d(2, affine=False)):
        with pytest.raises(ValueError, match=rf"{type(layer).__name__}.*perceptrons"):
            largest_slope(nn.Sequential(nn.Linear(2, 2), layer))


def test_asking_for_the_bound_changes_nothing() -> None:
    critic = MLPCritic((2,), spectral=True)
    before = [t.clone() for t in critic.buffers()]
    largest_slope(critic)
    assert all(a.equal(b) for a, b in zip(before, critic.buffers(), strict=True))
    assert all(m.training for m in critic.modules())


def test_phases_and_norms_keep_their_digits_in_half_precision() -> None:
    waves, x = FourierFeatures(1, 20.0).float(), torch.randn(50, 1, dtype=torch.float32)
    layer = spectral_norm(nn.Linear(40, 30).float())
    norm = layer.parametrizations.weight[0].eval()
    weight = layer.parametrizations.weight.original
    exact = waves(x), norm.sigma(weight)
    with torch.autocast("cpu", torch.bfloat16):
        rough = waves(x), norm.sigma(weight)
    torch.testing.assert_close(rough, exact)


def test_a_normalised_critic_may_be_used_twice_before_gradients_are_taken() -> None:
    critic, x = MLPCritic((2,), spectral=True), torch.randn(4, 2)
    (critic(x).mean() - critic(x + 1).mean()).backward()
    assert critic.last.parametrizations.weight.original.grad.isfinite().all()


@pytest.mark.parametrize("side", [8, 28, 32])
@pytest.mark.parametrize("net", IMAGES)
def test_images_of_usual_sizes(net: str, side: int) -> None:
    shape = (3, side, side)
    generator, critic = IMAGES[net]
    x = generator(shape, 5, channels=8)(torch.randn(2, 5))
    assert x.shape == (2, *shape)
    assert x.abs().max() <= 1
    assert critic(shape, channels=8)(x).shape == (2,)


@pytest.mark.parametrize("net", IMAGES)
def test_labels_change_samples_and_values(net: str) -> None:
    shape = (1, 8, 8)
    generator, critic = IMAGES[net]
    z, y, other = torch.randn(2, 5), torch.tensor([0, 1]), torch.tensor([1, 0])
    make, judge = generator(shape, 5, 3, channels=8), critic(shape, 3, channels=8)
    assert not make(z, y).equal(make(z, other))
    x = make(z, y)
    h = judge.features(x)
    expected = judge.last(h)[:, 0] + (judge.embed(y) * h).sum(1) / h.shape[1] ** 0.5
    torch.testing.assert_close(judge(x, y), expected)


def test_a_residual_critic_begins_without_its_branches() -> None:
    """Each begins at 0, so that the network is a chain of averages and linear maps."""
    critic = ResidualCritic((1, 28, 28), channels=8)
    before = critic(x := torch.randn(2, 1, 28, 28))
    for name, parameter in critic.named_parameters():
        if "branch.1" in name:
            nn.init.normal_(parameter)
    torch.testing.assert_close(critic(x), before)


@pytest.mark.parametrize("frequencies", [0.0, 3.0])
def test_perceptrons_of_any_shape(frequencies: float) -> None:
    generator = MLPGenerator((2, 3), 4, hidden=16, frequencies=frequencies)
    x = generator(torch.randn(5, 4))
    assert x.shape == (5, 2, 3)
    assert MLPCritic((2, 3), hidden=16, frequencies=frequencies)(x).shape == (5,)


def test_sizes_that_cannot_be_halved_are_refused() -> None:
    for make in (lambda: ConvCritic((1, 7, 7)), lambda: ConvGenerator((1, 5, 7), 3)):
        with pytest.raises(ValueError, match=r"7, where there is nothing to halve.*'residual'"):
            make()
    assert ResidualCritic((1, 7, 7), channels=8)(torch.randn(2, 1, 7, 7)).shape == (2,)
    with pytest.raises(ValueError, match=r"channels=12.*multiple of 8"):
        ConvGenerator((1, 8, 8), 3, channels=12)
    with pytest.raises(ValueError, match=r"30 x 30.*pad"):
        ConvCritic((1, 30, 30))
    with pytest.raises(ValueError, match=r"\(c, h, w\).*\(2,\)"):
        ResidualGenerator((2,), 4)
