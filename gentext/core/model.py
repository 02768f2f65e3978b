"""What every model of the book shares: its call on a batch is its training loss.

So whatever wraps a model for several devices also synchronises its gradients.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from gentext.core.checks import chosen
from gentext.core.signatures import plain


class Model(nn.Module):
    """A trainable model; calling it on a batch gives its training loss (a scalar, nats or as said).

    Subclasses define ``loss(...)`` with the arguments that a batch of theirs has. What their
    constructor was given is kept in ``arguments``, by name, from which a checkpoint rebuilds them.
    Numbers of NumPy and of tensors reach constructor and ``arguments`` as Python's.

    What a network itself says (``logits``, ``features``) is in the mode the model is in, for losses
    are made of it; all other methods compute in evaluation mode and leave the model as it was. No
    loss goes through those, so a subclass that is to learn otherwise has a ``loss`` of its own.
    """

    loss: Callable[..., Tensor]
    arguments: dict[str, Any]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _with_plain_numbers(cls.__init__)  # type: ignore[method-assign]

    def __new__(cls, *unnamed: Any, **named: Any) -> Model:
        self = super().__new__(cls)
        given = {**dict(zip(_names(cls, len(unnamed)), unnamed, strict=True)), **named}
        object.__setattr__(self, "arguments", {name: plain(v) for name, v in given.items()})
        return self

    def turns(self) -> dict[str, Iterable[nn.Parameter]]:
        """The losses to minimise in turn and the parameters of each; most models have one."""
        return {"loss": self.parameters()}

    def rates(self) -> Mapping[nn.Parameter, float]:
        """Parameters that learn at a multiple of the common rate; the others have a factor of 1."""
        return {}

    def due(self, turn: str, step: int) -> bool:
        """Whether ``turn`` is taken in ``step``, counted from 0; most models take all in each."""
        return True

    def averaged(self) -> Iterable[nn.Parameter]:
        """The weights that a moving average is taken of, where training keeps one."""
        return self.parameters()

    def check(self, *batch: Tensor) -> None:
        """Raise ValueError where data do not fit the model; training asks once, before it begins.

        Of data in memory it asks for all, of a stream for the first batch (by ``check_batch``).
        """

    def check_batch(self, *batch: Tensor) -> None:
        """The same of one batch among others, which need not show all that there is."""
        self.check(*batch)

    def forward(self, *batch: Tensor, turn: str = "loss") -> Tensor:
        """The loss named ``turn`` on a batch."""
        if not isinstance(turn, str) or not callable(getattr(self, turn, None)):
            chosen("loss", turn, self.turns())
        return getattr(self, turn)(*batch)


def _names(kind: type[Model], count: int) -> list[str]:
    """The names of the first ``count`` arguments, if so many may be given without theirs."""
    if not count:
        return []
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if count > len(names):
        every = ", ".join(f"{p.name}=..." for p in parameters if p.kind is not p.VAR_KEYWORD)
        raise TypeError(
            f"{kind.__name__} got {count} arguments without a name, and takes {len(names)} so: "
            f"give keywords, {kind.__name__}({every})"
        )
    return names[:count]


def _with_plain_numbers(init: Callable[..., None]) -> Callable[..., None]:
    """The constructor, whose arguments are made ``plain`` before it sees them."""

    @functools.wraps(init)
    def made(self: Model, *unnamed: Any, **named: Any) -> None:
        init(self, *map(plain, unnamed), **{name: plain(v) for name, v in named.items()})

    return made
