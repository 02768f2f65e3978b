"""Two-dimensional toy distributions that are sampled exactly and whose log-density is known.

All lie within [-5, 5] x [-5, 5]. Four densities are closed forms: ``checkerboard`` is uniform,
``eight-gaussians`` and ``grid25`` are mixtures, and ``pinwheel`` twists a mixture by a map that
keeps area. ``two-moons`` and ``swiss-roll`` are curves with Gaussian noise; their density is an
integral along the curve, computed by Gauss-Legendre quadrature to about 1e-9.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from gentext.core import at_least_single, check_count, chosen
from gentext.core.shapes import Flat, Labels, PerExample
from gentext.core.signatures import keep_contract

NODES = 256  # of the quadrature along a curve
MOONS_NOISE = 0.2
ROLL_NOISE = 0.2
PINWHEEL_SD = (0.6, 0.2)  # along and across an arm
PINWHEEL_TWIST = 0.25


class Toy(NamedTuple):
    """How a toy is sampled and scored; ``classes`` counts its modes, 0 where they have no names."""

    classes: int
    sample: Callable[[int, Generator | None], tuple[Tensor, Tensor]]
    log_prob: Callable[[Tensor], Tensor]


def names() -> tuple[str, ...]:
    """The names of the toys."""
    return tuple(TOYS)


def classes(name: str) -> int:
    """The number of classes of the toy ``name``; 0 where a point has no class."""
    return _toy(name).classes


def sample(name: str, n: int, *, generator: Generator | None = None) -> tuple[Flat, Labels]:
    """``n`` independent points of the toy ``name``, of shape (n, 2), and the mode of each, (n,).

    Raises ValueError unless ``n`` is a whole number, 1 at least.
    """
    check_count("n", n)
    x, label = _toy(name).sample(int(n), generator)
    return x.float(), label


def log_prob(name: str, x: Flat) -> PerExample:
    """The exact log-density, in nats, of the toy ``name`` at the points ``x`` of shape (n, 2).

    It is computed in single precision at least. Raises ValueError for points of another shape.
    """
    toy = _toy(name)
    if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != 2:
        what = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"type {type(x).__name__}"
        raise ValueError(f"x has {what}, but toys are points in a tensor of shape (n, 2)")
    return toy.log_prob(at_least_single(x))


def modes(name: str) -> Flat:
    """The centres of the modes of ``eight-gaussians`` or ``grid25``, of shape (modes, 2)."""
    return _of_modes(name, CENTRES).clone()


def width(name: str) -> float:
    """The standard deviation of each mode of ``eight-gaussians`` or ``grid25``."""
    return _of_modes(name, WIDTHS)


def _of_modes(name: str, table: dict[str, Any]) -> Any:
    return chosen("toy with known modes", name, table)


def _toy(name: str) -> Toy:
    return chosen("toy", name, TOYS)


def _uniform(n: int, generator: Generator | None) -> Tensor:
    return torch.rand(n, generator=generator, dtype=torch.float64)


def _normal(n: int, generator: Generator | None) -> Tensor:
    return torch.randn(n, 2, generator=generator, dtype=torch.float64)


def _log_normal(x: Tensor, sd: Tensor) -> Tensor:
    """Log-density of N(0, diag(sd^2)) at points x of shape (..., 2)."""
    return -(x / sd).square().sum(-1) / 2 - sd.log().sum(-1) - math.log(2 * math.pi)


# Mixtures of equal Gaussians.


def _circle(radius: float, n: int) -> Tensor:
    angle = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    return radius * torch.stack([angle.cos(), angle.sin()], dim=-1)


def _mixture(centres: Tensor, sd: float) -> Toy:
    def draw(n: int, generator: Generator | None) -> tuple[Tensor, Tensor]:
        k = torch.randint(len(centres), (n,), generator=generator)
        return centres[k] + sd * _normal(n, generator), k

    def score(x: Tensor) -> Tensor:
        offsets = x[:, None, :] - centres.to(x)
        parts = _log_normal(offsets, x.new_full((2,), sd))
        return parts.logsumexp(dim=1) - math.log(len(centres))

    return Toy(len(centres), draw, score)


# The checkerboard: eight squares of side 2 in [-4, 4] x [-4, 4].


def _draw_checkerboard(n: int, generator: Generator | None) -> tuple[Tensor, Tensor]:
    square = torch.randint(8, (n,), generator=generator)
    row, column = square // 2, 2 * (square % 2) + (square // 2) % 2
    corner = torch.stack([2.0 * column - 4, 2.0 * row - 4], dim=-1)
    inside = torch.rand(n, 2, generator=generator, dtype=torch.float64)
    return corner + 2 * inside, square


def _score_checkerboard(x: Tensor) -> Tensor:
    column, row = (x / 2).floor().unbind(-1)
    black = ((column + row) % 2 == 0) & (x.abs() < 4).all(-1)
    return torch.where(black, -math.log(32.0), -math.inf).to(x)


# The pinwheel: five Gaussian arms, turned by an angle that grows with the radius. In polar
# coordinates that is a shear, so it keeps area and the density needs no Jacobian.


def _turn(x: Tensor, angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * x[..., 0] - sin * x[..., 1], sin * x[..., 0] + cos * x[..., 1]], -1)


def _twist(x: Tensor) -> Tensor:
    # So far away that the clamp matters, an angle of this size is no longer told by its digits.
    return PINWHEEL_TWIST * (x.norm(dim=-1) / 2).clamp(max=80).exp()


def _draw_pinwheel(n: int, generator: Generator | None) -> tuple[Tensor, Tensor]:
    arm = torch.randint(5, (n,), generator=generator)
    x = _normal(n, generator) * torch.tensor(PINWHEEL_SD) + torch.tensor([2.0, 0.0])
    return _turn(x, arm * (2 * math.pi / 5) + _twist(x)), arm


def _score_pinwheel(x: Tensor) -> Tensor:
    angles = torch.arange(5).to(x) * (2 * math.pi / 5)
    straight = _turn(x[:, None, :], -angles - _twist(x)[:, None])
    offsets = straight - torch.tensor([2.0, 0.0]).to(x)
    parts = _log_normal(offsets, torch.tensor(PINWHEEL_SD).to(x))
    return parts.logsumexp(dim=1) - math.log(5)


# Curves c(t), t uniform, with Gaussian noise: p(x) = average over t of N(x; c(t), noise^2).


def _moon(t: Tensor, lower: Tensor | bool) -> Tensor:
    upper_arc = torch.stack([t.cos(), t.sin()], dim=-1)
    lower_arc = torch.stack([1 - t.cos(), 0.5 - t.sin()], dim=-1)
    arc = torch.where(torch.as_tensor(lower)[..., None], lower_arc, upper_arc)
    return 2 * arc - torch.tensor([1.0, 0.5], dtype=t.dtype)


def _draw_moons(n: int, generator: Generator | None) -> tuple[Tensor, Tensor]:
    moon = torch.randint(2, (n,), generator=generator)
    curve = _moon(math.pi * _uniform(n, generator), moon == 1)
    return curve + MOONS_NOISE * _normal(n, generator), moon


def _score_moons(x: Tensor) -> Tensor:
    upper = _score_curve(x, lambda u: _moon(math.pi * u, False), MOONS_NOISE)
    lower = _score_curve(x, lambda u: _moon(math.pi * u, True), MOONS_NOISE)
    return torch.logaddexp(upper, lower) - math.log(2)


def _roll(u: Tensor) -> Tensor:
    t = 1.5 * math.pi * (1 + 2 * u)
    return torch.stack([t * t.cos(), t * t.sin()], dim=-1) / 4


def _draw_roll(n: int, generator: Generator | None) -> tuple[Tensor, Tensor]:
    curve = _roll(_uniform(n, generator))
    return curve + ROLL_NOISE * _normal(n, generator), torch.zeros(n, dtype=torch.int64)


def _score_roll(x: Tensor) -> Tensor:
    return _score_curve(x, _roll, ROLL_NOISE)


def _score_curve(x: Tensor, curve: Callable[[Tensor], Tensor], noise: float) -> Tensor:
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    points = curve(torch.from_numpy((nodes + 1) / 2)).to(x)
    squared = (x[:, None, :] - points).square().sum(-1) / noise**2
    log_weights = torch.from_numpy(weights / 2).log().to(x)
    return (log_weights - squared / 2).logsumexp(dim=1) - math.log(2 * math.pi * noise**2)


_line = torch.arange(-4.0, 5.0, 2.0, dtype=torch.float64)
CENTRES = {"eight-gaussians": _circle(3.0, 8), "grid25": torch.cartesian_prod(_line, _line)}
WIDTHS = {"eight-gaussians": 0.3, "grid25": 0.05}
TOYS = {
    "two-moons": Toy(2, _draw_moons, _score_moons),
    "checkerboard": Toy(0, _draw_checkerboard, _score_checkerboard),
    "eight-gaussians": _mixture(CENTRES["eight-gaussians"], WIDTHS["eight-gaussians"]),
    "grid25": _mixture(CENTRES["grid25"], WIDTHS["grid25"]),
    "pinwheel": Toy(5, _draw_pinwheel, _score_pinwheel),
    "swiss-roll": Toy(0, _draw_roll, _score_roll),
}


keep_contract(globals())
