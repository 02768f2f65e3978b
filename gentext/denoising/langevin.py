"""Dynamics driven by a score: Langevin's, and linear noising equations run backwards.

Noise enters by dx = f x dt + g dw, from the data at t = 0 to nearly nothing else at t = 1. Whoever
knows the score of every level on the way can go back: by an ordinary differential equation, or with
as much fresh noise as wanted, for what the noise spreads the score draws together again.

Notation: ``f``, ``g2`` the rates f and g²; ``score`` ∇ log p_t(x), of x and a time (of x alone for
Langevin); ``eta`` η, the share of fresh noise; ``end`` the last time, short of the data;
``log_snr`` log α²/σ²; w̄ is noise that enters as time runs back.

Source: Anderson, Stochastic Processes and their Applications 1982; Song et al., ICLR 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from gentext.core import at_hand, check_count, check_finite, check_number, chosen, normal_like
from gentext.core.shapes import Batch
from gentext.core.signatures import keep_contract
from gentext.denoising.schedule import Level
from gentext.flows.continuous import Velocity

UNSTABLE = (
    "take more and smaller steps, end farther from the data, or train the network again with a "
    "smaller lr"
)
FIRST = 1e-12  # time; earlier there is no noise in single precision
SPACINGS = ("log-snr", "time")
ROUNDING = 1e-6  # by which a time may exceed 1

Score = Callable[[Tensor, float], Tensor]


class LinearSDE:
    """dx = f x dt + g dw, given by the levels x_t = α x_0 + σ ε that it passes.

    Subclasses define log α and σ² of a time, and the time of a level.
    """

    def log_alpha(self, t: Tensor) -> Tensor:
        """log α at ``t``."""
        raise NotImplementedError

    def variance(self, t: Tensor) -> Tensor:
        """σ² at ``t``."""
        raise NotImplementedError

    def time(self, log_snr: float) -> float:
        """The t with ``log_snr``."""
        raise NotImplementedError

    def at(self, t: Tensor | float, dims: int = 0) -> Level:
        """The level at ``t``, a number, or (n,) of them with ``dims`` axes added."""
        t = _as_time(t)
        t = t.view((*t.shape, *(1 for _ in range(dims)))) if t.dim() else t
        return Level(self.log_alpha(t).exp(), self.variance(t).sqrt())

    def log_snr(self, t: float) -> float:
        """log α²/σ² at ``t``, by which ``time`` finds it again."""
        return float(self.at(t).log_snr)

    def rates(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """f = d log α/dt and g² = dσ²/dt − 2fσ² at ``t``.

        Equation: :eq:`eq-sde-linear`
        """
        with torch.inference_mode(False), torch.enable_grad():
            t = _as_time(t).detach().clone().requires_grad_()
            variance = self.variance(t)
            (f,) = torch.autograd.grad(self.log_alpha(t).sum(), t)
            (slope,) = torch.autograd.grad(variance.sum(), t)
        return f, slope - 2 * f * variance.detach()


@dataclass(frozen=True)
class VP(LinearSDE):
    """α² + σ² = 1: noise enters at the rate β = g² = −2f, from ``beta_min`` to ``beta_max``.

    This is the diffusion of ``Schedule.linear`` with infinitely many levels.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        _check_range(self.beta_min, self.beta_max, "beta")

    def log_alpha(self, t: Tensor) -> Tensor:
        """−½ ∫β dt."""
        return -t * (self.beta_min + t * (self.beta_max - self.beta_min) / 2) / 2

    def variance(self, t: Tensor) -> Tensor:
        """1 − α²."""
        return -torch.expm1(2 * self.log_alpha(t))

    def time(self, log_snr: float) -> float:
        """The t with ∫β dt = log(1 + 1/SNR)."""
        total, rise = math.log1p(math.exp(-log_snr)), self.beta_max - self.beta_min
        return 2 * total / (self.beta_min + math.sqrt(self.beta_min**2 + 2 * rise * total))


