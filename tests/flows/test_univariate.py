"""Maps of one value: slopes by autograd, inverses, formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from gentext.flows.univariate import LOG_SCALE, Affine, ShiftAndScale, Spline, Univariate

pytestmark = pytest.mark.usefixtures("float64")

MAPS: dict[str, Callable[[], Univariate]] = {
    "affine": Affine,
    "shift and scale": ShiftAndScale,
    "spline": lambda: Spline(5, 3.0),
}


@pytest.mark.equation("eq-flow-coupling", "eq-flow-maf")
@pytest.mark.parametrize("name", MAPS)
def test_slopes_are_those_of_autograd_and_the_inverse_leads_back(name: str) -> None:
    univariate = MAPS[name]()
    parameters, x = torch.randn(univariate.per_value, 3, 40), 3 * torch.randn(3, 40)
    x.requires_grad_()
    z, log_slope = univariate(parameters, x)
    (slope,) = torch.autograd.grad(z.sum(), x)
    torch.testing.assert_close(log_slope, slope.log(), atol=1e-9, rtol=0)
    back, log_back = univariate.inverse(parameters, z)
    torch.testing.assert_close(back, x, atol=1e-8, rtol=0)
    torch.testing.assert_close(log_back, -log_slope, atol=1e-8, rtol=0)
    start = univariate.start.double()[:, None, None].expand(-1, 3, 40)
    same, zero = univariate(start, x)
    torch.testing.assert_close(same, x, atol=1e-6, rtol=0)
    torch.testing.assert_close(zero, torch.zeros(3, 40), atol=1e-6, rtol=0)


@pytest.mark.equation("eq-flow-coupling", "eq-flow-maf")
def test_affine_maps_are_the_formulas_with_a_bounded_scale() -> None:
    raw, t, x = torch.tensor([0.5, 1e4]), torch.tensor([2.0, -1.0]), torch.tensor([1.5, 0.3])
    s = LOG_SCALE * (raw / LOG_SCALE).tanh()
    assert float(s[1]) == LOG_SCALE
    torch.testing.assert_close(Affine()(torch.stack([raw, t]), x)[0], x * s.exp() + t)
    torch.testing.assert_close(ShiftAndScale()(torch.stack([t, raw]), x)[0], (x - t) * (-s).exp())


def test_a_spline_without_room_is_refused() -> None:
    for bound in (0.0, math.inf):
        with pytest.raises(ValueError, match=f"got bound={bound}"):
            Spline(4, bound)
