"""What errors of denoising say of a density: integrals over all signal-to-noise ratios.

Notation: ``gamma`` γ the SNR, ``log_snr`` its logarithm (k,), falling or rising; ``error`` the
squared errors ‖x_0 − x̂_0‖² at these, averaged over the noise; D values in an example.

Source: Guo et al., IEEE Transactions on Information Theory 2005; Kong et al., ICLR 2023; Kingma et
al., NeurIPS 2021.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gentext.shapes import PerExample


def continuous_bound(log_snr: Float[Tensor, "k"], error: Float[Tensor, "k n"]) -> PerExample:
    """½ ∫ ‖x_0 − x̂_0‖² dγ in nats: what the bound's sum over levels becomes with ever more levels.

    Equation: :eq:`eq-diff-vdm`
    """
    gamma = log_snr.exp()[:, None]
    return torch.trapezoid(gamma * error, log_snr, dim=0).abs() / 2


def pointwise_nll(
    log_snr: Float[Tensor, "k"], error: Float[Tensor, "k n"], dims: int
) -> PerExample:
    """−log p(x) in nats from the errors of the best denoiser at x; below the first γ, as if exact.

    Equation: :eq:`eq-diff-mmse`
    """
    gamma = log_snr.exp()[:, None]
    gain = dims / (1 + gamma) - error  # over what is best for N(0, I)
    area = torch.trapezoid(gamma * gain, log_snr, dim=0)
    return dims / 2 * math.log(2 * math.pi * math.e) - area / 2
