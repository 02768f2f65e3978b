"""Which tokens are hidden: shares of masks over time, masks drawn at random, orders of filling.

Notation: rows of ``length`` L tokens, of which ``k`` are masked; α_t the share that is shown at the
time t from 0, the data, to 1, where nothing is shown; s < t.

Source: Austin et al., NeurIPS 2021; Sahoo et al., NeurIPS 2024; Shi et al., NeurIPS 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from gentext.core import at_hand, at_least_single, check_count, chosen, drawn_by
from gentext.core.signatures import keep_contract

ORDERS = ("random", "confidence")
Order = str | Sequence[int] | Tensor


class MaskSchedule(NamedTuple):
    """1 − α_t, the share of masks, and its slope, of times t."""

    hidden: Callable[[Tensor], Tensor]  # and not what is shown: near t = 0 it keeps its digits
    slope: Callable[[Tensor], Tensor]


SCHEDULES: dict[str, MaskSchedule] = {
    "linear": MaskSchedule(lambda t: t, torch.ones_like),
    "cosine": MaskSchedule(
        lambda t: (math.pi / 2 * t).sin(),
        lambda t: math.pi / 2 * (math.pi / 2 * t).cos(),
    ),
}


def shown(t: Tensor, schedule: str = "linear") -> Tensor:
    """α_t, the share of tokens that is not masked at times ``t`` in [0, 1]: 1 − t, if "linear".

    It is 1 − sin(πt/2) for "cosine", by which few are filled in the first steps back.

    Source: Chang et al., CVPR 2022 (cosine).
    """
    return 1 - chosen("schedule", schedule, SCHEDULES).hidden(t)


def weight(t: Tensor, schedule: str = "linear") -> Tensor:
    """−α'_t/(1 − α_t), the weight of Σ_M log p(x_i | x_t) in the bound at times t: 1/t if linear.

    What it integrates is d(1 − α_t)/(1 − α_t): the bound knows the share of masks, and no schedule.

    Equation: :eq:`eq-diff-mask`
    """
    how = chosen("schedule", schedule, SCHEDULES)
    return how.slope(t) / how.hidden(t)


def reveal(t: Tensor, s: Tensor, schedule: str = "linear") -> Tensor:
    """(α_s − α_t)/(1 − α_t): how probably a token masked at t is filled by the time s < t.

    Equation: :eq:`eq-diff-maskstep`
    """
    hidden = chosen("schedule", schedule, SCHEDULES).hidden
    if at_hand(t) and at_hand(s) and not bool(((s >= 0) & (s < t) & (t <= 1)).all()):
        raise ValueError("got times that are not in order; give s and t with 0 <= s < t <= 1")
    return (hidden(t) - hidden(s)) / hidden(t)


def counts(length: int, steps: int, schedule: str = "linear") -> Tensor:
    """p(k) (L,) of the number k = 1 to L of masks among which ``steps`` steps fill a token.

    A step from t to s fills reveal(t, s) of the masks, whose number is binomial. With ever more
    steps all k become equally probable: one token at a time.

    Equation: :eq:`eq-diff-maskstep`
    """
    t, s = times(steps)
    k = torch.arange(1, length + 1, dtype=t.dtype)[:, None]
    masked = torch.distributions.Binomial(length, 1 - shown(t, schedule))
    return (reveal(t, s, schedule) * k * masked.log_prob(k).exp()).sum(1) / length


def times(steps: int) -> tuple[Tensor, Tensor]:
    """Where each of ``steps`` equal steps from 1 to 0 begins and ends."""
    check_count("steps", steps)
    t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return t[:-1], t[1:]


def draw_masks(
    like: Tensor,
    draws: int,
    p_k: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """``draws`` masks for rows ``like`` (n, t), True where masked; k by ``p_k`` (L,) or uniform.

    The chances at which k is looked up come from equal shares of [0, 1], one a draw, and are spread
    over the rows. A draw from a share and one from the opposite share use the same random order, of
    which one masks the first places and the other the last.
    """
    (n, length), device = like.shape, like.device
    shift = torch.arange(n, device=device) / n
    for draw in range((draws + 1) // 2):
        u = torch.rand(1, device=device, **drawn_by(generator))
        at = (draw + (u + shift) % 1) / draws
        rank = torch.rand((n, length), device=device, **drawn_by(generator)).argsort(1).argsort(1)
        yield rank < _number(at, length, p_k)[:, None]
        if draw < draws // 2:
            yield length - 1 - rank < _number(1 - at, length, p_k)[:, None]


def _number(at: Tensor, length: int, p_k: Tensor | None) -> Tensor:
    """k from 1 to L, by the inverse of its distribution at ``at`` (n,) in [0, 1]."""
    if p_k is None:
        return (at * length).long().clamp(max=length - 1) + 1
    below = p_k.cumsum(0).to(at)
    return torch.searchsorted(below, at, right=True).clamp(max=length - 1) + 1


def count_masked(gaps: int, steps: int, schedule: str = "linear") -> list[int]:
    """How many of ``gaps`` masks are filled at the start and after each step, one more at least."""
    steps = min(gaps, steps)
    if not steps:
        return [0]
    filled = [0]
    for masked in (gaps * (1 - shown(times(steps)[1], schedule))).round().tolist():
        filled.append(max(filled[-1] + 1, gaps - int(masked)))
    return filled


def fill_by_chance(
    x: Tensor,
    mask: int,
    chances: Iterable[float],
    predict: Callable[..., Tensor],
    choose: Callable[[Tensor], Tensor],
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Rows after each step, in which every ``mask`` is filled by itself with a chance of its step.

    ``predict`` gives logits of rows, (n, t, V), and ``choose`` tokens of logits.

    Equation: :eq:`eq-diff-maskstep`
    """
    for chance in chances:
        u = torch.rand(x.shape, device=x.device, **drawn_by(generator))
        now = (x == mask) & (u < chance)
        if bool(now.any()):
            x = torch.where(now, choose(predict(x)), x)
        yield x


