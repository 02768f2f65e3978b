"""Numbers that are means over examples: log-likelihoods as bits, averages and their uncertainty.

Notation: ``log_p`` log p(x) of each example, in nats; D the number of values of an example.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from gentext.core import check_count
from gentext.core.shapes import PerExample
from gentext.core.signatures import keep_contract


class Estimate(NamedTuple):
    """A mean and its standard error."""

    mean: float
    se: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.se:.3f}"


def bits_per_dim(log_p: Tensor, dims: int) -> Tensor:
    """−log p(x)/(D ln 2): log-probabilities in nats as bits for each of ``dims`` values.

    Equation: :eq:`eq-data-bpd`
    """
    check_count("dims", dims)
    return -log_p / (dims * math.log(2))


def mean_and_error(values: PerExample) -> Estimate:
    """The mean of one number an example, and its standard error."""
    values = values.detach()
    if len(values) < 2:
        raise ValueError(f"a standard error needs at least 2 values, but got {len(values)}")
    return Estimate(float(values.mean()), float(values.std() / math.sqrt(len(values))))


def paired_difference(a: PerExample, b: Tensor) -> Estimate:
    """The mean of a − b on the same examples, and its standard error sd(a − b)/√N."""
    if a.shape != b.shape:
        raise ValueError(
            f"a pair needs the same examples in both, but got {len(a)} and {len(b)} values"
        )
    return mean_and_error(a - b)


keep_contract(globals())
