"""Exponential moving average of weights: smoother than the last step, and usually better."""

from __future__ import annotations

import torch
from torch import Tensor

from gentext.core import Model
from gentext.core.signatures import keep_contract


class Average:
    """The moving average of a model's trained weights, those that it says are ``averaged``.

    While young it forgets faster than ``decay`` says, so that the random start leaves no trace.
    """

    def __init__(self, model: Model, decay: float) -> None:
        wanted = {id(p) for p in model.averaged() if p.requires_grad}
        named = {name: p for name, p in model.named_parameters() if id(p) in wanted}
        self.decay, self.names = decay, list(named)
        self.source = [p.detach() for p in named.values()]
        self.weights = [p.clone() for p in self.source]

    def update(self, step: int) -> None:
        """Move towards the weights after ``step`` updates."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.weights, self.source, 1 - decay)

    def by_name(self) -> dict[str, Tensor]:
        """The averages of the weights by name."""
        return dict(zip(self.names, self.weights, strict=True))

    def copy_to_model(self) -> None:
        """Replace the model's weights by their average."""
        _copy(self.weights, self.source)

    def copy_from_model(self, last: list[Tensor]) -> None:
        """The reverse: take the model's weights for the average, and give it those of ``last``."""
        _copy(self.source, self.weights)
        _copy(last, self.source)


def _copy(values: list[Tensor], into: list[Tensor]) -> None:
    """One by one, as parts of sharded weights need it."""
    for tensor, value in zip(into, values, strict=True):
        tensor.copy_(value)


keep_contract(globals())
