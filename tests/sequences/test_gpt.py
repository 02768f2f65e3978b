"""GPT against enumeration, its own uncached passes, torch's decoder and torch's counters."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gentext.core import Density, Generates, Samples
from gentext.sequences.gpt import GPT, cache_bytes, count_flops, count_parameters
from tests.tiny_gpt import SHAPE, all_strings, close, make

pytestmark = pytest.mark.usefixtures("float64")


# The model


def test_capabilities() -> None:
    assert isinstance(make(), Density)
    assert isinstance(make(), Samples)
    assert isinstance(make(), Generates)


def test_all_strings_have_probability_one() -> None:
    model = make(vocab_size=4, context=5)
    for length in (1, 3, 5):
        total = model.log_prob(all_strings(4, length)).exp().sum()
        close(total.detach(), torch.tensor(1.0))


def test_predictions_do_not_depend_on_what_comes_later() -> None:
    model, tokens = make(), torch.randint(11, (3, 8))
    logits = model.logits(tokens)
    for place in range(8):
        other = tokens.clone()
        other[:, place] = (other[:, place] + 1) % 11
        changed = (model.logits(other) != logits).flatten(2).any(-1).any(0)
        assert not changed[:place].any()
        assert changed[place:].all()


def test_it_is_the_decoder_that_torch_would_build() -> None:
    model, tokens = make(), torch.randint(11, (3, 6))
    layer = nn.TransformerEncoderLayer(
        16, 2, 64, 0.0, lambda h: F.gelu(h, approximate="tanh"), batch_first=True, norm_first=True
    )
    x = model.tokens.weight[tokens] + model.positions.weight[:6]
    for block in model.blocks:
        layer.self_attn.in_proj_weight = block.attention.qkv.weight
        layer.self_attn.in_proj_bias = block.attention.qkv.bias
        layer.self_attn.out_proj.weight = block.attention.out.weight
        layer.self_attn.out_proj.bias = block.attention.out.bias
        layer.linear1, layer.linear2 = block.feed_forward.up, block.feed_forward.down
        layer.norm1, layer.norm2 = block.norm1, block.norm2
        x = layer(x, src_mask=~torch.ones(6, 6, dtype=torch.bool).tril())
    expected = model.norm(x) @ model.tokens.weight.T
    close(model.logits(tokens), expected, 1e-10)


@pytest.mark.equation("eq-gpt-params")
@pytest.mark.parametrize(
    "shape", [SHAPE, {"vocab_size": 50, "context": 20, "layers": 3, "heads": 3, "width": 24}]
)
def test_parameters_are_counted(shape: dict[str, int]) -> None:
    assert count_parameters(**shape) == sum(p.numel() for p in GPT(**shape).parameters())


@pytest.mark.equation("eq-gpt-params")
def test_gpt2_small_has_the_published_size() -> None:
    shape = {"vocab_size": 50_257, "context": 1024, "layers": 12, "heads": 12, "width": 768}
    with torch.device("meta"):
        model = GPT(**shape)
    assert sum(p.numel() for p in model.parameters()) == 124_439_808
    assert count_parameters(**shape) == 124_439_808


@pytest.mark.equation("eq-gpt-flops")
def test_operations_are_counted() -> None:
    shape = {"vocab_size": 40, "context": 16, "layers": 2, "heads": 2, "width": 32}
    model, tokens = GPT(**shape), torch.randint(40, (3, 16))
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            model.logits(tokens)
        with FlopCounterMode(display=False) as both:
            model.logits(tokens).sum().backward()
    assert forward.get_total_flops() == count_flops(**shape, batch=3, tokens=16)
    assert both.get_total_flops() == 3 * forward.get_total_flops()


@pytest.mark.equation("eq-gpt-init")
def test_branches_add_the_same_variance_at_any_depth() -> None:
    width = 64
    for layers in (3, 12):
        torch.manual_seed(0)
        model = GPT(vocab_size=50, context=64, layers=layers, heads=2, width=width)
        x = torch.zeros(1500, width)
        for block in model.blocks:  # a branch whose inner features have variance 1
            x = x + block.attention.out(torch.randn(1500, width))
            x = x + block.feed_forward.down(torch.randn(1500, 4 * width)) / 2
        assert float(x.var().detach()) == pytest.approx(0.02**2 * width, rel=0.1)
        for weight in (
            model.tokens.weight,
            model.positions.weight,
            model.blocks[0].attention.qkv.weight,
            model.blocks[0].feed_forward.up.weight,
        ):
            assert float(weight.std().detach()) == pytest.approx(0.02, rel=0.05)
        assert (model.blocks[1].norm1.weight == 1).all()
        assert (model.blocks[1].attention.qkv.bias == 0).all()


# The cache


@pytest.mark.equation("eq-gpt-kv")
def test_reading_by_parts_is_reading_at_once() -> None:
    model, tokens = make(), torch.randint(11, (3, 8))
    full = model.logits(tokens)
    state, place, parts = model.begin(3, 8), 0, []
    for t in (3, 1, 2):
        logits, state = model.extend(tokens[:, place : place + t], state)
        parts.append(logits)
        place += t
    close(torch.cat(parts, 1), full[:, :6])
    last, state = model.step(tokens[:, 6], state)
    close(last, full[:, 6])
    last, state = model.read(tokens[:, 7:], state)
    close(last, full[:, 7])


@pytest.mark.equation("eq-gpt-kv")
def test_bytes_of_the_cache() -> None:
    cache = GPT(**SHAPE).begin(3, 8)[0]
    assert cache.nbytes == cache_bytes(layers=2, width=16, tokens=8, batch=3, item=8)
    small = cache_bytes(layers=12, width=768, tokens=1024, item=2)  # GPT-2 small in half precision
    assert small == 36 * 2**20


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_cached_generation_is_the_uncached_one(temperature: float) -> None:
    model, prompt = make(), torch.randint(11, (4, 3))
    cached, uncached = (
        model.generate(
            prompt,
            30,  # the context of 8 overflows several times
            temperature=temperature,
            cache=cache,
            generator=torch.Generator().manual_seed(3),
        )
        for cache in (True, False)
    )
    assert cached.shape == (4, 33)
    assert (cached == uncached).all()
    assert len(cached.unique()) > 3


def test_the_state_can_be_reordered() -> None:
    model, tokens = make(), torch.randint(11, (3, 5))
    _, (cache, position, weights) = model.read(tokens[:, :4], model.begin(3, 8))
    order = torch.tensor([2, 0, 0, 1])
    logits, _ = model.step(tokens[order, 4], (cache.index_select(0, order), position, weights))
    close(logits, model.logits(tokens)[order, -1])


# Training and devices


def test_padding_counts_nothing() -> None:
    model = make(pad=0)
    tokens = torch.tensor([[5, 6, 7, 0, 0], [3, 4, 0, 0, 0]])
    close(model.log_prob(tokens)[1:], model.log_prob(tokens[1:, :2]))
    close(model.loss(tokens), -model.log_prob(tokens).sum() / 5)


def test_dropout_acts_in_training_alone() -> None:
    model, tokens = make(dropout=0.5), torch.randint(11, (2, 8))
    close(model.logits(tokens), model.logits(tokens), 0.0)
    model.train()
    assert (model.logits(tokens) != model.logits(tokens)).any()


COMPILED = """
import torch
from gentext import GPT
model = GPT(vocab_size=11, context=8, layers=2, heads=2, width=16, pad=0).double()
tokens = torch.randint(1, 11, (2, 8))
compiled = torch.compile(model.loss, backend="aot_eager", fullgraph=True)
losses = compiled(tokens), model.loss(tokens)
for pair in zip(*(torch.autograd.grad(loss, list(model.parameters())) for loss in losses)):
    torch.testing.assert_close(*pair, atol=1e-10, rtol=0)
