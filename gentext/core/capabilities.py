"""What a model may be able to do, besides its loss: one protocol each.

``isinstance(model, Density)`` is true exactly when the exact log-density is available.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from gentext.core.shapes import Batch, PerExample


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
