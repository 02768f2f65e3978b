"""What a network is told beside x: the time, and a label, a prompt, or nothing more.

In training a share of labels and prompts is hidden, so that the same network also learns the
distribution without them, which guidance needs. ``Conditions`` say this once for all families:
what fits, what is hidden, what stands for nothing, what guidance asks for.

Notation: ``t`` (n,) times, about 0 to 1000; ``y`` (n,) labels, of which ``classes`` stands for
none (∅ in papers), or (n, L) token numbers, of which 0 fills rows up and is never read: a row of
zeros is the empty prompt.

Source: Ho and Salimans, 2022 (hidden labels); Rombach et al., CVPR 2022 (prompts).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.core import check_counts, check_labels, check_number, traced, whole_numbers
from gentext.core.shapes import Flat, Labels, Tokens
from gentext.core.signatures import keep_contract
from gentext.sequences.transformer import TransformerBlock

PAD = 0  # the token that fills prompts up
DROPPED = 0.1  # share of labels or prompts hidden in training
TEXT_LAYERS, TEXT_HEADS = 2, 4  # of the network that reads prompts
MIN_LOG_ANGLE = -4  # decimal logarithm of the smallest angle per unit of time

Given = Labels | Tokens


@dataclass(frozen=True)
class Conditions:
    """Labels of ``classes`` classes, prompts of ``vocab_size`` tokens, or nothing (both 0)."""

    classes: int = 0
    vocab_size: int = 0

    def __post_init__(self) -> None:
        check_counts(0, classes=self.classes, vocab_size=self.vocab_size)
        if self.classes and self.vocab_size:
            raise ValueError(
                f"got classes={self.classes} and vocab_size={self.vocab_size}; a model is told "
                "labels or text: give one of the two"
            )

    def __bool__(self) -> bool:
        """Whether there is anything to be told."""
        return bool(self.classes or self.vocab_size)

    @property
    def none(self) -> int:
        """The number that stands for no label, or for no token."""
        return PAD if self.vocab_size else self.classes

    def check(self, y: Tensor, n: int) -> None:
        """Raise ValueError unless ``y`` are labels or prompts of ``n`` examples."""
        if self.vocab_size:
            check_prompts(y, n, self.vocab_size)
        elif self.classes:
            check_labels(y, n, self.classes)
        else:
            raise ValueError(
                "got labels y, but this model was built without classes, so it has no classes to "
                "tell apart: data.without_labels()"
            )

    def check_rows(self, y: Tensor | None, n: int, context: int = 0) -> None:
        """Raise ValueError unless ``y`` has a row for each of ``n`` examples, whatever is in it.

        This is what networks ask, to which a label may be ``none``; prompts have up to ``context``
        tokens.
        """
        if y is None:
            return
        if self.vocab_size:
            if y.dim() != 2 or len(y) != n or y.shape[1] > context:
                raise ValueError(
                    f"got y {tuple(y.shape)} for {n} examples; give one row of at most {context} "
                    "tokens each"
                )
        elif not self.classes:
            raise ValueError("got labels y, but this network has none: build it with classes=")
        elif y.shape != (n,):
            raise ValueError(f"got y {tuple(y.shape)} for {n} examples; give one label each")

    def check_steering(
        self, y: Tensor | None, guidance: float, by_classifier: bool = False
    ) -> None:
        """Raise ValueError for wrong ``y``, or for ``guidance`` without anything that guides.

        Guidance needs ``y`` of a model that was trained with them, or a classifier.
        """
        check_number("guidance", guidance)
        if y is not None:
            self.check(y, len(y))
        elif guidance and not by_classifier:
            raise ValueError(
                f"got guidance={guidance:g}, but guidance needs labels or prompts y of a model "
                "trained with classes or vocab_size, or a classifier: give one, or leave it out"
            )

    def shown(
        self, y: Tensor | None, n: int, device: torch.device, *, hide: bool
    ) -> tuple[Tensor, ...]:
        """What to show a network beside x_t and t for ``n`` examples, nothing if it reads nothing.

        Without ``y`` it is shown ``none``; with ``hide``, a share of ``y`` is hidden.
        """
        if not self:
            return ()
        if y is None:
            return (self.nothing(n, device),)
        y = whole_numbers(y, "prompts" if self.vocab_size else "labels")
        return (self.partly_hidden(y),) if hide else (y,)

    def nothing(self, n: int, device: torch.device) -> Given:
        """What stands for no labels, or for no prompts, of ``n`` examples."""
        return torch.full((n, 1) if self.vocab_size else (n,), self.none, device=device)

    def partly_hidden(self, y: Given) -> Given:
        """``y`` with a share of them replaced by ``none``, of prompts whole rows at a time."""
        hidden = torch.rand(len(y), device=y.device) < DROPPED
        return y.masked_fill(hidden.view(-1, *(1 for _ in y.shape[1:])), self.none)

    def arguments(self) -> dict[str, int]:
        """With what a network is to be built that is told the same."""
        text = {"vocab_size": self.vocab_size} if self.vocab_size else {}
        return {"classes": self.classes} | text


@runtime_checkable
class Conditional(Protocol):
    """A model that says by its ``conditions`` what it may be told."""

    conditions: Conditions


def conditions_of(model: Any) -> Conditions:
    """What a model may be told: its ``conditions``, or else labels where it has ``classes``."""
    if isinstance(model, Conditional):
        return model.conditions
    return Conditions(classes=getattr(model, "classes", 0))


class Text(NamedTuple):
    """What a prompt says: features (n, 1 + L, width), and where they may be read (n, 1, 1, 1 + L).

    The first place belongs to the prompt as a whole and may always be read.
    """

    memory: Tensor
    mask: Tensor


class TextEncoder(nn.Module):
    """Reads prompts of up to ``context`` tokens in both directions.

    A place of its own stands before the tokens; of an empty prompt it is all there is to read.
    """

    def __init__(
        self, vocab_size: int, context: int, width: int, heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if context < 1:
            raise ValueError(f"got context={context}; prompts have at least 1 token: set context=")
        self.context = context
        self.start = nn.Parameter(torch.randn(width))
        self.tokens, self.positions = nn.Embedding(vocab_size, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, dropout=dropout) for _ in range(TEXT_LAYERS)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, y: Tokens) -> Text:
        """The features of prompts (n, L) and of the place before them."""
        n, length = y.shape
        words = self.tokens(y) + self.positions.weight[:length]
        x = torch.cat([self.start.expand(n, 1, -1), words], 1)
        mask = torch.cat([y.new_ones((n, 1), dtype=torch.bool), y != PAD], 1)[:, None, None]
        for block in self.blocks:
            x = block(x, mask=mask)
        return Text(self.norm(x), mask)


def time_embedding(t: Tensor, width: int) -> Flat:
    """(n, width) of sin(ω_i t), then cos(ω_i t), with ω_i geometric from 1 to 10⁻⁴."""
    if width < 2 or width % 2:
        raise ValueError(f"got width={width}; half of it are sines, half cosines: choose it even")
    if t.is_complex():
        raise ValueError(f"got t of {t.dtype}; times are real numbers: t.real")
    dtype = torch.promote_types(t.dtype, torch.float32)
    omega = torch.logspace(0, MIN_LOG_ANGLE, width // 2, device=t.device, dtype=dtype)
    angles = t.to(dtype)[:, None] * omega
    return torch.cat([angles.sin(), angles.cos()], 1)


class Conditioning(nn.Module):
    """Makes features of the time, and of the label or the prompt where there are any.

    Those of the time are ``width`` waves; what is said of all is ``hidden`` numbers.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        classes: int = 0,
        vocab_size: int = 0,
        context: int = 0,
        *,
        heads: int = TEXT_HEADS,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_counts(width=width, hidden=hidden)
        self.conditions = Conditions(classes, vocab_size)
        self.width, self.classes = width, classes
        self.time = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.label = nn.Embedding(classes + 1, hidden) if classes else None
        self.text = TextEncoder(vocab_size, context, hidden, heads, dropout) if vocab_size else None

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        return next(self.time.parameters()).dtype

    def features(self, t: Tensor, y: Tensor | None = None) -> tuple[Flat, Text | None]:
        """(n, hidden) of the time, plus those of the label or the whole prompt; and the prompt."""
        h = self.time(time_embedding(t, self.width).to(self.dtype))
        (y,) = self.conditions.shown(y, len(t), t.device, hide=False) or (None,)
        if self.label is not None:
            return h + self.label(y), None
        text = None if self.text is None else self.text(y)
        return h if text is None else h + text.memory[:, 0], text

    def check(self, x: Tensor, shape: Sequence[int], t: Tensor, y: Tensor | None) -> None:
        """Raise ValueError unless the three fit together and to examples of ``shape``."""
        if x.shape[1:] != tuple(shape):
            expected = ", ".join(map(str, shape))
            raise ValueError(f"got x {tuple(x.shape)}; this network is built for (n, {expected})")
        if t.shape != x.shape[:1]:
            raise ValueError(f"got t {tuple(t.shape)} for {len(x)} examples; give one time each")
        self.conditions.check_rows(y, len(x), 0 if self.text is None else self.text.context)


