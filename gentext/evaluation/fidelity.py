"""How near samples are to data, from rows of features of both: distances, shares, a classifier.

Each of these depends on the number of rows: compare only what was measured with as many.

Notation: ``a``, ``b`` (n, d) and (m, d) rows of features, of the data and of the model; μ, Σ their
mean and covariance; k(x, y) = exp(−‖x − y‖²/2s²) a kernel of bandwidth s.

Source: Heusel et al., NeurIPS 2017; Gretton et al., JMLR 2012; Kynkäänniemi et al., NeurIPS 2019;
Lopez-Paz and Oquab, ICLR 2017.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from gentext.core import check_count, check_counts, drawing_from
from gentext.core.shapes import Flat, Scalar
from gentext.core.signatures import keep_contract
from gentext.nn.nets import mlp

ROWS = 1024  # compared with all others at a time
MEDIAN = 2000  # rows of which the median distance is taken


class Coverage(NamedTuple):
    """How many of the modes are found, the share of rows near one, and KL(q ‖ p) over modes."""

    modes: int
    near: float
    reverse_kl: float


class PrecisionRecall(NamedTuple):
    """The share of samples that are like data, and of data that are like samples."""

    precision: float
    recall: float


def frechet_distance(a: Flat, b: Tensor) -> Scalar:
    """‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a^½ Σ_b Σ_a^½)^½), the W₂² of two Gaussians.

    Covariances may be singular.

    Source: Dowson and Landau, Journal of Multivariate Analysis 1982; Heusel et al., NeurIPS 2017.
    """
    a, b = _checked(a, b, least=2)
    cov_a, cov_b = a.T.cov().view(a.shape[1], -1), b.T.cov().view(a.shape[1], -1)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return (apart + cov_a.trace() + cov_b.trace() - 2 * cross).clamp_min(0)


def mmd(a: Flat, b: Tensor, bandwidth: float | None = None) -> Scalar:
    """The squared maximum mean discrepancy E k(a, a') + E k(b, b') − 2 E k(a, b), without bias.

    It can fall below 0. Without ``bandwidth`` it is the median distance between the rows of both.

    Source: Gretton et al., JMLR 2012.
    """
    a, b = _checked(a, b, least=2)
    s = float(_median_distance(torch.cat([a, b]))) if bandwidth is None else bandwidth
    if not s > 0:
        hint = "most rows are equal; give one" if bandwidth is None else "it must be above 0"
        raise ValueError(f"got bandwidth {s:g}: {hint}")
    n, m = len(a), len(b)
    # a row and itself have k = 1 and are no pair
    of_a, of_b = (_kernel_sum(x, x, s) - len(x) for x in (a, b))
    return of_a / (n * (n - 1)) + of_b / (m * (m - 1)) - 2 * _kernel_sum(a, b, s) / (n * m)


def precision_recall(real: Flat, made: Tensor, k: int = 3) -> PrecisionRecall:
    """The share of ``made`` within reach of the data, and of ``real`` within that of the samples.

    A row reaches as far as its ``k``-th nearest neighbour among its own kind.

    Source: Kynkäänniemi et al., NeurIPS 2019.
    """
    check_count("k", k)
    real, made = _checked(real, made, least=k + 1)
    return PrecisionRecall(_share_within(made, real, k), _share_within(real, made, k))


def mode_coverage(x: Flat, centres: Tensor, radius: float) -> Coverage:
    """Which of the equally likely modes at ``centres`` the rows of ``x`` find.

    A row is near a mode within ``radius``. A mode is found by a tenth of its share of rows, near.
    The divergence, in nats, is that of the distribution of the nearest mode from the uniform one.

    Source: Srivastava et al., NeurIPS 2017 (the count and the share).
    """
    if not radius > 0:
        raise ValueError(f"got radius={radius}; a mode needs one above 0")
    x, centres = _checked(x, centres.to(x.device), least=1)
    distance, mode = torch.cdist(x, centres).min(1)
    near = distance < radius
    counts = mode[near].bincount(minlength=len(centres))
    share = mode.bincount(minlength=len(centres)).double() / len(x)
    return Coverage(
        modes=int((counts * len(centres) >= 0.1 * len(x)).sum()),
        near=float(near.double().mean()),
        reverse_kl=float(torch.xlogy(share, share * len(centres)).sum()),
    )


def c2st(a: Flat, b: Tensor, *, hidden: int = 64, steps: int = 200, seed: int = 0) -> float:
    """The share of rows that a perceptron trained on other rows assigns to their side.

    It is ½ for equal distributions and ½ + ½ TV for others at best. Half of the rows train the
    network that is tested on the other half, and the other way round.

    Source: Lopez-Paz and Oquab, ICLR 2017.
    """
    check_counts(hidden=hidden, steps=steps)
    a, b = _checked(a, b, least=4)
    if len(a) != len(b):
        raise ValueError(f"got {len(a)} and {len(b)} rows; give as many of both")
    x, side = torch.cat([a, b]).float(), torch.arange(2 * len(a), device=a.device) // len(a)
    generator = torch.Generator(a.device).manual_seed(seed)
    order = torch.randperm(len(a), generator=generator, device=a.device)
    halves = [torch.cat([rows, rows + len(a)]) for rows in order.chunk(2)]
    with drawing_from(generator):
        right = [
            _told_apart(x[train], side[train], x[test], hidden, steps) == side[test]
            for train, test in (halves, halves[::-1])
        ]
    return float(torch.cat(right).float().mean())


def _told_apart(x: Tensor, side: Tensor, new: Tensor, hidden: int, steps: int) -> Tensor:
    """The sides, 0 or 1, of ``new`` rows by a perceptron trained on ``x``."""
    least = max(1e-6 * float(x.std()), torch.finfo(x.dtype).tiny)  # of columns that vary at all
    mean, std = x.mean(0), x.std(0).clamp_min(least)
    x, new = (x - mean) / std, (new - mean) / std
    net = mlp(x.shape[1], 1, (hidden,)).to(x.device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.1)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(net(x)[:, 0], side.float()).backward()
            optimizer.step()
    with torch.no_grad():
        return (net(new)[:, 0] > 0).long()


def _share_within(points: Tensor, centres: Tensor, k: int) -> float:
    """The share of ``points`` no further from a centre than its ``k``-th nearest other centre."""
    # the nearest of all centres is the centre itself
    near = [torch.cdist(rows, centres).kthvalue(k + 1).values for rows in centres.split(ROWS)]
    reach = torch.cat(near)
    inside = [(torch.cdist(rows, centres) <= reach).any(1) for rows in points.split(ROWS)]
    return float(torch.cat(inside).double().mean())


def _kernel_sum(a: Tensor, b: Tensor, s: float) -> Tensor:
    """Σ k(x, y) over all rows x of a and y of b."""
    parts = [torch.cdist(rows, b).square().div(-2 * s**2).exp().sum() for rows in a.split(ROWS)]
    return torch.stack(parts).sum()


def _median_distance(rows: Tensor) -> Tensor:
    """The median distance of two rows, of at most ``MEDIAN`` that lie evenly among them."""
    return torch.pdist(rows[:: 1 + (len(rows) - 1) // MEDIAN].detach()).median()


def _checked(a: Tensor, b: Tensor, least: int) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """``a`` and ``b`` in double precision; ValueError unless they are enough rows of one length."""
    if a.dim() != 2 or b.dim() != 2 or a.shape[1:] != b.shape[1:]:
        raise ValueError(
            f"got features {tuple(a.shape)} and {tuple(b.shape)}; give rows (n, d) and (m, d) of "
            "one length d: x.flatten(1)"
        )
    if min(len(a), len(b)) < least:
        raise ValueError(f"got {len(a)} and {len(b)} rows; give at least {least} of both")
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("got NaN or infinite values in the features: remove those rows first")
    if a.is_complex() or b.is_complex():
        raise ValueError("got complex numbers; features are real: give their .real")
    return _double(a), _double(b)


def _double(x: Tensor) -> Tensor:
    """In double precision, on the CPU where the device has none."""
    return (x.cpu() if x.device.type == "mps" else x).double()


keep_contract(globals())