torch.testing.assert_close(*losses, atol=1e-12, rtol=0)
"""


def test_the_compiled_loss_is_one_graph_with_the_same_gradients() -> None:
    """In a process of its own, where no shapes are checked at run time."""
    run = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_half_precision_is_near_full_precision() -> None:
    model, tokens = make(0.1).float(), torch.randint(11, (2, 8))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(tokens)
        text = model.generate(tokens[:, :3], 3, temperature=0.0)
    loss.backward()
    assert text.shape == (2, 6)
    torch.testing.assert_close(loss, model.loss(tokens), atol=0.02, rtol=0.02, check_dtype=False)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


def test_shapes_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = GPT(**SHAPE)
        tokens = torch.zeros(2, 8, dtype=torch.long)
    assert model.logits(tokens).shape == (2, 8, 11)
    assert model.loss(tokens).device.type == "meta"
    assert model.step(tokens[:, 0], model.begin(2, 8))[0].shape == (2, 11)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": 3}, "width=16 and heads=3"),
        ({"layers": 0}, "layers=0.*at least 1"),
        ({"context": 0}, "context=0.*at least 1"),
        ({"vocab_size": 0}, "vocab_size=0.*at least 1"),
        ({"bos": 11}, "bos=11.*0 to 10"),
        ({"pad": -1}, "pad=-1"),
        ({"dropout": 1.5}, "dropout=1.5"),
    ],
)
def test_impossible_models_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPT(**{**SHAPE, **arguments})


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda m: m.logits(torch.zeros(2, 9, dtype=torch.long)), "at most 8"),
        (lambda m: m.logits(torch.full((2, 3), 11)), "from 11 to 11"),
        (lambda m: m.logits(torch.zeros(2, 3)), "integers"),
        (lambda m: m.read(torch.zeros(2, 5, dtype=torch.long), m.begin(2, 4)), "room for 4"),
        (lambda m: m.begin(2, 9), "capacity=9"),
    ],
)
def test_bad_input_is_refused(use, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        use(make())
