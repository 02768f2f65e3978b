"""The networks recomputed from their weights, mirrored, and seen through by autograd."""

from __future__ import annotations

import copy
import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.denoising.unet import ImageAttention, ResidualBlock, TimeMLP, UNet

pytestmark = pytest.mark.usefixtures("float64")

SMALL = {"channels": 8, "multipliers": (1, 2)}


def lively(model: nn.Module) -> nn.Module:
    """The model with large random weights, so that everything matters."""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) / math.sqrt(max(1, p[0].numel())))
    return model


def unet(**arguments) -> nn.Module:
    return lively(UNet(**{"shape": (2, 4, 8), **SMALL, **arguments})).eval()


def batch(model: nn.Module, n: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(n, *model.shape), torch.rand(n) * 1000


BOTH = [
    lambda **options: unet(**options),
    lambda **options: lively(TimeMLP(shape=(2, 3), hidden=16, **options)).eval(),
]
both = pytest.mark.parametrize("make", BOTH, ids=["unet", "mlp"])


def normalised(x: Tensor, groups: int = 8) -> Tensor:
    """Each example's groups of channels with mean 0 and variance 1."""
    rows = x.reshape(len(x), groups, -1)
    variance = rows.var(-1, correction=0, keepdim=True)
    return ((rows - rows.mean(-1, keepdim=True)) / (variance + 1e-5).sqrt()).reshape(x.shape)


def affine(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    return normalised(x) * norm.weight[:, None, None] + norm.bias[:, None, None]


@pytest.mark.parametrize("inputs", [16, 24])
@pytest.mark.parametrize("attends", [False, True])
def test_a_residual_block_by_its_formula(inputs: int, attends: bool) -> None:
    block = lively(ResidualBlock(inputs, 16, attends=attends))
    x, c = torch.randn(2, inputs, 3, 4), torch.randn(2, 32)
    h = affine(block.norm1, x)
    h = F.conv2d(h * torch.sigmoid(h), block.conv1.weight, block.conv1.bias, padding=1)
    h = (1 + c[:, :16, None, None]) * normalised(h) + c[:, 16:, None, None]
    h = F.conv2d(h * torch.sigmoid(h), block.conv2.weight, block.conv2.bias, padding=1)
    skip = x
    if inputs != 16:
        skip = torch.einsum("oi, nihw -> nohw", block.skip.weight[:, :, 0, 0], x)
        skip = skip + block.skip.bias[:, None, None]
    expected = block.attention(skip + h)
    assert attends == bool(list(block.attention.parameters()))
    torch.testing.assert_close(block(x, c), expected)


def test_image_attention_is_softmax_over_all_places() -> None:
    """Head by head and query by query."""
    channels, heads, (height, width) = 16, 4, (2, 3)
    attention, x = lively(ImageAttention(channels)), torch.randn(2, channels, height, width)
    qkv = attention.mix.qkv(affine(attention.norm, x).flatten(2).mT)
    expected, size = x.clone(), channels // heads
    for n in range(2):
        mixed = torch.empty(height * width, channels)
        for head in range(heads):
            q, k, v = (
                qkv[n, :, part * channels :][:, head * size :][:, :size] for part in range(3)
            )
            for place in range(height * width):
                scores = torch.stack([q[place] @ key for key in k]) / math.sqrt(size)
                weights = scores.exp() / scores.exp().sum()
                mixed[place, head * size :][:size] = weights @ v
        added = mixed @ attention.mix.out.weight.T + attention.mix.out.bias
        for place in range(height * width):
            expected[n, :, place // width, place % width] += added[place]
    torch.testing.assert_close(attention(x), expected)


def test_the_way_up_reads_what_the_way_down_found() -> None:
    model = unet(classes=3)
    (x, t), y = batch(model), torch.tensor([2, 0, 3])
    c = list(model.condition(t, y))
    assert len(c) == 5
    a = model.down[0](F.conv2d(x, model.stem.weight, model.stem.bias, padding=1), c[0])
    halved = torch.einsum("nchiwj, ocij -> nohw", blocks_of_four(a), model.down[1].weight)
    b = model.down[2](halved + model.down[1].bias[:, None, None], c[1])
    m = model.up[0](torch.cat([model.middle(b, c[2]), b], 1), c[3])
    doubled = torch.einsum("nchw, coij -> nohiwj", m, model.up[1].weight).reshape(a.shape)
    u = model.up[2](torch.cat([doubled + model.up[1].bias[:, None, None], a], 1), c[4])
    u = affine(model.norm, u)
    expected = F.conv2d(u * torch.sigmoid(u), model.head.weight, model.head.bias, padding=1)
    torch.testing.assert_close(model(x, t, y), expected)


def blocks_of_four(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2)


def test_several_blocks_are_read_in_the_reverse_order() -> None:
    """What each block of the way up reads last is what its partner on the way down gave."""
    model, given, read = unet(blocks=2), [], []

    def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        given.append(output)
        read.append(inputs[0])

    downs, ups = (
        [block for block in way if isinstance(block, ResidualBlock)]
        for way in (model.down, model.up)
    )
    assert [len(downs), len(ups)] == [4, 4]
    for block in (*downs, *ups):
        block.register_forward_hook(note)
    model(*batch(model))
    for k in range(4):
        half = given[k].shape[1]
        assert read[7 - k][:, half:].equal(given[k])


def test_attention_is_on_the_lowest_resolutions() -> None:
    seen = set()
    for attention, expected in enumerate([set(), {4}, {4, 8}]):
        model = unet(attention=attention, shape=(1, 8, 8))
        for m in model.modules():
            if isinstance(m, ImageAttention):
                m.register_forward_hook(lambda _, __, out: seen.add(out.shape[-1]))
        seen.clear()
        model(*batch(model))
        assert seen == expected


def test_a_perceptron_by_its_formula() -> None:
    model = lively(TimeMLP(shape=(2, 3), hidden=10, layers=2, classes=3)).eval()
    (x, t), y = batch(model), torch.tensor([1, 0, 3])
    h = model.stem(x.reshape(3, 6))
    for layer, c in zip(model.layers, model.condition(t, y), strict=True):
        g = (1 + c[:, :10]) * normalised(h, 1) + c[:, 10:]
        h = h + layer(g * torch.sigmoid(g))
    h = normalised(h, 1)
    torch.testing.assert_close(model(x, t, y), model.head(h * torch.sigmoid(h)).view(3, 2, 3))


@pytest.mark.parametrize("turn", ["mirrored", "transposed"])
def test_a_network_of_turned_kernels_turns_the_images(turn: str) -> None:
    """No step shifts the image or takes its height for its width."""
    model = unet()
    (x, t), turned = batch(model), copy.deepcopy(model)

    def change(x: Tensor) -> Tensor:
        return x.flip(-1) if turn == "mirrored" else x.mT

    with torch.no_grad():
        for p in turned.parameters():
            if p.dim() == 4:
                p.copy_(change(p.clone()))
    turned.shape = change(x).shape[1:]
    torch.testing.assert_close(turned(change(x), t), change(model(x, t)))


@pytest.mark.parametrize("attention", [0, 1])
def test_how_far_a_pixel_sees(attention: int) -> None:
    """With attention everywhere; without, 1 + 2 pixels, 6 of half the resolution, 2 + 1 pixels.

    The normalisations are left out, since they too tell each place something of all others.
    """
    model = unet(shape=(1, 4, 48), attention=attention)
    for m in model.modules():
        for name, part in m.named_children():
            if isinstance(part, nn.GroupNorm):
                setattr(m, name, nn.Identity())
    x, t = batch(model, 1)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x, t)[0, 0, 0, 0], x)
    seen = (gradient[0, 0] != 0).any(0)
    assert seen.equal(torch.arange(48) <= (47 if attention else 18))


@both
def test_no_label_is_the_label_after_the_last(make) -> None:
    model = make(classes=3)
    x, t = batch(model)
    none = model(x, t)
    assert none.equal(model(x, t, torch.tensor([3, 3, 3])))
    for label in range(3):
        assert not none.allclose(model(x, t, torch.tensor([label] * 3)))


@both
def test_each_example_is_by_itself_and_has_its_own_time(make) -> None:
    model = make(classes=3)
    (x, t), y = batch(model), torch.tensor([0, 3, 1])
    together = model(x, t, y)
    for k in range(3):
        torch.testing.assert_close(model(x[[k]], t[[k]], y[[k]])[0], together[k])
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x, t, y)[1].square().sum(), x)
    assert (gradient[[0, 2]] == 0).all()
    assert (gradient[1] != 0).all()
    later = model(x, t + torch.tensor([0.0, 50.0, 0.0]), y)
    torch.testing.assert_close(later[[0, 2]], together[[0, 2]])
    assert not later[1].allclose(together[1])


