"""LoRA: a large matrix stays as it is, and a small one of low rank is learnt beside it.

Notation: ``W`` (d_out, d_in) the matrix of a linear layer, ``A`` (r, d_in) and ``B`` (d_out, r)
the factors of its update (α/r) B A; r = ``rank``, α = ``alpha``; ``X`` inputs (n, d_in), ``G`` the
slope (n, d_out) of a loss at the outputs.

Source: Hu et al., ICLR 2022.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.core import at_least_single, check_count, check_number
from gentext.core.signatures import keep_contract
from gentext.sequences.attention import MultiHeadAttention
from gentext.transfer.freezing import freeze

Rows = tuple[int, int]  # the first of the rows of W, and the one after the last
FEW = 12  # names that an error lists


class LoRALinear(nn.Module):
    """A linear layer x (W + (α/r) B A)ᵀ + b, of which A and B learn; at first B is zero.

    Args: ``base`` the layer with W and b, which is frozen; ``rank`` r; ``alpha`` α (None: r);
    ``rows`` the rows of W that are updated, each range by an A and a B of its own (None: all).

    Equation: :eq:`eq-pre-lora`
    """

    fused: Tensor | None

    def __init__(
        self,
        base: nn.Linear,
        *,
        rank: int,
        alpha: float | None = None,
        rows: Sequence[Rows] | None = None,
    ) -> None:
        super().__init__()
        d_in, d_out = base.in_features, base.out_features
        self.rows = [(0, d_out)] if rows is None else [(a, b) for a, b in rows]
        if not self.rows or not all(0 <= a < b <= d_out for a, b in self.rows):
            raise ValueError(f"got rows={rows}; give ranges within 0 to {d_out}")
        _check_update(base, self.rows, rank, alpha)
        self.base, self.scale = freeze(base), 1.0 if alpha is None else alpha / rank
        weight = base.weight
        self.A = nn.ParameterList(weight.new_empty(rank, d_in) for _ in self.rows)
        self.B = nn.ParameterList(weight.new_zeros(b - a, rank) for a, b in self.rows)
        for A in self.A:
            nn.init.normal_(A, std=d_in**-0.5)  # so that A x is as large as x
        self.register_buffer("fused", None, persistent=False)

    @property
    def weight(self) -> Tensor:
        """W + (α/r) B A."""
        if self.fused is not None:
            return self.fused
        precise = at_least_single(self.base.weight)
        for A, B, (start, end) in zip(self.A, self.B, self.rows, strict=True):
            update = self.scale * at_least_single(B) @ at_least_single(A)
            precise = precise + F.pad(update, (0, 0, start, len(precise) - end))
        return precise.to(self.base.weight.dtype)

    @property
    def bias(self) -> Tensor | None:
        """That of the layer."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """(…, d_in) to (…, d_out); what is merged computes as one layer, but does not learn."""
        if self.fused is not None:
            if self.training:
                raise ValueError("merged weights do not learn: call unmerge(model) before training")
            return F.linear(x, self.fused, self.bias)
        y = self.base(x)
        for A, B, (start, end) in zip(self.A, self.B, self.rows, strict=True):
            update = self.scale * F.linear(F.linear(x, A), B)
            y = y + F.pad(update, (start, y.shape[-1] - end))
        return y

    def merge(self) -> None:
        """Compute with W + (α/r) B A as one matrix; W itself is kept, so nothing is rounded off.

        Equation: :eq:`eq-pre-lora`
        """
        self.fused = self.weight.detach()

    def unmerge(self) -> None:
        """Compute with W, A and B again, which then learn."""
        self.fused = None


def add_lora(
    module: nn.Module, names: str | Sequence[str], *, rank: int, alpha: float | None = None
) -> Any:
    """Freeze ``module``, and let only low-rank updates of its linear layers called ``names`` learn.

    Names are whole, or endings ("up", "attention.out"), or patterns ("blocks.0.*"). Of the joint
    matrix ``qkv`` of attention, "q", "k" and "v" are parts with updates of their own. The layers
    are replaced where they stand. Raises ValueError where no linear layer has such a name.

    Equation: :eq:`eq-pre-lora`
    """
    found = _found(module, names)
    for path, rows in found.items():
        _check_update(_linear(module, path), rows, rank, alpha)
    freeze(module)
    for path, rows in found.items():
        parent, _, name = path.rpartition(".")
        layer = LoRALinear(_linear(module, path), rank=rank, alpha=alpha, rows=rows)
        setattr(module.get_submodule(parent), name, layer.eval())
    return module


def merge(module: nn.Module) -> Any:
    """Compute with the sum of matrix and update in all layers of ``module`` that have one."""
    for layer in _adapted(module):
        layer.merge()
    return module


def unmerge(module: nn.Module) -> Any:
    """Undo ``merge``, exactly."""
    for layer in _adapted(module):
        layer.unmerge()
    return module


def lora_parameters(module: nn.Module) -> list[nn.Parameter]:
    """A and B of all layers of ``module`` that have them: what learns."""
    return list(chain.from_iterable((*layer.A, *layer.B) for layer in _adapted(module)))


def count_lora(module: nn.Module, names: str | Sequence[str], *, rank: int) -> int:
    """How many numbers ``add_lora`` would train: Σ r (d_in + d_out) over layers and their parts.

    Equation: :eq:`eq-pre-lora`
    """
    check_count("rank", rank)
    return sum(
        rank * (_linear(module, path).in_features + end - start)
        for path, rows in _found(module, names).items()
        for start, end in rows
    )


def best_update(delta: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """B (d_out, r) and A (r, d_in) whose product is nearest to ``delta``: its truncated SVD.

    The squared error Σ_{i>r} σ_i² that remains is the least of all matrices of this rank.

    Source: Eckart and Young, Psychometrika 1936.
    """
    if delta.ndim != 2 or not delta.is_floating_point():
        raise ValueError(f"got delta {tuple(delta.shape)} of {delta.dtype}; give a real matrix")
    _check_rank(rank, *delta.shape)
    U, S, Vh = torch.linalg.svd(at_least_single(delta), full_matrices=False)
    root = S[:rank].sqrt()
    return U[:, :rank] * root, root[:, None] * Vh[:rank]


def _check_update(base: nn.Linear, rows: list[Rows], rank: int, alpha: float | None) -> None:
    for start, end in rows:
        _check_rank(rank, base.in_features, end - start)
    if alpha is not None:
        check_number("alpha", alpha, above=0)


def _check_rank(rank: int, *sides: int) -> None:
    """Raise ValueError unless ``rank`` is one that a matrix with these sides can have."""
    check_count("rank", rank)
    if rank > min(sides):
        raise ValueError(f"got rank={rank}; a matrix of {sides} has at most rank {min(sides)}")


def _adapted(module: nn.Module) -> Iterator[LoRALinear]:
    return (part for part in module.modules() if isinstance(part, LoRALinear))


def _linear(module: nn.Module, path: str) -> nn.Linear:
    layer = module.get_submodule(path)
    assert isinstance(layer, nn.Linear)
    return layer


def _parts(module: nn.Module) -> dict[str, tuple[str, Rows]]:
    """Linear layers and parts of them by name: the path of the layer, and the rows that are meant.

    Layers of a kind of their own, such as masked ones, are no mere matrices and not among them.
    """
    named = dict(module.named_modules())
    found = {
        path: (path, (0, layer.out_features))
        for path, layer in named.items()
        if type(layer) is nn.Linear and path
    }
    for path, layer in named.items():
        if isinstance(layer, MultiHeadAttention):
            whole = f"{path}.qkv".lstrip(".")
            width = layer.out.in_features
            for k, letter in enumerate("qkv"):
                found[f"{whole}.{letter}"] = whole, (k * width, (k + 1) * width)
    return found


def _found(module: nn.Module, names: str | Sequence[str]) -> dict[str, list[Rows]]:
    """The rows to update by path of a layer; a layer as a whole takes the place of its parts."""
    if any(_adapted(module)):
        raise ValueError(
            f"this {type(module).__name__} has low-rank updates already; build it anew"
        )
    wanted, parts = [names] if isinstance(names, str) else names, _parts(module)
    found: dict[str, list[Rows]] = {}
    for wish in wanted:
        fitting = [n for n in parts if n.endswith(f".{wish}") or fnmatch.fnmatchcase(n, wish)]
        if not fitting:
            raise ValueError(f"no linear layer is called {wish!r}: {_there(parts)}")
        for name in fitting:
            path, rows = parts[name]
            here = found.setdefault(path, [])
            if rows not in here:
                here.append(rows)
    if not found:
        raise ValueError(f"got no names: {_there(parts)}")
    return {path: _without_parts(rows) for path, rows in found.items()}


def _without_parts(rows: list[Rows]) -> list[Rows]:
    """The largest range alone, where it contains the others."""
    whole = min(a for a, _ in rows), max(b for _, b in rows)
    return [whole] if whole in rows else sorted(rows)


def _there(parts: dict[str, tuple[str, Rows]]) -> str:
    more = f" and {len(parts) - FEW} more" if len(parts) > FEW else ""
    return f"there are {', '.join(list(parts)[:FEW]) or 'none'}{more}"


keep_contract(globals())
