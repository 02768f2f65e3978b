"""The divergence of a vector field: the trace of its Jacobian, exactly or by random probes.

The exact trace takes a pass backward for each dimension. A random ``noise`` with uncorrelated
entries of variance 1 takes one: the mean of εᵀJε over the noise is the trace of J.

Notation: ``f`` the field, of examples (n, *event); ``epsilon`` the noise; J the Jacobian of f.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gentext.shapes import Batch, PerExample

NOISES = ("rademacher", "normal")
Field = Callable[[Tensor], Tensor]


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


def draw_noise(
    like: Tensor, kind: str = "rademacher", generator: torch.Generator | None = None
) -> Batch:
    """Noise of mean 0 and variance 1 in the shape of ``like``: signs, or normal."""
    if kind not in NOISES:
        raise ValueError(f"unknown noise {kind!r}: choose one of {', '.join(NOISES)}")
    dtype, device = like.dtype, like.device
    if kind == "normal":
        return torch.randn(like.shape, dtype=dtype, device=device, generator=generator)
    signs = torch.randint(2, like.shape, dtype=dtype, device=device, generator=generator)
    return 2 * signs - 1
