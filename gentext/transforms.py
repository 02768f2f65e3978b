"""Invertible layers with cheap determinants: what normalizing flows are made of.

Coupling layers change one half of the values by functions of the other; autoregressive layers
change each by functions of those before it. Both have triangular Jacobians, whose determinants are
products of slopes.

Notation: ``x`` before, ``z`` = f(x) after; ``log_det`` the log of the Jacobian's determinant;
``s``, ``a`` log scales, ``t``, ``mean`` shifts; ``context`` what a conditional density is given.

Source: Dinh et al., ICLR 2017; Papamakarios et al., NeurIPS 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gentext import spline
from gentext.nets import MaskedMLP, mlp

BOUND = 5.0  # splines bend what lies within ±BOUND
LOG_SCALE = 3.0  # most that an affine layer scales by, as a logarithm

Mapped = tuple[Tensor, Tensor]  # what a transform gives: values (n, *event), log_det (n,)


class Transform(nn.Module):
    """An invertible map f of examples (n, *event), in both directions with its log-determinant."""

    def forward_and_log_det(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """``z = f(x)`` and ``log |det ∂z/∂x|``."""
        raise NotImplementedError

    def inverse_and_log_det(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        """x with f(x) = z, and ``log |det ∂x/∂z|``."""
        raise NotImplementedError

    def forward(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """As ``forward_and_log_det``."""
        return self.forward_and_log_det(x, context)


class Compose(Transform):
    """One transform after the other; the log-determinants add.

    Equation: :eq:`eq-flow-cov`
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)

    def forward_and_log_det(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """z after the last transform."""
        total = x.new_zeros(len(x))
        for transform in self.transforms:
            x, log_det = transform.forward_and_log_det(x, context)  # type: ignore[operator]
            total = total + log_det
        return x, total

    def inverse_and_log_det(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        """x before the first."""
        total = z.new_zeros(len(z))
        for transform in reversed(self.transforms):
            z, log_det = transform.inverse_and_log_det(z, context)  # type: ignore[operator]
            total = total + log_det
        return z, total


class Bend(nn.Module):
    """How a layer maps each value, given the parameters that a network made for it.

    Maps (d, n) elementwise by parameters (per_value, d, n): the batch is the last axis, for speed.
    ``start`` are the parameters of the identity.
    """

    per_value: int
    start: Tensor

    def forward(self, parameters: Tensor, x: Tensor) -> Mapped:
        """z and log dz/dx, both (d, n)."""
        raise NotImplementedError

    def inverse(self, parameters: Tensor, z: Tensor) -> Mapped:
        """x and log dx/dz."""
        raise NotImplementedError


class Affine(Bend):
    """z = x eˢ + t, with s within ±``LOG_SCALE`` so that no network can overflow it."""

    def __init__(self) -> None:
        super().__init__()
        self.per_value, self.start = 2, torch.zeros(2)

    def forward(self, parameters: Tensor, x: Tensor) -> Mapped:
        """z and s."""
        raw, t = parameters
        s = LOG_SCALE * torch.tanh(raw / LOG_SCALE)
        return x * s.exp() + t, s

    def inverse(self, parameters: Tensor, z: Tensor) -> Mapped:
        """x = (z − t) e⁻ˢ and −s."""
        raw, t = parameters
        s = LOG_SCALE * torch.tanh(raw / LOG_SCALE)
        return (z - t) * (-s).exp(), -s


class Spline(Bend):
    """A rational-quadratic spline of ``bins`` bins within ±``bound``, the identity outside."""

    def __init__(self, bins: int = 8, bound: float = BOUND) -> None:
        super().__init__()
        if not 0 < bound < math.inf:
            raise ValueError(f"got bound={bound}; it must be above 0 and finite")
        self.per_value, self.bound = spline.parameters_per_value(bins), bound
        self.start = spline.identity_parameters(bins)

    def forward(self, parameters: Tensor, x: Tensor) -> Mapped:
        """z and log dz/dx."""
        return spline.rational_quadratic(spline.make_knots(parameters, self.bound), x)

    def inverse(self, parameters: Tensor, z: Tensor) -> Mapped:
        """x and log dx/dz."""
        return spline.inverse_rational_quadratic(spline.make_knots(parameters, self.bound), z)


class Coupling(Transform):
    """Bends one half of the values by functions of the other half, which stays as it is.

    The Jacobian is triangular, with the slopes of ``bend`` on its diagonal; the inverse needs no
    inverse of the network.

    Arguments:
        features: how many values, at least 2; odd: whether those at odd places are bent, rather
            than those at even ones; context: length of the vectors that it is conditioned on.
        bend: ``Affine()`` or ``Spline(bins)``; hidden: sizes of the network's hidden layers.

    Equation: :eq:`eq-flow-coupling`

    Source: Dinh et al., ICLR 2017.
    """

    def __init__(
        self,
        features: int,
        *,
        bend: Bend | None = None,
        odd: bool = False,
        context: int = 0,
        hidden: Sequence[int] = (128, 128),
    ) -> None:
        super().__init__()
        if features < 2:
            raise ValueError(
                f"got features={features}; a coupling needs two parts, one to bend and one to read"
            )
        self.odd, self.bend = int(odd), bend or Affine()
        bent = len(range(self.odd, features, 2))
        net = mlp(features - bent + context, self.bend.per_value * bent, hidden)
        self.hidden = net[:-1]
        self.last = _start(net[-1], self.bend.start.repeat_interleave(bent))

    def _made(self, kept: Tensor, context: Tensor | None) -> Tensor:
        """What the network says about each value: (per_value, bent, n)."""
        h = self.hidden(kept if context is None else torch.cat([kept, context], 1))
        last = self.last  # its product is transposed, so that the batch becomes the last axis
        flat = torch.addmm(last.bias[:, None], last.weight, h.t())
        return flat.view(self.bend.per_value, -1, len(kept))

    def _map(self, x: Tensor, context: Tensor | None, *, inverse: bool) -> Mapped:
        bent, kept = x[:, self.odd :: 2], x[:, 1 - self.odd :: 2]
        parameters = self._made(kept, context)
        change = self.bend.inverse if inverse else self.bend
        changed, slopes = change(parameters, bent.t())
        z = torch.empty_like(x)
        z[:, self.odd :: 2], z[:, 1 - self.odd :: 2] = changed.t(), kept
        return z, slopes.sum(0)

    def forward_and_log_det(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """z, and the sum of the log slopes."""
        return self._map(x, context, inverse=False)

    def inverse_and_log_det(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        """x, at the same cost."""
        return self._map(z, context, inverse=True)


def _start(layer: nn.Module, bias: Tensor) -> nn.Linear:
    """Let a network begin as the constant ``bias``, so that its layer begins as the identity."""
    assert isinstance(layer, nn.Linear)
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(bias)
    return layer


class ShiftAndScale(Bend):
    """z = (x − μ) e⁻ᵃ: a Gaussian of mean μ and standard deviation eᵃ becomes a standard one."""

    def __init__(self) -> None:
        super().__init__()
        self.per_value, self.start = 2, torch.zeros(2)

    def forward(self, parameters: Tensor, x: Tensor) -> Mapped:
        """z and −a."""
        mean, raw = parameters
        a = LOG_SCALE * torch.tanh(raw / LOG_SCALE)
        return (x - mean) * (-a).exp(), -a

    def inverse(self, parameters: Tensor, z: Tensor) -> Mapped:
        """x = z eᵃ + μ and a."""
        mean, raw = parameters
        a = LOG_SCALE * torch.tanh(raw / LOG_SCALE)
        return z * a.exp() + mean, a


class MaskedAutoregressive(Transform):
    """Bends each value by functions of those before it: all at once forward, in turn backward.

    The parameters of value i are made by a masked network from x_<i. To invert, x_1 comes first,
    which gives the parameters of x_2, and so on.

    Arguments: as of ``Coupling``; with ``reverse`` the last value comes first.

    Equation: :eq:`eq-flow-maf`

    Source: Papamakarios et al., NeurIPS 2017.
    """

    def __init__(
        self,
        features: int,
        *,
        bend: Bend | None = None,
        reverse: bool = False,
        context: int = 0,
        hidden: Sequence[int] = (128, 128),
    ) -> None:
        super().__init__()
        if features < 1:
            raise ValueError(f"got features={features}; there must be at least 1")
        self.reverse, self.bend = reverse, bend or ShiftAndScale()
        outputs = self.bend.per_value
        self.net = MaskedMLP(features, hidden, outputs=outputs, context=context)
        _start(self.net.layers[-1], self.bend.start.repeat(features))

    def forward_and_log_det(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """z, all values at once."""
        x = x.flip(1) if self.reverse else x
        z, slopes = self.bend(self.net(x, context).permute(2, 1, 0), x.t())
        return z.t().flip(1) if self.reverse else z.t(), slopes.sum(0)

    def inverse_and_log_det(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        """x, one value after the other."""
        reader = self.net.read(len(z), context)
        total, found = z.new_zeros(len(z)), []
        for value in (z.flip(1) if self.reverse else z).unbind(1):
            parameters = reader.parameters()
            (x,), (slope,) = self.bend.inverse(parameters[:, None], value[None])
            reader.add(x)
            found.append(x)
            total = total + slope
        x = torch.stack(found, 1)
        return x.flip(1) if self.reverse else x, total


class Inverse(Transform):
    """A transform read backwards, such as the IAF of an MAF: fast to draw from, slow to score.

    Equation: :eq:`eq-flow-maf`

    Source: Kingma et al., NeurIPS 2016 (IAF).
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward_and_log_det(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """The inverse of the other."""
        return self.transform.inverse_and_log_det(x, context)

    def inverse_and_log_det(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        """The other."""
        return self.transform.forward_and_log_det(z, context)
