"""Attention and its blocks against loops, autograd and the modules of torch.nn."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.sequences.transformer import (
    FeedForward,
    MultiHeadAttention,
    Transformer,
    TransformerBlock,
    causal_mask,
    layer_norm,
    layer_norm_gradient,
    rotate,
    scaled_dot_product_attention,
    sinusoidal_positions,
    softmax_jacobian,
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


# What attention computes


@pytest.mark.equation("eq-attn-sdpa")
def test_attention_is_the_mean_of_values_weighted_by_the_softmax_of_scores() -> None:
    q, k, v = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5, 6)
    expected = torch.zeros(3, 6)
    for i in range(3):
        scores = [sum(float(q[i, a] * k[j, a]) for a in range(4)) / 2 for j in range(5)]
        total = sum(math.exp(score) for score in scores)
        for j in range(5):
            expected[i] += math.exp(scores[j]) / total * v[j]
    output, weights = scaled_dot_product_attention(q, k, v)
    close(output, expected, 1e-12)
    close(output, F.scaled_dot_product_attention(q[None], k[None], v[None])[0], 1e-12)
    close(weights.sum(-1), torch.ones(3), 1e-14)


def test_masked_attention_is_that_of_torch() -> None:
    q, k, v = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8)
    mask = torch.rand(2, 1, 4, 5) < 0.6
    mask[..., 0] = True
    output, weights = scaled_dot_product_attention(q, k, v, mask)
    close(output, F.scaled_dot_product_attention(q, k, v, attn_mask=mask), 1e-12)
    assert (weights[~mask.expand_as(weights)] == 0).all()


@pytest.mark.equation("eq-attn-var")
@pytest.mark.parametrize("d", [16, 128])
def test_scaling_keeps_the_variance_of_scores_at_one(d: int) -> None:
    q, k = torch.randn(6000, d), torch.randn(6000, d)
    assert float((q * k).sum(1).var()) / d == pytest.approx(1, abs=0.08)
    pair = torch.stack([k, torch.zeros_like(k)], dim=1)
    weights = scaled_dot_product_attention(q[:, None], pair, pair)[1][:, 0]
    score = weights[:, 0].log() - weights[:, 1].log()  # that of k beside a score of zero
    assert float(score.var()) == pytest.approx(1, abs=0.08)


@pytest.mark.equation("eq-attn-softmax")
def test_softmax_jacobian_is_that_of_autograd_and_vanishes_at_large_scores() -> None:
    z = torch.randn(6)
    jacobian = softmax_jacobian(z.softmax(0))
    close(jacobian, torch.func.jacrev(lambda t: t.softmax(0))(z), 1e-13)
    assert float(torch.linalg.matrix_norm(jacobian, 2)) <= 0.5
    assert float(torch.linalg.matrix_norm(softmax_jacobian((20 * z).softmax(0)), 2)) < 0.01
    batch = torch.randn(2, 3, 4).softmax(-1)
    close(softmax_jacobian(batch)[1, 2], softmax_jacobian(batch[1, 2]), 1e-15)


@pytest.mark.equation("eq-attn-causal")
def test_nothing_depends_on_what_comes_later() -> None:
    x, maps = torch.randn(5, 4), torch.randn(3, 4, 4)

    def attend(x: Tensor) -> Tensor:
        q, k, v = x @ maps
        return scaled_dot_product_attention(q, k, v, causal_mask(5))[0]

    jacobian = torch.func.jacrev(attend)(x)
    for i, j in itertools.product(range(5), repeat=2):
        assert (jacobian[i, :, j].abs().max() == 0) == (j > i)
    q, k, v = (x @ maps)[:, None]
    close(attend(x)[None], F.scaled_dot_product_attention(q, k, v, is_causal=True), 1e-12)


# Several heads


@pytest.mark.equation("eq-attn-mha")
def test_heads_add_up() -> None:
    attention = randomised(MultiHeadAttention(WIDTH, HEADS))
    x, size = torch.randn(3, 5, WIDTH), WIDTH // HEADS
    queries, keys, values = attention.qkv.weight.chunk(3)
    biases = attention.qkv.bias.chunk(3)
    expected = attention.out.bias
    for h in range(HEADS):
        rows = slice(h * size, (h + 1) * size)
        q, k, v = (
            x @ weight[rows].T + bias[rows]
            for weight, bias in zip((queries, keys, values), biases, strict=True)
        )
        weights = (q @ k.transpose(1, 2) / math.sqrt(size)).softmax(-1)
        close(attention.weights(x)[:, h], weights, 1e-12)
        expected = expected + weights @ v @ attention.out.weight[:, rows].T
    close(attention(x), expected, 1e-12)


@pytest.mark.equation("eq-attn-mha")
def test_attention_is_that_of_torch() -> None:
    theirs = randomised(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True))
    ours = MultiHeadAttention(WIDTH, HEADS).eval()
    copy_attention(theirs, ours)
    x, memory = torch.randn(3, 5, WIDTH), torch.randn(3, 7, WIDTH)
    shown = torch.rand(3, 7) < 0.6
    shown[:, 2] = True
    output, weights = theirs(x, memory, memory, key_padding_mask=~shown, average_attn_weights=False)
    close(ours(x, memory, mask=shown[:, None, None]), output)
    close(ours.weights(x, memory, mask=shown[:, None, None]), weights)
    output, weights = theirs(x, x, x, attn_mask=~causal_mask(5), average_attn_weights=False)
    close(ours(x, causal=True), output)
    close(ours.weights(x, causal=True), weights)
    shown = torch.ones(3, 5, dtype=torch.bool)
    shown[0, 1] = shown[2, 3] = False
    output, weights = theirs(
        x, x, x, attn_mask=~causal_mask(5), key_padding_mask=~shown, average_attn_weights=False
    )
    close(ours(x, mask=shown[:, None, None], causal=True), output)
    close(ours.weights(x, mask=shown[:, None, None], causal=True), weights)


def test_the_bias_of_keys_changes_nothing() -> None:
    attention = randomised(MultiHeadAttention(WIDTH, HEADS))
    x = torch.randn(2, 5, WIDTH)
    before = attention(x)
    attention.qkv.bias.data[WIDTH : 2 * WIDTH] += torch.randn(WIDTH)
    close(attention(x), before, 1e-12)


@pytest.mark.equation("eq-attn-perm")
def test_without_positions_attention_commutes_with_permutations() -> None:
    x, order = torch.randn(2, 6, WIDTH), torch.randperm(6)
    for rotary in (False, True):
        attention = randomised(MultiHeadAttention(WIDTH, HEADS, rotary=rotary))
        moved, permuted = attention(x[:, order]), attention(x)[:, order]
        assert (float((moved - permuted).abs().max().detach()) < 1e-12) != rotary


def test_dropout_is_for_training_alone_and_keeps_the_mean() -> None:
    attention = randomised(MultiHeadAttention(WIDTH, HEADS, dropout=0.5))
    x = torch.randn(1, 4, WIDTH)
    quiet = attention(x)
    attention.train()
    with torch.no_grad():
        noisy = attention(x.expand(20_000, -1, -1))
    assert float(noisy.std(0).min()) > 0
    error = (noisy.mean(0) - quiet[0]) / (noisy.std(0) / math.sqrt(len(noisy)))
    assert float(error.abs().max().detach()) < 5


# Positions


@pytest.mark.equation("eq-attn-sinpos")
def test_a_shift_rotates_sinusoidal_positions() -> None:
    width, k = 16, 7
    code = sinusoidal_positions(50, width)
    omega = 10_000 ** (-torch.arange(0, width, 2) / width)
    close(code[:, 0::2], torch.sin(torch.arange(50.0)[:, None] * omega), 1e-12)
    close(code[:, 1::2], torch.cos(torch.arange(50.0)[:, None] * omega), 1e-12)
    rotation = torch.block_diag(
        *(
            torch.tensor([[math.cos(w * k), math.sin(w * k)], [-math.sin(w * k), math.cos(w * k)]])
            for w in omega.tolist()
        )
    )
    close(code[k:], code[:-k] @ rotation.T)
    close(rotation @ rotation.T, torch.eye(width), 1e-13)
    apart = torch.arange(50.0)[:, None, None] - torch.arange(50.0)[None, :, None]
    close(code @ code.T, torch.cos(omega * apart).sum(-1))


@pytest.mark.equation("eq-attn-rope")
def test_rotated_scores_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(1, 8), torch.randn(1, 8)

    def score(m: int, n: int) -> Tensor:
        return (rotate(q, torch.tensor([m])) * rotate(k, torch.tensor([n]))).sum()

    for m, n, shift in ((3, 1, 5), (10, 40, 17)):
        close(score(m, n), score(m + shift, n + shift))
        close(score(m, n), (q * rotate(k, torch.tensor([n - m]))).sum())
    assert abs(float(score(3, 1) - score(1, 3))) > 1e-3
    close(rotate(q, torch.tensor([9])).norm(), q.norm(), 1e-12)
    angle = 9 * 10_000 ** (-2 / 8)  # of the second pair at place 9
    turn = complex(float(q[0, 2]), float(q[0, 3])) * complex(math.cos(angle), math.sin(angle))
    close(rotate(q, torch.tensor([9]))[0, 2:4], torch.tensor([turn.real, turn.imag]), 1e-12)


@pytest.mark.equation("eq-attn-rope")
def test_rotary_attention_sees_distances_alone() -> None:
    attention = randomised(MultiHeadAttention(WIDTH, HEADS, rotary=True))
    x = torch.randn(2, 5, WIDTH)
    q, k, _ = attention.project(x)
    later_q, later_k, _ = attention.project(x, position=11)
    close(q @ k.transpose(2, 3), later_q @ later_k.transpose(2, 3))
    assert float((q - later_q).abs().max().detach()) > 0.1


# Normalisation and blocks


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
        (lambda: MultiHeadAttention(10, 4), "width=10 and heads=4"),
        (lambda: MultiHeadAttention(12, 4, rotary=True), "even number"),
        (lambda: MultiHeadAttention(8, 0), "heads=0"),
        (lambda: MultiHeadAttention(8, 2, dropout=1.0), "dropout=1.0"),
        (lambda: FeedForward(8, 8, dropout=-0.1), "dropout=-0.1"),
        (lambda: FeedForward(8, 8, activation="swish"), "'swish'.*gelu, gelu-tanh, relu"),
        (lambda: sinusoidal_positions(4, 7), "width=7"),
        (lambda: TransformerBlock(8, 2, cross=True)(torch.zeros(1, 2, 8)), "memory"),
        (
            lambda: MultiHeadAttention(8, 2)(
                torch.zeros(1, 2, 8), torch.zeros(1, 3, 8), causal=True
            ),
            "2 queries and 3 keys",
        ),
    ],
)
def test_bad_arguments_are_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