@pytest.mark.parametrize(
    "model",
    [
        lambda: UNet(shape=(1, 4, 4), classes=2, **SMALL),
        lambda: UNet(shape=(2, 4, 4), blocks=2, attention=2, outputs=3, **SMALL),
        lambda: TimeMLP(shape=(5,), hidden=12, classes=2),
    ],
    ids=["labels", "outputs", "mlp"],
)
def test_zero_at_first_and_learning_everywhere_from_the_second_step(model) -> None:
    model = model()
    (x, t), optimizer = batch(model, 6), torch.optim.SGD(model.parameters(), lr=1e-4)
    y = (torch.arange(6) % 3,) if model.condition.classes else ()
    assert (model(x, t, *y) == 0).all()
    for _ in range(2):
        optimizer.step()
        optimizer.zero_grad()
        (model(x, t, *y) - 1).square().sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


@both
def test_gradients_are_those_of_finite_differences(make) -> None:
    model = make(classes=2)
    (x, t), y = batch(model, 2), torch.tensor([0, 2])
    named = dict(model.named_parameters())
    values = nn.utils.parameters_to_vector(named.values()).detach()

    def f(x: Tensor, values: Tensor) -> Tensor:
        parts = values.split([p.numel() for p in named.values()])
        weights = {name: part.view_as(named[name]) for name, part in zip(named, parts, strict=True)}
        return torch.func.functional_call(model, weights, (x, t, y))

    inputs = (x.requires_grad_(), values.requires_grad_())
    assert torch.autograd.gradcheck(f, inputs, fast_mode=True)


