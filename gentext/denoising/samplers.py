"""Steps from a noisy level t to a less noisy one s, given what a network predicts of the data.

Each is a pure function of x_t, the predicted x_0 (or ε) and the two levels, so that the same steps
serve every schedule and every network, and can be compared with closed forms. A sampler is such a
step and, as data, what is to be known of it: its order, whether it draws noise, whether it looks
back on the last prediction or corrects itself by the next. ``sample_path`` does the rest.

Notation: ``x_0`` x̂_0 and ``eps`` ε̂ are what is predicted at x_t; ``noise`` z of N(0, I); λ = log
α/σ and ς = σ/α; levels t and s as in ``schedule``, where s may be the data themselves. In the
papers these are::

    here         ddpm (Ho)   ddim (Song)        dpm++ (Lu)            heun (Karras)
    alpha        √ᾱ_t        √α_t               α_t                   1 (x is divided by it)
    sigma        √(1 − ᾱ_t)  √(1 − α_t)         σ_t                   σ
    x_0          from ε_θ    "predicted x_0"    x_θ, the data model   D(x; σ)
    eps          ε_θ         ε_θ                ε_θ                   dx/dσ = (x − D)/σ
    before, t    -           -                  t_{i−2}, t_{i−1}      -
    eta          1           σ_{τ_i} = η …      0, and 1 as an SDE    0

Source: Ho et al., NeurIPS 2020 (ddpm); Song et al., ICLR 2021 (ddim); Lu et al., 2022,
arXiv:2211.01095 (dpm++); Karras et al., NeurIPS 2022 (heun).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gentext.core import at_hand, check_count, check_number, chosen
from gentext.core.signatures import keep_contract
from gentext.denoising.schedule import Level, Schedule, posterior, snr_ratio, to_eps

Denoiser = Callable[[Tensor, Tensor], Tensor]  # x_0 predicted from x_t at level number t (n,)
Draw = Callable[[Tensor], Tensor]  # noise in the shape of its argument
Step = Callable[..., Tensor]  # x_s from x_t, x_0, t, s and what the sampler says it needs
Correction = Callable[[Tensor, Tensor, Tensor, Tensor, Level, Level], Tensor]


def ddpm_step(x_t: Tensor, x_0: Tensor, t: Level, s: Level, noise: Tensor) -> Tensor:
    """A draw of q(x_s | x_t, x_0), the ancestral step."""
    mean, variance = posterior(x_0, x_t, t, s)
    return mean + variance.sqrt() * noise


def ddim_step(
    x_t: Tensor, x_0: Tensor, t: Level, s: Level, eta: float = 0.0, noise: Tensor | None = None
) -> Tensor:
    """x_s distributed as q(x_s | x_0), for any share ``eta`` of fresh noise: 0 none, 1 as ddpm.

    Equation: :eq:`eq-diff-ddim`
    """
    check_number("eta", eta, least=0, most=1)
    eps = to_eps(x_0, x_t, t)
    if noise is None:
        return s.alpha * x_0 + s.sigma * eps
    fresh = eta**2 * s.sigma.square() * (1 - snr_ratio(t, s))
    return s.alpha * x_0 + (s.sigma.square() - fresh).sqrt() * eps + fresh.sqrt() * noise


def dpmpp_step(
    x_t: Tensor,
    x_0: Tensor,
    t: Level,
    s: Level,
    before: tuple[Tensor, Level] | None = None,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    """x_s to second order in λ: ``ddim_step`` from x_0 extrapolated from here and ``before``.

    Without ``before`` the order is first, as it must be where s is the data: λ is infinite there.

    Equation: :eq:`eq-sde-dpm2`
    """
    if before is not None:
        x_before, u = before
        over = (s.log_snr - t.log_snr) / (t.log_snr - u.log_snr) / 2  # 1/(2r)
        x_0 = (1 + over) * x_0 - over * x_before
    return ddim_step(x_t, x_0, t, s, eta, noise)


def heun_step(x_t: Tensor, eps: Tensor, eps_s: Tensor, t: Level, s: Level) -> Tensor:
    """x_s by the mean of the slopes ε of y = x/α over ς, at t and at ``ddim_step``'s x_s."""
    y, step = x_t / t.alpha, s.sigma / s.alpha - t.sigma / t.alpha
    return s.alpha * (y + step * (eps + eps_s) / 2)


def heun_correction(
    x_t: Tensor, x_0: Tensor, x_s: Tensor, x_0_at_s: Tensor, t: Level, s: Level
) -> Tensor:
    """The same, of data predicted at x_t and at a first x_s."""
    return heun_step(x_t, to_eps(x_0, x_t, t), to_eps(x_0_at_s, x_s, s), t, s)


