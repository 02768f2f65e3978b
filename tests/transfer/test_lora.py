"""LoRA against autograd, the merged matrix, the singular value decomposition, and by counting."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from oracles import minimize
from torch import Tensor, nn

import gentext as gt
from gentext.nn.masked import MaskedLinear
from gentext.transfer.lora import (
    LoRALinear,
    add_lora,
    best_update,
    count_lora,
    lora_parameters,
    merge,
    unmerge,
)

QV = ("q", "v")


def bert(**more: Any) -> gt.BERT:
    sizes: dict[str, Any] = {"layers": 2, "heads": 2, "width": 8} | more
    return gt.BERT(vocab_size=11, context=8, **sizes)


def tokens() -> Tensor:
    return torch.randint(11, (6, 8))


def filled(module: nn.Module) -> Any:
    """With updates that are not zero."""
    with torch.no_grad():
        for p in lora_parameters(module):
            p.add_(0.3 * torch.randn_like(p))
    return module


@pytest.mark.equation("eq-pre-lora")
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("rows", [None, [(0, 2), (4, 6)]])
def test_at_first_the_output_is_the_same_and_only_b_has_a_slope(rows: Any) -> None:
    """∂A = 0 and ∂B = (α/r) Gᵀ X Aᵀ, of the rows that are updated."""
    base, (X, G) = nn.Linear(5, 6), (torch.randn(7, 5), torch.randn(7, 6))
    layer = LoRALinear(copy.deepcopy(base), rank=2, alpha=8.0, rows=rows)
    y = layer(X)
    assert y.equal(base(X))
    (y * G).sum().backward()
    for A, B, (start, end) in zip(layer.A, layer.B, layer.rows, strict=True):
        assert A.grad is not None
        assert not A.grad.any()
        torch.testing.assert_close(
            B.grad, 8 / 2 * G[:, start:end].T @ X @ A.detach().T, rtol=1e-12, atol=1e-12
        )
    assert layer.base.weight.grad is None


@pytest.mark.equation("eq-pre-lora")
@pytest.mark.usefixtures("float64")
def test_the_weight_is_the_sum_and_its_slopes_are_those_of_autograd() -> None:
    layer, X = filled(LoRALinear(nn.Linear(5, 6), rank=2, alpha=3.0)), torch.randn(7, 5)
    (A,), (B,), W, b = layer.A, layer.B, layer.base.weight, layer.base.bias

    def written_out(A: Tensor, B: Tensor) -> Tensor:
        return (X @ (W + 3 / 2 * B @ A).T + b).sin().sum()

    torch.testing.assert_close(layer.weight, W + 3 / 2 * B @ A, rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(layer(X).sin().sum(), [A, B])
    theirs = torch.autograd.grad(written_out(A, B), [A, B])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.equation("eq-pre-lora")
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_merged_computes_the_same_and_is_undone_to_the_bit(dtype: torch.dtype, most: float) -> None:
    model = filled(add_lora(bert().to(dtype).eval(), [*QV, "up"], rank=2, alpha=0.5))
    x, state = tokens(), copy.deepcopy(model.state_dict())
    before = model.encode(x)
    torch.testing.assert_close(merge(model).encode(x), before, rtol=most, atol=most)
    unmerge(model)
    assert model.encode(x).equal(before)
    assert all(value.equal(state[key]) for key, value in model.state_dict().items())


def test_a_cache_of_keys_reads_the_updated_weights() -> None:
    """Decoding takes matrices out of the layers, and must find the same logits."""
    model = gt.GPT(vocab_size=9, context=8, layers=2, heads=2, width=8).double().eval()
    filled(add_lora(model, [*QV, "down"], rank=2))
    row = torch.randint(9, (3, 6))
    logits, _ = model.extend(row, model.begin(3, 8))
    torch.testing.assert_close(logits, model.logits(row))


def test_cross_attention_reads_the_updated_weights() -> None:
    """It takes rows out of the joint matrix, which a layer beside it would not be asked for."""
    block = gt.transformer.TransformerBlock(8, 2, cross=True).double()
    x, memory = torch.randn(3, 4, 8).double(), torch.randn(3, 5, 8).double()
    filled(add_lora(block, "cross.qkv.v", rank=2))
    plain = gt.transformer.TransformerBlock(8, 2, cross=True).double()
    state = {k: v for k, v in block.state_dict().items() if "qkv" not in k or "attention" in k}
    cross: Any = block.cross
    state |= {"cross.qkv.weight": cross.qkv.weight, "cross.qkv.bias": cross.qkv.bias}
    plain.load_state_dict(state)
    torch.testing.assert_close(block(x, memory), plain(x, memory))


def test_the_update_of_queries_and_values_leaves_keys_alone() -> None:
    model = filled(add_lora(bert(), QV, rank=2))
    layer: Any = model.blocks[0].attention.qkv
    changed = (layer.weight - layer.base.weight).abs().sum(1) > 0
    assert changed.tolist() == [True] * 8 + [False] * 8 + [True] * 8
    assert [tuple(A.shape) for A in layer.A] == [(2, 8), (2, 8)]


@pytest.mark.equation("eq-pre-lora")
def test_a_low_rank_gpt2_trains_294912_numbers() -> None:
    """12 layers of queries and values, 8 (768 + 768) each."""
    with torch.device("meta"):
        model = gt.GPT(vocab_size=50257, context=1024, layers=12, heads=12, width=768)
    assert count_lora(model, QV, rank=8) == 294_912
    add_lora(model, QV, rank=8)
    assert sum(p.numel() for p in lora_parameters(model)) == 294_912
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 294_912


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("qkv", 2 * 2 * (8 + 24)),
        (["qkv", "q"], 2 * 2 * (8 + 24)),
        (["k", "attention.out"], 2 * 2 * (16 + 16)),
        ("blocks.0.*", 2 * (8 + 24 + 16 + 40 + 40)),
        ("blocks.1.attention.qkv.q", 2 * 16),
        ("*.up", 2 * 2 * 40),
    ],
)
def test_layers_are_named_by_endings_patterns_and_parts(names: Any, expected: int) -> None:
    model = bert()
    assert count_lora(model, names, rank=2) == expected
    assert not lora_parameters(model)
    assert sum(p.numel() for p in lora_parameters(add_lora(model, names, rank=2))) == expected


def test_the_best_update_is_the_truncated_svd() -> None:
    """No A and B that a quasi-Newton method finds do better, and they reach Σ_{i>r} σ_i²."""
    delta = torch.randn(6, 5, dtype=torch.float64)
    rest = torch.linalg.svdvals(delta)[2:].square().sum()
    B, A = best_update(delta, 2)
    torch.testing.assert_close((delta - B @ A).square().sum(), rest, rtol=1e-10, atol=0)
    layer = LoRALinear(nn.Linear(5, 6).double(), rank=2)
    start = layer.base.weight.detach() + delta

    def error() -> Tensor:
        return (layer.weight - start).square().sum()

    assert abs(minimize(error, [*layer.A, *layer.B]) - float(rest)) < 1e-8


def test_training_changes_the_updates_and_nothing_else() -> None:
    model = bert(dropout=0.5)
    add_lora(model, QV, rank=2)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        model.train()
        optimizer.zero_grad()
        model.encode(tokens()).square().mean().backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        assert value.equal(before[name]) == (".A." not in name and ".B." not in name), name


@pytest.mark.filterwarnings("ignore")  # of the compiler itself
def test_compiled_and_under_autocast_it_is_the_same() -> None:
    layer = filled(LoRALinear(nn.Linear(8, 6), rank=2, rows=[(0, 2), (4, 6)]))
    x = torch.randn(5, 8)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x)
    half = copy.deepcopy(layer).bfloat16()
    for rough in (mixed, half(x.bfloat16()), half.eval().bfloat16()(x.bfloat16())):
        assert rough.dtype == torch.bfloat16
        torch.testing.assert_close(rough.float(), layer(x), rtol=0.05, atol=0.05)
    half(x.bfloat16()).sum().backward()
    assert all(p.grad.dtype == torch.bfloat16 for p in lora_parameters(half))
    half.merge()
    torch.testing.assert_close(half.weight, layer.weight.bfloat16(), rtol=0.02, atol=0.02)


class Masked(nn.Module):
    """A masked layer, an update of which would undo the mask, and a plain one."""

    def __init__(self) -> None:
        super().__init__()
        self.masked = MaskedLinear(torch.ones(3, 3).tril())
        self.plain = nn.Linear(3, 3)


def test_masked_layers_have_no_updates() -> None:
    assert isinstance(Masked().masked, nn.Linear)
    assert count_lora(Masked(), "*", rank=2) == 2 * 6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: add_lora(bert(), "querys", rank=2), r"called 'querys': there are blocks\.0\."),
        (lambda: add_lora(bert(), [], rank=2), "no names: there are blocks"),
        (lambda: add_lora(nn.Conv2d(1, 1, 1), "up", rank=2), "there are none"),
        (lambda: add_lora(bert(), QV, rank=0), "rank"),
        (lambda: add_lora(bert(), QV, rank=9), "at most rank 8"),
        (lambda: add_lora(bert(), QV, rank=2, alpha=0.0), "alpha must be above 0"),
        (lambda: add_lora(add_lora(bert(), QV, rank=2), "up", rank=2), "already"),
        (lambda: LoRALinear(nn.Linear(2, 2), rank=1, rows=[(1, 3)]), "within 0 to 2"),
        (lambda: best_update(torch.ones(2, 3), 3), "at most rank 2"),
        (lambda: merge(add_lora(bert(), QV, rank=2)).train().encode(tokens()), "unmerge"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_refused_name_leaves_the_module_as_it_was() -> None:
    model = bert()
    with pytest.raises(ValueError, match="no linear layer"):
        add_lora(model, ["up", "nowhere"], rank=2)
    with pytest.raises(ValueError, match="at most rank"):
        add_lora(model, ["up", "down"], rank=9)
    assert all(p.requires_grad for p in model.parameters())
    assert not lora_parameters(model)
    assert all(part.training for part in model.train().modules())


@pytest.mark.usefixtures("float64")
def test_a_flow_with_updates_is_the_flow_with_the_sum_of_the_matrices() -> None:
    """Its last layers are not called, but read: their weight is the sum there, too."""
    flow = gt.RealNVP(features=4, transforms=2, hidden=(8,))
    names = [n for n, part in flow.named_modules() if type(part) is nn.Linear]
    adapted = filled(add_lora(copy.deepcopy(flow), names, rank=2))
    with torch.no_grad():
        for name in names:
            flow.get_submodule(name).weight.copy_(adapted.get_submodule(name).weight)
    x = torch.randn(5, 4)
    torch.testing.assert_close(adapted.log_prob(x), flow.log_prob(x), rtol=1e-10, atol=1e-10)
    adapted.log_prob(x).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in lora_parameters(adapted))
