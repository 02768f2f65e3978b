"""Numbers that are means over examples: log-likelihoods as bits, averages and their uncertainty.

Notation: ``log_p`` log p(x) of each example, in nats; D the number of values of an example.

Source: Efron and Tibshirani, 1993 (the bootstrap); Koehn, EMNLP 2004 (of pairs, for BLEU).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from gentext.core import check_count, check_number
from gentext.core.draws import drawn_by
from gentext.core.shapes import PerExample
from gentext.core.signatures import keep_contract

Statistic = Callable[[Any], Any] | None  # of some of the values, a number; None is their mean
INDICES = 2**22  # drawn at once


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
    statistic: Statistic = None,
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
    (scores,) = _resampled((values,), statistic, draws, generator)
    return _middle(scores, level)


def paired_bootstrap(
    a: Tensor | Sequence[Any],
    b: Tensor | Sequence[Any],
    statistic: Statistic = None,
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
    score_a, score_b = _resampled((a, b), statistic, draws, generator)
    better = ((score_a > score_b).double() + (score_a == score_b).double() / 2).mean()
    every = torch.arange(len(a))[None]
    gap = _scores(a, every, statistic) - _scores(b, every, statistic)
    return PairedBootstrap(float(gap), *_middle(score_a - score_b, level), float(better))


def _resampled(
    compared: tuple[Any, ...], statistic: Statistic, draws: int, generator: Generator | None
) -> list[Tensor]:
    """The scores of each of ``compared``, (draws,), on the same examples drawn with replacement."""
    n = len(compared[0])
    device = None if generator is None else generator.device
    parts = []
    for start in range(0, draws, part := max(1, INDICES // n)):
        shape = (min(part, draws - start), n)
        places = torch.randint(n, shape, device=device, **drawn_by(generator)).cpu()
        parts.append([_scores(values, places, statistic) for values in compared])
    return [torch.cat(scores) for scores in zip(*parts, strict=True)]


def _scores(values: Any, places: Tensor, statistic: Statistic) -> Tensor:
    """The score of the values at each row of ``places``."""
    if statistic is None:
        numbers = torch.as_tensor(values).detach().cpu()
        if numbers.ndim != 1 or numbers.is_complex():
            raise ValueError("the mean is of one real number an example; else give a statistic")
        scores = numbers.double()[places].mean(1)
    elif isinstance(values, Tensor):
        rows = (values[row.to(values.device)] for row in places)
        scores = torch.tensor([float(statistic(row)) for row in rows], dtype=torch.float64)
    else:
        lists = ([values[k] for k in row] for row in places.tolist())
        scores = torch.tensor([float(statistic(row)) for row in lists], dtype=torch.float64)
    if not scores.isfinite().all():
        raise ValueError("a score of resampled examples is NaN or infinite; give finite values")
    return scores


def _middle(scores: Tensor, level: float) -> Interval:
    """The interval between the quantiles that leaves (1 − level)/2 outside on each side."""
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = scores.quantile(ends).tolist()
    return Interval(low, high)


def _check_bootstrap(n: int, level: float, draws: int) -> None:
    """Raise ValueError unless there are values, a share and draws to take."""
    if n < 2:
        raise ValueError(f"the bootstrap needs at least 2 values, but got {n}")
    check_number("level", level, above=0, below=1)
    check_count("draws", draws)


keep_contract(globals())
