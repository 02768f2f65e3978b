"""Two estimators of the gradient of E_q f(z) for q = N(μ, σ²).

Notation: ``mean`` μ, ``std`` σ, ``eps`` ε ~ N(0, 1), z = μ + σε. Each returns one unbiased estimate
of (∂/∂μ, ∂/∂σ) for each ε.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from gentext.core.signatures import keep_contract

Draws = Float[Tensor, "m"]
Gradients = Float[Tensor, "m 2"]


def reparameterized_gradient(
    f: Callable[[Tensor], Tensor], mean: float, std: float, eps: Draws
) -> Gradients:
    """f′(μ + σε)·(1, ε) for each of m draws ``eps``: the derivative goes through the sample.

    Equation: :eq:`eq-vae-reparam`
    """
    z = (mean + std * eps).requires_grad_()
    (slope,) = torch.autograd.grad(f(z).sum(), z)
    return torch.stack([slope, slope * eps], dim=-1)


def score_function_gradient(
    f: Callable[[Tensor], Tensor], mean: float, std: float, eps: Draws
) -> Gradients:
    """f(z) ∇ log q(z) = f(z)·(ε/σ, (ε² − 1)/σ) for each of m draws: f need not be differentiable.

    Equation: :eq:`eq-vae-score`

    Source: Williams, Machine Learning 1992 (REINFORCE).
    """
    score = torch.stack([eps / std, (eps.square() - 1) / std], dim=-1)
    return f(mean + std * eps)[:, None] * score


keep_contract(globals())
