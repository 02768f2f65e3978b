"""What is refused, and in which words: names, counts, examples, labels, tokens, grey values.

Notation: ``x`` examples (n, *shape), ``y`` labels (n,), ``k`` grey levels from 0 to levels − 1.

Every check raises ValueError in one sentence: what came, what is allowed, what to do. Values are
looked at where that costs nothing (`at_hand`).
"""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from gentext.core.signatures import keep_contract

LARGEST_COUNT = 10**9
BOUNDS = {
    "at least": operator.ge,
    "above": operator.gt,
    "at most": operator.le,
    "below": operator.lt,
}
FEW = 12  # names that an error lists


def chosen(kind: str, name: Any, table: Collection[str], where: str = "") -> Any:
    """What ``table`` holds under ``name``, or the name itself where the table is a mere list.

    Raises ValueError for a name that is not there, with the nearest that are, and with all of them
    where they are few; ``where`` says how to see a longer table, such as "`gentext list`".
    """
    if not isinstance(table, Collection):
        raise ValueError(f"got a table of type {type(table).__name__}; give the names there are")
    if isinstance(name, str) and name in table:
        return table[name] if isinstance(table, Mapping) else name
    near = _nearest(name, table, 1 if len(table) <= FEW else 3) if isinstance(name, str) else []
    meant = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise ValueError(f"unknown {kind} {name!r}: {meant}{_there(table, where)}")


def _nearest(name: str, table: Collection[str], n: int) -> list[str]:
    """Up to ``n`` names that are spelt alike, or else that begin or end with ``name``."""
    parts = (known for known in table if name and (known.startswith(name) or known.endswith(name)))
    return difflib.get_close_matches(name, table, n) or [*islice(parts, n if n > 1 else 0)]


def _there(table: Collection[str], where: str) -> str:
    """What there is to choose from."""
    if len(table) <= FEW:
        return f"choose one of {', '.join(map(str, table))}" if table else "there are none"
    some = f"there are {len(table)}, such as {', '.join(map(str, islice(table, 3)))}"
    return f"see {where} for all {len(table)}" if where else some


def check_count(name: str, number: Any, least: int = 1) -> None:
    """Raise ValueError unless ``number`` is a whole number from ``least`` to a billion."""
    if not isinstance(number, Integral) or isinstance(number, bool) or int(number) < least:
        raise ValueError(f"got {name}={number!r}; {name} must be a whole number, at least {least}")
    if int(number) > LARGEST_COUNT:
        raise ValueError(f"got {name}={number!r}; {name} must be at most {LARGEST_COUNT:,}")


def check_counts(least: int = 1, **counts: Any) -> None:
    """Raise ValueError unless all are whole numbers, ``least`` or more."""
    for name, number in counts.items():
        check_count(name, number, least)


def check_number(
    name: str,
    number: Any,
    *,
    least: float | int | None = None,
    most: float | int | None = None,
    above: float | int | None = None,
    below: float | int | None = None,
) -> None:
    """Raise ValueError unless ``number`` is real, finite, and within the bounds that are given."""
    real = isinstance(number, Real) and not isinstance(number, bool) and math.isfinite(number)
    given = {"at least": least, "above": above, "at most": most, "below": below}
    bounds = {words: float(bound) for words, bound in given.items() if bound is not None}
    if real and all(BOUNDS[words](float(number), bound) for words, bound in bounds.items()):
        return
    allowed = " and ".join(f"{words} {bound:g}" for words, bound in bounds.items())
    raise ValueError(f"got {name}={number!r}; {name} must be {allowed or 'a finite number'}")


def check_shape(shape: Any) -> tuple[int, ...]:
    """The sides of one example; ValueError unless they are whole numbers, and one at least."""
    if not isinstance(shape, Sequence) or isinstance(shape, str) or not shape:
        raise ValueError(f"got shape={shape!r}; give the sides of one example, such as (1, 28, 28)")
    for side in shape:
        check_count("side", side)
    return tuple(shape)


def check_dropout(dropout: float) -> None:
    """Raise ValueError unless ``dropout`` is a probability below one."""
    check_number("dropout", dropout, least=0, below=1)


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
    check_tensor(x, "examples")
    if tuple(x.shape[1:]) != tuple(shape) or len(x) == 0:
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


