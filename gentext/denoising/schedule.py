"""Levels of noise: how much of the data is left in x_t, and all that follows from this alone.

x_t = α_t x_0 + σ_t ε. What matters is the signal-to-noise ratio SNR_t = α_t²/σ_t², which falls with
t; a schedule lists it. Where the variance is preserved, α² + σ² = 1, it says everything.

Notation: ``x_0`` data, ``x_t`` noisy data, ``eps`` the noise ε, ``v`` the velocity αε − σx_0;
t a level and s one with less noise; ``alpha`` α and ``sigma`` σ of a ``Level``; ``alpha_bar`` ᾱ =
α²; ``log_snr`` λ = log SNR (in ``samplers`` λ is half of it); ``snr_ratio`` κ = SNR_t/SNR_s. The
book counts levels from 1, the code from 0; t = −1 are the data themselves. In papers α is often
our ᾱ (Song et al., 2021) or 1 − β (Ho et al.), and γ is −log SNR (Kingma et al.).

Source: Ho et al., NeurIPS 2020; Nichol and Dhariwal, ICML 2021; Kingma et al., NeurIPS 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gentext.core import Precise, at_least_single, check_count, check_number, chosen
from gentext.core.signatures import keep_contract

PREDICTIONS = ("eps", "x0", "v")
MAX_LEFT = 0.05  # largest share of the data's variance that the last level may keep


class Level(NamedTuple):
    """x_t = α x_0 + σ ε; both broadcast against the examples."""

    alpha: Tensor
    sigma: Tensor

    @property
    def snr(self) -> Tensor:
        """α²/σ², infinite for the data themselves."""
        return (self.alpha / self.sigma).square()

    @property
    def log_snr(self) -> Tensor:
        """2 (log α − log σ)."""
        return 2 * (self.alpha.log() - self.sigma.log())


def q_sample(x_0: Tensor, eps: Tensor, t: Level) -> Tensor:
    """x_t = α_t x_0 + σ_t ε, a draw of q(x_t | x_0).

    Equation: :eq:`eq-diff-fwd`
    """
    return t.alpha * x_0 + t.sigma * eps


class Schedule(Precise):
    """T levels from little noise (t = 0) to nearly nothing else (t = T − 1), given by log SNR.

    The variance is preserved: α² = 1/(1 + 1/SNR), σ² = 1 − α².
    """

    levels: Tensor

    def __init__(self, log_snr: Tensor) -> None:
        super().__init__()
        _check_levels(log_snr)
        self.plain = log_snr.tolist()
        self.register_buffer("levels", log_snr.to(torch.get_default_dtype()), persistent=False)

    @classmethod
    def linear(cls, T: int = 1000, start: float = 1e-4, end: float = 0.02) -> Schedule:
        """Variances β from ``start`` to ``end`` along a line; for T other than 1000 scaled by it.

        Source: Ho et al., NeurIPS 2020.
        """
        scale = 1000 / _count(T)
        beta = torch.linspace(scale * start, scale * end, T, dtype=torch.float64)
        return cls.from_beta(beta.clamp(max=0.999))

    @classmethod
    def cosine(cls, T: int = 1000, shift: float = 0.008) -> Schedule:
        """ᾱ = cos² along a quarter of a wave, the last β cut to 0.999.

        Equation: :eq:`eq-diff-cosine`

        Source: Nichol and Dhariwal, ICML 2021.
        """
        t = torch.arange(_count(T) + 1, dtype=torch.float64) / T
        wave = ((t + shift) / (1 + shift) * math.pi / 2).cos().square()
        return cls.from_beta((1 - wave[1:] / wave[:-1]).clamp(max=0.999))

    @classmethod
    def line(cls, T: int = 1000, start: float = 13.3, end: float = -5.0) -> Schedule:
        """log SNR along a line from ``start`` to ``end``."""
        return cls(torch.linspace(start, end, _count(T), dtype=torch.float64))

    @classmethod
    def from_beta(cls, beta: Float[Tensor, "T"]) -> Schedule:
        """The schedule with q(x_t | x_{t−1}) = N(√(1 − β_t) x_{t−1}, β_t)."""
        if not bool(((beta > 0) & (beta < 1)).all()):
            raise ValueError("got variances beta outside (0, 1); each step adds some noise")
        log_alpha_bar = torch.log1p(-beta.double()).cumsum(0)
        return cls(log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar)))

    @property
    def log_snr(self) -> Float[Tensor, "T"]:
        """log SNR of every level."""
        return self.levels

    @property
    def snr(self) -> Float[Tensor, "T"]:
        """α²/σ² of every level."""
        return self.log_snr.exp()

    @property
    def alpha_bar(self) -> Float[Tensor, "T"]:
        """ᾱ = α² of every level."""
        return torch.sigmoid(self.log_snr)

    def values(self) -> list[float]:
        """log SNR of every level as plain numbers, which no device need be asked for."""
        return self.plain

    def after(self, skip: int) -> Schedule:
        """The schedule without its ``skip`` cleanest levels."""
        check_count("skip", skip, 0)
        if skip > len(self) - 2:
            raise ValueError(f"got skip={skip}; of {len(self)} levels at least 2 must remain")
        return Schedule(torch.tensor(self.plain[skip:], dtype=torch.float64))

    def __len__(self) -> int:
        return len(self.log_snr)

    def at(self, t: Tensor | int, dims: int = 0) -> Level:
        """Level ``t``, an integer or (n,) of them, with ``dims`` axes added; −1 are the data."""
        check_number("dims", dims, least=0, most=60)
        t = torch.as_tensor(t, device=self.log_snr.device)
        # plain indexing would ask the device for a number
        log_snr = self.log_snr.index_select(0, t.clamp(min=0).flatten()).view(t.shape)
        alpha = torch.where(t < 0, 1.0, torch.sigmoid(log_snr).sqrt())
        sigma = torch.where(t < 0, 0.0, torch.sigmoid(-log_snr).sqrt())
        shape = (*t.shape, *(1 for _ in range(dims)))
        return Level(alpha.view(shape), sigma.view(shape))


def snr_ratio(t: Level, s: Level) -> Tensor:
    """SNR_t/SNR_s, the share of the information that the step from s to t leaves; 0 from data."""
    return (t.alpha * s.sigma / (s.alpha * t.sigma)).square()


def posterior(x_0: Tensor, x_t: Tensor, t: Level, s: Level) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_s | x_t, x_0), a normal with less noise than x_t.

    Equation: :eq:`eq-diff-posterior`
    """
    kept = snr_ratio(t, s)
    # α_s kept/α_t, written so that nothing is divided by α_t, which may be 0
    of_x_t = t.alpha / s.alpha * (s.sigma / t.sigma).square()
    return of_x_t * x_t + s.alpha * (1 - kept) * x_0, s.sigma.square() * (1 - kept)


