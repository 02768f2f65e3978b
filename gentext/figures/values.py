"""What figures are drawn from: tensors of any kind and device, arrays and lists, as plain arrays.

Notation: ``n`` images of ``c`` channels, ``h`` pixels high and ``w`` wide.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor


def numbers(values: Any, what: str) -> np.ndarray:
    """The numbers of a tensor, an array or a list, on the CPU, without gradients, 32 bits at least.

    Raises ValueError where ``values``, which are called ``what``, are no real numbers.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        narrow = values.is_floating_point() and values.dtype.itemsize < 4
        values = values.float().numpy() if narrow else values.numpy()  # it has no bfloat16
    elif isinstance(values, list | tuple) and any(isinstance(v, Tensor) for v in values):
        values = [numbers(v, what) for v in values]
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{what} are rows of different lengths; give as many of each") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{what} must be real numbers, got {type(values).__name__} of {array.dtype}; give a "
            "tensor, an array or a list of numbers"
        )
    return array.astype(np.float32) if array.dtype == np.float16 else array


def row(values: Any, what: str) -> np.ndarray:
    """Numbers (n,); raises ValueError for another shape."""
    array = numbers(values, what)
    if array.ndim != 1:
        raise ValueError(f"{what} must have shape (n,), got {array.shape}; flatten or choose some")
    return array


def number(value: Any, what: str) -> float:
    """One number; raises ValueError for more than one, or none."""
    array = numbers(value, what)
    if array.size != 1:
        raise ValueError(f"{what} must be one number, got {array.size}; take their mean, or one")
    return float(array.item())


def images(x: Any) -> Tensor:
    """Images (n, c, h, w) in [0, 1] as 32-bit floats; raises ValueError for anything else."""
    array = numbers(x, "images")
    if array.ndim != 4 or array.shape[1] not in (1, 3) or 0 in array.shape:
        raise ValueError(
            f"Images must have shape (n, c, h, w) with c = 1 or 3, got {array.shape}; reshape them."
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # a NaN is neither
        remedy = "divide them by 255" if array.dtype == np.uint8 else "rescale them or clamp them"
        raise ValueError(
            f"Images must lie in [0, 1], got values from {low:.3g} to {high:.3g}; {remedy}."
        )
    return torch.as_tensor(array.astype(np.float32))


def codes(z: Any) -> np.ndarray:
    """Finite codes (n, 2); raises ValueError for anything else."""
    points = numbers(z, "codes")
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(
            f"A map needs codes of shape (n, 2), got {points.shape}; choose two coordinates."
        )
    if not np.isfinite(points).all():
        raise ValueError("A map needs finite codes, got NaN or infinite ones; leave those out.")
    return points


def labels(y: Any, n: int, classes: int | None) -> np.ndarray:
    """Indices (n,) of so many classes, if that is known; raises ValueError for anything else."""
    given = numbers(y, "labels")
    if given.shape != (n,):
        raise ValueError(
            f"{n} codes need labels of shape ({n},), got {given.shape}; give one label to a code."
        )
    indices = given.astype(np.int64) if np.isfinite(given).all() else np.full(n, -1)
    if (indices != given).any():
        raise ValueError("Labels must be whole numbers; give the index of the class of each code.")
    if n and classes is not None and not 0 <= indices.min() <= indices.max() < classes:
        raise ValueError(
            f"{classes} classes have labels 0 to {classes - 1}, got {indices.min()} to "
            f"{indices.max()}; name every class, or leave out what has none."
        )
    return indices


def measured(value: float, error: float) -> str:
    """A value with its error, to two digits of the error; the value alone where there is none."""
    if not error or not math.isfinite(value):
        return f"{value:.4g}"
    if not math.isfinite(error):
        return f"{value:.4g} ± {error}"
    decimals = min(max(0, 1 - math.floor(math.log10(error))), 12)
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"