def fill_in_order(
    x: Tensor,
    mask: int,
    numbers: Sequence[int],
    queue: Tensor | None,
    predict: Callable[..., Tensor],
    choose: Callable[[Tensor], Tensor],
) -> Iterator[Tensor]:
    """Rows after each step, up to which ``numbers`` of masks are filled: those next in ``queue``.

    Without a queue, those where the prediction is surest. ``predict`` is also given places (n, k).
    """
    for low, high in pairwise(numbers):
        if queue is None:
            logits = predict(x)
            places = surest(logits, x == mask, high - low)
            logits = logits.gather(1, places[..., None].expand(-1, -1, logits.shape[-1]))
        else:
            places = queue[:, low:high]
            logits = predict(x, places)
        before = x.gather(1, places)
        x = x.scatter(1, places, torch.where(before == mask, choose(logits), before))
        yield x


def queue(masked: Tensor, order: Order, generator: torch.Generator | None = None) -> Tensor | None:
    """The places (n, t) in the order of filling, those not ``masked`` (n, t) at the end.

    None for "confidence", which shows on the way only. Raises ValueError for no order.
    """
    if not isinstance(order, str):
        when = permutation(order, masked).argsort(1)
    elif chosen("order", order, ORDERS) == "confidence":
        return None
    else:
        when = torch.rand(masked.shape, device=masked.device, **drawn_by(generator))
    return (when + ~masked * masked.shape[1]).argsort(1)


def permutation(order: Sequence[int] | Tensor, like: Tensor) -> Tensor:
    """``order``, (t,) or (n, t), for rows ``like`` (n, t); ValueError unless it has every place."""
    places, length = torch.as_tensor(order, device=like.device), like.shape[1]
    fits = places.shape in ((length,), like.shape) and not places.is_floating_point()
    if fits and places.device.type != "meta":
        fits = bool((places.sort(-1).values == torch.arange(length, device=places.device)).all())
    if not fits:
        raise ValueError(
            f"got an order of shape {tuple(places.shape)} for rows of {length} tokens; it must "
            f"name each of the places 0 to {length - 1} once, for all rows or for each"
        )
    return places.long().expand(like.shape)


def surest(logits: Tensor, masked: Tensor, k: int) -> Tensor:
    """The ``k`` masked places (n, k) at which the most probable token is most probable."""
    sure = at_least_single(logits).softmax(-1).amax(-1).masked_fill(~masked, -1)
    return sure.topk(k, dim=1).indices


keep_contract(globals())
