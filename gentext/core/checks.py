"""What is refused, and in which words: names, counts, examples, labels, tokens, grey values.

Notation: ``x`` examples (n, *shape), ``y`` labels (n,), ``k`` grey levels from 0 to levels − 1.

Every check raises ValueError in one sentence: what came, what is allowed, what to do. Values are
looked at where that costs nothing (`at_hand`).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from numbers import Integral
from typing import Any

import torch
from torch import Tensor


def chosen(kind: str, name: Any, table: Collection[str]) -> Any:
    """What ``table`` holds under ``name``, or the name itself where the table is a mere list.

    Raises ValueError for a name that is not there, with all that are and the nearest of them.
    """
    if isinstance(name, str) and name in table:
        return table[name] if isinstance(table, Mapping) else name
    near = difflib.get_close_matches(name, table, 1) if isinstance(name, str) else []
    meant = f"did you mean {near[0]!r}? " if near else ""
    there = f"choose one of {', '.join(table)}" if table else "there are none"
    raise ValueError(f"unknown {kind} {name!r}: {meant}{there}")


def check_count(name: str, number: Any, least: int = 1) -> None:
    """Raise ValueError unless ``number`` is a whole number, ``least`` or more."""
    if not isinstance(number, Integral) or isinstance(number, bool) or number < least:
        raise ValueError(f"got {name}={number!r}; {name} must be a whole number, at least {least}")


def check_counts(least: int = 1, **counts: Any) -> None:
    """Raise ValueError unless all are whole numbers, ``least`` or more."""
    for name, number in counts.items():
        check_count(name, number, least)


def check_dropout(dropout: float) -> None:
    """Raise ValueError unless ``dropout`` is a probability below one."""
    if not 0 <= dropout < 1:
        raise ValueError(f"got dropout={dropout}; it must be at least 0 and below 1")


def check_heads(width: int, heads: int, rotary: bool = False) -> None:
    """Raise ValueError unless ``heads`` heads divide ``width`` (evenly for rotary positions)."""
    if width < 1 or heads < 1 or width % heads or (rotary and width // heads % 2):
        each = "an even number each" if rotary else "the same number each"
        raise ValueError(
            f"got width={width} and heads={heads}; the width is divided among the heads, {each}: "
            "choose a multiple"
        )


def transformed() -> bool:
    """Whether this runs within a function of ``torch.func``, such as ``vmap``, and not compiled."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def traced() -> bool:
    """Whether tensors stand for others, at whose values one cannot look: compiled, transformed."""
    return torch.compiler.is_compiling() or transformed()


def at_hand(x: Tensor) -> bool:
    """Whether a look at the values of ``x`` costs nothing: on the CPU, and not ``traced``.

    Elsewhere a look waits for the device, or is not possible.
    """
    return x.device.type == "cpu" and not traced()


def is_finite(x: Tensor) -> bool:
    """Whether no value of ``x`` is NaN or infinite, found in one pass and without memory."""
    if not x.is_floating_point() or not x.numel():
        return True
    return bool(torch.stack(x.detach().aminmax()).isfinite().all())  # NaN goes through both


def check_finite(
    x: Tensor, what: str, remedy: str, error: type[Exception] = FloatingPointError
) -> None:
    """Raise ``error`` where ``x``, which is called ``what``, is not finite; ``remedy`` then helps.

    FloatingPointError is for what was computed, ValueError for what was given.
    """
    if at_hand(x) and not is_finite(x):
        raise error(f"got NaN or infinite {what}: {remedy}")


def check_examples(
    x: Tensor, shape: tuple[int, ...], low: float = -math.inf, high: float = math.inf
) -> None:
    """Raise ValueError unless ``x`` is a floating-point batch (n, *shape) within [low, high]."""
    if tuple(x.shape[1:]) != shape or len(x) == 0:
        raise ValueError(
            f"got a batch of shape {tuple(x.shape)}, but this model was built for "
            f"(n, {', '.join(map(str, shape))}) with n >= 1: reshape the data or rebuild the model"
        )
    if not x.is_floating_point():
        raise ValueError(f"got examples of {x.dtype}, but they must be floating-point: x.float()")
    if not at_hand(x):
        return
    least, most = (float(v) for v in x.detach().aminmax())
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ValueError("got NaN or infinite values in the data: remove or replace them first")
    if least < low or most > high:
        raise ValueError(
            f"got values from {least:g} to {most:g}, but this model needs them in "
            f"[{low:g}, {high:g}]: scale the data, e.g. divide 8-bit images by 255"
        )


def check_labels(y: Tensor, n: int, classes: int, least: int = 0) -> None:
    """Raise ValueError unless ``y`` are ``n`` class indices from ``least`` to ``classes`` − 1.

    They are looked at on every device, for on some a wrong index ends the program.
    """
    if y.dtype != torch.int64 or tuple(y.shape) != (n,):
        raise ValueError(
            f"got labels of {y.dtype} and shape {tuple(y.shape)}, but {n} examples need {n} "
            "integers: y.long()"
        )
    if y.device.type == "meta" or traced():
        return
    low, high = (int(v) for v in y.aminmax())
    if low < least or high >= classes:
        raise ValueError(
            f"got label {low if low < least else high}, but this model was built for {classes} "
            f"classes: labels run from {least} to {classes - 1}"
        )


def check_tokens(
    tokens: Tensor,
    vocab_size: int,
    *,
    least: int = 0,
    most: int | None = None,
    what: str = "tokens",
) -> None:
    """Raise ValueError unless ``tokens`` (n, t) are whole numbers from 0 to ``vocab_size`` − 1.

    Arguments:
        least, most: bounds of t (None: none above); what: the word for them in the error.
    """
    if tokens.ndim != 2 or tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise ValueError(
            f"got {what} of {tokens.dtype} and shape {tuple(tokens.shape)}, but they must be whole "
            "numbers of shape (n, t): encode the text first"
        )
    n, t = tokens.shape
    if t < least or (most is not None and t > most):
        room = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(
            f"got {n} rows of {t} {what}, but this model reads {room}: cut them, or build it with "
            "a longer context"
        )
    if not at_hand(tokens) or not tokens.numel():
        return
    low, high = (int(token) for token in tokens.aminmax())
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"got {what} from {low} to {high}, but this vocabulary is 0 to {vocab_size - 1}: use "
            "the tokenizer that the model was trained with"
        )


def grey_levels(x: Tensor, levels: int) -> Tensor:
    """k = x (levels − 1), whole numbers; raises ValueError where ``x`` is anything else."""
    check_grey_levels(levels)
    if not x.is_floating_point():
        raise ValueError(f"got grey values of {x.dtype}; give floats in [0, 1]: x / {levels - 1}")
    k = (x * (levels - 1)).round()
    if at_hand(x):
        off = float((x * (levels - 1) - k).abs().max())
        if not off < 1e-3 or float(k.min()) < 0 or float(k.max()) > levels - 1:
            raise ValueError(
                f"these are not grey values k/{levels - 1}, k = 0 to {levels - 1}: give the number "
                "of levels that the data have, and values in [0, 1]"
            )
    return k


def check_grey_levels(levels: int) -> None:
    """Raise ValueError unless there are two grey levels at least."""
    if levels < 2:
        raise ValueError(f"got levels={levels}; there are at least 2")


def if_given(y: Tensor | None) -> tuple[Tensor, ...]:
    """``y`` as the rest of a batch, which has nothing where there are no labels or prompts."""
    return () if y is None else (y,)
