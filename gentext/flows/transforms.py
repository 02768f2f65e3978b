"""Invertible layers with cheap determinants: what normalizing flows are made of.

Coupling layers change one half of the values by functions of the other; autoregressive layers
change each by functions of those before it. Both have triangular Jacobians, whose determinants are
products of slopes.

Notation: ``x`` before, ``z`` = f(x) after; ``log_det`` the log of the Jacobian's determinant;
``univariate`` how each value is bent; ``context`` what a conditional density is given.

Source: Dinh et al., ICLR 2017; Papamakarios et al., NeurIPS 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gentext.core import as_weights, at_least_single, check_count, plain_precision
from gentext.core.signatures import keep_contract
from gentext.flows.univariate import Affine, Mapped, ShiftAndScale, Univariate
from gentext.nn.masked import MaskedMLP, to_columns
from gentext.nn.nets import mlp


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


class Coupling(Transform):
    """Bends one half of the values by functions of the other half, which stays as it is.

    The Jacobian is triangular, with the slopes of ``univariate`` on its diagonal; the inverse needs
    no inverse of the network.

    Arguments:
        features: how many values, at least 2; odd: whether those at odd places are bent, rather
            than those at even ones; context: length of the vectors that it is conditioned on.
        univariate: ``Affine()`` or ``Spline(bins)``; hidden: sizes of the network's hidden layers.
        dropout: share of the hidden units that are left out in training.

    Equation: :eq:`eq-flow-coupling`

    Source: Dinh et al., ICLR 2017.
    """

    def __init__(
        self,
        features: int,
        *,
        univariate: Univariate | None = None,
        odd: bool = False,
        context: int = 0,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if features < 2:
            raise ValueError(
                f"got features={features}; a coupling needs two parts, one to change, one to read"
            )
        self.odd, self.univariate = int(odd), univariate or Affine()
        self.bent = len(range(self.odd, features, 2))
        inputs, outputs = features - self.bent + context, self.univariate.per_value * self.bent
        self.net = mlp(inputs, outputs, hidden, dropout=dropout)
        start_at(self.net[-1], self.univariate.start.repeat_interleave(self.bent))

    def _map(self, x: Tensor, context: Tensor | None, *, inverse: bool) -> Mapped:
        halves = _halves(x.t())  # a row has one value of all examples
        bent, kept = halves[self.odd], halves[1 - self.odd]
        read = kept.t() if context is None else torch.cat([kept.t(), context], 1)
        columns = to_columns(self.net, as_weights(read, self.net))
        parameters = columns.unflatten(0, (self.univariate.per_value, self.bent))
        bend = self.univariate.inverse if inverse else self.univariate
        changed, slopes = bend(parameters.to(x.dtype), bent)  # 16 bits are not for slopes
        pair = (kept, changed) if self.odd else (changed, kept)
        return _interleave(*pair).t(), slopes.sum(0)

    def forward_and_log_det(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """z, and the sum of the log slopes."""
        return self._map(x, context, inverse=False)

    def inverse_and_log_det(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        """x, at the same cost."""
        return self._map(z, context, inverse=True)


def _halves(rows: Tensor) -> Sequence[Tensor]:
    """The even rows and the odd ones."""
    if len(rows) % 2:
        return rows[::2], rows[1::2]
    return rows.unflatten(0, (-1, 2)).unbind(1)


def _interleave(even: Tensor, odd: Tensor) -> Tensor:
    """The rows of both in turn, ``even`` first, which may have one more."""
    whole = torch.stack([even[: len(odd)], odd], 1).flatten(0, 1)
    return whole if len(even) == len(odd) else torch.cat([whole, even[-1:]])


def start_at(layer: nn.Module, bias: Tensor) -> None:
    """Let a network that ends in ``layer`` begin as the constant ``bias``."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    assert layer.bias is not None
    if torch.as_tensor(bias).is_complex():
        raise ValueError(f"got a complex bias, {bias}; layers have real ones")
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(bias)


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
        univariate: Univariate | None = None,
        reverse: bool = False,
        context: int = 0,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_count("features", features)
        if any(units < features - 1 for units in hidden):
            raise ValueError(
                f"got hidden={tuple(hidden)}; give each layer at least {features - 1} units, or "
                f"the last of {features} features sees only some of those before it"
            )
        self.univariate = univariate or ShiftAndScale()
        self.net = MaskedMLP(
            features,
            hidden,
            outputs=self.univariate.per_value,
            context=context,
            reverse=reverse,
            dropout=dropout,
        )
        start_at(self.net.layers[-1], self.univariate.start.repeat_interleave(features))

    def forward_and_log_det(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """z, all values at once."""
        parameters = self.net.columns(x, context).to(x.dtype)
        z, slopes = self.univariate(parameters, x.t())
        return z.t(), slopes.sum(0)

    def inverse_and_log_det(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        """x, one value after the other."""
        reader, rows = self.net.read(len(z), context), z.t().split(1)
        found, slopes = list(rows), []
        for d in self.net.order:
            parameters = reader.parameters().to(z.dtype)[:, None]
            found[d], slope = self.univariate.inverse(parameters, rows[d])
            reader.add(found[d][0])
            slopes.append(slope)
        return torch.cat(found).t(), torch.cat(slopes).sum(0)


class InvertibleLinear(Transform):
    """Multiplies the values by a matrix W = P L U, kept in its factors.

    P is a fixed permutation, L has ones on its diagonal, and U the entries ±eᵘ, never zero: so the
    determinant is read off. It begins as a random rotation.

    Equation: :eq:`eq-flow-conv1x1`

    Source: Kingma and Dhariwal, NeurIPS 2018.
    """

    order: Tensor
    sign: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(features, features)).Q
        self.register_buffer("order", torch.eye(features))
        self.register_buffer("sign", torch.ones(features))
        self.lower = nn.Parameter(torch.zeros(features, features))
        self.upper = nn.Parameter(torch.zeros(features, features))
        self.log_u = nn.Parameter(torch.zeros(features))
        self.set_matrix(rotation)

    @torch.no_grad()
    def set_matrix(self, matrix: Tensor) -> None:
        """Take the factors of W = ``matrix`` (features, features).

        Raises ValueError where it is singular: then no inverse exists.
        """
        if matrix.shape != self.lower.shape:
            raise ValueError(f"got a matrix {tuple(matrix.shape)}; give {tuple(self.lower.shape)}")
        order, lower, upper = torch.linalg.lu(matrix)
        diagonal = upper.diagonal()
        size = diagonal.abs()
        least = len(size) * torch.finfo(size.dtype).eps * size.max()
        if not bool(torch.isfinite(diagonal).all() and (size > least).all()):
            raise ValueError("this matrix is singular, so the flow has no inverse: choose another")
        self.order.copy_(order)
        self.sign.copy_(diagonal.sign())
        self.lower.copy_(lower)
        self.upper.copy_(upper)
        self.log_u.copy_(diagonal.abs().log())

    def factors(self) -> tuple[Tensor, Tensor]:
        """L and U."""
        lower, upper, log_u = map(at_least_single, (self.lower, self.upper, self.log_u))
        one = torch.eye(len(log_u), dtype=lower.dtype, device=lower.device)
        return lower.tril(-1) + one, upper.triu(1) + torch.diag(self.sign * log_u.exp())

    def matrix(self) -> Tensor:
        """W = P L U."""
        with plain_precision(self.lower):
            left, right = self.factors()
            return self.order.to(left.dtype) @ left @ right

    def inverse_matrix(self) -> Tensor:
        """W⁻¹, by two triangular systems."""
        left, right = self.factors()
        half = torch.linalg.solve_triangular(
            left, self.order.t().to(left.dtype), upper=False, unitriangular=True
        )
        return torch.linalg.solve_triangular(right, half, upper=True)

    def forward_and_log_det(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """W x and Σ u."""
        return self._multiply(self.matrix(), x), self._log_det(x)

    def inverse_and_log_det(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        """W⁻¹ z."""
        return self._multiply(self.inverse_matrix(), z), -self._log_det(z)

    def _multiply(self, matrix: Tensor, x: Tensor) -> Tensor:
        with plain_precision(x):
            return x @ matrix.to(x.dtype).t()

    def _log_det(self, x: Tensor) -> Tensor:
        """Σ u at each of the places that are multiplied: one in (n, features)."""
        return at_least_single(self.log_u).sum().mul(math.prod(x.shape[2:])).expand(len(x))


keep_contract(globals())