def snr_weight(t: Level, s: Level) -> Tensor:
    """What multiplies ‖Δx_0‖² in that divergence where the variance is the posterior's.

    Equation: :eq:`eq-diff-snr`

    Source: Kingma et al., NeurIPS 2021.
    """
    return (s.snr - t.snr) / 2


def eps_weight(t: Level, s: Level, variance: Tensor) -> Tensor:
    """What multiplies ‖Δε‖² in the divergence of two steps from t to s of the same ``variance``.

    Equation: :eq:`eq-diff-epskl`
    """
    of_eps = s.alpha / t.alpha * t.sigma * (1 - snr_ratio(t, s))  # in the mean of the step
    return of_eps.square() / (2 * variance)


def to_x0(kind: str, prediction: Tensor, x_t: Tensor, t: Level) -> Tensor:
    """The x_0 that a prediction of ``kind`` "eps", "x0" or "v" amounts to.

    Equation: :eq:`eq-diff-params`

    Source: Salimans and Ho, ICLR 2022.
    """
    chosen("prediction", kind, PREDICTIONS)
    if kind == "eps":
        return (x_t - t.sigma * prediction) / t.alpha
    if kind == "v":
        return (t.alpha * x_t - t.sigma * prediction) / (t.alpha.square() + t.sigma.square())
    return prediction


