"""Ordinary differential equations dx/dt = u(x, t): four fixed steps, from Euler to Runge-Kutta.

A step of order p makes an error of h^{p+1}, so over a fixed stretch of time the error falls like
h^p. The state is a tensor, or a tuple of tensors that are moved together, such as x and what is
integrated along its path.

Notation: ``h`` the step, negative when time runs back.

Source: Hairer, Nørsett and Wanner, Solving Ordinary Differential Equations I, Springer 1993.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar, cast

from torch import Tensor

State = TypeVar("State", Tensor, tuple[Tensor, ...])
Slope = Callable[[State, float], State]


def euler(u: Slope[State], x: State, t: float, h: float) -> State:
    """x + h u(x, t): order 1."""
    return _moved(x, h, u(x, t))


def midpoint(u: Slope[State], x: State, t: float, h: float) -> State:
    """A step by the slope at its middle: order 2."""
    return _moved(x, h, u(_moved(x, h / 2, u(x, t)), t + h / 2))


def heun(u: Slope[State], x: State, t: float, h: float) -> State:
    """A step by the mean of the slopes at its ends: order 2."""
    start = u(x, t)
    end = u(_moved(x, h, start), t + h)
    return _moved(_moved(x, h / 2, start), h / 2, end)


def rk4(u: Slope[State], x: State, t: float, h: float) -> State:
    """The classical step of Runge and Kutta: order 4."""
    a = u(x, t)
    b = u(_moved(x, h / 2, a), t + h / 2)
    c = u(_moved(x, h / 2, b), t + h / 2)
    d = u(_moved(x, h, c), t + h)
    for weight, slope in ((1, a), (2, b), (2, c), (1, d)):
        x = _moved(x, weight * h / 6, slope)
    return x


METHODS = {"euler": euler, "midpoint": midpoint, "heun": heun, "rk4": rk4}


def path(
    u: Slope[State], x: State, start: float, end: float, steps: int, method: str = "rk4"
) -> Iterator[State]:
    """x at ``start`` and after each of ``steps`` equal steps to ``end``."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    if steps < 1:
        raise ValueError(f"got steps={steps}; a path takes at least 1")
    h = (end - start) / steps
    yield x
    for k in range(steps):
        x = METHODS[method](u, x, start + k * h, h)
        yield x


def solve(
    u: Slope[State], x: State, start: float, end: float, steps: int, method: str = "rk4"
) -> State:
    """x at ``end``, from x at ``start``."""
    for reached in path(u, x, start, end, steps, method):
        x = reached
    return x


def _moved(x: State, h: float, slope: State) -> State:
    """x + h slope, part by part."""
    if isinstance(x, Tensor):
        return x + h * cast(Tensor, slope)
    return tuple(a + h * b for a, b in zip(x, slope, strict=True))
