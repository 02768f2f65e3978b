"""Densities carried along the paths of an ordinary differential equation.

Where points move with the velocity u, the logarithm of their density falls along a path by the
divergence of u, the trace of its Jacobian: they thin out where u spreads. So log p of an example is
that of the point where its path ends, plus the divergence met on the way. The exact trace takes a
pass backward for each dimension. A random ``noise`` with uncorrelated entries of variance 1 takes
one: the mean of εᵀJε over the noise is the trace of J.

Notation: ``f`` a field, of examples (n, *event); ``epsilon`` the noise; J the Jacobian of f;
``velocity`` u(x, t) of examples at a time; data at ``start``, what has a known density at ``end``.

Source: Chen et al., NeurIPS 2018; Grathwohl et al., ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gentext.core import chosen, draw_noise
from gentext.core.shapes import Batch, PerExample
from gentext.core.signatures import keep_contract
from gentext.flows.ode import solve

DIVERGENCES = ("exact", "hutchinson")
Field = Callable[[Tensor], Tensor]
Velocity = Callable[[Tensor, float], Tensor]


def exact_divergence(f: Field, x: Batch) -> tuple[Batch, PerExample]:
    """f(x) and tr ∂f/∂x of each example, by as many passes as an example has values."""
    wanted = torch.is_grad_enabled()  # of the trace
    with torch.inference_mode(False), torch.enable_grad():
        x, y = _applied(f, x)
        if not y.requires_grad:
            return y, x.new_zeros(len(x))
        flat = y.flatten(1)
        rows = [
            torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True, create_graph=wanted)[0]
            for i in range(flat.shape[1])
        ]
        trace = torch.stack([row.flatten(1)[:, i] for i, row in enumerate(rows)]).sum(0)
    return (y, trace) if torch.is_grad_enabled() else (y.detach(), trace.detach())


def hutchinson_divergence(f: Field, x: Batch, epsilon: Batch) -> tuple[Batch, PerExample]:
    """f(x) and εᵀJε of each example, whose mean over ``epsilon`` is the trace, by one pass.

    Its variance is 2 ‖S‖² for normal noise, S the symmetric part of J, and 2 (‖S‖² − Σ S_ii²) for
    signs, which is never more.

    Equation: :eq:`eq-flow-hutch`

    Source: Hutchinson, Communications in Statistics 1989; Grathwohl et al., ICLR 2019.
    """
    wanted = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        x, y = _applied(f, x)
        if not y.requires_grad:
            return y, x.new_zeros(len(x))
        epsilon = epsilon.clone() if epsilon.is_inference() else epsilon
        (product,) = torch.autograd.grad(y, x, epsilon, create_graph=wanted)
        trace = (product * epsilon).flatten(1).sum(1)
    return (y, trace) if torch.is_grad_enabled() else (y.detach(), trace.detach())


def _applied(f: Field, x: Batch) -> tuple[Batch, Batch]:
    """x as a variable, and f(x) of the same shape."""
    x = x if x.requires_grad else x.detach().clone().requires_grad_()
    y = f(x)
    if y.shape != x.shape:
        raise ValueError(
            f"got f(x) of shape {tuple(y.shape)} for x of {tuple(x.shape)}; a divergence needs a "
            "field with as many values as there are dimensions"
        )
    return x, y


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
    exact = chosen("divergence", divergence, DIVERGENCES) == "exact"
    signs = None if exact else draw_noise(x, generator=generator)

    def slopes(state: tuple[Tensor, ...], t: float) -> tuple[Tensor, ...]:
        def u(x_t: Tensor) -> Tensor:
            return velocity(x_t, t)

        if signs is None:
            return exact_divergence(u, state[0])
        return hutchinson_divergence(u, state[0], signs)

    state: tuple[Tensor, ...] = (x, x.new_zeros(len(x)))
    reached, integral = solve(slopes, state, start, end, steps, method)
    return prior_log_prob(reached) + integral


keep_contract(globals())
