"""The Dirac-GAN: the smallest game, whose motion can be solved, and what each cure does to it.

All data are the point 0. The generator is a point θ, the critic a line a(x) = ψx. The one place of
rest is θ = ψ = 0; whether training gets there is what a cure decides.

Notation: ``state`` (2,) or (n, 2), θ and ψ; ``eta`` the step η; γ the weight of R1 and R2 together;
h'(0) the slope of the critic's loss in a sample's value where a = 0, ½ for the logistic objectives
and 1 for Wasserstein's; ``momentum`` the share β of the past in the averages that players follow.

Source: Mescheder et al., ICML 2018; momentum: Gidel et al., AISTATS 2019.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from gentext.adversarial.objectives import OBJECTIVES, PENALTIES, checked_penalties
from gentext.core import check_count, check_number, chosen
from gentext.core.signatures import keep_contract

State = Float[Tensor, "*n 2"]
NONE: Mapping[str, float] = {}


def dirac_gan_field(
    state: State, objective: str = "non-saturating", penalties: Mapping[str, float] = NONE
) -> State:
    """(θ', ψ'): each player goes down its own loss, as fast as that is steep.

    Equation: :eq:`eq-gan-dirac`
    """
    losses = chosen("objective", objective, OBJECTIVES)
    if state.dim() == 0 or state.shape[-1] != 2:
        raise ValueError(f"got a state of shape {tuple(state.shape)}; give (..., 2): θ and ψ")

    def generator(theta: Tensor, psi: Tensor) -> Tensor:
        return losses.generator(0 * psi, psi * theta) * len(psi)  # the sum, not the mean

    def critic(theta: Tensor, psi: Tensor) -> Tensor:
        squared = psi.square()  # of the critic's slope, everywhere the same
        loss = losses.critic(0 * psi, psi * theta)
        for name, weight in checked_penalties(penalties).items():
            loss = loss + weight * PENALTIES[name](squared)
        return loss * len(psi)

    theta, psi = state.reshape(-1, 2).unbind(-1)
    slopes = (torch.func.grad(generator, 0)(theta, psi), torch.func.grad(critic, 1)(theta, psi))
    return -torch.stack(slopes, -1).reshape(state.shape)


def play(
    state: State,
    steps: int,
    eta: float,
    objective: str = "non-saturating",
    penalties: Mapping[str, float] = NONE,
    *,
    alternating: bool = False,
    momentum: float = 0.0,
) -> Float[Tensor, "times *n 2"]:
    """The states of ``steps`` steps of size ``eta``, the first included.

    Both players step at once, or ``alternating``: the generator answers the critic's new ψ. Each
    follows its field, or an average m = momentum m + (1 − momentum) field, which begins at 0.
    """
    _check_momentum(momentum)
    check_count("steps", steps, 0)
    if not 0 < eta < math.inf:
        raise ValueError(f"got eta={eta}; eta must be a finite number above 0")
    path, speed = [state], torch.zeros_like(state)
    turns = [[False, True], [True, False]] if alternating else [[True, True]]  # do θ and ψ move?
    for _ in range(steps):
        for moves in torch.tensor(turns, device=state.device):
            field = dirac_gan_field(state, objective, penalties)
            speed = torch.where(moves, momentum * speed + (1 - momentum) * field, speed)
            state = torch.where(moves, state + eta * speed, state)
        path.append(state)
    return torch.stack(path)


def dirac_eigenvalues(gamma: float, slope: float = 0.5) -> tuple[complex, complex]:
    """−γ/2 ± √(γ²/4 − h'(0)²), of the field near its place of rest: how it turns and shrinks.

    Equation: :eq:`eq-gan-dirac`
    """
    root = cmath.sqrt(gamma**2 / 4 - slope**2)
    return -gamma / 2 + root, -gamma / 2 - root


def step_factor(eigenvalue: complex, eta: float) -> float:
    """abs(1 + η λ), by which a step of size η multiplies what goes with eigenvalue λ.

    Equation: :eq:`eq-gan-euler`
    """
    return abs(1 + eta * eigenvalue)


def momentum_roots(eigenvalue: complex, eta: float, momentum: float) -> tuple[complex, complex]:
    """The factors ρ by which steps of both at once with momentum β multiply what goes with λ.

    The larger one first. Raises ValueError for a momentum outside (−1, 1).

    Equation: :eq:`eq-gan-momentum`
    """
    _check_momentum(momentum)
    check_number("eta", eta)
    half = (1 + momentum + eta * (1 - momentum) * eigenvalue) / 2
    root = cmath.sqrt(half**2 - momentum)
    roots = sorted((half + root, half - root), key=abs)
    return roots[1], roots[0]


def _check_momentum(momentum: float) -> None:
    if not -1 < momentum < 1:
        raise ValueError(f"got momentum={momentum}; give a number between -1 and 1")


keep_contract(globals())
