"""Attention and positions against loops, autograd and torch.nn."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.sequences.attention import (
    MultiHeadAttention,
    causal_mask,
    rotate,
    scaled_dot_product_attention,
    sinusoidal_positions,
    softmax_jacobian,
)

pytestmark = pytest.mark.usefixtures("float64")

WIDTH, HEADS = 8, 2


def close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


def randomised(module: nn.Module) -> nn.Module:
    """The module in evaluation mode, with no parameter at zero or one, where errors hide."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


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


@pytest.mark.equation("eq-attn-sdpa")
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
    ours.qkv.weight, ours.qkv.bias = theirs.in_proj_weight, theirs.in_proj_bias
    ours.out.weight, ours.out.bias = theirs.out_proj.weight, theirs.out_proj.bias
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


@torch.no_grad()
@pytest.mark.parametrize("rotary", [False, True])
def test_attending_step_by_step_is_attending_at_once(rotary: bool) -> None:
    attention = randomised(MultiHeadAttention(WIDTH, HEADS, rotary=rotary))
    x = torch.randn(3, 6, WIDTH)
    cache = attention.begin(3, 6)
    steps = [attention.step(x[:, a:b], cache, a) for a, b in ((0, 3), (3, 4), (4, 6))]
    close(torch.cat(steps, dim=1), attention(x, causal=True), 1e-12)


@torch.no_grad()
def test_a_memory_may_be_projected_once() -> None:
    attention = randomised(MultiHeadAttention(WIDTH, HEADS))
    x, memory = torch.randn(3, 4, WIDTH), torch.randn(3, 6, WIDTH)
    mask = torch.arange(6) < torch.tensor([6, 1, 3])[:, None, None, None]
    k, v = attention.keys_and_values(memory)
    close(attention.read(x, k, v, mask), attention(x, memory, mask=mask), 1e-12)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MultiHeadAttention(10, 4), "width=10 and heads=4"),
        (lambda: MultiHeadAttention(12, 4, rotary=True), "even number"),
        (lambda: MultiHeadAttention(8, 0), "heads=0"),
        (lambda: MultiHeadAttention(8, 2, dropout=1.0), "dropout=1.0"),
        (lambda: sinusoidal_positions(4, 7), "width=7"),
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


def test_a_mask_of_numbers_is_the_mask_of_truths() -> None:
    """Of bytes ~1 is 254, which is true, and floats would be added to the scores."""
    layer, x = MultiHeadAttention(8, 2), torch.randn(2, 3, 8)
    mask = torch.tensor([[[[True, True, False]]], [[[True, False, True]]]])
    expected, q = layer(x, mask=mask), torch.randn(2, 2, 3, 4)
    for other in (mask.to(torch.uint8), mask.float(), mask.long()):
        assert layer(x, mask=other).equal(expected)
        assert layer(x, mask=other, causal=True).equal(layer(x, mask=mask, causal=True))
        assert layer.weights(x, mask=other).equal(layer.weights(x, mask=mask))
        for ours, theirs in zip(
            scaled_dot_product_attention(q, q, q, other),
            scaled_dot_product_attention(q, q, q, mask),
            strict=True,
        ):
            assert ours.equal(theirs)
    with pytest.raises(ValueError, match="other values than True and False"):
        layer(x, mask=torch.tensor([0.0, 0.0, -math.inf]))
