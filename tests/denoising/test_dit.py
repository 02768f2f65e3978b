"""Blocks against their formula, the network recomputed from patches and blocks."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.denoising.conditions import Text
from gentext.denoising.diffusion import Diffusion
from gentext.denoising.dit import AdaLNZeroBlock, DiT, adaln_zero, patchify, unpatchify
from gentext.denoising.flow_matching import FlowMatching
from gentext.sequences.patches import plane_positions

pytestmark = pytest.mark.usefixtures("float64")

SMALL = {"patch": 2, "width": 8, "layers": 2, "heads": 2}


def lively(model: nn.Module) -> nn.Module:
    """The model with large random weights, so that everything matters."""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) / math.sqrt(max(1, p[0].numel())))
    return model.eval()


def dit(**arguments) -> DiT:
    return lively(DiT(**{"shape": (3, 4, 6), **SMALL, **arguments}))


def batch(model: nn.Module, n: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(n, *model.shape), torch.rand(n) * 1000


def normalised(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


# Blocks


@pytest.mark.equation("eq-ldm-adaln")
def test_a_branch_is_scaled_shifted_and_gated_value_by_value() -> None:
    x, condition, layer = torch.randn(2, 3, 5), torch.randn(2, 15), nn.Linear(5, 5)
    found = adaln_zero(x, layer, condition)
    for n in range(2):
        g, b, a = condition[n, :5], condition[n, 5:10], condition[n, 10:]
        for place in range(3):
            row = (1 + g) * normalised(x[n, place]) + b
            expected = x[n, place] + a * (layer.weight @ row + layer.bias)
            torch.testing.assert_close(found[n, place], expected, atol=1e-12, rtol=0)


@pytest.mark.equation("eq-ldm-adaln")
@pytest.mark.parametrize("cross", [False, True])
def test_a_new_block_is_exactly_the_identity(cross: bool) -> None:
    block, c = AdaLNZeroBlock(8, 2, cross=cross), torch.randn(1, 8)
    x = torch.randn(1, 3, 8)
    text = Text(torch.randn(1, 4, 8), torch.ones(1, 1, 1, 4, dtype=torch.bool)) if cross else None
    assert block(x, c, text).equal(x)
    jacobian = torch.autograd.functional.jacobian(lambda x: block(x, c, text), x)
    assert jacobian.reshape(24, 24).equal(torch.eye(24))


@pytest.mark.equation("eq-ldm-adaln")
def test_at_first_only_gates_learn() -> None:
    """And the last layer of what reads a text."""
    block = AdaLNZeroBlock(8, 2, cross=True)
    text = Text(torch.randn(2, 4, 8), torch.ones(2, 1, 1, 4, dtype=torch.bool))
    block(torch.randn(2, 3, 8), torch.randn(2, 8), text).square().sum().backward()
    learning = {name for name, p in block.named_parameters() if p.grad.abs().sum() > 0}
    assert learning == {"modulation.weight", "modulation.bias", "read.out.weight", "read.out.bias"}
    rows = (block.modulation.weight.grad != 0).any(1).view(2, 3, 8)
    assert rows[:, 2].all()
    assert not rows[:, :2].any()


@pytest.mark.equation("eq-ldm-adaln")
@pytest.mark.parametrize("cross", [False, True])
def test_a_block_is_its_three_branches(cross: bool) -> None:
    block, c = lively(AdaLNZeroBlock(8, 2, cross=cross)), torch.randn(2, 8)
    x = torch.randn(2, 3, 8)
    mask = torch.tensor([[True, True, False, True], [True, False, False, False]])[:, None, None]
    text = Text(torch.randn(2, 4, 8), mask) if cross else None
    g1, b1, a1, g2, b2, a2 = F.linear(c, block.modulation.weight, block.modulation.bias).split(8, 1)
    h = x + a1[:, None] * block.attention((1 + g1[:, None]) * normalised(x) + b1[:, None])
    if text is not None:
        hat = normalised(h) * block.norm.weight + block.norm.bias
        h = h + block.read(hat, text.memory, mask=mask)
    g = (1 + g2[:, None]) * normalised(h) + b2[:, None]
    g = F.gelu(g @ block.feed_forward.up.weight.T + block.feed_forward.up.bias, approximate="tanh")
    g = g @ block.feed_forward.down.weight.T + block.feed_forward.down.bias
    torch.testing.assert_close(block(x, c, text), h + a2[:, None] * g, atol=1e-12, rtol=0)


# The network


def test_the_network_by_its_formula() -> None:
    model = dit(classes=3)
    (x, t), y = batch(model), torch.tensor([2, 0, 3])
    h = F.conv2d(x, model.stem.weight.view(8, 3, 2, 2), model.stem.bias, stride=2)
    h = h.flatten(2).mT + plane_positions(2, 3, 8)
    c = model.condition.features(t, y)[0]
    c = c * torch.sigmoid(c)
    for block in model.blocks:
        h = block(h, c)
    g, b = F.linear(c, model.modulation.weight, model.modulation.bias)[:, None].split(8, -1)
    h = ((1 + g) * normalised(h) + b) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(x, t, y), unpatchify(h, (3, 4, 6), 2), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "options",
    [{}, {"classes": 3}, {"vocab_size": 7, "context": 5}],
    ids=["alone", "labels", "text"],
)
def test_zero_at_first_and_learning_everywhere_from_the_third_step(options: dict) -> None:
    """First the last layer learns, then the gates, then all."""
    model = DiT(shape=(2, 4, 4), **SMALL, **options)
    (x, t), optimizer = batch(model, 6), torch.optim.SGD(model.parameters(), lr=1e-3)
    y = (torch.arange(6) % 4,) if "classes" in options else ()
    y = (torch.randint(1, 7, (6, 5)),) if "context" in options else y
    assert (model(x, t, *y) == 0).all()
    for _ in range(3):
        optimizer.step()
        optimizer.zero_grad()
        (model(x, t, *y) - 1).square().sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_gradients_are_those_of_finite_differences() -> None:
    model = dit(shape=(1, 2, 4), vocab_size=4, context=3)
    (x, t), y = batch(model, 2), torch.tensor([[1, 2, 0], [0, 0, 0]])
    named = dict(model.named_parameters())
    values = nn.utils.parameters_to_vector(named.values()).detach()

    def f(x: Tensor, values: Tensor) -> Tensor:
        parts = values.split([p.numel() for p in named.values()])
        weights = {name: part.view_as(named[name]) for name, part in zip(named, parts, strict=True)}
        return torch.func.functional_call(model, weights, (x, t, y))

    inputs = (x.requires_grad_(), values.requires_grad_())
    assert torch.autograd.gradcheck(f, inputs, fast_mode=True)


def test_places_are_known_by_their_positions_alone() -> None:
    """Patches in another order, with their positions, give the same patches in that order."""
    model = dit()
    (x, t), order = batch(model), torch.randperm(6)
    expected = patchify(model(x, t), 2)[:, order]
    moved = unpatchify(patchify(x, 2)[:, order], (3, 4, 6), 2)
    assert not patchify(model(moved, t), 2).allclose(expected)
    model.positions = model.positions[order]
    torch.testing.assert_close(patchify(model(moved, t), 2), expected)


def test_no_label_is_the_label_after_the_last() -> None:
    model = dit(classes=3)
    x, t = batch(model)
    none = model(x, t)
    assert none.equal(model(x, t, torch.tensor([3, 3, 3])))
    for label in range(3):
        assert not none.allclose(model(x, t, torch.tensor([label] * 3)))


def test_each_example_is_by_itself_and_has_its_own_time() -> None:
    model = dit(vocab_size=5, context=3)
    (x, t), y = batch(model), torch.tensor([[1, 2, 3], [4, 0, 0], [0, 0, 0]])
    together = model(x, t, y)
    for k in range(3):
        torch.testing.assert_close(model(x[[k]], t[[k]], y[[k]])[0], together[k])
    later = model(x, t + torch.tensor([0.0, 50.0, 0.0]), y)
    torch.testing.assert_close(later[[0, 2]], together[[0, 2]])
    assert not later[1].allclose(together[1])


def test_dropout_acts_in_training_only() -> None:
    model = dit(dropout=0.5)
    x, t = batch(model)
    assert model(x, t).equal(model(x, t))
    model.train()
    assert not model(x, t).equal(model(x, t))


def test_other_devices_and_precisions() -> None:
    model = DiT(shape=(3, 4, 6), patch=2, width=64, layers=2, vocab_size=5, context=3).float()
    model.positions = model.positions.float()
    lively(model)
    (x, t), y = batch(model, 8), torch.randint(5, (8, 3))
    x, t = x.float(), t.long()
    before, exact = x.clone(), model(x, t, y)
    assert x.equal(before)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(x, t, y)
    assert (rough - exact).square().mean() < 1e-2 * exact.square().mean()
    half = model.bfloat16()(x.bfloat16(), t, y)
    assert half.dtype == torch.bfloat16
    model, where = model.to("meta"), [value.to("meta") for value in (x.bfloat16(), t, y)]
    model(*where).sum().backward()
    assert model(*where).device.type == "meta"
    assert model(*where[:2]).shape == x.shape


GRAPH = """
import torch
from gentext.denoising.dit import DiT
from gentext.denoising.unet import UNet
labels, text = torch.tensor([0, 1, 2, 3, 3]), torch.randint(4, (5, 3))
for make, small in ((DiT, {"width": 16, "layers": 2}), (UNet, {"channels": 8})):
    for options, y in (({"classes": 3}, labels), ({"vocab_size": 4, "context": 3}, text)):
        model = make(shape=(1, 8, 8), **options, **small)
        torch.nn.init.normal_(model.head.weight)
        x, t = torch.randn(5, 1, 8, 8), torch.randint(1000, (5,))
        whole = torch.compile(model, backend="aot_eager", fullgraph=True)
        for given in ((), (y,)):
            torch.testing.assert_close(whole(x, t, *given), model(x, t, *given))
        whole(x, t, y).sum().backward()
        print(make.__name__, *options)
