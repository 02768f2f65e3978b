"""What every model of the book shares: a loss to train on, and the capabilities it may have.

A model is an ``nn.Module`` whose call is its training loss, so that whatever wraps it for several
devices also synchronises its gradients. What a model can compute beyond that is said by four
protocols: ``isinstance(model, Density)`` is true exactly when the exact log-density is available.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from numbers import Integral
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from gentext.shapes import Batch, PerExample


class Model(nn.Module):
    """A trainable model; calling it on a batch gives its training loss (a scalar, nats or as said).

    Subclasses define ``loss(...)`` with the arguments that a batch of theirs has, and take only
    keywords in their constructor: what they were given is kept in ``arguments``, from which a
    checkpoint rebuilds them.
    """

    loss: Callable[..., Tensor]
    arguments: dict[str, Any]

    def __new__(cls, *args: Any, **arguments: Any) -> Model:
        self = super().__new__(cls)
        object.__setattr__(self, "arguments", arguments)
        return self

    def turns(self) -> dict[str, Iterable[nn.Parameter]]:
        """The losses to minimise in turn and the parameters of each; most models have one."""
        return {"loss": self.parameters()}

    def due(self, turn: str, step: int) -> bool:
        """Whether ``turn`` is taken in ``step``, counted from 0; most models take all in each."""
        return True

    def averaged(self) -> Iterable[nn.Parameter]:
        """The weights that a moving average is taken of, where training keeps one."""
        return self.parameters()

    def check(self, *batch: Tensor) -> None:
        """Raise ValueError where data do not fit the model; training asks once, before it begins.

        Of data in memory it asks for all, of a stream for the first batch.
        """

    def forward(self, *batch: Tensor, turn: str = "loss") -> Tensor:
        """The loss named ``turn`` on a batch."""
        return getattr(self, turn)(*batch)


@runtime_checkable
class Samples(Protocol):
    """Draws new examples."""

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Batch:
        """``n`` fresh examples, the same for a ``generator`` in the same state."""


@runtime_checkable
class Density(Protocol):
    """Knows the exact density of an example."""

    def log_prob(self, x: Batch) -> PerExample:
        """log p(x), exact, in nats."""


@runtime_checkable
class Bound(Protocol):
    """Knows a lower bound of the log-density of an example."""

    def elbo(
        self, x: Batch, *labels: Tensor, generator: torch.Generator | None = None
    ) -> PerExample:
        """A lower bound of log p(x), in nats; of log p(x | y) where the model needs labels."""


@runtime_checkable
class Encodes(Protocol):
    """Maps examples to codes."""

    def encode(self, x: Batch) -> Any:
        """Codes, or a distribution over codes."""


def plain_precision(like: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Autocast off, where the device of ``like`` has it."""
    device = like.device.type
    there = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if there else contextlib.nullcontext()


def at_least_single(x: Tensor) -> Tensor:
    """Half-precision numbers in single precision, others as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def check_count(name: str, number: Any, least: int = 1) -> None:
    """Raise ValueError unless ``number`` is a whole number, ``least`` or more."""
    if not isinstance(number, Integral) or isinstance(number, bool) or number < least:
        raise ValueError(f"got {name}={number!r}; {name} must be a whole number, at least {least}")


def check_examples(
    x: Tensor, shape: tuple[int, ...], low: float = -math.inf, high: float = math.inf
) -> None:
    """Raise ValueError unless ``x`` is a floating-point batch (n, *shape) within [low, high].

    Values are looked at where that costs nothing: on the CPU, and outside ``torch.compile``.
    """
    if tuple(x.shape[1:]) != shape or len(x) == 0:
        raise ValueError(
            f"got a batch of shape {tuple(x.shape)}, but this model was built for "
            f"(n, {', '.join(map(str, shape))}) with n >= 1: reshape the data or rebuild the model"
        )
    if not x.is_floating_point():
        raise ValueError(f"got examples of {x.dtype}, but they must be floating-point: x.float()")
    if x.device.type != "cpu" or torch.compiler.is_compiling():
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
    """Raise ValueError unless ``y`` are ``n`` class indices from ``least`` to ``classes`` − 1."""
    if y.dtype != torch.int64 or tuple(y.shape) != (n,):
        raise ValueError(
            f"got labels of {y.dtype} and shape {tuple(y.shape)}, but {n} examples need {n} "
            "integers: y.long()"
        )
    if y.device.type == "meta" or torch.compiler.is_compiling():
        return
    low, high = (int(v) for v in y.aminmax())
    if low < least or high >= classes:
        raise ValueError(
            f"got label {low if low < least else high}, but this model was built for {classes} "
            f"classes: labels run from {least} to {classes - 1}"
        )


def numbers(x: Tensor, levels: int) -> Tensor:
    """k = x (levels − 1), whole numbers; raises ValueError where ``x`` is anything else."""
    check_grey_levels(levels)
    if not x.is_floating_point():
        raise ValueError(f"got grey values of {x.dtype}; give floats in [0, 1]: x / {levels - 1}")
    k = (x * (levels - 1)).round()
    if not torch.compiler.is_compiling() and x.device.type == "cpu":
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