def to_eps(x_0: Tensor, x_t: Tensor, t: Level) -> Tensor:
    """The noise ε = (x_t − α x_0)/σ."""
    return (x_t - t.alpha * x_0) / t.sigma


def from_x0(kind: str, x_0: Tensor, x_t: Tensor, t: Level) -> Tensor:
    """The prediction of ``kind`` that amounts to ``x_0``; the inverse of ``to_x0``.

    Equation: :eq:`eq-diff-params`
    """
    chosen("prediction", kind, PREDICTIONS)
    if kind == "x0":
        return x_0
    eps = to_eps(x_0, x_t, t)
    return eps if kind == "eps" else t.alpha * eps - t.sigma * x_0


def loss_weight(kind: str, t: Level) -> Tensor:
    """What multiplies ‖Δx_0‖² in the squared error of a prediction of ``kind``.

    Equation: :eq:`eq-diff-lossw`
    """
    chosen("prediction", kind, PREDICTIONS)
    if kind == "v":
        return ((t.alpha.square() + t.sigma.square()) / t.sigma).square()
    return t.snr if kind == "eps" else torch.ones_like(t.snr)


class LearnedSchedule(Schedule):
    """log SNR along a line whose two ends are parameters, trained by the bound.

    Equation: :eq:`eq-diff-vdm`

    Source: Kingma et al., NeurIPS 2021.
    """

    def __init__(self, T: int = 1000, start: float = 13.3, end: float = -5.0) -> None:
        super().__init__(torch.linspace(start, end, _count(T), dtype=torch.float64))
        self.ends = nn.Parameter(self.levels[[0, -1]].clone())

    @classmethod
    def line(cls, T: int = 1000, start: float = 13.3, end: float = -5.0) -> Schedule:
        """The same as the class itself, which begins as a line from ``start`` to ``end``."""
        return cls(T, start, end)

    @classmethod
    def from_beta(cls, beta: Float[Tensor, "T"]) -> Schedule:
        """Refused with ValueError, for a learned schedule begins as a line."""
        raise ValueError("a learned schedule begins as a line: give T, start and end")

    @property
    def log_snr(self) -> Float[Tensor, "T"]:
        """log SNR of every level."""
        ends = at_least_single(self.ends)
        done = torch.linspace(0, 1, len(self.levels), device=ends.device).to(ends)
        return ends[0] + done * (ends[1] - ends[0])

    def values(self) -> list[float]:
        """log SNR of every level as plain numbers."""
        return self.log_snr.tolist()


SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "linear": Schedule.linear,
    "cosine": Schedule.cosine,
    "line": Schedule.line,
    "learned": LearnedSchedule,
}


def eps_to_score(eps: Tensor, t: Level) -> Tensor:
    """∇ log p_t(x_t) = −E[ε | x_t]/σ_t: a prediction of the noise is one of the score.

    Equation: :eq:`eq-diff-score`

    Source: Vincent, Neural Computation 2011; Song et al., ICLR 2021.
    """
    return -eps / t.sigma


def _count(T: int) -> int:
    check_count("T", T, 2)
    return T


def _check_levels(log_snr: Tensor) -> None:
    if log_snr.dim() != 1:
        raise ValueError(f"got log SNR of shape {tuple(log_snr.shape)}; give one number a level")
    _count(len(log_snr))
    if not bool(log_snr.isfinite().all()) or not bool((log_snr.diff() < 0).all()):
        raise ValueError("the log SNR of a schedule must be finite and fall from level to level")
    left = float(torch.sigmoid(log_snr[-1].detach()))
    if left > MAX_LEFT:
        raise ValueError(
            f"this schedule ends with {left:.2g} of the variance from the data, but sampling "
            f"starts from noise alone: add levels until it is below {MAX_LEFT}"
        )


keep_contract(globals())