"""


def test_it_is_one_graph_for_the_compiler() -> None:
    """In a process of its own, where no shapes are checked at run time."""
    run = subprocess.run([sys.executable, "-c", GRAPH], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        f"{net} {options}"
        for net in ("DiT", "UNet")
        for options in ("classes", "vocab_size context")
    ]


def test_diffusion_and_flow_matching_take_it() -> None:
    x, y = torch.randn(6, 3, 4, 6), torch.arange(6) % 3
    options = {"shape": (3, 4, 6), "classes": 3, **SMALL}
    for model in (
        Diffusion("dit", levels=None, steps=20, **options),
        FlowMatching(net="dit", **options),
    ):
        assert isinstance(model.net, DiT)
        lively(model.net)
        model.loss(x, y).backward()
        made = model.eval().sample(2, y[:2], steps=3)
        assert made.shape == (2, 3, 4, 6)
        assert not made.equal(model.sample(2, y[1:3], steps=3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (8, 8)}, r"\(channels, height, width\).*\(8, 8\)"),
        ({"shape": (1, 4, 7)}, "4 x 7 and patch=2.*divide both"),
        ({"patch": 0}, "patch=0; patch must be a whole number, at least 1"),
        ({"layers": 0}, "layers=0; layers must be a whole number, at least 1"),
        ({"heads": 0}, "heads=0; heads must be a whole number, at least 1"),
        ({"width": 6, "heads": 3}, "width=6.*multiple of 4"),
        ({"heads": 3}, "width=8 and heads=3"),
        ({"classes": -1}, "classes=-1"),
        (
            {"classes": 2, "vocab_size": 5, "context": 3},
            "classes=2 and vocab_size=5.*one of the two",
        ),
        ({"vocab_size": 5}, "context=0.*set context="),
        ({"dropout": 1.0}, r"dropout=1\.0.*below 1"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiT(**{"shape": (3, 4, 6), **SMALL, **arguments})


@pytest.mark.equation("eq-ldm-patch")
def test_wrong_inputs_are_named() -> None:
    model, reads = dit(classes=3), dit(vocab_size=5, context=3)
    (x, t), y = batch(model), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"got x \(3, 3, 4, 5\).*built for \(n, 3, 4, 6\)"):
        model(x[..., :-1], t)
    with pytest.raises(ValueError, match=r"got t \(2,\) for 3 examples"):
        model(x, t[:2])
    with pytest.raises(ValueError, match=r"got y \(2,\) for 3 examples; give one label each"):
        model(x, t, y[:2])
    with pytest.raises(ValueError, match=r"got y \(3,\) for 3 examples; give one row of at most 3"):
        reads(x, t, y)
    with pytest.raises(ValueError, match=r"got y \(3, 4\) for 3 examples"):
        reads(x, t, y[:, None].expand(3, 4))
    with pytest.raises(ValueError, match="this network has none: build it with classes="):
        dit()(x, t, y)
    with pytest.raises(ValueError, match=r"4 x 6 and patches of side 4"):
        patchify(x, 4)
    with pytest.raises(ValueError, match=r"got patches \(3, 5, 12\).*\(n, 6, 12\)"):
        unpatchify(torch.zeros(3, 5, 12), (3, 4, 6), 2)
    with pytest.raises(ValueError, match="give it the features of one"):
        reads.blocks[0](torch.randn(3, 6, 8), torch.randn(3, 8))
