"""Optimal transport: the best pairs against a known library, labels, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from gentext.denoising.transport import assignment, optimal_order, transport_cost

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 3), (7, 1), (60, 2), (120, 30)])
def test_assignments_are_the_best(n: int, d: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(2, n, d))
    a += 3 * np.sign(a[:, :1])
    for cost in (
        -(a @ b.T),
        ((a[:, None] - b) ** 2).sum(-1),
        rng.integers(0, 3, (n, n)),
        a @ a.T * 0,
    ):
        found = assignment(cost.astype(float))
        assert sorted(found) == list(range(n))
        rows, columns = linear_sum_assignment(cost)
        best = cost[rows, columns].sum()
        assert cost[np.arange(n), found].sum() == pytest.approx(best, abs=1e-9 * n)


def test_a_bad_table_of_costs_is_refused() -> None:
    for cost in (np.zeros((2, 3)), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match="square table of finite"):
            assignment(cost)
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(3, 3\)"):
        transport_cost(torch.zeros(2, 3), torch.zeros(3, 3))
    real, complex_ = torch.randn(3, 2), torch.randn(3, 2, dtype=torch.complex64)
    for name, pair in (("x", (complex_, real)), ("eps", (real, complex_))):
        with pytest.raises(ValueError, match=rf"got {name} of torch\.complex64; give real numbers"):
            optimal_order(*pair)


def test_the_best_pairs_have_the_same_points_and_shorter_ways() -> None:
    x, eps = torch.randn(90, 3) * 0.5 + 1, torch.randn(90, 3)
    order = optimal_order(x, eps)
    assert torch.equal(order.sort().values, torch.arange(90))
    by_hand = ((x - eps[order]) ** 2).sum(1).mean()
    torch.testing.assert_close(transport_cost(x, eps[order]), by_hand)
    rows, columns = linear_sum_assignment(torch.cdist(x, eps).numpy() ** 2)
    torch.testing.assert_close(by_hand, transport_cost(x[rows], eps[columns]))
    assert float(by_hand) < 0.7 * float(transport_cost(x, eps))
    on_a_line = optimal_order(x[:, :1], eps[:, :1])  # where the best pairs keep the order
    assert torch.equal(eps[on_a_line, 0].argsort(), x[:, 0].argsort())


def test_noise_is_never_exchanged_between_classes() -> None:
    """Or else that of a class would not be normal."""
    x, eps, y = torch.randn(60, 2), torch.randn(60, 2), torch.randint(3, (60,))
    order = optimal_order(x + 4 * y[:, None], eps, y)
    assert torch.equal(y[order], y)
    for label in range(3):
        rows = y == label
        alone = optimal_order(x[rows], eps[rows])
        torch.testing.assert_close(eps[order][rows], eps[rows][alone])


def test_of_equal_prompts_noise_is_exchanged_as_within_a_class() -> None:
    x, eps, y = torch.randn(40, 2), torch.randn(40, 2), torch.randint(3, (40,))
    prompts = torch.tensor([[1, 2, 0], [1, 3, 0], [2, 1, 4]])[y]
    order = optimal_order(x, eps, prompts)
    assert torch.equal(order, optimal_order(x, eps, y))
    assert not torch.equal(order, torch.arange(40))