@both
def test_times_may_be_integers(make) -> None:
    model = make()
    x, t = batch(model)
    torch.testing.assert_close(model(x, t.long()), model(x, t.floor()), atol=1e-3, rtol=1e-3)


@both
def test_dropout_acts_in_training_only(make) -> None:
    model = make(dropout=0.5)
    x, t = batch(model)
    assert model(x, t).equal(model(x, t))
    model.train()
    assert not model(x, t).equal(model(x, t))


@both
def test_other_devices_and_precisions(make) -> None:
    model = make(classes=3).float()
    (x, t), y = batch(model, 8), torch.arange(8) % 4
    x, t = x.float(), t.long()
    before, exact = x.clone(), model(x, t, y)
    assert x.equal(before)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(x, t, y)
    assert rough.dtype == torch.bfloat16
    assert (rough - exact).square().mean() < 1e-3 * exact.square().mean()
    model, where = model.to("meta"), [value.to("meta") for value in (x, t, y)]
    model(*where).sum().backward()
    assert model(*where).device.type == "meta"
    assert model(*where[:2]).shape == x.shape


def test_the_order_of_the_numbers_in_memory_does_not_matter() -> None:
    model = unet()
    x, t = batch(model)
    torch.testing.assert_close(
        model(x.contiguous(memory_format=torch.channels_last), t), model(x, t)
    )
    torch.testing.assert_close(model(x.mT.contiguous().mT, t), model(x, t))


