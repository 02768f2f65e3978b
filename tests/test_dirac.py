"""The Dirac-GAN against its eigenvalues and its solution."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gentext.dirac import dirac_eigenvalues, dirac_gan_field, play, step_factor

pytestmark = pytest.mark.usefixtures("float64")

SLOPES = {"minimax": 0.5, "non-saturating": 0.5, "relativistic": 0.5, "wasserstein-gp": 1.0}


def measured(objective: str, penalties: dict[str, float]) -> Tensor:
    """The Jacobian of the field at rest."""
    return torch.func.jacrev(lambda s: dirac_gan_field(s, objective, penalties))(torch.zeros(2))


@pytest.mark.equation("eq-gan-dirac")
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("objective", SLOPES)
def test_the_jacobian_has_the_derived_eigenvalues(objective: str, gamma: float) -> None:
    jacobian = measured(objective, {"r1": 0.25 * gamma, "r2": 0.75 * gamma})
    for eigenvalue in dirac_eigenvalues(gamma, SLOPES[objective]):
        characteristic = eigenvalue**2 - eigenvalue * float(jacobian.trace())
        assert abs(characteristic + float(torch.linalg.det(jacobian))) < 1e-8
    assert sum(dirac_eigenvalues(gamma)) == pytest.approx(-gamma)


@pytest.mark.equation("eq-gan-dirac")
def test_the_generator_moves_towards_the_data_where_the_critic_is_right() -> None:
    """At θ = 1 a falling critic pushes left, and the critic itself wants to fall."""
    theta, psi = dirac_gan_field(torch.tensor([1.0, -0.1])).tolist()
    assert theta < 0
    assert psi < 0


@pytest.mark.equation("eq-gan-euler")
@pytest.mark.parametrize("gamma", [0.0, 0.3, 3.0])
def test_small_orbits_grow_and_shrink_by_the_factor_of_a_step(gamma: float) -> None:
    h, steps = 0.1, 200
    path = play(torch.tensor([1e-4, 0.0]), steps, h, penalties={"r1": gamma})
    first, second = dirac_eigenvalues(gamma)
    factor = max(step_factor(first, h), step_factor(second, h))
    late = path[-60:].norm(dim=1)
    rate = float((late[1:] / late[:-1]).log().mean().exp())
    assert rate == pytest.approx(factor, abs=2e-3)


@pytest.mark.equation("eq-gan-euler")
def test_without_a_cure_every_step_carries_the_orbit_outwards() -> None:
    factor = step_factor(dirac_eigenvalues(0.0)[0], 0.1)
    assert factor == pytest.approx(math.sqrt(1 + 0.1**2 / 4), abs=1e-15)
    path = play(torch.tensor([1e-6, 0.0]), 1000, 0.1)
    grown = float(path[-1].norm() / path[0].norm())
    assert grown == pytest.approx(factor**1000, rel=1e-6)
    assert grown == pytest.approx(3.485, abs=1e-3)


def test_alternating_steps_neither_grow_nor_shrink() -> None:
    """The matrix of two such steps has determinant 1 and complex eigenvalues: modulus 1."""
    path = play(torch.tensor([1e-6, 0.0]), 300, 0.1, alternating=True).norm(dim=1) / 1e-6
    assert 0.95 < float(path.min()) < float(path.max()) < 1.05


def test_a_slope_of_one_is_no_place_of_rest() -> None:
    """The penalty of Wasserstein's critic pushes ψ to ±1, where θ moves on."""
    path = play(torch.tensor([0.5, 0.5]), 1000, 0.05, "wasserstein-gp", {"gp": 1.0})
    assert float(path[-300:, 0].abs().max()) > 0.1
    calm = play(torch.tensor([0.5, 0.5]), 1000, 0.05, "wasserstein-gp", {"r1": 1.0})
    assert float(calm[-1].norm()) < 1e-4


@pytest.mark.equation("eq-gan-dirac")
def test_many_states_move_as_each_alone() -> None:
    states = torch.randn(3, 4, 2)
    together = dirac_gan_field(states, "minimax", {"r2": 0.2})
    torch.testing.assert_close(
        together[1, 2], dirac_gan_field(states[1, 2], "minimax", {"r2": 0.2})
    )


def test_unknown_penalties_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'r3'.*gp, r1, r2"):
        dirac_gan_field(torch.zeros(2), penalties={"r3": 1.0})


def test_unknown_objectives_list_the_known() -> None:
    with pytest.raises(ValueError, match=r"'vanilla'.*minimax"):
        dirac_gan_field(torch.zeros(2), "vanilla")
