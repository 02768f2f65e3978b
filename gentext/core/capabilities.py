"""What a model may be able to do, besides its loss: one protocol each.

``isinstance(model, Density)`` is true exactly when the exact log-density is available.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from gentext.core.shapes import Batch, Labels, PerExample, Scalar, Tokens
from gentext.core.signatures import keep_contract


@runtime_checkable
class Samples(Protocol):
    """Draws new examples."""

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Batch:
        """``n`` fresh examples, the same for a ``generator`` in the same state."""


@runtime_checkable
class PassesOn(Protocol):
    """Hands options of ``sample`` on to what is inside, and says which."""

    @property
    def sample_options(self) -> Collection[str]:
        """The names of all options that ``sample`` heeds."""


def heeded(model: Samples, *inside: Samples) -> tuple[str, ...]:
    """The names of the options of ``sample``, of ``model`` and of those ``inside`` it."""
    own = tuple(inspect.signature(model.sample).parameters)
    return tuple(dict.fromkeys(chain(own, *map(sample_options, inside))))


def sample_options(model: Samples) -> Collection[str]:
    """The names of all options that ``sample`` of a model heeds."""
    return model.sample_options if isinstance(model, PassesOn) else heeded(model)


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


@runtime_checkable
class Represents(Protocol):
    """Has features of examples that can be trained further, with a head of another task on them."""

    def represent(self, x: Batch) -> Tensor:
        """Features, with gradients and in the mode that the model is in."""

    def backbone(self) -> Sequence[nn.Module]:
        """All that ``represent`` goes through, the part nearest to the examples first."""


@runtime_checkable
class OfShape(Protocol):
    """Is built for examples of one shape."""

    shape: tuple[int, ...]


@runtime_checkable
class OfTokens(Protocol):
    """Reads rows of tokens, of which ``pad``, where there is one, only fills them up."""

    vocab_size: int
    pad: int | None


@runtime_checkable
class Generates(Protocol):
    """Writes tokens after those that are there."""

    vocab_size: int

    def generate(self, tokens: Tokens, n: int, *_: Any, **how: Any) -> Tokens:
        """``tokens`` and up to ``n`` more."""


@runtime_checkable
class Translates(Protocol):
    """Turns a text into another one."""

    def translate(self, source: Tokens, *_: Any, **how: Any) -> Tokens:
        """Rows of tokens for rows of tokens."""


@runtime_checkable
class Classifies(Protocol):
    """Assigns examples to classes."""

    classes: int

    def accuracy(self, x: Batch, y: Labels) -> Scalar:
        """The share of the examples that are assigned to the classes ``y``."""


@runtime_checkable
class Compares(Protocol):
    """Compares the examples of a batch with one another: its loss is no mean of theirs."""

    def guessing(self, n: int) -> float:
        """The loss in nats of whoever guesses, in a batch of ``n`` examples."""
        ...


@runtime_checkable
class PseudoDensity(Protocol):
    """Knows how probable each part of an example is given all others, but not the example."""

    def pseudo_log_prob(self, x: Batch) -> PerExample:
        """The sum of log p(part | the other parts), in nats, which is no log p(x)."""


keep_contract(globals())
