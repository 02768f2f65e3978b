"""Divergences that a game can measure: f-divergences by a critic, W₁ by a Lipschitz one.

An f-divergence D_f(p ‖ q) = Σ q f(p/q) needs densities. Its dual form needs only draws of both: a
supremum over functions T of two means, reached by T = f'(p/q).

Notation: ``p``, ``q`` (k,) probabilities of the same k points; ``f`` convex with f(1) = 0, ``of``
its conjugate f*(t) = sup_u (t u − f(u)), ``output`` a map of all numbers onto those where f* is
finite; u = p/q.

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

from gentext.core.shapes import Scalar

Probabilities = Float[Tensor, "k"]
TOTAL = 0.01  # what may be missing of a sum of 1, such as the tails that a grid leaves out


class Conjugate(NamedTuple):
    """A convex f and what belongs to it; ``of`` is +∞ where the supremum is."""

    f: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]  # f', also at 0 and at infinity
    of: Callable[[Tensor], Tensor]
    output: Callable[[Tensor], Tensor]
    of_output: Callable[[Tensor], Tensor]  # in one, which stays finite where the two do not
    each: Callable[[Tensor, Tensor], Tensor]  # q f(p/q), also where p or q is 0


def _to_middle(p: Tensor, q: Tensor) -> Tensor:
    """p log(p/m) of each point, with m = (p + q)/2."""
    m = (p + q) / 2
    return torch.xlogy(p, p) - torch.xlogy(p, torch.where(m > 0, m, 1))


def _chi2(p: Tensor, q: Tensor) -> Tensor:
    shared = q > 0
    inside = (p - q).square() / torch.where(shared, q, 1)
    return torch.where(shared, inside, torch.where(p > 0, math.inf, 0.0))


CONJUGATES: dict[str, Conjugate] = {
    "kl": Conjugate(
        lambda u: torch.xlogy(u, u),
        lambda u: 1 + u.log(),
        lambda t: (t - 1).exp(),
        lambda v: v,
        lambda v: (v - 1).exp(),
        lambda p, q: torch.xlogy(p, p) - torch.xlogy(p, q),
    ),
    "reverse-kl": Conjugate(
        lambda u: -u.log(),
        lambda u: -1 / u,
        lambda t: -1 - (-t.clamp_max(0)).log(),
        lambda v: -(-v).exp(),
        lambda v: v - 1,
        lambda p, q: torch.xlogy(q, q) - torch.xlogy(q, p),
    ),
    "chi2": Conjugate(
        lambda u: (u - 1).square(),
        lambda u: 2 * (u - 1),
        lambda t: t.clamp_min(-2) + t.clamp_min(-2).square() / 4,
        lambda v: softplus(v) - 2,
        lambda v: softplus(v).square() / 4 - 1,
        _chi2,
    ),
    "gan": Conjugate(
        lambda u: torch.xlogy(u, u) - (u + 1) * (u + 1).log() + math.log(4),
        lambda u: -(1 / u).log1p(),
        lambda t: -(-torch.expm1(t.clamp_max(0))).log() - math.log(4),
        lambda v: -softplus(-v),
        lambda v: softplus(v) - math.log(4),
        lambda p, q: _to_middle(p, q) + _to_middle(q, p) + (q - p) * math.log(2),
    ),
}


def f_divergence(p: Probabilities, q: Tensor, name: str) -> Scalar:
    """D_f(p ‖ q) = Σ q f(p/q) in nats: "kl", "reverse-kl" KL(q ‖ p), "chi2", or "gan", 2 JS.

    A point that q lacks counts p times the slope of f at infinity, which may be infinite.

    Equation: :eq:`eq-gan-fgan`
    """
    _check_laws(p, q)
    return _conjugate(name).each(p, q).sum()


def variational_bound(t: Tensor, p: Probabilities, q: Tensor, name: str) -> Scalar:
    """E_p T − E_q f*(T): a lower bound of D_f(p ‖ q) for every T, tight for T = f'(p/q).

    Equation: :eq:`eq-gan-fgan`
    """
    _check_laws(p, q)
    of_data = torch.where(p > 0, p * t, 0)
    return (of_data - torch.where(q > 0, q * _conjugate(name).of(t), 0)).sum()


def optimal_critic(p: Probabilities, q: Tensor, name: str) -> Probabilities:
    """T = f'(p/q), at which the bound is tight; f'(1) where both laws have nothing.

    Equation: :eq:`eq-gan-fgan`
    """
    return _conjugate(name).slope(torch.where(p + q > 0, p / q, 1))


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
    _check_laws(p, q)
    return (_to_middle(p, q) + _to_middle(q, p)).sum() / 2


def total_variation(p: Probabilities, q: Tensor) -> Scalar:
    """½ Σ abs(p − q), from 0 to 1.

    Equation: :eq:`eq-gan-hinge`
    """
    _check_laws(p, q)
    return (p - q).abs().sum() / 2


def le_cam(p: Probabilities, q: Tensor) -> Scalar:
    """Σ (p − q)²/(p + q), from 0 to 2, points without mass left out.

    Equation: :eq:`eq-gan-ls`
    """
    _check_laws(p, q)
    both = p + q
    return ((p - q).square() / torch.where(both > 0, both, 1)).sum()


def wasserstein1(x: Probabilities, p: Tensor, q: Tensor) -> Scalar:
    """W₁ = ∫ abs(F_p − F_q) of laws on the points ``x`` of a line, in the units of x.

    Equation: :eq:`eq-gan-w1`

    Source: Villani, Topics in Optimal Transportation, 2003.
    """
    _check_laws(p, q)
    if x.shape != p.shape:
        raise ValueError(f"got points {tuple(x.shape)} for laws {tuple(p.shape)}; give one of each")
    order = x.argsort()
    gap = (p - q)[order].cumsum(0)[:-1].abs()
    return (gap * x[order].diff()).sum()


def _conjugate(name: str) -> Conjugate:
    if name not in CONJUGATES:
        raise ValueError(f"unknown divergence {name!r}: choose one of {', '.join(CONJUGATES)}")
    return CONJUGATES[name]


def _check_laws(p: Tensor, q: Tensor) -> None:
    """ValueError unless both are probabilities of the same points, up to 1 % of a sum of 1."""
    if p.dim() != 1 or p.shape != q.shape:
        raise ValueError(
            f"got laws of shapes {tuple(p.shape)} and {tuple(q.shape)}; give (k,) probabilities of "
            "the same k points"
        )
    for law in (p.detach(), q.detach()):
        total, least = float(law.sum()), float(law.min())
        if not (abs(total - 1) < TOTAL and least >= 0):
            raise ValueError(
                f"got a law with sum {total:g} and least value {least:g}; probabilities are at "
                "least 0 and sum to 1: p / p.sum()"
            )
