"""PixelCNN against autograd, which finds what a pixel depends on, and enumeration of all images."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.core import Density, Samples
from gentext.nn.distributions import DiscretizedLogisticMixture
from gentext.sequences.pixelcnn import MaskedConv2d, PixelCNN, masked_stack

pytestmark = pytest.mark.usefixtures("float64")


def lively(model: nn.Module) -> nn.Module:
    """The model in evaluation mode with large random weights, so that everything matters."""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 1.5 / math.sqrt(max(1, p[0].numel())))
    return model.eval()


def all_images(shape: tuple[int, ...], levels: int) -> Tensor:
    values = itertools.product(range(levels), repeat=math.prod(shape))
    return torch.tensor(list(values)).reshape(-1, *shape) / (levels - 1)


@pytest.mark.equation("eq-gpt-pixelcnn")
def test_masked_convolutions_are_triangular_in_raster_order() -> None:
    f = nn.Sequential(MaskedConv2d("A", 1, 6), nn.Tanh(), MaskedConv2d("B", 6, 1))
    jacobian = torch.func.jacrev(lambda x: f(x.view(1, 1, 4, 4)).flatten())(torch.randn(16))
    assert (jacobian.triu() == 0).all()
    assert (jacobian.diagonal(-1)[[0, 1, 2, 4]] != 0).all()
    own = torch.func.jacrev(lambda x: MaskedConv2d("B", 1, 1)(x.view(1, 1, 4, 4)).flatten())
    jacobian = own(torch.randn(16))
    assert (jacobian.triu(1) == 0).all()
    assert (jacobian.diagonal() != 0).all()


@pytest.mark.equation("eq-gpt-pixelcnn")
def test_a_masked_stack_is_normalised_over_all_images() -> None:
    f = lively(masked_stack(1, 1, channels=4, layers=3))
    x = all_images((1, 3, 3), 2)
    log_p = -F.binary_cross_entropy_with_logits(f(x), x, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0), atol=1e-12, rtol=0)


def seen(features, height: int, width: int, i: int, j: int) -> Tensor:
    """Of which pixels of an image the features at (i, j) are made."""
    x = torch.rand(1, 1, height, width, requires_grad=True)
    (gradient,) = torch.autograd.grad(features(x)[0, :, i, j].square().sum(), x)
    return gradient[0, 0] != 0


@pytest.mark.equation("eq-gpt-pixelcnn")
def test_a_masked_stack_has_a_blind_spot_and_the_two_stacks_have_none() -> None:
    """Row i − a of a 3x3 stack is seen no further to the right than column j + a."""
    i, j, size = 4, 3, 8
    visible = seen(lively(masked_stack(1, 1, layers=9)), size, size, i, j)
    for row, column in itertools.product(range(size), repeat=2):
        before = row < i or (row == i and column < j)
        assert visible[row, column] == (before and column <= j + i - row), (row, column)
    model = lively(PixelCNN(shape=(1, size, size), layers=8))
    visible = seen(model.features, size, size, i, j)
    assert (visible.flatten() == (torch.arange(size**2) < i * size + j)).all()


@pytest.mark.parametrize("kernel", [3, 5])
def test_one_gated_layer_sees_the_windows_of_its_two_stacks(kernel: int) -> None:
    r, (i, j), size = kernel // 2, (5, 4), 9
    model = lively(PixelCNN(shape=(1, size, size), layers=1, kernel=kernel))
    expected = torch.zeros(size, size, dtype=torch.bool)
    expected[i - 1 - r : i, j - r : j + r + 1] = True
    expected[i, max(0, j - 1 - r) : j] = True
    assert (seen(model.features, size, size, i, j) == expected).all()


SMALL = [
    {"shape": (1, 3, 3), "levels": 2},
    {"shape": (1, 2, 3), "levels": 3, "ordered": False},
    {"shape": (1, 2, 2), "levels": 4, "likelihood": "logistic"},
    {"shape": (3, 1, 2), "levels": 3},
    {"shape": (2, 2, 1), "levels": 3, "likelihood": "logistic", "kernel": 5},
]


@pytest.mark.parametrize("arguments", SMALL, ids=str)
def test_the_probabilities_of_all_images_sum_to_one(arguments: dict) -> None:
    model = lively(PixelCNN(channels=4, layers=2, **arguments))
    log_p = model.log_prob(all_images(model.shape, model.levels)).detach()
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0), atol=1e-12, rtol=0)
    assert log_p.std() > 0.3


@pytest.mark.parametrize("arguments", SMALL, ids=str)
def test_draws_follow_the_probabilities(arguments: dict) -> None:
    model = lively(PixelCNN(channels=4, layers=2, **arguments))
    x, n = all_images(model.shape, model.levels), 20_000
    drawn = model.sample(n, generator=torch.Generator().manual_seed(1))
    place = model.levels ** torch.arange(x[0].numel() - 1, -1, -1.0)
    index = ((drawn * (model.levels - 1)).flatten(1) @ place).round().long()
    expected = n * model.log_prob(x).detach().exp()
    counts = torch.bincount(index, minlength=len(x))
    common = expected > 5
    chi2 = ((counts - expected)[common] ** 2 / expected[common]).sum()
    degrees = int(common.sum())
    assert abs(float(chi2) - degrees) < 5 * math.sqrt(2 * degrees)


@pytest.mark.parametrize(
    "arguments",
    [
        {"shape": (1, 6, 5), "levels": 7, "dropout": 0.5},
        {"shape": (1, 5, 6), "levels": 7, "ordered": False, "kernel": 5},
        {"shape": (3, 4, 5), "levels": 5, "likelihood": "logistic"},
    ],
    ids=str,
)
def test_cached_sampling_gives_the_same_pixels(arguments: dict) -> None:
    model = lively(PixelCNN(channels=8, layers=3, **arguments)).train()

    def draw(cache: bool, seed: int) -> Tensor:
        return model.sample(6, cache=cache, generator=torch.Generator().manual_seed(seed))

    assert draw(True, 0).equal(draw(False, 0))
    assert not draw(True, 0).equal(draw(True, 1))
    model.blocks[0].eval()  # one part is kept so while the rest is trained
    modes = [module.training for module in model.modules()]
    x = draw(True, 2)
    assert [module.training for module in model.modules()] == modes
    for rows in (0, 2, x.shape[2]):
        a, b = (
            model.complete(x, rows, cache=cache, generator=torch.Generator().manual_seed(3))
            for cache in (True, False)
        )
        assert a.equal(b)
        assert a[:, :, :rows].equal(x[:, :, :rows])
        assert rows == x.shape[2] or not a[:, :, rows:].equal(x[:, :, rows:])


def test_a_completion_does_not_look_at_what_it_replaces() -> None:
    model = lively(PixelCNN(shape=(1, 4, 4), levels=5, channels=8))
    x = torch.randint(5, (3, 1, 4, 4)) / 4
    other = x.clone()
    other[:, :, 2:] = torch.randint(5, (3, 1, 2, 4)) / 4
    before = x.clone()
    a = model.complete(x, 2, generator=torch.Generator().manual_seed(0))
    b = model.complete(other, 2, generator=torch.Generator().manual_seed(0))
    assert a.equal(b)
    assert x.equal(before)


def test_log_prob_is_the_chain_rule_pixel_by_pixel() -> None:
    """The likelihood of the heads, written out with log_softmax; the loss is per value."""
    model = lively(PixelCNN(shape=(2, 3, 4), levels=6, channels=8))
    x = torch.randint(6, (5, 2, 3, 4)) / 5
    h, total = F.silu(model.features(x)), torch.zeros(5)
    for channel in range(2):
        logits = model.heads[channel](torch.cat([h, 2 * x[:, :channel] - 1], 1)).log_softmax(1)
        k = (x[:, channel] * 5).round().long()
        for n, i, j in itertools.product(range(5), range(3), range(4)):
            total[n] += logits[n, k[n, i, j], i, j]
    torch.testing.assert_close(model.log_prob(x), total)
    torch.testing.assert_close(model.loss(x), -total.mean() / 24)
    assert isinstance(model, Density)
    assert isinstance(model, Samples)


def test_integers_are_read_as_levels() -> None:
    model = lively(PixelCNN(shape=(1, 3, 4), levels=6, channels=8, ordered=False))
    k = torch.randint(6, (5, 12))
    expected = model.log_prob(k.reshape(5, 1, 3, 4) / 5)
    torch.testing.assert_close(model.log_prob(k), expected)
    torch.testing.assert_close(model.log_prob(k.reshape(5, 3, 4)), expected)
    model.check(k)


def test_the_logistic_likelihood_is_the_mixture_of_the_data_chapter() -> None:
    model = lively(PixelCNN(shape=(1, 3, 3), levels=9, channels=8, likelihood="logistic"))
    x = torch.randint(9, (4, 1, 3, 3)) / 8
    mixture = DiscretizedLogisticMixture((1, 3, 3), 9, 5)
    parameters = model.heads[0](F.silu(model.features(x)))
    torch.testing.assert_close(model.log_prob(x), mixture(parameters[:, :, None]).log_prob(x))


def test_dropout_acts_in_training_only() -> None:
    model = PixelCNN(shape=(1, 3, 3), levels=3, channels=8, dropout=0.5)
    x = torch.rand(4, 1, 3, 3).round()
    assert model.loss(x) != model.loss(x)
    model.eval()
    assert model.loss(x) == model.loss(x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (8, 8)}, r"\(channels, height, width\).*\(8, 8\)"),
        ({"levels": 1}, "levels=1.*at least 2"),
        ({"channels": 0}, "channels=0.*at least 1"),
        ({"layers": 0}, "layers=0.*at least 1"),
        ({"kernel": 4}, "kernel must be odd.*4"),
        ({"dropout": 1.0}, r"dropout=1\.0"),
        ({"likelihood": "normal"}, "'normal'.*categorical, logistic"),
        ({"likelihood": "logistic", "ordered": False}, "order.*categorical"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelCNN(**{"shape": (1, 3, 3), **arguments})


def test_wrong_data_are_named() -> None:
    model = PixelCNN(shape=(1, 3, 3), levels=5, channels=4)
    x = torch.full((2, 1, 3, 3), 0.25)
    with pytest.raises(ValueError, match=r"from 0\.25 to 1\.5.*\[0, 1\]"):
        model.log_prob(torch.where(torch.arange(3) == 1, 1.5, x))
    for wrong in (x[..., :2], x[:, 0], x[:0]):
        with pytest.raises(ValueError, match=r"built for \(n, 1, 3, 3\)"):
            model.loss(wrong)
    between = torch.full_like(x, 0.3)
    for method in (model.log_prob, model.loss, model.check):
        with pytest.raises(ValueError, match="between the 5 grey levels k/4"):
            method(between)
    with pytest.raises(ValueError, match=r"from 0 to 5.*0 to 4"):
        model.log_prob(torch.arange(18).reshape(2, 9) % 6)
    with pytest.raises(ValueError, match=r"levels of shape \(2, 8\).*rows of 9"):
        model.log_prob(torch.zeros(2, 8, dtype=torch.long))
    with pytest.raises(ValueError, match="rows must be from 0 to the height 3, but got 4"):
        model.complete(x, 4)
    with pytest.raises(ValueError, match=r"unknown mask 'C'.*A, B"):
        MaskedConv2d("C", 1, 1)
    with pytest.raises(ValueError, match=r"kernel must be odd and at least 3.*2"):
        MaskedConv2d("A", 1, 1, 2)
    with pytest.raises(ValueError, match=r"layers=1.*at least 2"):
        masked_stack(1, 1, layers=1)


@pytest.mark.parametrize("likelihood", ["categorical", "logistic"])
def test_other_devices_and_half_precision(likelihood: str) -> None:
    model = PixelCNN(shape=(2, 4, 4), levels=5, channels=8, likelihood=likelihood).float()
    x = (torch.randint(5, (6, 2, 4, 4)) / 4).float()
    exact = model.loss(x)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.loss(x)
        drawn = model.sample(2)
    assert rough.dtype == torch.float32
    assert abs(float((rough - exact).detach())) < 0.02
    assert ((drawn * 4) % 1 == 0).all()
    model, x = model.to("meta"), x.to("meta")
    model.loss(x).backward()
    assert model.log_prob(x).device.type == "meta"
    for cache in (True, False):
        assert model.sample(2, cache=cache).device.type == "meta"


def test_gradients_reach_every_parameter() -> None:
    for arguments in SMALL:
        shape = (arguments["shape"][0], 3, 3)
        model = PixelCNN(**{**arguments, "shape": shape}, channels=4, layers=2)
        model.loss(torch.randint(model.levels, (8, *model.shape))).backward()
        for name, p in model.named_parameters():
            assert p.grad is not None, name
            assert p.grad.abs().sum() > 0, name
