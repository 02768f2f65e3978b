"""The splines of ``spline`` with a gradient written by hand: the same numbers in half of the time.

Automatic differentiation keeps and revisits a tensor for each operation on all bins of all values.
But a value uses the parameters of one bin and, through the softmax, the sum of those before it: so
two tensors of that size are enough forward, and one backward.

Notation: as in ``spline``; ``p`` the softmax of widths (index 0) and heights (1), stacked; ``ends``
the right ends of the bins; ``theta`` = xi (1 − xi); ``omega`` = s + (d1 + d0 − 2 s) theta, what
both y and its slope are divided by; ``g_…`` the derivative of the loss by ….
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from gentext.core import transformed
from gentext.core.signatures import keep_contract
from gentext.flows.spline import (
    MIN_SHARE,
    Bins,
    inverse_rational_quadratic,
    make_knots,
    place_in_bin,
    rational_quadratic,
)

_ONE = math.log(math.expm1(1 - MIN_SHARE))  # softplus of it, and MIN_SHARE, is the slope 1


def bend(
    parameters: Tensor, value: Tensor, bound: float, *, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """As ``rational_quadratic``, or with ``inverse`` its inverse, for the knots of ``parameters``.

    A second derivative is found through the functions of ``spline``, by automatic differentiation,
    and so is any within ``torch.func``.

    Equation: :eq:`eq-flow-rqs`
    """
    device = value.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return bend(parameters.to(value.dtype), value, bound, inverse=inverse)
    if value.element_size() < 4:  # the bins' ends need more digits than 16 bits have
        y, log = bend(parameters.float(), value.float(), bound, inverse=inverse)
        return y.to(value.dtype), log.to(value.dtype)
    if transformed():
        return _PLAIN[inverse](make_knots(parameters, bound), value)
    return _Bend.apply(parameters, value, bound, inverse)


_PLAIN = {False: rational_quadratic, True: inverse_rational_quadratic}


class _Bend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, parameters: Tensor, value: Tensor, bound: float, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        inner = value.clamp(-bound, bound)
        at, own = _own_bin(parameters, inner, bound, axis=int(inverse))
        if inverse:
            xi = place_in_bin(at, (inner - at.y).clamp(min=0).minimum(at.h)).clamp(0, 1)
            found, terms = torch.addcmul(at.x, xi, at.w), _terms(at, xi)
        else:
            xi = ((inner - at.x) / at.w).clamp(0, 1)
            terms = _terms(at, xi)
            found = torch.addcmul(at.y, at.h, terms.part)
        inside = (value > -bound) & (value < bound)
        log = torch.where(inside, terms.slope.log(), 0.0)
        found = torch.where(inside, found, value)
        ctx.save_for_backward(parameters, value, *own, *at, *terms, inside)
        ctx.bound, ctx.inverse = bound, inverse
        return found, -log if inverse else log

    @staticmethod
    def backward(ctx: Any, g_found: Tensor, g_log: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():  # a derivative of this derivative will be asked for
            inputs = ctx.saved_tensors[:2]
            found = _PLAIN[ctx.inverse](make_knots(inputs[0], ctx.bound), inputs[1])
            wanted = [t for t, needed in zip(inputs, ctx.needs_input_grad, strict=False) if needed]
            g = iter(torch.autograd.grad(found, wanted, (g_found, g_log), create_graph=True))
            return *(next(g) if needed else None for needed in ctx.needs_input_grad[:2]), None, None
        own, rest = ctx.saved_tensors[2:6], ctx.saved_tensors[6:]
        at, terms, inside = Bins(*rest[:6]), Terms(*rest[6:-1]), rest[-1]
        g, g_log = g_found * inside, g_log * inside
        if ctx.inverse:  # f(x; θ) = y stays: dx = (dy − ∂f/∂θ dθ)/f'
            g_value = (g - g_log * _slope_of_log(at, terms)) / terms.slope
            g_at = _gradients(at, terms, -g_value, -g_log)
        else:
            g_at = _gradients(at, terms, g, g_log)
            g_value = -g_at.x
        g_value = torch.where(inside, g_value, g_found)
        return _to_parameters(own, at, g_at, ctx.bound), g_value, None, None


def _own_bin(
    parameters: Tensor, value: Tensor, bound: float, axis: int
) -> tuple[Bins, tuple[Tensor, ...]]:
    """The bin that each ``value`` is in, and what its gradient needs."""
    bins = (len(parameters) + 1) // 3
    least, scale = 2 * bound * MIN_SHARE, 2 * bound * (1 - MIN_SHARE * bins)
    p = parameters[: 2 * bins].unflatten(0, (2, bins)).softmax(1)
    # The right ends of the bins as a product, which is faster than cumsum along this axis.
    ones = p.new_ones(bins, bins).tril_()
    count = ones.sum(1, keepdim=True)
    ends = torch.baddbmm(count, ones.expand(2, -1, -1), p.flatten(2), beta=least, alpha=scale)
    ends = ends.view_as(p)
    passed = value + bound >= ends[axis, :-1]
    k = passed.sum(0, keepdim=True)
    index = k.unsqueeze(0).expand(2, *k.shape)
    size = p.gather(1, index).squeeze(1).mul_(scale).add_(least)
    place = ends.gather(1, index).squeeze(1).sub_(size).sub_(bound)
    # Softplus of 0 + the rest of a slope of 1, so that the outermost knots have slope 1.
    raw = pad(parameters[2 * bins :], (0, 0) * value.dim() + (1, 1), value=_ONE)
    raw = raw.gather(0, torch.cat([k, k + 1]))
    d = softplus(raw).add_(MIN_SHARE)
    return Bins(*place, *size, *d), (p, passed, k, raw)


class Terms(NamedTuple):
    """What y and its slope are made of; ``part`` is the share of h that y has risen by."""

    xi: Tensor
    theta: Tensor
    s: Tensor
    bend: Tensor
    omega: Tensor
    part: Tensor
    above: Tensor
    slope: Tensor


def _terms(at: Bins, xi: Tensor) -> Terms:
    s, rest = at.h / at.w, 1 - xi
    theta, xi2 = xi * rest, xi * xi
    bend = torch.sub(at.d1 + at.d0, s, alpha=2)
    omega = torch.addcmul(s, bend, theta)
    part = torch.addcmul(s * xi2, at.d0, theta).div_(omega)
    above = torch.addcmul(at.d1 * xi2, s, theta, value=2).addcmul_(at.d0, rest * rest)
    ratio = s / omega
    return Terms(xi, theta, s, bend, omega, part, above, ratio * ratio * above)


def _slope_of_log(at: Bins, t: Terms) -> Tensor:
    """The derivative of log dy/dx by x."""
    rest = 1 - t.xi
    turn = rest - t.xi
    rise = torch.addcmul(at.d1 * t.xi, t.s, turn).addcmul_(at.d0, rest, value=-1)
    return (rise / t.above - t.bend * turn / t.omega) * (2 / at.w)


def _gradients(at: Bins, t: Terms, g: Tensor, g_log: Tensor) -> Bins:
    """From the derivatives by y and by log dy/dx, those by the bin; that by x is that by −x_k."""
    rest = 1 - t.xi
    xi2 = t.xi * t.xi
    unit, by_above, by_omega = g * at.h / t.omega, g_log / t.above, g_log / t.omega
    both = torch.add(unit * t.part, by_omega, alpha=2)
    shared = both * t.theta
    g_d0 = torch.addcmul(unit * t.theta, by_above, rest * rest).sub_(shared)
    g_d1 = torch.addcmul(-shared, by_above, xi2)
    g_s = torch.addcmul(unit * xi2, by_above, t.theta, value=2).addcdiv_(g_log, t.s, value=2)
    by_w = g_s.sub_(both).add_(shared, alpha=2) / at.w
    g_x = torch.addcmul(g * t.slope, g_log, _slope_of_log(at, t))
    g_w = torch.addcmul(t.xi * g_x, by_w, t.s).neg_()
    return Bins(-g_x, g, g_w, torch.addcmul(by_w, g, t.part), g_d0, g_d1)


def _to_parameters(own: tuple[Tensor, ...], at: Bins, g_at: Bins, bound: float) -> Tensor:
    """Through softmax, sums and softplus: the derivative by all parameters."""
    p, passed, k, raw = own
    bins = p.shape[1]
    least, scale = 2 * bound * MIN_SHARE, 2 * bound * (1 - MIN_SHARE * bins)
    g = p.new_empty(3 * bins - 1, *k.shape[1:])
    for axis, (g_p, g_place, place, g_size, size) in enumerate(
        zip(g.split(bins), g_at[:2], at[:2], g_at[2:4], at[2:4], strict=False)
    ):
        # A place x_k grows with every p before its bin, a size with that of its own bin.
        torch.mul(passed, g_place * scale, out=g_p[:-1])
        g_p[-1] = 0
        g_p.scatter_(0, k, (g_size * scale).unsqueeze(0))
        before = torch.sub(place + bound, k[0], alpha=least)
        mean = torch.addcmul(g_place * before, g_size, size - least)
        g_p.sub_(mean).mul_(p[axis])
    g_raw = torch.stack(g_at[4:]) * raw.sigmoid()
    padded = g_raw.new_zeros(bins + 1, *k.shape[1:])
    g[2 * bins :] = padded.scatter_(0, k, g_raw[:1]).scatter_add_(0, k + 1, g_raw[1:])[1:-1]
    return g


keep_contract(globals())
