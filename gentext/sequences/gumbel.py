"""Draws from softmax probabilities by Gumbel noise: exact ones, and soft ones with a gradient.

Notation: ``l`` logits (..., K), ``u`` uniform noise in (0, 1), G = −log(−log u), τ the temperature.

Source: Jang et al., and Maddison et al., both ICLR 2017.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gentext.core import at_least_single
from gentext.core.signatures import keep_contract
from gentext.sequences import decoding


def gumbel_max(
    logits: Tensor, *, noise: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """arg max_j (l_j + G_j), a draw from softmax(l), for ``logits`` (..., K).

    ``noise`` holds the uniform numbers in (0, 1) of which G = −log(−log u) is made; drawn if None.

    Equation: :eq:`eq-vq-gumbel`
    """
    return _perturbed(logits, noise, generator).argmax(-1)


def gumbel_softmax(
    logits: Tensor,
    tau: float = 1.0,
    *,
    hard: bool = False,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """softmax((l + G)/τ) for ``logits`` (..., K): a draw that has a gradient, one-hot as τ → 0.

    With ``hard`` the value is one-hot and the gradient that of the softmax (a biased one).

    Equation: :eq:`eq-vq-gumbel`
    """
    if not 0 < tau < math.inf:
        raise ValueError(
            f"tau must be positive and finite, but got {tau}; gumbel_max is its limit at 0"
        )
    y = decoding.temper(_perturbed(logits, noise, generator), tau).softmax(-1)
    if not hard:
        return y
    one_hot = F.one_hot(y.argmax(-1), y.shape[-1]).to(y)
    return y + (one_hot - y).detach()


def _perturbed(logits: Tensor, noise: Tensor | None, generator: torch.Generator | None) -> Tensor:
    logits = at_least_single(logits)
    if noise is None:
        noise = torch.rand(
            logits.shape, generator=generator, dtype=logits.dtype, device=logits.device
        )
    noise = at_least_single(noise)
    return logits - (-noise.clamp_min(torch.finfo(noise.dtype).tiny).log()).log()


keep_contract(globals())
