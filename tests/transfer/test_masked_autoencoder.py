"""What is hidden is not seen, what is filled in is scored patch by patch, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gentext.core import Encodes, Samples
from gentext.sequences.patches import patchify
from gentext.training.config import TrainConfig
from gentext.training.train import fit
from gentext.transfer.masked_autoencoder import (
    GREY,
    MaskedAutoencoder,
    hidden_error,
    split_places,
)

SHAPE = (2, 4, 6)


def small(**options: Any) -> MaskedAutoencoder:
    given = {"shape": SHAPE, "patch": 2, "width": 16, "layers": 1, "heads": 2, "rate": 0.5}
    return MaskedAutoencoder(**given | options)


def lively(model: MaskedAutoencoder) -> MaskedAutoencoder:
    """The model in evaluation mode, whose predictions stay within (0, 1)."""
    with torch.no_grad():
        model.head.weight.mul_(0.3)
        model.head.bias.fill_(0.5)
        model.mask.normal_()
    return model.eval()


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def hidden_pixels(model: MaskedAutoencoder, x: Tensor) -> Tensor:
    """Where ``reconstruct`` hides pixels with this generator: they are exactly grey there."""
    covered, _ = model.reconstruct(x, generator=seed())
    return (covered == GREY) & (x != GREY)


# Which patches are hidden


@pytest.mark.parametrize("N", [2, 3, 16, 49])
@pytest.mark.parametrize("rate", [0.01, 0.25, 0.5, 0.75, 0.99])
def test_as_many_patches_are_hidden_as_the_rate_says(N: int, rate: float) -> None:
    visible, hidden = split_places(torch.zeros(20, N, 3), rate)
    H = min(max(round(rate * N), 1), N - 1)
    assert hidden.shape == (20, H)
    assert visible.shape == (20, N - H)
    both = torch.cat([visible, hidden], 1).sort(1).values
    assert both.equal(torch.arange(N).expand(20, -1))  # each place once


def test_every_patch_is_hidden_as_often_and_by_the_generator_alone() -> None:
    patches = torch.zeros(4000, 8, 1)
    _, hidden = split_places(patches, 0.5)
    often = torch.bincount(hidden.flatten(), minlength=8) / 4000
    assert float((often - 0.5).abs().max()) < 4 * 0.5 / 4000**0.5
    torch.manual_seed(8)
    first = split_places(patches, 0.5, seed())
    torch.manual_seed(9)
    second = split_places(patches, 0.5, seed())
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))


# What the model sees


@pytest.mark.usefixtures("float64")
def test_no_hidden_pixel_has_an_influence_on_what_is_filled_in_and_visible_ones_have() -> None:
    model, x = lively(small()), torch.rand(1, *SHAPE)
    away = hidden_pixels(model, x).flatten()

    def filled(x: Tensor) -> Tensor:
        return model.reconstruct(x, generator=seed())[1].flatten()[away]

    slopes = torch.autograd.functional.jacobian(filled, x).flatten(1)
    assert slopes[:, away].abs().max() == 0
    assert (slopes[:, ~away] != 0).double().mean() > 0.9


@pytest.mark.usefixtures("float64")
def test_visible_pixels_stay_and_hidden_ones_are_grey_or_filled_in() -> None:
    model, x = lively(small(rate=0.67)), torch.rand(5, *SHAPE)
    covered, filled = model.reconstruct(x, generator=seed())
    away = hidden_pixels(model, x)
    assert away.flatten(1).sum(1).tolist() == [4 * 2 * 4] * 5  # 4 patches of 6
    assert covered[~away].equal(x[~away])
    assert filled[~away].equal(x[~away])
    assert (filled[away] != GREY).all()
    tiles = patchify(away.double(), 2)
    assert ((tiles == 0).all(2) | (tiles == 1).all(2)).all()  # whole patches


@pytest.mark.usefixtures("float64")
def test_the_order_in_which_patches_are_read_does_not_matter() -> None:
    model, x = lively(small()), torch.rand(3, *SHAPE)
    patches = patchify(x, 2)
    visible, hidden = split_places(patches, 0.5)
    made = model._fill(patches, visible, hidden)
    order = torch.randperm(visible.shape[1])
    torch.testing.assert_close(model._fill(patches, visible[:, order], hidden), made)
    back = model._fill(patches, visible, hidden.flip(1)).flip(1)
    torch.testing.assert_close(back, made)


@pytest.mark.usefixtures("float64")
def test_codes_are_the_mean_over_all_patches_through_the_encoder() -> None:
    model, x = lively(small(layers=2)), torch.rand(3, *SHAPE)
    h = model.stem(patchify(x, 2)) + model.positions
    for part in model.encoder:
        h = part(h)
    torch.testing.assert_close(model.encode(x), h.mean(1))
    assert model.encode(x).shape == (3, 16)


# The loss


@pytest.mark.usefixtures("float64")
def test_the_loss_is_the_squared_error_of_hidden_patches_written_out() -> None:
    model, x = lively(small()), torch.rand(4, *SHAPE)
    torch.manual_seed(2)
    loss = float(model.loss(x).detach())
    torch.manual_seed(2)
    hidden = split_places(torch.zeros(4, 6, 8), 0.5)[1]
    torch.manual_seed(2)
    filled = model.reconstruct(x)[1].detach()
    total, count = 0.0, 0
    for k in range(4):
        for place in hidden[k].tolist():
            i, j = 2 * (place // 3), 2 * (place % 3)
            piece = (slice(None), slice(i, i + 2), slice(j, j + 2))
            total += float((filled[k][piece] - x[k][piece]).square().sum())
            count += 2 * 2 * 2
    assert loss == pytest.approx(total / count, rel=1e-10)
    assert count == 4 * 3 * 8


@pytest.mark.usefixtures("float64")
def test_the_error_of_visible_patches_is_not_counted() -> None:
    patches, made = torch.rand(2, 5, 3), torch.rand(2, 2, 3)
    hidden = torch.tensor([[3, 0], [1, 4]])
    error = hidden_error(made, patches, hidden)
    expected = sum(
        (made[k, i] - patches[k, hidden[k, i]]).square().mean() for k in range(2) for i in range(2)
    )
    torch.testing.assert_close(error, expected / 4)
    shown = torch.ones(2, 5, dtype=torch.bool).scatter(1, hidden, False)
    assert hidden_error(made, patches + 9 * shown[..., None], hidden) == error


def test_training_fills_in_what_follows_from_what_is_visible() -> None:
    """Stripes: every row of an image is the same. A constant guess would be off by 1/12."""
    x = torch.rand(400, 1, 1, 4).expand(400, 1, 8, 4)
    model = small(shape=(1, 8, 4), rate=0.5, width=32, layers=2)
    fit(model, (x,), TrainConfig(steps=240, batch_size=64, lr=5e-3), progress=False)
    torch.manual_seed(0)
    assert float(model.eval().loss(x).detach()) < 0.4 / 12


def test_what_it_can_do() -> None:
    model = small()
    assert isinstance(model, Encodes)
    assert not isinstance(model, Samples)  # what it fills in is a mean


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 4}, "4 x 6 and patch=4"),
        ({"shape": (1, 4, 4), "patch": 4}, "the whole image"),
        ({"rate": 0.0}, "rate must be above 0 and below 1"),
        ({"rate": 1.0}, "rate must be above 0 and below 1"),
        ({"width": 12}, "width=12.*multiple of 8"),
        ({"width": 16, "heads": 3}, "width=8 and heads=3"),
        ({"decoder_layers": 0}, "decoder_layers"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_a_single_patch_cannot_be_hidden() -> None:
    with pytest.raises(ValueError, match="got 1 patches"):
        split_places(torch.zeros(3, 1, 4), 0.5)
