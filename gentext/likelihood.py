"""Densities carried along the paths of an ordinary differential equation.

Where points move with the velocity u, the logarithm of their density falls along a path by the
divergence of u: they thin out where u spreads. So log p of an example is that of the point where
its path ends, plus the divergence met on the way.

Notation: ``velocity`` u(x, t) of examples (n, *event) at a time; data at ``start``, what has a
known density at ``end``.

Source: Chen et al., NeurIPS 2018; Grathwohl et al., ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gentext.divergence import draw_noise, exact_divergence, hutchinson_divergence
from gentext.ode import solve
from gentext.shapes import Batch, PerExample

DIVERGENCES = ("exact", "hutchinson")
Velocity = Callable[[Tensor, float], Tensor]


def ode_log_prob(
    velocity: Velocity,
    x: Batch,
    *,
    prior_log_prob: Callable[[Tensor], PerExample],
    start: float = 0.0,
    end: float = 1.0,
    steps: int = 50,
    method: str = "heun",
    divergence: str = "exact",
    generator: torch.Generator | None = None,
) -> PerExample:
    """log p(x) at ``start`` in nats, by ``prior_log_prob`` at ``end`` and ∫ ∇·u dt between them.

    The ``divergence`` is "exact", with a pass backward for each value of an example at each slope,
    or "hutchinson": one pass, by a draw of signs for the whole path, and right on average.

    Equation: :eq:`eq-sde-loglik`
    """
    if divergence not in DIVERGENCES:
        raise ValueError(
            f"unknown divergence {divergence!r}: choose one of {', '.join(DIVERGENCES)}"
        )
    signs = draw_noise(x, generator=generator) if divergence == "hutchinson" else None

    def slopes(state: tuple[Tensor, ...], t: float) -> tuple[Tensor, ...]:
        def u(x_t: Tensor) -> Tensor:
            return velocity(x_t, t)

        if signs is None:
            return exact_divergence(u, state[0])
        return hutchinson_divergence(u, state[0], signs)

    state: tuple[Tensor, ...] = (x, x.new_zeros(len(x)))
    reached, integral = solve(slopes, state, start, end, steps, method)
    return prior_log_prob(reached) + integral