@dataclass(frozen=True)
class Sampler:
    """A step, and what is to be known of it.

    Arguments:
        step: gives x_s of (x_t, x_0, t, s), and of what the next three say.
        order: of the error: with k times as many steps it is k^order times smaller.
        noise: drawn in each step "never", "always", or by a share "eta" that one may choose.
        looks_back: whether the step is given the last prediction and its level, as ``before``.
        correction: makes a better x_s by one more prediction, there; None where there is none.
    """

    step: Step
    order: int
    noise: str = "never"
    looks_back: bool = False
    correction: Correction | None = None

    def check(self, eta: float) -> None:
        """Raise ValueError for a share of noise that this sampler does not take."""
        check_number("eta", eta, least=0, most=1)
        if eta and self.noise != "eta":
            takers = ", ".join(name for name, other in SAMPLERS.items() if other.noise == "eta")
            raise ValueError(
                f"got eta={eta:g}, but this sampler has no share of noise to choose: leave it out, "
                f"or use one of {takers}"
            )


SAMPLERS: dict[str, Sampler] = {
    "ddpm": Sampler(ddpm_step, order=1, noise="always"),
    "ddim": Sampler(ddim_step, order=1, noise="eta"),
    "dpm++": Sampler(dpmpp_step, order=2, noise="eta", looks_back=True),
    "heun": Sampler(ddim_step, order=2, correction=heun_correction),
}


def pairs_down(schedule: Schedule, levels: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Each of the ``levels`` and the next, after the last of them −1: the data.

    Raises ValueError unless they are levels of ``schedule`` that fall.
    """
    fall = all(high > low for high, low in pairwise(levels))
    if not levels or not fall or levels[0] >= len(schedule) or levels[-1] < 0:
        raise ValueError(
            f"got levels={levels}; give falling numbers from {len(schedule) - 1} to 0, the levels "
            "of this schedule"
        )
    return pairwise([*levels, -1])


def sample_path(
    denoiser: Denoiser,
    schedule: Schedule,
    x: Tensor,
    *,
    sampler: str,
    levels: list[int],
    draw: Draw,
    eta: float = 0.0,
) -> Iterator[Tensor]:
    """x after each step along ``levels``, the first of which ``x`` has; the last are the data.

    Raises FloatingPointError where the network predicts something that is not finite.
    """
    how = chosen("sampler", sampler, SAMPLERS)
    how.check(eta)
    x_t, before = x, None
    for number, following in pairs_down(schedule, levels):
        t, s, last = schedule.at(number), schedule.at(following), following < 0
        # 1. predict the data
        x_0 = _predict(denoiser, x_t, number)
        # 2. bring what the step needs
        needs: dict[str, Any] = {}
        if how.noise == "always" or eta:
            needs["noise"] = draw(x_t)
        if eta:
            needs["eta"] = eta
        if how.looks_back and not last:  # λ of the data is infinite
            needs["before"] = before
        # 3. step
        x_s = how.step(x_t, x_0, t, s, **needs)
        # 4. correct, except at the data
        if how.correction is not None and not last:
            x_s = how.correction(x_t, x_0, x_s, _predict(denoiser, x_s, following), t, s)
        x_t, before = x_s, (x_0, t)
        yield x_t


def _predict(denoiser: Denoiser, x_t: Tensor, number: int) -> Tensor:
    """The denoiser at one level for all examples."""
    t = torch.full((len(x_t),), number, device=x_t.device)
    x_0 = denoiser(x_t, t)
    if at_hand(x_0):
        check_finite(x_0, number)
    return x_0


def check_finite(x_0: Tensor, number: int) -> None:
    """Raise FloatingPointError where a prediction at level ``number`` is not finite."""
    if not bool(x_0.isfinite().all()):
        raise FloatingPointError(
            f"the network predicted NaN or infinite values at level {number}: sample with more "
            'steps, less guidance or clip="static", or train it again with a smaller lr'
        )


# By log SNR of the levels, where they lie on an axis along which steps are even
SPACINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "time": lambda log_snr: torch.arange(len(log_snr), dtype=log_snr.dtype),
    "log-snr": torch.neg,
    "karras": lambda log_snr: (-log_snr / 14).exp(),  # (σ/α)^{1/7}
}


def time_steps(schedule: Schedule, steps: int, spacing: str = "log-snr") -> list[int]:
    """The levels at which a sampler of ``steps`` steps predicts, from the noisiest down to 0.

    They are even in t ("time"), in log SNR, or in (σ/α)^{1/7} ("karras").
    """
    check_count("steps", steps)
    if steps > len(schedule):
        raise ValueError(
            f"got {steps} steps, but this schedule has {len(schedule)} levels: ask for 1 to "
            f"{len(schedule)} steps, or train with more levels"
        )
    along = chosen("spacing", spacing, SPACINGS)
    if steps == 1:
        return [len(schedule) - 1]
    places = along(torch.tensor(schedule.values(), dtype=torch.float64))
    wanted = torch.linspace(float(places[-1]), float(places[0]), steps, dtype=torch.float64)
    return _distinct((wanted[:, None] - places).abs().argmin(1).tolist())


def _distinct(levels: list[int]) -> list[int]:
    """Falling levels near those given, no two the same."""
    for k in range(1, len(levels)):  # from above, and then again from below
        levels[k] = min(levels[k], levels[k - 1] - 1)
    for k in range(len(levels) - 1, -1, -1):
        levels[k] = max(levels[k], len(levels) - 1 - k)
    return levels


keep_contract(globals())