@dataclass(frozen=True)
class VE(LinearSDE):
    """α = 1: noise is added, its deviation growing like (``sigma_max``/``sigma_min``)^t."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        _check_range(self.sigma_min, self.sigma_max, "sigma")

    def log_alpha(self, t: Tensor) -> Tensor:
        """0."""
        return 0 * t

    def variance(self, t: Tensor) -> Tensor:
        """σ_min² ((σ_max/σ_min)^{2t} − 1), which is 0 for the data."""
        return self.sigma_min**2 * torch.expm1(2 * t * math.log(self.sigma_max / self.sigma_min))

    def time(self, log_snr: float) -> float:
        """The t with ``variance`` 1/SNR."""
        growth = 2 * math.log(self.sigma_max / self.sigma_min)
        return math.log1p(math.exp(-log_snr) / self.sigma_min**2) / growth


def time_grid(process: LinearSDE, steps: int, end: float, spacing: str = "log-snr") -> list[float]:
    """``steps`` + 1 falling times from 1 to ``end``, even in log SNR or in time."""
    chosen("spacing", spacing, SPACINGS)
    check_count("steps", steps)
    if not FIRST <= end < 1:
        raise ValueError(
            f"got end={end}; it must be between 0 and 1, and at least {FIRST}: at t = 0 there is "
            "no noise, and the score may be infinite"
        )
    shares = [k / steps for k in range(1, steps)]
    if spacing == "time":
        return [1.0, *(1 - k * (1 - end) for k in shares), end]
    first, last = process.log_snr(1.0), process.log_snr(end)
    return [1.0, *(process.time(first + k * (last - first)) for k in shares), end]


def pf_velocity(score: Score, process: LinearSDE) -> Velocity:
    """u(x, t) = f x − ½ g² ∇ log p_t(x): without any noise, x then has the density p_t all along.

    Equation: :eq:`eq-sde-pfode`
    """

    def velocity(x: Tensor, t: float) -> Tensor:
        f, g2 = process.rates(t)
        return f * x - g2 / 2 * finite_score(score(x, t), t)

    return velocity


def in_log_snr(velocity: Velocity, process: LinearSDE) -> Velocity:
    """The same paths by another clock: dx/dl at l = log SNR, whose equal steps are fine near data.

    To be solved from ``process.log_snr(start)`` to ``process.log_snr(end)``.
    """

    def by_clock(x: Tensor, log_snr: float) -> Tensor:
        t = process.time(log_snr)
        _, g2 = process.rates(t)
        return -process.at(t).sigma.square() / g2 * velocity(x, t)  # dl/dt = −g²/σ²

    return by_clock


def langevin(
    score: Callable[[Tensor], Tensor],
    x: Batch,
    step: float | Tensor,
    steps: int,
    generator: torch.Generator | None = None,
) -> Batch:
    """x after ``steps`` steps x + h ∇ log p(x) + √(2h) z, which forget where they began.

    What they draw is p only for small h: N(0, 1) becomes N(0, 1/(1 − h/2)).

    Equation: :eq:`eq-sde-ula`

    Source: Roberts and Tweedie, Bernoulli 1996.
    """
    h = torch.as_tensor(step)
    if steps < 1 or (at_hand(h) and not h > 0):
        raise ValueError(f"got step={step} and steps={steps}; take at least 1, each above 0")
    for _ in range(steps):
        z = normal_like(x, generator)
        x = x + h * finite_score(score(x)) + (2 * h).sqrt() * z
    return x


def annealed_langevin(
    score: Score,
    process: LinearSDE,
    x: Batch,
    steps: int,
    *,
    repeats: int = 5,
    rate: float = 0.1,
    end: float = 1e-3,
    generator: torch.Generator | None = None,
) -> Batch:
    """x at ``end``, from x at t = 1: ``repeats`` steps of Langevin at each of ``steps`` levels.

    Those at a level are h = ``rate`` σ²; between levels x/α stays as it is.

    Source: Song and Ermon, NeurIPS 2019.
    """
    check_count("repeats", repeats)
    check_number("rate", rate, above=0)
    for t, s in pairwise(time_grid(process, steps, end)):
        level = process.at(s)
        x = level.alpha / process.at(t).alpha * x
        x = langevin(_at(score, s), x, rate * level.sigma.square(), repeats, generator)
    return x


def corrector_step(score: Tensor, snr: float) -> Tensor:
    """h = 2 (r ‖z‖/‖score‖)², by the mean squares of a batch; r = ``snr``.

    Source: Song et al., ICLR 2021.
    """
    check_number("snr", snr, above=0)
    return 2 * snr**2 / score.square().mean()


def reverse_path(
    score: Score,
    process: LinearSDE,
    x: Batch,
    steps: int,
    *,
    eta: float = 1.0,
    end: float = 1e-3,
    spacing: str = "log-snr",
    corrector: int = 0,
    snr: float = 0.1,
    generator: torch.Generator | None = None,
) -> Iterator[Batch]:
    """x at t = 1, and after each step of Euler and Maruyama back to ``end``.

    dx = (f x − (1 + η²)/2 g² ∇ log p_t) dt + η g dw̄, which passes the same p_t for every η ≥ 0.
    At each new time follow ``corrector`` steps of Langevin, of the signal-to-noise ratio ``snr``.

    Equation: :eq:`eq-sde-reverse`
    """
    check_number("eta", eta, least=0)
    check_count("corrector", corrector, 0)
    check_number("snr", snr, above=0)
    yield x
    for t, s in pairwise(time_grid(process, steps, end, spacing)):
        f, g2 = process.rates(t)
        drift = f * x - (1 + eta**2) / 2 * g2 * finite_score(score(x, t), t)
        z = normal_like(x, generator)
        x = x - (t - s) * drift + eta * ((t - s) * g2).sqrt() * z
        for _ in range(corrector):
            step = corrector_step(score(x, s), snr)
            x = langevin(_at(score, s), x, step, 1, generator)
        yield x


def reverse_sde(score: Score, process: LinearSDE, x: Batch, steps: int, **options: object) -> Batch:
    """The end of ``reverse_path``, whose ``options`` it takes."""
    *_, x = reverse_path(score, process, x, steps, **options)  # type: ignore[arg-type]
    return x


def _as_time(t: Tensor | float) -> Tensor:
    """Times as a tensor, which must be in [0, 1]; numbers become one of double precision."""
    t = t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)
    if at_hand(t) and not bool(((t >= 0) & (t <= 1 + ROUNDING)).all()):
        raise ValueError(
            f"got times from {float(t.min()):g} to {float(t.max()):g}; they run from 0, the data, "
            "to 1, the noise"
        )
    return t


def _at(score: Score, t: float) -> Callable[[Tensor], Tensor]:
    return lambda x: finite_score(score(x, t), t)


def finite_score(score: Tensor, t: float | None = None) -> Tensor:
    """``score``, or FloatingPointError where it is not finite."""
    check_finite(score, "scores" if t is None else f"scores at t = {t:.3g}", UNSTABLE)
    return score


def _check_range(low: float, high: float, name: str) -> None:
    if not 0 < low < high < math.inf:
        raise ValueError(f"got {name} from {low} to {high}; they are above 0, and rise")


keep_contract(globals())
