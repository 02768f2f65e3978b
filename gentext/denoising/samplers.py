"""Steps from a noisy level t to a less noisy one s, given what a network predicts of the data.

Each is a pure function of x_t, the predicted x_0 (or ε) and the two levels, so that the same steps
serve every schedule and every network, and can be compared with closed forms. The solvers of
higher order also take what was predicted elsewhere on the way.

Notation: ``x_0`` and ``eps`` what is predicted at x_t; ``noise`` of N(0, I); λ = log α/σ; levels t
and s as in ``schedule``, where s may be the data themselves.

Source: Ho et al., NeurIPS 2020 (ddpm); Song et al., ICLR 2021 (ddim); Lu et al., 2022,
arXiv:2211.01095 (dpm++); Karras et al., NeurIPS 2022 (heun).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from gentext.denoising.schedule import Level, Schedule, posterior, snr_ratio, to_eps

SAMPLERS = ("ddpm", "ddim", "dpm++", "heun")
SPACINGS = ("time", "log-snr", "karras")
Denoiser = Callable[[Tensor, Tensor], Tensor]  # x_0 predicted from x_t at level number t (n,)
Draw = Callable[[Tensor], Tensor]  # noise in the shape of its argument


def ddpm_step(x_t: Tensor, x_0: Tensor, t: Level, s: Level, noise: Tensor) -> Tensor:
    """A draw of q(x_s | x_t, x_0), the ancestral step."""
    mean, variance = posterior(x_0, x_t, t, s)
    return mean + variance.sqrt() * noise


def ddim_step(
    x_t: Tensor, x_0: Tensor, t: Level, s: Level, eta: float = 0.0, noise: Tensor | None = None
) -> Tensor:
    """x_s with the law q(x_s | x_0), for any share ``eta`` of fresh noise: 0 none, 1 as ddpm.

    Equation: :eq:`eq-diff-ddim`
    """
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
    """x_s by the mean of the slopes ε of y = x/α over ς = σ/α, at t and at ``ddim_step``'s x_s."""
    y, step = x_t / t.alpha, s.sigma / s.alpha - t.sigma / t.alpha
    return s.alpha * (y + step * (eps + eps_s) / 2)


def time_steps(schedule: Schedule, steps: int, spacing: str = "log-snr") -> list[int]:
    """The levels at which a sampler of ``steps`` steps predicts, from the noisiest down to 0.

    They are even in t ("time"), in log SNR, or in (σ/α)^{1/7} ("karras").
    """
    if not 1 <= steps <= len(schedule):
        raise ValueError(
            f"got {steps} steps, but this schedule has {len(schedule)} levels: ask for 1 to "
            f"{len(schedule)} steps, or train with more levels"
        )
    if spacing not in SPACINGS:
        raise ValueError(f"unknown spacing {spacing!r}: choose one of {', '.join(SPACINGS)}")
    log_snr = torch.tensor(schedule.values(), dtype=torch.float64)
    axis = {
        "time": lambda: torch.arange(len(schedule), dtype=torch.float64),
        "log-snr": lambda: -log_snr,
        "karras": lambda: (-log_snr / 14).exp(),
    }[spacing]()
    if steps == 1:
        return [len(schedule) - 1]
    wanted = torch.linspace(float(axis[-1]), float(axis[0]), steps, dtype=torch.float64)
    nearest = (wanted[:, None] - axis).abs().argmin(1).tolist()
    return _distinct(nearest)


def _distinct(levels: list[int]) -> list[int]:
    """Falling levels near those given, no two the same."""
    for k in range(1, len(levels)):  # from above, and then again from below
        levels[k] = min(levels[k], levels[k - 1] - 1)
    for k in range(len(levels) - 1, -1, -1):
        levels[k] = max(levels[k], len(levels) - 1 - k)
    return levels


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
    check_sampler(sampler)
    before: tuple[Tensor, Level] | None = None
    for number, following in pairwise([*levels, -1]):
        t, s, last = schedule.at(number), schedule.at(following), following < 0
        x_t, x_0 = x, _predict(denoiser, x, number)
        if sampler == "ddpm":
            x = ddpm_step(x_t, x_0, t, s, draw(x_t))
        elif sampler == "dpm++":
            noise = draw(x_t) if eta else None
            x = dpmpp_step(x_t, x_0, t, s, None if last else before, eta, noise)
            before = x_0, t
        else:
            x = ddim_step(x_t, x_0, t, s, eta, draw(x_t) if eta else None)
        if sampler == "heun" and not last:
            eps_s = to_eps(_predict(denoiser, x, following), x, s)
            x = heun_step(x_t, to_eps(x_0, x_t, t), eps_s, t, s)
        yield x


def _predict(denoiser: Denoiser, x_t: Tensor, number: int) -> Tensor:
    """The denoiser at one level for all examples."""
    t = torch.full((len(x_t),), number, device=x_t.device)
    x_0 = denoiser(x_t, t)
    if x_0.device.type == "cpu" and not torch.compiler.is_compiling():
        check_finite(x_0, number)
    return x_0


def check_finite(x_0: Tensor, number: int) -> None:
    """Raise FloatingPointError where a prediction at level ``number`` is not finite."""
    if not bool(x_0.isfinite().all()):
        raise FloatingPointError(
            f"the network predicted NaN or infinite values at level {number}: sample with more "
            'steps, less guidance or clip="static", or train it again with a smaller lr'
        )


def check_sampler(name: str) -> None:
    """Raise ValueError for an unknown sampler."""
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}: choose one of {', '.join(SAMPLERS)}")
