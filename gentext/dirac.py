"""The Dirac-GAN: the smallest game, whose motion can be solved, and what each cure does to it.

All data are the point 0. The generator is a point θ, the critic a line D(x) = ψx. The one place of
rest is θ = ψ = 0; whether training gets there is what a cure decides.

Notation: ``state`` (2,) or (n, 2), θ and ψ; ``h`` the learning rate; γ the weight of R1 and R2
together; f'(0) the slope of the critic's loss in a sample's value where D = 0, ½ for the logistic
objectives and 1 for Wasserstein's.

Source: Mescheder et al., ICML 2018.
"""

from __future__ import annotations

import cmath
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from gentext.objectives import OBJECTIVES, PENALTIES, checked_penalties

State = Float[Tensor, "*n 2"]
NONE: Mapping[str, float] = {}


def dirac_gan_field(
    state: State, objective: str = "non-saturating", penalties: Mapping[str, float] = NONE
) -> State:
    """(θ', ψ'): each player goes down its own loss, as fast as that is steep.

    Equation: :eq:`eq-gan-dirac`
    """
    losses = OBJECTIVES[_checked(objective)]

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
    h: float,
    objective: str = "non-saturating",
    penalties: Mapping[str, float] = NONE,
    *,
    alternating: bool = False,
) -> Float[Tensor, "times *n 2"]:
    """The states of ``steps`` gradient steps of size ``h``, the first included.

    Both players step at once, or ``alternating``: the generator answers the critic's new ψ.
    """
    path = [state]
    for _ in range(steps):
        field = dirac_gan_field(state, objective, penalties)
        if alternating:
            psi = state[..., 1] + h * field[..., 1]
            seen = torch.stack([state[..., 0], psi], -1)
            theta = state[..., 0] + h * dirac_gan_field(seen, objective, penalties)[..., 0]
            state = torch.stack([theta, psi], -1)
        else:
            state = state + h * field
        path.append(state)
    return torch.stack(path)


def dirac_eigenvalues(gamma: float, slope: float = 0.5) -> tuple[complex, complex]:
    """−γ/2 ± √(γ²/4 − f'(0)²), of the field near its place of rest: how it turns and shrinks.

    Equation: :eq:`eq-gan-dirac`
    """
    root = cmath.sqrt(gamma**2 / 4 - slope**2)
    return -gamma / 2 + root, -gamma / 2 - root


def step_factor(eigenvalue: complex, h: float) -> float:
    """abs(1 + h λ), by which a step of size ``h`` multiplies what goes with eigenvalue λ.

    Equation: :eq:`eq-gan-euler`
    """
    return abs(1 + h * eigenvalue)


def _checked(objective: str) -> str:
    if objective not in OBJECTIVES:
        raise ValueError(f"unknown objective {objective!r}: choose one of {', '.join(OBJECTIVES)}")
    return objective