GRAPH = """
import torch
from gentext.denoising.unet import TimeMLP, UNet
for shape, make in (((1, 8, 8), UNet), ((2,), TimeMLP)):
    model = make(shape=shape, classes=3)
    torch.nn.init.normal_(model.head.weight)
    x, t, y = torch.randn(5, *shape), torch.randint(1000, (5,)), torch.tensor([0, 1, 2, 3, 3])
    whole = torch.compile(model, backend="aot_eager", fullgraph=True)
    for labels in ((), (y,)):
        torch.testing.assert_close(whole(x, t, *labels), model(x, t, *labels))
    whole(x, t, y).sum().backward()
    print(make.__name__)
"""


def test_it_is_one_graph_for_the_compiler() -> None:
    """In a process of its own, where no shapes are checked at run time."""
    run = subprocess.run([sys.executable, "-c", GRAPH], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["UNet", "TimeMLP"]


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ({"shape": (1, 8, 8), "channels": 24, "multipliers": (1, 2)}, 238_489),
        ({"shape": (1, 28, 28)}, 1_089_633),
        ({"shape": (3, 32, 32)}, 1_090_787),
        ({"shape": (3, 16, 16), "outputs": 6}, 1_091_654),
    ],
    ids=str,
)
def test_the_sizes_of_the_book(arguments: dict, parameters: int) -> None:
    """The numbers are those of the weights that the package carries."""
    model = UNet(**arguments)
    assert sum(p.numel() for p in model.parameters()) == parameters
    x, t = batch(model, 1)
    assert model(x, t).shape == (1, arguments.get("outputs", x.shape[1]), *x.shape[2:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (8, 8)}, r"\(channels, height, width\).*\(8, 8\)"),
        ({"shape": (1, 8, 6), "multipliers": (1, 2, 2)}, "8 x 6 and 3 resolutions.*divisible by 4"),
        ({"shape": (1, 7, 8)}, "7 x 8 and 2 resolutions.*divisible by 2"),
        ({"channels": 12}, "channels=12.*8 groups.*multiple of 8"),
        ({"channels": 0}, "channels=0"),
        ({"multipliers": ()}, r"multipliers=\(\)"),
        ({"multipliers": (1, 0)}, r"multipliers=\(1, 0\).*from 1"),
        ({"blocks": 0}, "blocks=0; blocks must be a whole number, at least 1"),
        ({"attention": 3}, "attention=3.*0 to 2"),
        ({"attention": -1}, "attention=-1.*0 to 2"),
        ({"classes": -1}, "classes=-1"),
        ({"dropout": 1.0}, r"dropout=1\.0.*below 1"),
        ({"outputs": 0}, "outputs=0; outputs must be a whole number, at least 1"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(**{"shape": (1, 8, 8), **SMALL, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": 0}, "hidden=0; hidden must be a whole number, at least 1"),
        ({"layers": 0}, "layers=0; layers must be a whole number, at least 1"),
        ({"dropout": -0.5}, r"dropout=-0\.5"),
    ],
    ids=str,
)
def test_wrong_arguments_of_the_perceptron_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimeMLP(shape=(2,), **arguments)


@both
def test_wrong_inputs_are_named(make) -> None:
    model, without = make(classes=3), make()
    (x, t), y = batch(model), torch.zeros(3, dtype=torch.long)
    built = ", ".join(map(str, model.shape))
    with pytest.raises(ValueError, match=rf"got x \(3, .*built for \(n, {built}\)"):
        model(x[..., :-1], t)
    with pytest.raises(ValueError, match=rf"built for \(n, {built}\)"):
        model(x[0], t)
    with pytest.raises(ValueError, match=r"got t \(2,\) for 3 examples; give one time each"):
        model(x, t[:2])
    with pytest.raises(ValueError, match=r"got y \(2,\) for 3 examples; give one label each"):
        model(x, t, y[:2])
    with pytest.raises(ValueError, match="this network has none: build it with classes="):
        without(x, t, y)
