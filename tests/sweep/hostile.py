"""Hostile values: what a parameter may be given by mistake, by the kind of its valid value.

Each is a short expression, which a report can print, and a function of the valid value. Tensors
are changed in their type, shape, values or device; numbers, names, sequences and what can be called
are replaced by others; anything may be of a wrong type altogether. Huge numbers are such as no
machine can hold, which must be refused before anything is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from numbers import Number
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

Change = tuple[str, Callable[[Any], Any]]


def to(code: str) -> Change:
    """A change written as an expression of the valid value ``v``."""
    names = {"np": np, "torch": torch, "math": math, "nn": nn, "Fraction": Fraction}
    return code, eval(f"lambda v: {code}", names)


def spoilt(value: str) -> Change:
    """The first number of a tensor becomes ``value``."""
    change = to(f"torch.where(torch.arange(v.numel()).reshape(v.shape) == 0, {value}, v)")
    return f"v with v[0] = {value}", change[1]


NOTHING = [
    to(c) for c in ("None", "'text'", "''", "b'x'", "object()", "[]", "{}", "()", "1j", "...")
]
NUMBERS = [
    to(c)
    for c in [
        "0",
        "-1",
        "1",
        "2",
        "7",
        "0.5",
        "-0.5",
        "1.5",
        "True",
        "-0.0",
        "1e-300",
        "1e300",
        "math.nan",
        "math.inf",
        "-math.inf",
        "10**30",
        "2**63",
        "-2**63",
        "10**12",
        "np.int64(2)",
        "np.int32(-1)",
        "np.uint8(3)",
        "np.float32(0.5)",
        "np.float64('nan')",
        "np.array(2)",
        "np.array([1,2])",
        "torch.tensor(2)",
        "torch.tensor(0.5)",
        "torch.ones(2)",
        "'3'",
        "Fraction(1,2)",
        "np.bool_(True)",
        "[3]",
        "(2,)",
    ]
]
SAME_NUMBERS = [to(c) for c in ("np.int64(v)", "np.int32(v)")]
SAME_FLOATS = [to(c) for c in ("np.float64(v)", "np.float32(v)")]
NAMES = [
    to(c)
    for c in ("v.upper()", "v + ' '", "'春'", "v[::-1]", "v * 1000", "'\\0'", "np.str_(v)", "1")
]
TYPES = [
    to(f"v.to(torch.{t})")
    for t in [
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "int64",
        "int32",
        "uint8",
        "int8",
        "bool",
        "complex64",
    ]
]
SHAPES = [
    to(c)
    for c in [
        "v[:0]",
        "v[:1]",
        "v[None]",
        "v[...,None]",
        "v[0]",
        "v.flatten()",
        "v[...,:1]",
        "v[...,:0]",
        "torch.cat([v,v])",
        "torch.cat([v,v],-1)",
        "v.mT",
        "v.sum()",
        "v[1:]",
        "v.expand(2,*v.shape)",
        "v.reshape(-1,1)",
        "v.new_zeros(0)",
        "v.transpose(0,-1)",
    ]
]
VALUES = [
    to(c)
    for c in (
        [
            "torch.zeros_like(v)",
            "torch.ones_like(v)",
            "-v",
            "v+0.3",
            "v*1e30",
            "v*100",
            "v-100",
            "v*1e-30",
        ]
    )
] + [spoilt(v) for v in ("math.nan", "math.inf", "-math.inf", "-1", "10**9")]
WHOLE_VALUES = [
    to(c) for c in (["v*0", "v-1", "v+1", "v+100", "-v", "v*0+2**40", "v*0-2**63", "~v"])
]
LIVES = [
    to(c)
    for c in [
        "v.to('meta')",
        "v.numpy()",
        "v.tolist()",
        "v.clone().requires_grad_()",
        "v.contiguous().mT.contiguous().mT",
        "v.numpy().tolist()",
        "tuple(v)",
        "list(v)",
        "{'x':v}",
        "[v,v]",
        "(v,)",
        "nn.Parameter(v)",
    ]
]
SEQUENCES = [
    to(c)
    for c in [
        "()",
        "[]",
        "(0,)",
        "(-1,2)",
        "(1.5,)",
        "('a',)",
        "(None,)",
        "(2**62,)",
        "(2**40,2**40)",
        "(math.nan,)",
        "np.array([2,3])",
        "torch.tensor([2,3])",
        "v[:1]",
        "v[::-1]",
        "(v,)",
        "(*v,1)",
        "list(v)",
        "tuple(v)",
        "iter(v)",
        "(np.int64(3),)",
        "{3}",
        "[[]]",
        "(True,)",
        "(10**30,)",
        "[math.inf]",
        "tuple(map(np.int64,v))",
        "(*v,*v)",
    ]
]
MAPPINGS = [
    to(c)
    for c in (
        [
            "{}",
            "{'x':1}",
            "{1:2}",
            "{**v,'x':None}",
            "{k:None+0*0if0else'a'for(k)in(v)}",
            "list(v)",
        ][:4]
    )
] + [to("dict.fromkeys(v)"), to("dict.fromkeys(v, 'a')"), to("dict.fromkeys(v, float('nan'))")]
CALLS = [
    to(c)
    for c in (
        "lambda *a, **k: None",
        "lambda *a, **k: 'x'",
        "lambda *a, **k: torch.zeros(7)",
        "lambda: 0",
        "nn.Linear(1, 1)",
        "print",
        "3",
    )
]
SAME = {code for code, _ in (*SAME_NUMBERS, *SAME_FLOATS)} | {"list(v)", "tuple(v)"}  # same calls
PATHS = [
    to(c) for c in ("v.parent", "v / 'missing' / 'file'", "str(v)", "'missing.txt'", "'a\\0b'", "3")
]


def changes(value: Any) -> list[Change]:
    """What ``value`` may be changed into."""
    from pathlib import Path

    if isinstance(value, bool):
        return NUMBERS + NOTHING
    if isinstance(value, int):
        return NUMBERS * 2 + SAME_NUMBERS * 4 + NOTHING
    if isinstance(value, float):
        return NUMBERS * 2 + SAME_FLOATS * 4 + NOTHING
    if isinstance(value, Number):
        return NUMBERS + NOTHING
    if isinstance(value, str):
        return NAMES * 2 + NUMBERS[:8] + NOTHING
    if isinstance(value, Tensor):
        return _of_tensor(value)
    if isinstance(value, Path):
        return PATHS + NOTHING
    if isinstance(value, Mapping):
        return MAPPINGS * 2 + NOTHING
    if isinstance(value, Sequence):
        return SEQUENCES + NOTHING + NUMBERS[:8]
    if callable(value) and not isinstance(value, type):
        return CALLS + NOTHING
    return NOTHING + NUMBERS[:8]


def _of_tensor(value: Tensor) -> list[Change]:
    values = VALUES if value.is_floating_point() else WHOLE_VALUES
    return TYPES + SHAPES + values + LIVES + NOTHING + NUMBERS[:8]


def change(value: Any) -> st.SearchStrategy[Change]:
    """One of the changes of ``value``."""
    return st.sampled_from(changes(value))
