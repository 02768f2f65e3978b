"""Blocks of the Transformer against autograd and the modules of torch.nn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.sequences.attention import MultiHeadAttention, causal_mask
from gentext.sequences.transformer import (
    FeedForward,
    Transformer,
    TransformerBlock,
    layer_norm,
    layer_norm_gradient,
)

pytestmark = pytest.mark.usefixtures("float64")

WIDTH, HEADS, HIDDEN = 8, 2, 20


def close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


def randomised(module: nn.Module) -> nn.Module:
    """The module in evaluation mode, with no parameter at zero or one, where errors hide."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


def copy_attention(theirs: nn.MultiheadAttention, ours: MultiHeadAttention) -> None:
    ours.qkv.weight, ours.qkv.bias = theirs.in_proj_weight, theirs.in_proj_bias
    ours.out.weight, ours.out.bias = theirs.out_proj.weight, theirs.out_proj.bias


def copy_block(theirs: nn.Module, ours: TransformerBlock) -> None:
    copy_attention(theirs.self_attn, ours.attention)
    ours.feed_forward.up, ours.feed_forward.down = theirs.linear1, theirs.linear2
    ours.norm1, ours.norm2 = theirs.norm1, theirs.norm2
    if ours.cross is not None:
        copy_attention(theirs.multihead_attn, ours.cross)
        ours.norm_cross, ours.norm2 = theirs.norm2, theirs.norm3


@pytest.mark.equation("eq-attn-layernorm")
def test_layer_norm_and_its_gradient_are_those_of_torch() -> None:
    gain, bias, slope = torch.randn(7), torch.randn(7), torch.randn(3, 7)
    x = torch.randn(3, 7, requires_grad=True)
    y = F.layer_norm(x, (7,), gain, bias)
    (gradient,) = torch.autograd.grad(y, x, slope)
    x = x.detach()
    close(layer_norm(x, gain, bias), y.detach(), 1e-12)
    close(layer_norm_gradient(x, gain, slope), gradient)
    close(layer_norm(3.7 * x + 2, gain, bias, eps=0.0), layer_norm(x, gain, bias, eps=0.0))
    blind = layer_norm_gradient(x, gain, slope, eps=0.0)
    close(blind.sum(-1), torch.zeros(3))
    close((blind * (x - x.mean(-1, keepdim=True))).sum(-1), torch.zeros(3))


@pytest.mark.equation("eq-attn-preln")
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_block_is_an_encoder_layer_of_torch(norm_first: bool, activation: str) -> None:
    options = {"norm_first": norm_first, "activation": activation}
    theirs = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True, **options)
    ours = TransformerBlock(WIDTH, HEADS, hidden=HIDDEN, **options).eval()
    copy_block(randomised(theirs), ours)
    x, shown = torch.randn(3, 5, WIDTH), torch.ones(3, 5, dtype=torch.bool)
    shown[1, 3:] = False
    expected = theirs(x, src_key_padding_mask=~shown)
    close(ours(x, mask=shown[:, None, None])[shown], expected[shown])
    close(ours(x, causal=True), theirs(x, src_mask=~causal_mask(5)))


@pytest.mark.equation("eq-attn-xattn")
@pytest.mark.parametrize("norm_first", [True, False])
def test_block_is_a_decoder_layer_of_torch(norm_first: bool) -> None:
    theirs = nn.TransformerDecoderLayer(
        WIDTH, HEADS, HIDDEN, batch_first=True, norm_first=norm_first
    )
    options = {"norm_first": norm_first, "activation": "relu"}
    ours = TransformerBlock(WIDTH, HEADS, hidden=HIDDEN, cross=True, **options).eval()
    copy_block(randomised(theirs), ours)
    y, memory = torch.randn(3, 4, WIDTH), torch.randn(3, 6, WIDTH)
    shown = torch.ones(3, 6, dtype=torch.bool)
    shown[2, 1:4] = False
    expected = theirs(y, memory, tgt_mask=~causal_mask(4), memory_key_padding_mask=~shown)
    close(ours(y, memory, memory_mask=shown[:, None, None], causal=True), expected)


