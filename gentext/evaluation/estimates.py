"""Numbers that are means over examples: log-likelihoods as bits, averages and their uncertainty.

Notation: ``log_p`` log p(x) of each example, in nats; D the number of values of an example.

Source: Efron and Tibshirani, 1993 (the bootstrap); Koehn, EMNLP 2004 (of pairs, for BLEU).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from gentext.core import check_count, check_number
from gentext.core.draws import drawn_by
from gentext.core.shapes import PerExample
from gentext.core.signatures import keep_contract


class Estimate(NamedTuple):
    """A mean and its standard error."""

    mean: float
    se: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.se:.3f}"


class Interval(NamedTuple):
    """The ends of an interval."""

    low: float
    high: float


class PairedBootstrap(NamedTuple):
    """The score of a less that of b, its interval, and the share of the draws with a above b."""

    difference: float
    low: float
    high: float
    better: float


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


def bootstrap_interval(
    values: Tensor | Sequence[Any],
    statistic: Callable[[Any], Any] | None = None,
    *,
    level: float = 0.95,
    draws: int = 1000,
    generator: Generator | None = None,
) -> Interval:
    """The interval of a score that holds ``level`` of its values on resampled examples.

    Each draw takes as many examples as there are, with replacement. For a mean the ends come to
    mean ± z sd/√N as N grows.

    Arguments:
        values: something for each example: its score in a tensor (n,), or, for a score of a corpus
            such as BLEU, a sequence of pairs of a text and its reference.
        statistic: the score of some of the values, a number; the mean if not given.
        draws: how many times; each computes the statistic anew.

    Raises ValueError for fewer values than 2, and for a score that is no finite number.
    """
    _check_bootstrap(len(values), level, draws)
    score = _mean if statistic is None else statistic
    scores = [_number(score(_taken(values, k))) for k in _resampled(len(values), draws, generator)]
    return _middle(scores, level)


def paired_bootstrap(
    a: Tensor | Sequence[Any],
    b: Tensor | Sequence[Any],
    statistic: Callable[[Any], Any] | None = None,
    *,
    level: float = 0.95,
    draws: int = 1000,
    generator: Generator | None = None,
) -> PairedBootstrap:
    """How much better ``a`` scores than ``b`` on the same examples, resampled in both alike.

    That ``better`` is above 0.95 is what Koehn calls better at a level of 95 %; a draw with equal
    scores counts one half. The arguments are those of ``bootstrap_interval``.

    Raises ValueError where a and b are not of the same length.
    """
    if len(a) != len(b):
        raise ValueError(
            f"a pair needs the same examples in both, but got {len(a)} and {len(b)} values"
        )
    _check_bootstrap(len(a), level, draws)
    score = _mean if statistic is None else statistic
    gaps = [
        _number(score(_taken(a, k))) - _number(score(_taken(b, k)))
        for k in _resampled(len(a), draws, generator)
    ]
    better = sum((gap > 0) + (gap == 0) / 2 for gap in gaps) / draws
    return PairedBootstrap(_number(score(a)) - _number(score(b)), *_middle(gaps, level), better)


def _resampled(n: int, draws: int, generator: Generator | None) -> Iterator[Tensor]:
    """For each draw the places of n examples, with replacement."""
    device = None if generator is None else generator.device
    for _ in range(draws):
        yield torch.randint(n, (n,), device=device, **drawn_by(generator))


def _taken(values: Tensor | Sequence[Any], places: Tensor) -> Any:
    if isinstance(values, Tensor):
        return values[places.to(values.device)]
    return [values[k] for k in places.tolist()]


def _mean(values: Any) -> Tensor:
    return torch.as_tensor(values).double().mean()


def _number(score: Any) -> float:
    number = float(score)
    if not math.isfinite(number):
        raise ValueError(f"a score of resampled examples is {number}; give a statistic that is not")
    return number


def _middle(scores: list[float], level: float) -> Interval:
    """The interval between the quantiles that leaves (1 − level)/2 outside on each side."""
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.tensor(scores, dtype=torch.float64).quantile(ends).tolist()
    return Interval(low, high)


def _check_bootstrap(n: int, level: float, draws: int) -> None:
    """Raise ValueError unless there are values, a share and draws to take."""
    if n < 2:
        raise ValueError(f"the bootstrap needs at least 2 values, but got {n}")
    check_number("level", level, above=0, below=1)
    check_count("draws", draws)


keep_contract(globals())
