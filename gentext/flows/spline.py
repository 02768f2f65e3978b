"""Monotone splines of rational quadratics: maps of the line that a network may bend as it likes.

Between two knots the map is a ratio of two quadratics, through both knots and with given slopes
there; its inverse solves a quadratic. Outside of [-bound, bound] it is the identity.

The bins are the first axis of every tensor and the batch the last: so the operations run along
memory, which is several times faster than the other way round.

Notation: ``x`` to ``y``; bin k from the knot (x_k, y_k) to the next, ``w`` wide and ``h`` high,
``s`` = h/w its mean slope, ``d`` the slopes at the knots, ``xi`` = (x − x_k)/w the place in it.

Source: Durkan et al., NeurIPS 2019; Gregory and Delbourgo, IMA J. Numer. Anal. 1982.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from gentext.core import at_hand
from gentext.core.signatures import keep_contract

MIN_SHARE = 1e-3  # of the width and the height that each bin has; also the least slope


class Knots(NamedTuple):
    """The knots of splines: places ``x`` and ``y`` (bins + 1, *shape) and the slopes there."""

    x: Tensor
    y: Tensor
    slope: Tensor


class Bins(NamedTuple):
    """Of every value, the bin it is in: where that begins, its sizes and its slopes (*shape)."""

    x: Tensor
    y: Tensor
    w: Tensor
    h: Tensor
    d0: Tensor
    d1: Tensor


def parameters_per_value(bins: int) -> int:
    """How many numbers make the spline of one value: ``bins`` widths, heights, inner slopes."""
    if not 2 <= bins < 1 / MIN_SHARE:
        raise ValueError(f"got {bins} bins; choose from 2 to {round(1 / MIN_SHARE) - 1}")
    return 3 * bins - 1


def make_knots(parameters: Tensor, bound: float) -> Knots:
    """The knots from any real ``parameters`` (3 bins − 1, *shape), within ±``bound``.

    Softmax gives the bins' shares of the width and the height, softplus the slopes inside; at the
    two ends the slope is 1, so that the spline goes on smoothly as the identity.
    """
    bins = (len(parameters) + 1) // 3
    widths, heights, slopes = parameters.split((bins, bins, bins - 1))
    ends = torch.ones_like(slopes[:1])
    slope = torch.cat([ends, MIN_SHARE + softplus(slopes), ends])
    return Knots(_places(widths, bound), _places(heights, bound), slope)


def _places(sizes: Tensor, bound: float) -> Tensor:
    """From −bound to bound in steps by the softmax of ``sizes``, none too small."""
    shares = MIN_SHARE + (1 - MIN_SHARE * len(sizes)) * sizes.softmax(0)
    inner = shares[:-1].cumsum(0)
    zeros = (0, 0) * (sizes.dim() - 1)
    return pad(pad(inner, (*zeros, 1, 0)), (*zeros, 0, 1), value=1.0) * (2 * bound) - bound


def find_bins(knots: Knots, value: Tensor, *, inverse: bool = False) -> Bins:
    """The bin of each ``value`` (*shape) along x, or with ``inverse`` along y."""
    edges = knots.y if inverse else knots.x
    k = (value >= edges[1:-1]).sum(0, keepdim=True)
    (x0, x1), (y0, y1), (d0, d1) = (
        (part.gather(0, k).squeeze(0), part.gather(0, k + 1).squeeze(0)) for part in knots
    )
    return Bins(x0, y0, x1 - x0, y1 - y0, d0, d1)


def rational_quadratic(knots: Knots, x: Tensor) -> tuple[Tensor, Tensor]:
    """y and log dy/dx for ``x`` (*shape), the identity outside of the outermost knots.

    Equation: :eq:`eq-flow-rqs`
    """
    inside = (x > knots.x[0]) & (x < knots.x[-1])
    at = find_bins(knots, torch.where(inside, x, 0.0))
    xi = (torch.where(inside, x, at.x) - at.x) / at.w
    y = at.y + rise(at, xi)
    return torch.where(inside, y, x), torch.where(inside, log_slope(at, xi), 0.0)


def inverse_rational_quadratic(knots: Knots, y: Tensor) -> tuple[Tensor, Tensor]:
    """x and log dx/dy for ``y`` (*shape): the root within the bin of a quadratic in xi.

    Equation: :eq:`eq-flow-rqs`
    """
    inside = (y > knots.y[0]) & (y < knots.y[-1])
    at = find_bins(knots, torch.where(inside, y, 0.0), inverse=True)
    xi = place_in_bin(at, torch.where(inside, y, at.y) - at.y)
    x = at.x + xi * at.w
    return torch.where(inside, x, y), torch.where(inside, -log_slope(at, xi), 0.0)


def rise(at: Bins, xi: Tensor) -> Tensor:
    """y − y_k at the place ``xi`` of the bins."""
    s, mixed = at.h / at.w, xi * (1 - xi)
    return at.h * (s * xi * xi + at.d0 * mixed) / (s + (at.d1 + at.d0 - 2 * s) * mixed)


def place_in_bin(at: Bins, above: Tensor) -> Tensor:
    """The ``xi`` at which the rise is ``above``: the root of a quadratic that lies in [0, 1]."""
    s = at.h / at.w
    bend = above * (at.d1 + at.d0 - 2 * s)
    a, b, c = at.h * (s - at.d0) + bend, at.h * at.d0 - bend, -s * above
    # The form of the root that loses no digits where a is small, as for a straight bin.
    return 2 * c / (-b - (b * b - 4 * a * c).clamp(min=0).sqrt())


def log_slope(at: Bins, xi: Tensor) -> Tensor:
    """log dy/dx at the place ``xi`` of the bins.

    Equation: :eq:`eq-flow-rqs`
    """
    if at_hand(xi) and ((xi < -0.01) | (xi > 1.01)).any():
        raise ValueError("got xi outside [0, 1]; it is the place within a bin")
    s, mixed, rest = at.h / at.w, xi * (1 - xi), 1 - xi
    above = at.d1 * xi * xi + 2 * s * mixed + at.d0 * rest * rest
    return 2 * s.log() + above.log() - 2 * (s + (at.d1 + at.d0 - 2 * s) * mixed).log()


def identity_parameters(bins: int) -> Tensor:
    """The ``parameters`` (3 bins − 1,) of the spline that changes nothing."""
    slopes = torch.full((bins - 1,), math.log(math.expm1(1 - MIN_SHARE)))
    return torch.cat([torch.zeros(2 * bins), slopes])


keep_contract(globals())
