"""Steps of ordinary differential equations: orders, tuples, both directions of time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gentext.flows.ode import METHODS, path, solve

pytestmark = pytest.mark.usefixtures("float64")

X = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


def slope(x: Tensor, t: float) -> Tensor:
    """Of 1/(c + t²): nonlinear in x, and it depends on t."""
    return -2 * t * x.square()


def exact(t: float) -> Tensor:
    return 1 / (1 / X + t**2)


def error(method: str, steps: int, start: float = 0.0, end: float = 1.5) -> float:
    reached = solve(slope, exact(start), start, end, steps, method)
    return float((reached - exact(end)).abs().max())


@pytest.mark.parametrize("ends", [(0.0, 1.5), (1.5, 0.3)])
@pytest.mark.parametrize("method", METHODS)
def test_errors_fall_at_the_order_of_the_method(method: str, ends: tuple[float, float]) -> None:
    order = METHODS[method].order
    coarse, fine = (error(method, steps, *ends) for steps in (80, 160))
    assert coarse / fine == pytest.approx(2**order, rel=0.1)
    assert fine < {1: 4e-2, 2: 1e-3, 4: 1e-7}[order]


@pytest.mark.parametrize(
    ("method", "degree"), [("euler", 0), ("midpoint", 1), ("heun", 1), ("rk4", 3)]
)
def test_what_does_not_depend_on_x_is_integrated_by_quadrature(method: str, degree: int) -> None:
    """Exactly up to a degree of the polynomial in t, and no further."""

    def off(power: int) -> float:
        area = solve(
            lambda x, t: (power + 1) * t**power * torch.ones(1), X[:1] * 0, 0.0, 1.0, 1, method
        )
        return abs(float(area) - 1)

    assert all(off(power) < 1e-14 for power in range(degree + 1))
    assert off(degree + 1 + (degree == 3)) > 1e-3


def test_methods_declare_the_orders_of_the_field() -> None:
    """And their weights meet the conditions of these orders, Σ b c^{k−1} = 1/k."""
    assert {name: method.order for name, method in METHODS.items()} == {
        "euler": 1,
        "midpoint": 2,
        "heun": 2,
        "rk4": 4,
    }
    for method in METHODS.values():
        pairs = list(zip(method.weights, method.nodes, strict=True))
        for k in range(1, method.order + 1):
            moment = sum(b * c ** (k - 1) for b, c in pairs) / sum(method.weights)
            assert moment == pytest.approx(1 / k, abs=1e-15)


@pytest.mark.parametrize("method", METHODS)
def test_a_tuple_moves_as_its_parts_would(method: str) -> None:
    """The second part is the integral of the first, an arctangent."""

    def both(state: tuple[Tensor, ...], t: float) -> tuple[Tensor, ...]:
        return slope(state[0], t), state[0]

    x, area = solve(both, (X, torch.zeros(3)), 0.0, 1.0, 400, method)
    assert torch.equal(x, solve(slope, X, 0.0, 1.0, 400, method))
    expected = X.sqrt() * X.sqrt().atan()
    torch.testing.assert_close(area, expected, atol=4e-3 if method == "euler" else 1e-5, rtol=0)


def test_a_path_begins_where_it_starts_and_ends_where_solve_does() -> None:
    points = list(path(slope, X, 0.0, 1.0, 7, "heun"))
    assert len(points) == 8
    assert torch.equal(points[0], X)
    assert torch.equal(points[-1], solve(slope, X, 0.0, 1.0, 7, "heun"))
    torch.testing.assert_close(points[3], exact(3 / 7), atol=1e-2, rtol=0)


def test_unknown_methods_and_no_steps_are_explained() -> None:
    with pytest.raises(
        ValueError, match="unknown method 'dopri': choose one of euler, midpoint, he"
    ):
        solve(slope, X, 0.0, 1.0, 3, "dopri")
    with pytest.raises(ValueError, match="got steps=0; steps must be a whole number"):
        solve(slope, X, 0.0, 1.0, 0)
