"""Ordinary differential equations dx/dt = u(x, t): four fixed steps, from Euler to Runge-Kutta.

A step of order p makes an error of h^{p+1}, so over a fixed stretch of time the error falls like
h^p. The state is a tensor, or a tuple of tensors that are moved together, such as x and what is
integrated along its path.

Notation: ``h`` the step, negative when time runs back; ``c``, ``b`` nodes and weights of a method.

Source: Hairer, Nørsett and Wanner, Solving Ordinary Differential Equations I, Springer 1993.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar, cast

from torch import Tensor

from gentext.core import check_count, chosen
from gentext.core.signatures import keep_contract

State = TypeVar("State", Tensor, tuple[Tensor, ...])
Slope = Callable[[State, float], State]


class Method(NamedTuple):
    """A step of an ``order``: slopes at t + c h, each where the one before leads, and their mean.

    The mean is weighted by whole numbers b, which are divided by their sum.
    """

    order: int
    nodes: tuple[float, ...]
    weights: tuple[int, ...]


METHODS = {
    "euler": Method(1, (0,), (1,)),
    "midpoint": Method(2, (0, 1 / 2), (0, 1)),
    "heun": Method(2, (0, 1), (1, 1)),
    "rk4": Method(4, (0, 1 / 2, 1 / 2, 1), (1, 2, 2, 1)),
}


def advance(method: Method, u: Slope[State], x: State, t: float, h: float) -> State:
    """x at t + h, from x at t by one step."""
    total, end, slope = sum(method.weights), x, None
    for c, b in zip(method.nodes, method.weights, strict=True):
        slope = u(x if slope is None else _moved(x, c * h, slope), t + c * h)
        if b:
            end = _moved(end, b * h / total, slope)
    return end


def path(
    u: Slope[State], x: State, start: float, end: float, steps: int, method: str = "rk4"
) -> Iterator[State]:
    """x at ``start`` and after each of ``steps`` equal steps to ``end``."""
    by = chosen("method", method, METHODS)
    check_count("steps", steps)
    h = (end - start) / steps
    yield x
    for k in range(steps):
        x = advance(by, u, x, start + k * h, h)
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


keep_contract(globals())