def check_tensor(x: Any, what: str) -> None:
    """Raise ValueError unless ``x``, which is called ``what``, is a tensor."""
    if not isinstance(x, Tensor):
        raise ValueError(f"got {what} as {type(x).__name__}; give a tensor: torch.as_tensor(...)")


def whole_numbers(x: Tensor, what: str) -> Tensor:
    """``x`` as int64, from any integers; ValueError for anything else, such as bool or floats."""
    check_tensor(x, what)
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise ValueError(
            f"got {what} of {x.dtype}, but they must be integers: {what}.long(), if they are"
        )
    return x.long()


def true_or_false(mask: Tensor, what: str = "mask") -> Tensor:
    """``mask`` as bool, from any numbers that are 0 or 1; ValueError for anything else."""
    check_tensor(mask, what)
    if mask.dtype == torch.bool:
        return mask
    if at_hand(mask) and bool(((mask != 0) & (mask != 1)).any()):
        raise ValueError(f"got a {what} with other values than True and False, or 1 and 0")
    return mask.bool()


def check_labels(y: Tensor, n: int, classes: int, least: int = 0) -> Tensor:
    """``y`` as int64; ValueError unless ``n`` class indices from ``least`` to ``classes`` − 1.

    They are looked at on every device, for on some a wrong index ends the program.
    """
    y = whole_numbers(y, "labels")
    if tuple(y.shape) != (n,):
        raise ValueError(
            f"got labels of shape {tuple(y.shape)}, but {n} examples need {n} integers of shape "
            f"({n},): give one for each, such as y.flatten() or y.expand({n})"
        )
    if y.device.type == "meta" or traced() or not n:
        return y
    low, high = (int(v) for v in y.aminmax())
    if low < least or high >= classes:
        raise ValueError(
            f"got label {low if low < least else high}, but this model was built for {classes} "
            f"classes: labels run from {least} to {classes - 1}"
        )
    return y


def check_tokens(
    tokens: Tensor,
    vocab_size: int,
    *,
    least: int = 0,
    most: int | None = None,
    rows: int = 0,
    what: str = "tokens",
) -> Tensor:
    """``tokens`` (n, t) as int64; ValueError unless they are from 0 to ``vocab_size`` − 1.

    Arguments:
        least, most: bounds of t (None: none above); rows: the least n; what: the word for them in
            the error.
    """
    tokens = whole_numbers(tokens, what)
    if tokens.ndim != 2:
        raise ValueError(
            f"got {what} of shape {tuple(tokens.shape)}, but they must be of shape (n, t): one "
            "text alone is tokens[None]"
        )
    n, t = tokens.shape
    if n < rows or t < least or (most is not None and t > most):
        room = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(
            f"got {n} rows of {t} {what}, but this model reads {room}"
            + (f" in at least {rows} row" if n < rows else "")
            + ": cut them, or build it with a longer context"
        )
    if not at_hand(tokens) or not tokens.numel():
        return tokens
    low, high = (int(token) for token in tokens.aminmax())
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"got {what} from {low} to {high}, but this vocabulary is 0 to {vocab_size - 1}: use "
            "the tokenizer that the model was trained with"
        )
    return tokens


def grey_levels(x: Tensor, levels: int) -> Tensor:
    """k = x (levels − 1), whole numbers; raises ValueError where ``x`` is anything else."""
    check_grey_levels(levels)
    if not x.is_floating_point():
        raise ValueError(f"got grey values of {x.dtype}; give floats in [0, 1]: x / {levels - 1}")
    k = (x * (levels - 1)).round()
    if at_hand(x) and x.numel():
        seen, whole = x.detach(), k.detach()
        off = float((seen * (levels - 1) - whole).abs().max())
        if not off < 1e-3 or float(whole.min()) < 0 or float(whole.max()) > levels - 1:
            raise ValueError(
                f"these are not grey values k/{levels - 1}, k = 0 to {levels - 1}: give the number "
                "of levels that the data have, and values in [0, 1]"
            )
    return k


def check_grey_levels(levels: int) -> None:
    """Raise ValueError unless there are two grey levels at least."""
    check_count("levels", levels, 2)


def if_given(y: Tensor | None) -> tuple[Tensor, ...]:
    """``y`` as the rest of a batch, which has nothing where there are no labels or prompts."""
    return () if y is None else (y,)


keep_contract(globals())