def transformers(norm_first: bool = True) -> tuple[nn.Transformer, Transformer]:
    theirs = nn.Transformer(
        WIDTH, HEADS, 2, 2, HIDDEN, 0.0, batch_first=True, norm_first=norm_first
    )
    ours = Transformer(
        WIDTH, HEADS, 2, hidden=HIDDEN, norm_first=norm_first, activation="relu"
    ).eval()
    randomised(theirs)
    for name in ("encoder", "decoder"):
        stack = getattr(theirs, name)
        for layer, block in zip(stack.layers, getattr(ours, name), strict=True):
            copy_block(layer, block)
        setattr(ours, f"{name}_norm", stack.norm)
    return theirs, ours


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
def test_encoder_and_decoder_are_the_transformer_of_torch(norm_first: bool) -> None:
    theirs, ours = transformers(norm_first)
    x, y = torch.randn(3, 6, WIDTH), torch.randn(3, 4, WIDTH)
    shown = torch.ones(3, 6, dtype=torch.bool)
    shown[1, 4:] = False
    expected = theirs(
        x,
        y,
        tgt_mask=~causal_mask(4),
        src_key_padding_mask=~shown,
        memory_key_padding_mask=~shown,
    )
    memory = ours.encode(x, shown[:, None, None])
    close(ours.decode(y, memory, memory_mask=shown[:, None, None]), expected)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
def test_decoding_step_by_step_is_decoding_at_once(norm_first: bool) -> None:
    _, model = transformers(norm_first)
    y, memory = torch.randn(3, 7, WIDTH), model.encode(torch.randn(3, 6, WIDTH))
    shown = (torch.arange(6) < torch.tensor([[6], [2], [4]]))[:, None, None]
    with torch.no_grad():
        caches, parts, place = model.begin(memory, 7), [], 0
        for t in (2, 1, 3, 1):
            parts.append(model.step(y[:, place : place + t], caches, place, shown))
            place += t
        close(torch.cat(parts, 1), model.decode(y, memory, memory_mask=shown), 1e-12)


@torch.no_grad()
def test_rotary_blocks_step_too() -> None:
    block = randomised(TransformerBlock(WIDTH, HEADS, rotary=True))
    x = torch.randn(2, 5, WIDTH)
    cache = block.begin(2, 5)
    steps = [block.step(x[:, a:b], cache, a) for a, b in ((0, 2), (2, 3), (3, 5))]
    close(torch.cat(steps, 1), block(x, causal=True), 1e-12)


@pytest.mark.parametrize("activation", ["gelu", "gelu-tanh", "relu"])
def test_feed_forward_has_the_gradient_of_its_parts(activation: str) -> None:
    layer = randomised(FeedForward(3, 4, activation=activation))
    x = torch.randn(2, 5, 3, requires_grad=True)
    approximate = "tanh" if activation == "gelu-tanh" else "none"
    act = F.relu if activation == "relu" else lambda h: F.gelu(h, approximate=approximate)
    expected = layer.down(act(layer.up(x)))
    close(layer(x), expected, 1e-12)
    inputs, slope = [x, *layer.parameters()], torch.randn(2, 5, 3)
    for mine, theirs in zip(
        torch.autograd.grad(layer(x), inputs, slope),
        torch.autograd.grad(expected, inputs, slope),
        strict=True,
    ):
        close(mine, theirs, 1e-12)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FeedForward(8, 8, dropout=-0.1), "dropout=-0.1"),
        (lambda: FeedForward(8, 8, activation="swish"), "'swish'.*gelu, gelu-tanh, relu"),
        (lambda: TransformerBlock(8, 2, cross=True)(torch.zeros(1, 2, 8)), "memory"),
    ],
)
def test_bad_arguments_are_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
