"""What a model is worth in numbers: likelihoods in nats and bits, and their uncertainty.

Notation: ``log_p`` log p(x) of each example, in nats; D the number of values of an example.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gentext.core import Bound, Density, Model
from gentext.shapes import PerExample


def bits_per_dim(log_p: Tensor, dims: int) -> Tensor:
    """−log p(x)/(D ln 2): log-probabilities in nats as bits for each of ``dims`` values.

    Equation: :eq:`eq-data-bpd`
    """
    if dims < 1:
        raise ValueError(f"dims must be at least 1, but got {dims}")
    return -log_p / (dims * math.log(2))


class Estimate(NamedTuple):
    """A mean and its standard error."""

    mean: float
    se: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.se:.3f}"


def mean_and_error(values: PerExample) -> Estimate:
    """The mean of one number an example, and its standard error."""
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


@torch.no_grad()
def evaluate(
    model: Model, data: Any, *, seed: int = 0, limit: int | None = None, k: int = 100
) -> dict[str, float]:
    """What ``model`` can compute of the test examples of ``data``, averaged over them.

    Gives, where there is one, the exact ``log_prob`` or else ``elbo`` and the ``k``-sample bound
    ``iw_bound`` in nats, each with its ``bits_per_dim`` (for data with grey levels), the standard
    error ``se`` of the last and the number ``n`` of examples. The same ``seed`` gives the same
    numbers. ``limit`` takes only the first examples.
    """
    device = next(model.parameters()).device
    test = tuple(t[:limit].to(device) for t in data.test)
    generator = torch.Generator(device).manual_seed(seed)
    model.eval()
    values: dict[str, Tensor] = {}
    if isinstance(model, Density):
        values["log_prob"] = model.log_prob(test[0])
    elif isinstance(model, Bound):
        values["elbo"] = model.elbo(*test, generator=generator)
        importance: Any = getattr(model, "importance_log_prob", None)
        if importance is not None:
            values["iw_bound"] = importance(test[0], k, *test[1:], generator=generator)
    else:
        values["loss"] = torch.stack(
            [model.loss(*(t[i : i + 1] for t in test)) for i in range(len(test[0]))]
        )
    return _summary(values, math.prod(data.shape), data.levels)


def _summary(values: dict[str, Tensor], dims: int, levels: int | None) -> dict[str, float]:
    """Means of ``values``, with bits per dimension for discrete data."""
    report: dict[str, float] = {}
    for name, value in values.items():
        estimate = mean_and_error(value)
        report[name], report["se"] = estimate.mean, estimate.se
        if levels and name != "loss":
            report[f"{name}_bits_per_dim"] = float(bits_per_dim(value.mean(), dims))
    report["n"] = len(next(iter(values.values())))
    return report
