"""What every model of the book shares: its call on a batch is its training loss.

So whatever wraps a model for several devices also synchronises its gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn


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
