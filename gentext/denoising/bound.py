"""Bounds of log p(x) by denoising: of a chain of noise levels, and as integrals over all of them.

Notation: ``x_0`` data, ``predicted`` x̂_0, ``x_t`` with noise; t and s levels of a ``schedule``, s
with less noise; ``width`` σ_1/α_1, the noise of ``seen`` x_1/α_1; ``gamma`` γ the SNR (as in Guo et
al.; in Kingma et al. γ is −log SNR), ``log_snr`` λ its logarithm (k,), falling or rising; ``error``
the squared errors ‖x_0 − x̂_0‖² at these, averaged over the noise; ``dims`` D values in an example.

Source: Sohl-Dickstein et al., ICML 2015; Ho et al., NeurIPS 2020; Kingma et al., NeurIPS 2021; Guo
et al., IEEE Transactions on Information Theory 2005; Kong et al., ICLR 2023.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gentext.core import at_hand
from gentext.core.shapes import Batch, PerExample
from gentext.core.signatures import keep_contract
from gentext.denoising.schedule import Level, snr_weight
from gentext.nn.distributions import kl_normal

WEIGHED_AT_ONCE = 64  # examples whose grey levels are weighed in one pass


class Terms(NamedTuple):
    """What the bound adds up, in nats: log p ≥ −prior − levels − reconstruction."""

    prior: PerExample
    levels: PerExample
    reconstruction: PerExample

    @property
    def bound(self) -> PerExample:
        """What they leave of log p(x), at least, in nats."""
        return -(self.prior + self.levels + self.reconstruction)


def prior_kl(x_0: Batch, last: Level) -> PerExample:
    """KL(q(x_T | x_0) ‖ N(0, I)) in nats.

    Equation: :eq:`eq-diff-vlb`
    """
    mean = last.alpha * x_0.flatten(1)
    return kl_normal(mean, last.sigma.expand_as(mean))


def step_kl(x_0: Batch, predicted: Batch, t: Level, s: Level) -> PerExample:
    """KL(q(x_s | x_t, x_0) ‖ p(x_s | x_t)) in nats, where p is q with the ``predicted`` x_0.

    Equation: :eq:`eq-diff-snr`
    """
    return snr_weight(t, s) * (x_0 - predicted).square().flatten(1).sum(1)


def continuous_nll(x_0: Batch, width: Tensor) -> PerExample:
    """E[−log p(x_0 | x_1)] in nats, where x_0 − x_1/α is N(0, width²) before x_1 is seen.

    It is an entropy: data are taken as if locally uniform.

    Equation: :eq:`eq-diff-vlb`
    """
    if at_hand(width) and (width <= 0).any():
        raise ValueError("got a width of the noise that is not above 0")
    entropy = 0.5 * math.log(2 * math.pi * math.e) + width.log()
    return (entropy * x_0[0].numel()).expand(len(x_0))


def grey_nll(x_0: Batch, seen: Batch, width: Tensor, levels: int) -> PerExample:
    """−log p(x_0 | x_1) in nats, where ``seen`` is x_1/α = x_0 + ``width`` ε.

    Each of the ``levels`` grey values in [−1, 1] is as likely as another before x_1 is seen.
    """
    least = 4 / torch.finfo(x_0.dtype).max ** 0.5  # (2/width)² is to be finite
    if at_hand(width) and not bool((width > least).all()):
        raise ValueError(
            f"got a width that is not above {least:.0e}; it is the noise σ_1/α_1 of seen"
        )
    if len(x_0) > WEIGHED_AT_ONCE:
        pairs = zip(x_0.split(WEIGHED_AT_ONCE), seen.split(WEIGHED_AT_ONCE), strict=True)
        return torch.cat([grey_nll(*pair, width, levels) for pair in pairs])
    grid = torch.linspace(-1, 1, levels, device=x_0.device, dtype=x_0.dtype)
    logits = -((seen[..., None] - grid) / width).square() / 2
    k = ((x_0 + 1) / 2 * (levels - 1)).round().long()
    log_p = logits.log_softmax(-1).gather(-1, k[..., None])[..., 0]
    return -log_p.flatten(1).sum(1)


def ranges(first: int, T: int, terms: int | None) -> list[int]:
    """The edges of ``terms`` ranges, as equal as can be, of the levels ``first`` + 1 to T − 1.

    With ``terms`` None, or more than there are levels, each level is a range of its own.
    """
    if not 0 <= first < T - 1:
        raise ValueError(f"got first={first}; the chain begins at a level from 0 to {T - 2}")
    count = min(terms or T, T - 1 - first)
    return [first + 1 + (T - 1 - first) * k // count for k in range(count + 1)]


def continuous_bound(log_snr: Float[Tensor, "k"], error: Float[Tensor, "k n"]) -> PerExample:
    """½ ∫ ‖x_0 − x̂_0‖² dγ in nats: what the bound's sum over levels becomes with ever more levels.

    Equation: :eq:`eq-diff-vdm`
    """
    gamma = _snr(log_snr)
    return torch.trapezoid(gamma * error, log_snr, dim=0).abs() / 2


def pointwise_nll(
    log_snr: Float[Tensor, "k"], error: Float[Tensor, "k n"], dims: int
) -> PerExample:
    """−log p(x) in nats from the errors of the best denoiser at x; below the first γ, as if exact.

    Equation: :eq:`eq-diff-mmse`
    """
    gamma = _snr(log_snr)
    gain = dims / (1 + gamma) - error  # over what is best for N(0, I)
    area = torch.trapezoid(gamma * gain, log_snr, dim=0)
    return dims / 2 * math.log(2 * math.pi * math.e) - area / 2


def _snr(log_snr: Float[Tensor, "k"]) -> Float[Tensor, "k 1"]:
    """γ as a column; ValueError where it is too large for its type."""
    gamma = log_snr.exp()[:, None]
    if at_hand(gamma) and not bool(gamma.isfinite().all()):
        raise ValueError(
            f"got log_snr up to {float(log_snr.max()):g}, of which exp(log_snr) is no finite "
            f"{gamma.dtype}; give lower ones, or float64"
        )
    return gamma


keep_contract(globals())
