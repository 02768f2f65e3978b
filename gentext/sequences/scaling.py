"""Scaling laws: how the loss falls with parameters and data, and the best use of a given compute.

The law L(N, D) = E + A N^−α + B D^−β has a floor E, which no model gets below, and what is missed
by a model that is too small and by data that are too few. Under C = 6ND operations both are to grow
together. From few runs the exponents are uncertain, and so is the advice: ``bootstrap`` says by
how much.

Notation: ``N`` parameters, ``D`` tokens of training, ``C`` floating-point operations, ``L`` loss in
nats a token; ``E``, ``A``, ``B``, ``alpha``, ``beta`` of the law.

Source: Hoffmann et al., NeurIPS 2022; Besiroglu et al., 2024 (a careful replication).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gentext.core import check_number
from gentext.core.signatures import keep_contract

OPERATIONS = 6.0  # for each parameter and token: 2 forward, 4 backward
DELTA = 1e-3  # where Huber's loss of log L turns from a square into a line
STARTS = tuple(itertools.product((0.25, 0.75), (0.25, 0.75), (0.3, 0.8)))  # α, β, share of E


class Law(NamedTuple):
    """L(N, D) = E + A N^−α + B D^−β, in nats a token."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, N: Tensor, D: Tensor) -> Tensor:
        """The loss of a model of ``N`` parameters after ``D`` tokens.

        Equation: :eq:`eq-gpt-scaling`
        """
        return self.E + self.A * N**-self.alpha + self.B * D**-self.beta


def compute_optimal(law: Law, C: float) -> tuple[float, float]:
    """Parameters N* and tokens D* of the least loss that ``C`` operations buy, at C = 6ND.

    N* = G (C/6)^(β/(α+β)) and D* = (C/6)^(α/(α+β))/G, with G = (αA/(βB))^(1/(α+β)).

    Equation: :eq:`eq-gpt-scaling`
    """
    if not C > 0 or min(law.A, law.B, law.alpha, law.beta) <= 0:
        raise ValueError(f"got C={C} and {law}; C, A, B and both exponents must be above 0")
    both = law.alpha + law.beta
    G = (law.alpha * law.A / (law.beta * law.B)) ** (1 / both)
    product = C / OPERATIONS
    return G * product ** (law.beta / both), product ** (law.alpha / both) / G


def fit_law(N: Tensor, D: Tensor, L: Tensor) -> Law:
    """The law that fits runs of ``N`` parameters, ``D`` tokens and loss ``L`` (all of shape (r,)).

    It minimises Huber's loss of the error of log L by a quasi-Newton method from several starts, of
    which the best is kept; E, A and B are positive by their logarithms.

    Raises ValueError for fewer runs than the law has unknowns, or where N or D does not vary.
    """
    N, D, L = _checked(N, D, L)
    n, d = N.log().mean(), D.log().mean()
    fits = [_descend(_start(L, *start), N.log() - n, D.log() - d, L.log()) for start in STARTS]
    return _law(min(fits, key=lambda fit: fit[0])[1], n, d)


def bootstrap(
    N: Tensor,
    D: Tensor,
    L: Tensor,
    *,
    draws: int = 100,
    generator: torch.Generator | None = None,
) -> list[Law]:
    """Laws fitted to ``draws`` resamples of the runs: how far each quantity of a law is known.

    Resamples on which no law can be fitted are drawn again.

    Source: Efron, Annals of Statistics 1979.
    """
    N, D, L = _checked(N, D, L)
    n, d = N.log().mean(), D.log().mean()
    best = _parameters(fit_law(N, D, L), n, d)
    laws: list[Law] = []
    while len(laws) < draws:
        row = torch.randint(len(N), (len(N),), generator=generator, device=N.device)
        if len(row.unique()) < len(best) or any(len(x[row].unique()) < 2 for x in (N, D)):
            continue
        fit = _descend(best, N[row].log() - n, D[row].log() - d, L[row].log())
        laws.append(_law(fit[1], n, d))
    return laws


def interval(
    laws: list[Law], quantity: Callable[[Law], float], level: float = 0.9
) -> tuple[float, float]:
    """The middle ``level`` of a ``quantity`` over the laws of ``bootstrap``, from low to high."""
    check_number("level", level, above=0, below=1)
    if not laws:
        raise ValueError("got 0 laws; give those of bootstrap")
    values = torch.tensor([quantity(law) for law in laws], dtype=torch.float64)
    low, high = values.quantile(values.new_tensor([(1 - level) / 2, (1 + level) / 2])).tolist()
    return low, high


def _checked(N: Tensor, D: Tensor, L: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if not (N.shape == D.shape == L.shape and N.ndim == 1 and len(N) >= len(Law._fields)):
        raise ValueError(
            f"got N {tuple(N.shape)}, D {tuple(D.shape)} and L {tuple(L.shape)}; give one number "
            f"of each for at least {len(Law._fields)} runs"
        )
    N, D, L = (x.detach().double() for x in (N, D, L))
    if not all(bool((x.isfinite() & (x > 0)).all()) for x in (N, D, L)):
        raise ValueError("parameters, tokens and losses must be finite and above 0")
    if len(N.unique()) < 2 or len(D.unique()) < 2:
        raise ValueError("all runs have the same N or the same D: vary both to fit both exponents")
    return N, D, L


# The optimiser sees log E, the logarithms a and b of the other two terms at the means n and d of
# log N and log D over the runs, and the exponents: all of these are about 1 and hardly correlated.


def _start(L: Tensor, alpha: float, beta: float, share: float) -> Tensor:
    floor = share * L.min()
    rest = ((L - floor).mean() / 2).log()
    return torch.stack([floor.log(), rest, rest, L.new_tensor(alpha), L.new_tensor(beta)])


def _log_loss(theta: Tensor, log_N: Tensor, log_D: Tensor) -> Tensor:
    e, a, b, alpha, beta = theta.unbind()
    terms = torch.stack([e.expand_as(log_N), a - alpha * log_N, b - beta * log_D])
    return torch.logsumexp(terms, dim=0)


def _descend(start: Tensor, log_N: Tensor, log_D: Tensor, log_L: Tensor) -> tuple[float, Tensor]:
    """The least objective that the search from ``start`` finds, and where."""
    theta = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [theta],
        max_iter=500,
        tolerance_grad=1e-12,
        tolerance_change=1e-14,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        fitted = _log_loss(theta, log_N, log_D)
        value = F.huber_loss(fitted, log_L, delta=DELTA) / DELTA**2
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(objective)
        return float(objective().detach()), theta.detach()


def _law(theta: Tensor, n: Tensor, d: Tensor) -> Law:
    e, a, b, alpha, beta = theta.unbind()
    E, A, B = e.exp(), (a + alpha * n).exp(), (b + beta * d).exp()
    return Law(*(float(value) for value in (E, A, B, alpha, beta)))


def _parameters(law: Law, n: Tensor, d: Tensor) -> Tensor:
    E, A, B, alpha, beta = n.new_tensor(law).unbind()
    return torch.stack([E.log(), A.log() - alpha * n, B.log() - beta * d, alpha, beta])


keep_contract(globals())
