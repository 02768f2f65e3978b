"""Velocities: how x_t = α_t x_0 + σ_t ε moves with t, and what else its velocity says.

For one x_0 and ε the velocity is α' x_0 + σ' ε. Given x_t, one of x_0, ε and the velocity fixes the
others, and so do their means: a network that predicts one of them predicts all, and the score.

Notation: ``u`` the velocity dx_t/dt, not the v of ``schedule``; ``t`` a ``Level`` and ``rate`` its
derivative, that of the straight line α = 1 − t, σ = t unless said otherwise.

Source: Lipman et al., ICLR 2023; Song et al., ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import mse_loss

from gentext.core import check_number
from gentext.core.shapes import Batch, PerExample
from gentext.core.signatures import keep_contract
from gentext.denoising.schedule import Level, q_sample


class Rate(NamedTuple):
    """α' and σ', what a level changes by in time."""

    alpha: Tensor | float
    sigma: Tensor | float


STRAIGHT = Rate(-1.0, 1.0)


def straight(t: Tensor, dims: int = 0) -> Level:
    """The level at time t of the line from data to noise, with ``dims`` axes added."""
    check_number("dims", dims, least=0, most=60)
    t = t.reshape(t.shape + (1,) * dims)
    return Level(1 - t, t)


def velocity_to_x0(u: Tensor, x_t: Tensor, t: Level, rate: Rate = STRAIGHT) -> Tensor:
    """The x_0 for which x_t moves by u: x_t − t u on the straight line."""
    return (rate.sigma * x_t - t.sigma * u) / (t.alpha * rate.sigma - rate.alpha * t.sigma)


def velocity_to_eps(u: Tensor, x_t: Tensor, t: Level, rate: Rate = STRAIGHT) -> Tensor:
    """The ε for which x_t moves by u: x_t + (1 − t) u on the straight line."""
    return (t.alpha * u - rate.alpha * x_t) / (t.alpha * rate.sigma - rate.alpha * t.sigma)


def velocity_to_score(u: Tensor, x_t: Tensor, t: Level, rate: Rate = STRAIGHT) -> Tensor:
    """∇ log p_t of the x_t that move by u: −(x_t + (1 − t) u)/t on the straight line.

    At the data, σ = 0, velocities say nothing of it.

    Equation: :eq:`eq-sde-fmscore`
    """
    scale = t.sigma * (t.alpha * rate.sigma - rate.alpha * t.sigma)
    return (rate.alpha * x_t - t.alpha * u) / scale


def score_to_velocity(score: Tensor, x_t: Tensor, t: Level, rate: Rate = STRAIGHT) -> Tensor:
    """α'/α x_t − (σσ' − α'/α σ²) ∇ log p_t, the inverse of ``velocity_to_score`` where α > 0.

    Equation: :eq:`eq-sde-fmscore`
    """
    decay = rate.alpha / t.alpha
    return decay * x_t - (t.sigma * rate.sigma - decay * t.sigma.square()) * score


def matching_error(
    velocity: Callable[[Tensor, Tensor], Tensor],
    x_0: Batch,
    eps: Batch,
    t: PerExample,
    reduction: str = "none",
) -> Tensor:
    """(u(x_t, t) − (ε − x_0))² at the times t of the lines from x_0 to ε, or their "mean".

    The mean is least for the velocity that moves the distribution of x_t.

    Equation: :eq:`eq-sde-cfm`

    Source: Lipman et al., ICLR 2023.
    """
    if t.shape != x_0.shape[:1]:
        raise ValueError(
            f"got times t of shape {tuple(t.shape)}; give one for each of {len(x_0)} examples"
        )
    x_t = q_sample(x_0, eps, straight(t, x_0.dim() - 1)).to(x_0.dtype)
    return mse_loss(velocity(x_t, t), eps - x_0, reduction=reduction)


keep_contract(globals())
