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

from gentext.shapes import Scalar

Probabilities = Float[Tensor, "k"]


class Conjugate(NamedTuple):
    """A convex f, its derivative, its conjugate f*, the critic's last step, and f* after it."""

    f: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    of: Callable[[Tensor], Tensor]
    output: Callable[[Tensor], Tensor]
    of_output: Callable[[Tensor], Tensor]  # in one, which stays finite where the two do not


CONJUGATES: dict[str, Conjugate] = {
    "kl": Conjugate(
        lambda u: torch.xlogy(u, u),
        lambda u: 1 + u.log(),
        lambda t: (t - 1).exp(),
        lambda v: v,
        lambda v: (v - 1).exp(),
    ),
    "reverse-kl": Conjugate(
        lambda u: -u.log(),
        lambda u: -1 / u,
        lambda t: -1 - (-t).log(),
        lambda v: -(-v).exp(),
        lambda v: v - 1,
    ),
    "chi2": Conjugate(
        lambda u: (u - 1).square(),
        lambda u: 2 * (u - 1),
        lambda t: t + t.square() / 4,
        lambda v: softplus(v) - 2,
        lambda v: softplus(v).square() / 4 - 1,
    ),
    "gan": Conjugate(
        lambda u: torch.xlogy(u, u) - (u + 1) * (u + 1).log() + math.log(4),
        lambda u: -(1 / u).log1p(),
        lambda t: -(-torch.expm1(t)).log() - math.log(4),
        lambda v: -softplus(-v),
        lambda v: softplus(v) - math.log(4),
    ),
}


def f_divergence(p: Probabilities, q: Tensor, name: str) -> Scalar:
    """D_f(p ‖ q) = Σ q f(p/q) in nats: "kl", "reverse-kl" KL(q ‖ p), "chi2", or "gan", 2 JS.

    A point that q lacks counts p times the slope of f at infinity, which may be infinite.

    Equation: :eq:`eq-gan-fgan`
    """
    conjugate, shared = _conjugate(name), q > 0
    inside = q * conjugate.f(p / torch.where(shared, q, 1))
    outside = torch.where(p > 0, p * conjugate.slope(torch.full_like(p, math.inf)), 0)
    return torch.where(shared, inside, outside).sum()


def variational_bound(t: Probabilities, p: Tensor, q: Tensor, name: str) -> Scalar:
    """E_p T − E_q f*(T): a lower bound of D_f(p ‖ q) for every T, tight for T = f'(p/q).

    Equation: :eq:`eq-gan-fgan`
    """
    return (p * t).sum() - (q * _conjugate(name).of(t)).sum()


def optimal_critic(p: Probabilities, q: Tensor, name: str) -> Probabilities:
    """T = f'(p/q), at which the bound is tight.

    Equation: :eq:`eq-gan-fgan`
    """
    return _conjugate(name).slope(p / q)


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
    m = (p + q) / 2
    parts = [torch.xlogy(r, r) - torch.xlogy(r, m) for r in (p, q)]
    return torch.stack(parts).sum() / 2


def total_variation(p: Probabilities, q: Tensor) -> Scalar:
    """½ Σ abs(p − q), from 0 to 1.

    Equation: :eq:`eq-gan-hinge`
    """
    return (p - q).abs().sum() / 2


def le_cam(p: Probabilities, q: Tensor) -> Scalar:
    """Σ (p − q)²/(p + q), from 0 to 2, points without mass left out.

    Equation: :eq:`eq-gan-ls`
    """
    both = p + q
    return ((p - q).square() / torch.where(both > 0, both, 1)).sum()


def wasserstein1(x: Probabilities, p: Tensor, q: Tensor) -> Scalar:
    """W₁ = ∫ abs(F_p − F_q) of laws on the points ``x`` of a line, in the units of x.

    Equation: :eq:`eq-gan-w1`

    Source: Villani, Topics in Optimal Transportation, 2003.
    """
    order = x.argsort()
    gap = (p - q)[order].cumsum(0)[:-1].abs()
    return (gap * x[order].diff()).sum()


def _conjugate(name: str) -> Conjugate:
    if name not in CONJUGATES:
        raise ValueError(f"unknown divergence {name!r}: choose one of {', '.join(CONJUGATES)}")
    return CONJUGATES[name]
