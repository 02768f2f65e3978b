"""The Dirac-GAN against its eigenvalues and its solution."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gentext.adversarial.dirac import (
    dirac_eigenvalues,
    dirac_gan_field,
    momentum_roots,
    play,
    step_factor,
)

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
    path = play(torch.tensor([1e-6, 0.0]), 300, 0.1)
    grown = float(path[-1].norm() / path[0].norm())
    assert grown == pytest.approx(factor**300, rel=1e-6)
    assert factor**1000 == pytest.approx(3.485, abs=1e-3)


def test_alternating_steps_neither_grow_nor_shrink() -> None:
    """The matrix of two such steps has determinant 1 and complex eigenvalues: modulus 1."""
    path = play(torch.tensor([1e-6, 0.0]), 300, 0.1, alternating=True).norm(dim=1) / 1e-6
    assert 0.95 < float(path.min()) < float(path.max()) < 1.05


def test_a_slope_of_one_is_no_place_of_rest() -> None:
    """The penalty of Wasserstein's critic pushes ψ to ±1, where θ moves on."""
    path = play(torch.tensor([0.5, 0.5]), 400, 0.1, "wasserstein-gp", {"gp": 1.0})
    assert float(path[-150:, 0].abs().max()) > 0.1
    calm = play(torch.tensor([0.5, 0.5]), 400, 0.1, "wasserstein-gp", {"r1": 1.0})
    assert float(calm[-1].norm()) < 1e-4


def fitted(path: Tensor) -> list[complex]:
    """Eigenvalues of the matrix that takes each state of a path to the next, by least squares."""
    matrix = torch.linalg.lstsq(path[:-1], path[1:], driver="gelsd").solution
    return sorted(torch.linalg.eigvals(matrix).tolist(), key=lambda z: (round(abs(z), 6), z.imag))


def same(found: list[complex], expected: list[complex]) -> bool:
    """Whether two lists of numbers agree to 1e-6, in any order."""
    left = list(expected)
    for number in found:
        nearest = min(left, key=lambda other: abs(other - number))
        if abs(nearest - number) > 1e-6:
            return False
        left.remove(nearest)
    return not left


@pytest.mark.equation("eq-gan-dirac", "eq-gan-euler")
@pytest.mark.parametrize("gamma", [0.0, 0.3, 3.0])
@pytest.mark.parametrize("objective", SLOPES)
def test_orbits_turn_and_shrink_as_the_eigenvalues_say(objective: str, gamma: float) -> None:
    eta = 0.2
    path = play(torch.tensor([1e-6, 0.0]), 60, eta, objective, {"r1": gamma})
    eigenvalues = dirac_eigenvalues(gamma, SLOPES[objective])
    found = fitted(path / 1e-6)
    assert same(found, [1 + eta * value for value in eigenvalues])
    assert max(map(abs, found)) == pytest.approx(max(step_factor(v, eta) for v in eigenvalues))


@pytest.mark.equation("eq-gan-momentum")
@pytest.mark.parametrize("momentum", [-0.4, 0.5, 0.9])
@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_momentum_multiplies_small_orbits_by_the_roots(gamma: float, momentum: float) -> None:
    eta = 0.3
    path = play(torch.tensor([1e-6, 5e-7]), 60, eta, penalties={"r1": gamma}, momentum=momentum)
    pairs = torch.cat([path[1:], path[:-1]], 1) / 1e-6
    expected = [
        r for value in dirac_eigenvalues(gamma) for r in momentum_roots(value, eta, momentum)
    ]
    assert same(fitted(pairs), expected)


@pytest.mark.equation("eq-gan-momentum")
@pytest.mark.parametrize("momentum", [-0.4, 0.0, 0.5, 0.9])
def test_momentum_multiplies_the_drift_outwards(momentum: float) -> None:
    """By (1 + β)/(1 − β) for small steps; in turn, what is left is 2β/(1 − β)."""
    eta, eigenvalue = 1e-3, dirac_eigenvalues(0.0)[0]
    drift = (abs(momentum_roots(eigenvalue, eta, momentum)[0]) ** 2 - 1) / (eta / 2) ** 2
    assert drift == pytest.approx((1 + momentum) / (1 - momentum), rel=1e-3)
    eta = 0.01
    path = play(torch.tensor([1e-6, 0.0]), 200, eta, alternating=True, momentum=momentum)
    pairs = torch.cat([path[1:], path[:-1]], 1) / 1e-6
    drift = (max(map(abs, fitted(pairs))) ** 2 - 1) / (eta / 2) ** 2
    assert drift == pytest.approx(2 * momentum / (1 - momentum), rel=0.05, abs=0.02)


def test_no_penalty_leaves_the_non_saturating_game_on_a_ring() -> None:
    """Its radius is √(2η) for small steps: what averages out of shrinking and growing."""
    eta = 0.2
    starts = torch.tensor([[0.4, 0.0], [0.9, 0.0]])  # inside and outside
    ring = play(starts, 600, eta)[-100:].norm(dim=-1).mean(0)
    torch.testing.assert_close(ring, torch.full((2,), math.sqrt(2 * eta)), rtol=0.02, atol=0)


@pytest.mark.parametrize("momentum", [-1.0, 1.0, float("nan")])
def test_a_momentum_that_forgets_nothing_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match="between -1 and 1"):
        play(torch.zeros(2), 1, 0.1, momentum=momentum)
    with pytest.raises(ValueError, match="between -1 and 1"):
        momentum_roots(1j, 0.1, momentum)


@pytest.mark.equation("eq-gan-dirac")
def test_many_states_move_as_each_alone() -> None:
    states = torch.randn(3, 4, 2)
    together = dirac_gan_field(states, "minimax", {"r2": 0.2})
    torch.testing.assert_close(
        together[1, 2], dirac_gan_field(states[1, 2], "minimax", {"r2": 0.2})
    )


def test_steps_of_no_size_are_refused() -> None:
    for steps, eta, message in ((-1, 0.1, "steps=-1"), (1, math.nan, "nan"), (1, 0.0, r"eta=0\.0")):
        with pytest.raises(ValueError, match=message):
            play(torch.zeros(2), steps, eta)


def test_unknown_penalties_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'r3'.*gp, r1, r2"):
        dirac_gan_field(torch.zeros(2), penalties={"r3": 1.0})


def test_unknown_objectives_list_the_known() -> None:
    with pytest.raises(ValueError, match=r"'vanilla'.*minimax"):
        dirac_gan_field(torch.zeros(2), "vanilla")
