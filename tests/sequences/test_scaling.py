"""Scaling laws against laws that are known, and a minimiser that knows nothing of the formula."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from gentext.sequences.scaling import Law, bootstrap, compute_optimal, fit_law, interval

pytestmark = pytest.mark.usefixtures("float64")

CHINCHILLA = Law(1.69, 406.4, 410.7, 0.34, 0.28)


def runs() -> tuple[Tensor, Tensor]:
    """Thirty runs: six sizes, each with five amounts of data."""
    return torch.logspace(7, 10, 6).repeat(5), torch.logspace(8, 11, 5).repeat_interleave(6)


def test_the_law_is_its_formula() -> None:
    loss = CHINCHILLA.loss(torch.tensor(1e9), torch.tensor(2e10))
    expected = 1.69 + 406.4 / (1e9) ** 0.34 + 410.7 / (2e10) ** 0.28
    assert float(loss) == pytest.approx(expected, abs=1e-12)


@pytest.mark.equation("eq-gpt-scaling")
@pytest.mark.parametrize("C", [1e18, 1e21, 5e24])
def test_best_size_is_what_a_minimiser_finds(C: float) -> None:
    law = CHINCHILLA
    N, D = compute_optimal(law, C)
    assert math.isclose(6 * N * D, C, rel_tol=1e-12)

    def loss(log_N: float) -> float:
        N = torch.tensor(log_N).exp()
        return float(law.loss(N, C / 6 / N))

    best = minimize_scalar(loss, bounds=(10, 40), method="bounded", options={"xatol": 1e-9})
    assert math.log(N) == pytest.approx(best.x, abs=1e-5)


def test_the_ratio_of_tokens_to_parameters() -> None:
    N, D = compute_optimal(CHINCHILLA, 1e21)
    assert math.isclose(N, 1.82e9, rel_tol=5e-3)
    assert math.isclose(D, 9.14e10, rel_tol=5e-3)


@pytest.mark.parametrize("law", [CHINCHILLA, Law(0.5, 20.0, 3000.0, 0.2, 0.4)])
def test_a_law_is_found_again_from_its_losses(law: Law) -> None:
    N, D = runs()
    found = fit_law(N, D, law.loss(N, D))
    torch.testing.assert_close(torch.tensor(found), torch.tensor(law), rtol=1e-5, atol=0)


def test_one_broken_run_hardly_matters() -> None:
    N, D = runs()
    L = CHINCHILLA.loss(N, D)
    L[7] *= 1.5
    found = fit_law(N, D, L)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(CHINCHILLA), rtol=0.02, atol=0)


def spread_of_best_size() -> float:
    """The standard deviation of log N* for errors of log L of one, by linearised least squares."""
    N, D = runs()
    E, A, B, alpha, beta = CHINCHILLA
    theta = torch.tensor([math.log(E), math.log(A), math.log(B), alpha, beta])

    def log_loss(theta: Tensor) -> Tensor:
        e, a, b, alpha, beta = theta
        return (e.exp() + a.exp() * N**-alpha + b.exp() * D**-beta).log()

    def log_best(theta: Tensor) -> Tensor:
        _, a, b, alpha, beta = theta
        ratio = alpha.log() + a - beta.log() - b
        return (ratio + beta * math.log(1e21 / 6)) / (alpha + beta)

    design, gradient = torch.func.jacrev(log_loss)(theta), torch.func.jacrev(log_best)(theta)
    return float((gradient @ torch.linalg.inv(design.T @ design) @ gradient).sqrt())


@pytest.mark.parametrize("noise", [2e-4, 2e-3])
def test_resamples_spread_as_the_theory_of_small_errors_says(noise: float) -> None:
    N, D = runs()
    generator = torch.Generator().manual_seed(0)
    L = CHINCHILLA.loss(N, D) * torch.exp(noise * torch.randn(30, generator=generator))
    laws = bootstrap(N, D, L, draws=40, generator=generator)
    assert len(laws) == 40
    best = torch.tensor([math.log(compute_optimal(law, 1e21)[0]) for law in laws])
    spread = noise * spread_of_best_size()
    # 40 draws know a standard deviation to 11%; 30 runs know that of their noise to 14%.
    assert float(best.std()) == pytest.approx(spread, rel=0.5)
    fitted = math.log(compute_optimal(fit_law(N, D, L), 1e21)[0])
    assert float(best.mean()) == pytest.approx(fitted, abs=spread)
    assert fitted == pytest.approx(math.log(compute_optimal(CHINCHILLA, 1e21)[0]), abs=4 * spread)


def test_an_interval_holds_its_share() -> None:
    laws = [Law(float(k), 1.0, 1.0, 1.0, 1.0) for k in range(101)]
    assert interval(laws, lambda law: law.E) == (pytest.approx(5), pytest.approx(95))
    assert interval(laws, lambda law: law.E, level=0.5) == (pytest.approx(25), pytest.approx(75))


def test_the_same_generator_draws_the_same_laws() -> None:
    N, D = runs()
    L = CHINCHILLA.loss(N, D) * torch.exp(0.01 * torch.randn(30))
    one, two, three = (
        bootstrap(N, D, L, draws=2, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert one == two
    assert one != three


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda N, D, L: (N[:4], D[:4], L[:4]), "at least 5 runs"),
        (lambda N, D, L: (N, D, L[1:]), "one number of each"),
        (lambda N, D, L: (N, D, L - 10), "above 0"),
        (lambda N, D, L: (N, D, L * math.nan), "finite"),
        (lambda N, D, L: (N * 0 + 1e8, D, L), "vary both"),
    ],
)
def test_runs_that_tell_nothing_are_refused(change, message: str) -> None:
    N, D = runs()
    with pytest.raises(ValueError, match=message):
        fit_law(*change(N, D, CHINCHILLA.loss(N, D)))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="C=0"):
        compute_optimal(CHINCHILLA, 0.0)
    with pytest.raises(ValueError, match="must be above 0"):
        compute_optimal(Law(1.0, -1.0, 1.0, 0.3, 0.3), 1e20)
    with pytest.raises(ValueError, match="level=2"):
        interval([CHINCHILLA], lambda law: law.E, level=2.0)
    with pytest.raises(ValueError, match="0 laws"):
        interval([], lambda law: law.E)
