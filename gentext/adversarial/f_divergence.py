"""Divergences that a game can measure: f-divergences by a critic, W₁ by a Lipschitz one.

An f-divergence D_f(p ‖ q) = Σ q f(p/q) needs densities. Its dual form needs only draws of both: a
supremum over functions T of two means, reached by T = f'(p/q).

Notation: ``p``, ``q`` (k,) probabilities of the same k points; ``f`` convex with f(1) = 0, u = p/q;
f*(t) = sup_u (t u − f(u)) the convex conjugate of f; T or ``t`` (k,) the critic's values.

Source: Nguyen et al., IEEE Transactions on Information Theory 2010; Nowozin et al., NeurIPS 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from gentext.core import at_hand, chosen
from gentext.core.shapes import Scalar
from gentext.core.signatures import keep_contract

Probabilities = Float[Tensor, "k"]
TOLERANCE = 0.01  # what may be missing of a sum of 1, such as the tails that a grid leaves out


class Divergence(NamedTuple):
    """A convex f with f(1) = 0, and what its divergence is computed from."""

    f: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]  # f', also at 0 and at infinity
    conjugate: Callable[[Tensor], Tensor]  # f*, infinite where its supremum is
    output: Callable[[Tensor], Tensor]  # maps all numbers onto those where f* is finite
    conjugate_of_output: Callable[[Tensor], Tensor]  # finite also where one after the other is not
    pointwise: Callable[[Tensor, Tensor], Tensor]  # q f(p/q), also where p or q is 0


def _kl_to_middle(p: Tensor, q: Tensor) -> Tensor:
    """p log(p/m) of each point, with m = (p + q)/2."""
    m = (p + q) / 2
    return torch.xlogy(p, p) - torch.xlogy(p, torch.where(m > 0, m, 1))


def _times_log1p_of_inverse(u: Tensor) -> Tensor:
    """u log(1 + 1/u), 0 at u = 0."""
    above = u > 0
    inner = torch.where(above, u, 1)
    return torch.where(above, inner * (1 / inner).log1p(), 0)


def _chi2(p: Tensor, q: Tensor) -> Tensor:
    """(p − q)²/q of each point."""
    shared = q > 0
    inside = (p - q).square() / torch.where(shared, q, 1)
    return torch.where(shared, inside, torch.where(p > 0, math.inf, 0.0))


DIVERGENCES: dict[str, Divergence] = {
    "kl": Divergence(
        f=lambda u: torch.xlogy(u, u),
        slope=lambda u: 1 + u.log(),
        conjugate=lambda t: (t - 1).exp(),
        output=lambda v: v,
        conjugate_of_output=lambda v: (v - 1).exp(),
        pointwise=lambda p, q: torch.xlogy(p, p) - torch.xlogy(p, q),
    ),
    "reverse-kl": Divergence(
        f=lambda u: -u.log(),
        slope=lambda u: -1 / u,
        conjugate=lambda t: -1 - (-t.clamp_max(0)).log(),
        output=lambda v: -(-v).exp(),
        conjugate_of_output=lambda v: v - 1,
        pointwise=lambda p, q: torch.xlogy(q, q) - torch.xlogy(q, p),
    ),
    "chi2": Divergence(
        f=lambda u: (u - 1).square(),
        slope=lambda u: 2 * (u - 1),
        conjugate=lambda t: t.clamp_min(-2) + t.clamp_min(-2).square() / 4,
        output=lambda v: softplus(v) - 2,
        conjugate_of_output=lambda v: softplus(v).square() / 4 - 1,
        pointwise=_chi2,
    ),
    "gan": Divergence(
        f=lambda u: math.log(4) - u.log1p() - _times_log1p_of_inverse(u),
        slope=lambda u: -(1 / u).log1p(),
        conjugate=lambda t: -(-torch.expm1(t.clamp_max(0))).log() - math.log(4),
        output=lambda v: -softplus(-v),
        conjugate_of_output=lambda v: softplus(v) - math.log(4),
        pointwise=lambda p, q: _kl_to_middle(p, q) + _kl_to_middle(q, p) + (q - p) * math.log(2),
    ),
}


def f_divergence(p: Probabilities, q: Tensor, name: str) -> Scalar:
    """D_f(p ‖ q) = Σ q f(p/q) in nats: "kl", "reverse-kl" KL(q ‖ p), "chi2", or "gan", 2 JS.

    A point that q lacks counts p times the slope of f at infinity, which may be infinite.

    Equation: :eq:`eq-gan-fgan`
    """
    _check_distributions(p, q)
    return chosen("divergence", name, DIVERGENCES).pointwise(p, q).sum()


def variational_bound(t: Tensor, p: Probabilities, q: Tensor, name: str) -> Scalar:
    """E_p T − E_q f*(T): a lower bound of D_f(p ‖ q) for every T, tight for T = f'(p/q).

    Equation: :eq:`eq-gan-fgan`
    """
    _check_distributions(p, q)
    conjugate = chosen("divergence", name, DIVERGENCES).conjugate
    under_p = torch.where(p > 0, p * t, 0)
    return (under_p - torch.where(q > 0, q * conjugate(t), 0)).sum()


def optimal_critic(p: Probabilities, q: Tensor, name: str) -> Probabilities:
    """T = f'(p/q), at which the bound is tight; f'(1) where both are 0.

    Equation: :eq:`eq-gan-fgan`
    """
    if (at_hand(p) and (p < 0).any()) or (at_hand(q) and (q < 0).any()):
        raise ValueError("got p or q below 0; both must be probabilities or densities")
    return chosen("divergence", name, DIVERGENCES).slope(torch.where(p + q > 0, p / q, 1))


def optimal_discriminator(log_p: Tensor, log_q: Tensor) -> Tensor:
    """D = p/(p + q) from log-densities, computed as σ(log p − log q).

    Equation: :eq:`eq-gan-dstar`

    Source: Goodfellow et al., NeurIPS 2014.
    """
    return torch.sigmoid(log_p - log_q)


def js_divergence(p: Probabilities, q: Tensor) -> Scalar:
    """½ KL(p ‖ m) + ½ KL(q ‖ m) with m = (p + q)/2, in nats: from 0 to ln 2.

    Equation: :eq:`eq-gan-js`
    """
    _check_distributions(p, q)
    return (_kl_to_middle(p, q) + _kl_to_middle(q, p)).sum() / 2


def total_variation(p: Probabilities, q: Tensor) -> Scalar:
    """½ Σ abs(p − q), from 0 to 1.

    Equation: :eq:`eq-gan-hinge`
    """
    _check_distributions(p, q)
    return (p - q).abs().sum() / 2


def le_cam(p: Probabilities, q: Tensor) -> Scalar:
    """Σ (p − q)²/(p + q), from 0 to 2, points without mass left out.

    Equation: :eq:`eq-gan-ls`
    """
    _check_distributions(p, q)
    both = p + q
    return ((p - q).square() / torch.where(both > 0, both, 1)).sum()


def wasserstein1(x: Probabilities, p: Tensor, q: Tensor) -> Scalar:
    """W₁ = ∫ abs(F_p − F_q) of distributions on the points ``x`` of a line, in the units of x.

    Equation: :eq:`eq-gan-w1`

    Source: Villani, Topics in Optimal Transportation, 2003.
    """
    _check_distributions(p, q)
    if x.shape != p.shape:
        raise ValueError(
            f"got points {tuple(x.shape)} for distributions {tuple(p.shape)}; give one of each"
        )
    order = x.argsort()
    gap = (p - q)[order].cumsum(0)[:-1].abs()
    return (gap * x[order].diff()).sum()


def _check_distributions(p: Tensor, q: Tensor) -> None:
    """ValueError unless both are probabilities of the same points, up to 1 % of a sum of 1."""
    if p.dim() != 1 or p.shape != q.shape:
        raise ValueError(
            f"got distributions of shapes {tuple(p.shape)} and {tuple(q.shape)}; give (k,) "
            "probabilities of the same k points"
        )
    for given in (p.detach(), q.detach()):
        total, least = float(given.sum()), float(given.min())
        if not (abs(total - 1) < TOLERANCE and least >= 0):
            raise ValueError(
                f"got a distribution with sum {total:g} and least value {least:g}; probabilities "
                "are at least 0 and sum to 1: p / p.sum()"
            )


keep_contract(globals())