class Condition(Conditioning):
    """Makes of the same, in one linear map, numbers for each of the layers.

    They are split into parts of two numbers for each of a layer's ``channels``: scales, then
    shifts.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        channels: Sequence[int],
        classes: int = 0,
        vocab_size: int = 0,
        context: int = 0,
    ) -> None:
        super().__init__(width, hidden, classes, vocab_size, context)
        check_counts(**{"sum of channels": sum(channels)})
        self.sizes = [2 * c for c in channels]
        self.layers = nn.Linear(hidden, sum(self.sizes))

    def forward(self, t: Tensor, y: Tensor | None = None) -> Iterator[Tensor]:
        """For one layer after the other (n, 2 channels)."""
        return self.parts(self.features(t, y)[0])

    def parts(self, features: Flat) -> Iterator[Tensor]:
        """The same, of what ``features`` gave."""
        return iter(self.layers(F.silu(features)).split(self.sizes, 1))


def check_prompts(y: Tensor, n: int, vocab_size: int) -> None:
    """Raise ValueError unless ``y`` are ``n`` rows of tokens from 0 to ``vocab_size`` − 1."""
    y = whole_numbers(y, "prompts")
    if y.dim() != 2 or len(y) != n:
        raise ValueError(
            f"got prompts of shape {tuple(y.shape)}, but {n} examples need {n} rows of token "
            f"numbers, where {PAD} fills rows up"
        )
    if y.device.type == "meta" or traced() or not y.numel():
        return
    low, high = (int(v) for v in y.aminmax())
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"got token {low if low < 0 else high}, but this model reads {vocab_size} tokens: they "
            f"run from 0 to {vocab_size - 1}, where {PAD} fills rows up"
        )


keep_contract(globals())
