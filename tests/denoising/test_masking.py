"""Masks against their formulas: shares over time, numbers of masks, orders, steps of filling."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gentext.denoising.masking import (
    ORDERS,
    SCHEDULES,
    _number,
    count_masked,
    counts,
    draw_masks,
    fill_by_chance,
    fill_in_order,
    permutation,
    queue,
    reveal,
    shown,
    surest,
    times,
    weight,
)

pytestmark = pytest.mark.usefixtures("float64")

MASKED: dict[str, Callable[[float], float]] = {  # 1 − α_t, once more
    "linear": lambda t: t,
    "cosine": lambda t: math.sin(math.pi * t / 2),
}


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


def grid(steps: int, schedule: str) -> list[float]:
    """The share of masks before each step, and after the last."""
    return [MASKED[schedule](1 - j / steps) for j in range(steps + 1)]


@pytest.mark.equation("eq-diff-mask")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_weights_are_slopes_over_the_share_of_masks(schedule: str) -> None:
    t = torch.linspace(0.05, 1, 12, requires_grad=True)
    close(1 - shown(t, schedule), torch.tensor([MASKED[schedule](u) for u in t.tolist()]))
    (slope,) = torch.autograd.grad((1 - shown(t, schedule)).log().sum(), t)
    close(weight(t.detach(), schedule), slope)
    if schedule == "linear":
        close(weight(t.detach()), 1 / t.detach())


@pytest.mark.parametrize("draws", [1, 2, 5, 6, 7])
def test_masks_come_from_equal_shares_and_mirror_each_other(draws: int) -> None:
    """With as many draws as places every number comes once; so it does in a batch of that size."""
    x = torch.zeros(4000, 6, dtype=torch.long)
    masks = torch.stack(list(draw_masks(x, draws)))
    assert masks.shape == (draws, 4000, 6)
    k = masks.sum(-1)
    assert k.min() >= 1
    if draws == 6:
        assert (k.sort(0).values == torch.arange(1, 7)[:, None]).all()
    shares = k.flatten().bincount(minlength=7)[1:] / k.numel()
    assert (shares - 1 / 6).abs().max() < 1e-3  # far below the noise of independent draws
    for first, second in zip(masks[: draws - 1 : 2], masks[1::2], strict=False):
        assert (first.sum(-1) + second.sum(-1) == 7).all()
        assert (first | second).all()
    for number in range(1, 7):
        chosen = masks[k == number].double().mean(0)
        error = 4 * math.sqrt(number / 6 * (1 - number / 6) / int((k == number).sum()))
        assert ((chosen - number / 6).abs() <= error + 1e-12).all()


def test_masks_have_the_numbers_of_their_distribution() -> None:
    p_k = torch.tensor([0.1, 0.0, 0.3, 0.6])
    masks = torch.stack(list(draw_masks(torch.zeros(2000, 4), 3, p_k)))
    close(masks.sum(-1).flatten().bincount(minlength=5)[1:] / 6000, p_k, 2e-3)
    edges = torch.tensor([0.0, 0.5, 1.0])
    assert _number(edges, 4, None).tolist() == [1, 3, 4]
    assert _number(edges, 3, torch.tensor([0.0, 0.75, 0.25])).tolist() == [2, 2, 3]


@pytest.mark.equation("eq-diff-maskstep")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_steps_reveal_what_leaves_the_share_of_the_schedule(schedule: str) -> None:
    t = torch.tensor([1.0, 0.9, 0.55, 0.2, 0.01])
    for s in (0.0, 0.005):
        left = torch.cumprod(1 - reveal(t, torch.cat([t[1:], torch.tensor([s])]), schedule), 0)
        after = [*t[1:].tolist(), s]
        close(left, torch.tensor([MASKED[schedule](u) for u in after]))
    assert (reveal(t, torch.zeros(5), schedule) == 1).all()


@pytest.mark.equation("eq-diff-maskstep")
def test_numbers_of_masks_by_which_steps_draw() -> None:
    for schedule, steps in itertools.product(SCHEDULES, (1, 2, 5)):
        expected = torch.zeros(6)
        for m_t, m_s in itertools.pairwise(grid(steps, schedule)):
            for k in range(1, 7):
                binomial = math.comb(6, k) * m_t**k * (1 - m_t) ** (6 - k)
                expected[k - 1] += binomial * k * (m_t - m_s) / m_t / 6
        close(counts(6, steps, schedule), expected, 1e-13)
        close(expected.sum(), torch.tensor(1.0))
    close(counts(6, 1), torch.tensor([0.0, 0, 0, 0, 0, 1]))
    for schedule in SCHEDULES:
        close(counts(6, 20_000, schedule), torch.full((6,), 1 / 6), 1e-3)


def test_numbers_of_places_to_fill() -> None:
    assert count_masked(4, 4, "linear") == [0, 1, 2, 3, 4]
    assert count_masked(4, 9, "cosine") == [0, 1, 2, 3, 4]
    assert count_masked(10, 5, "linear") == [0, 2, 4, 6, 8, 10]
    assert count_masked(10, 1, "linear") == [0, 10]
    assert count_masked(0, 3, "linear") == [0]
    few = count_masked(64, 8, "cosine")
    assert few == [0, 1, 5, 11, 19, 28, 40, 52, 64]  # 64 (1 − cos(πj/16)), rounded, one at least
    for gaps, steps, schedule in itertools.product(range(1, 40), range(1, 40), SCHEDULES):
        filled = count_masked(gaps, steps, schedule)
        assert filled[0] == 0
        assert filled[-1] == gaps
        assert len(filled) == min(gaps, steps) + 1
        assert min(b - a for a, b in itertools.pairwise(filled)) >= 1


# Orders, and steps along them


def test_a_queue_has_the_masked_places_first_and_in_order() -> None:
    masked = torch.tensor([[True, False, True, True], [False, True, True, False]])
    assert queue(masked, [3, 1, 0, 2]).tolist() == [[3, 0, 2, 1], [1, 2, 3, 0]]
    own = torch.tensor([[2, 3, 0, 1], [3, 2, 1, 0]])
    assert queue(masked, own).tolist() == [[2, 3, 0, 1], [2, 1, 3, 0]]
    assert queue(masked, "confidence") is None
    many = queue(masked[:1].expand(6000, -1), "random", torch.Generator().manual_seed(1))
    assert (many[:, 3] == 1).all()
    each = (many[:, :3] * torch.tensor([9, 3, 1])).sum(1).unique(return_counts=True)[1] / 6000
    assert len(each) == 6  # all orders of the three, each as likely
    assert float((each - 1 / 6).abs().max()) < 4 * math.sqrt(5 / 36 / 6000)


def test_an_order_names_every_place_once() -> None:
    like = torch.zeros(2, 3)
    assert permutation(range(2, -1, -1), like).tolist() == [[2, 1, 0], [2, 1, 0]]
    for odd in ([0, 1], [0, 1, 1], [1, 2, 3], torch.tensor([[0, 1, 2]]), torch.tensor([0.0, 1, 2])):
        with pytest.raises(ValueError, match="each of the places 0 to 2 once"):
            permutation(odd, like)


def test_the_surest_places_are_those_of_the_largest_probabilities_among_the_masked() -> None:
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
    masked = torch.tensor([[False, True, True, True]])
    assert surest(p.log()[None], masked, 2).tolist() == [[3, 2]]
    assert surest(5 + p.log()[None], masked, 3).tolist() == [[3, 2, 1]]  # of logits as well


@pytest.mark.equation("eq-diff-maskstep")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_filling_by_chance_leaves_the_share_of_masks_of_the_schedule(schedule: str) -> None:
    """Of 200,000 places, after each of 5 steps; what is filled is what was chosen, and stays."""
    x = torch.full((4000, 50), 2)
    chances = reveal(*times(5), schedule).tolist()
    states = [x, *fill_by_chance(x, 2, chances, lambda x: x, lambda x: torch.ones_like(x))]
    for state, share in zip(states, grid(5, schedule), strict=True):
        left = float((state == 2).double().mean())
        assert abs(left - share) <= 4 * math.sqrt(share * (1 - share) / x.numel())
        assert ((state == 1) | (state == 2)).all()
    for before, after in itertools.pairwise(states):
        assert (after[before == 1] == 1).all()


def test_filling_in_order_follows_the_queue_and_keeps_what_is_there() -> None:
    x = torch.tensor([[9, 5, 9, 9], [9, 9, 9, 9]])
    asked: list[Tensor] = []

    def predict(x: Tensor, places: Tensor) -> Tensor:
        asked.append(places)
        return places

    order = queue(x == 9, [3, 1, 0, 2])
    states = list(fill_in_order(x, 9, [0, 1, 4], order, predict, lambda places: places + 20))
    assert [rows.tolist() for rows in states] == [
        [[9, 5, 9, 23], [9, 9, 9, 23]],
        [[20, 5, 22, 23], [20, 21, 22, 23]],
    ]
    assert torch.equal(torch.cat(asked, 1), order)


def test_filling_without_a_queue_begins_where_the_prediction_is_surest() -> None:
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
    x = torch.full((1, 4), 2)
    steps = fill_in_order(x, 2, [0, 1, 3, 4], None, lambda x: p.log()[None], lambda v: v.argmax(-1))
    assert [rows.tolist() for rows in steps] == [[[0, 2, 2, 2]], [[0, 2, 1, 1]], [[0, 0, 1, 1]]]


def test_what_is_unknown_is_refused() -> None:
    for call in (shown, weight, lambda t, name: reveal(t, t / 2, name)):
        with pytest.raises(ValueError, match=r"unknown schedule 'square'.*linear, cosine"):
            call(torch.ones(1), "square")
    with pytest.raises(ValueError, match=rf"unknown order 'spiral'.*{', '.join(ORDERS)}"):
        queue(torch.ones(1, 3, dtype=torch.bool), "spiral")
    with pytest.raises(ValueError, match="steps=0"):
        counts(3, 0)


@pytest.mark.equation("eq-diff-mask", "eq-diff-maskstep")
def test_near_the_data_weights_and_chances_keep_their_digits() -> None:
    """In single precision, where 1 − t is 1."""
    t = torch.tensor([1e-4, 1e-7, 1e-12]).float()
    for schedule in ("linear", "cosine"):
        close(t * weight(t, schedule), torch.ones_like(t), 1e-6)
        close(reveal(t, t / 4, schedule), torch.full_like(t, 0.75), 1e-6)
