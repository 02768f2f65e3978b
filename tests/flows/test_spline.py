"""Rational-quadratic splines against autograd, zuko, and their own inverse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gentext import spline

pytestmark = pytest.mark.usefixtures("float64")


def knots(bins: int = 6, shape: tuple[int, ...] = (3, 40), bound: float = 4.0) -> spline.Knots:
    return spline.make_knots(2 * torch.randn(3 * bins - 1, *shape), bound)


@pytest.mark.equation("eq-flow-rqs")
def test_the_slope_is_the_derivative_and_the_map_goes_through_its_knots() -> None:
    k = knots()
    x = (3 * torch.randn(3, 40)).requires_grad_()
    y, log_slope = spline.rational_quadratic(k, x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(log_slope, slope.log(), atol=1e-10, rtol=0)
    for place, value, slope in zip(k.x[1:-1], k.y[1:-1], k.slope[1:-1], strict=True):
        for near in (place - 1e-10, place + 1e-10):
            y, log_slope = spline.rational_quadratic(k, near)
            torch.testing.assert_close(y, value, atol=1e-5, rtol=0)
            torch.testing.assert_close(log_slope, slope.log(), atol=1e-3, rtol=0)


@pytest.mark.equation("eq-flow-rqs")
def test_it_rises_and_its_inverse_undoes_it() -> None:
    k = knots()
    x = torch.linspace(-6, 6, 40).expand(3, 40)
    shared = spline.Knots(*(part[..., :1].expand(-1, -1, 40) for part in k))
    y, log_slope = spline.rational_quadratic(shared, x)
    assert bool((y.diff(dim=1) > 0).all())
    back, log_back = spline.inverse_rational_quadratic(shared, y)
    torch.testing.assert_close(back, x, atol=1e-9, rtol=0)
    torch.testing.assert_close(log_back, -log_slope, atol=1e-8, rtol=0)


@pytest.mark.equation("eq-flow-rqs")
@pytest.mark.parametrize("inverse", [False, True])
def test_it_equals_that_of_a_known_library(inverse: bool) -> None:
    zuko = pytest.importorskip("zuko")
    k = knots()
    none = torch.zeros(3, 40, 6)
    theirs = zuko.transforms.MonotonicRQSTransform(none, none, none[..., 1:], bound=4.0)
    theirs.horizontal, theirs.vertical, theirs.derivatives = (part.movedim(0, -1) for part in k)
    x = 3 * torch.randn(3, 40)
    if inverse:
        y, log_slope = spline.inverse_rational_quadratic(k, x)
        expected = theirs.inv(x)
        torch.testing.assert_close(
            log_slope, -theirs.log_abs_det_jacobian(expected, x), atol=1e-9, rtol=0
        )
    else:
        y, log_slope = spline.rational_quadratic(k, x)
        expected, log_expected = theirs.call_and_ladj(x)
        torch.testing.assert_close(log_slope, log_expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(y, expected, atol=1e-10, rtol=0)


def test_knots_rise_from_end_to_end_with_slope_one_there() -> None:
    k = spline.make_knots(50 * torch.randn(11, 100), 3.0)  # extreme parameters
    for places in (k.x, k.y):
        assert bool((places.diff(dim=0) >= 6 * spline.MIN_SHARE * 0.999).all())
        assert bool((places[0] == -3).all())
        assert bool((places[-1] == 3).all())
    assert bool((k.slope >= spline.MIN_SHARE).all())
    assert bool((k.slope[[0, -1]] == 1).all())


def test_outside_it_is_the_identity_with_finite_gradients() -> None:
    parameters = torch.randn(17, 1, 6, requires_grad=True)
    x = torch.tensor([[-1e30, -4.0, -3.9, 3.9, 4.0, 1e30]], requires_grad=True)
    for change in (spline.rational_quadratic, spline.inverse_rational_quadratic):
        y, log_slope = change(spline.make_knots(parameters, 4.0), x)
        outside = [0, 1, 4, 5]
        assert torch.equal(y[:, outside], x[:, outside])
        assert bool((log_slope[:, outside] == 0).all())
        gradients = torch.autograd.grad(y.sum() + log_slope.sum(), [x, parameters])
        assert all(bool(torch.isfinite(g).all()) for g in gradients)
        assert bool((gradients[0][:, outside] == 1).all())


def test_the_parameters_of_the_identity_give_it() -> None:
    start = spline.identity_parameters(8).double()[:, None].expand(-1, 50)
    x = torch.linspace(-5, 5, 50)
    y, log_slope = spline.rational_quadratic(spline.make_knots(start, 4.0), x)
    torch.testing.assert_close(y, x, atol=1e-7, rtol=0)
    torch.testing.assert_close(log_slope, torch.zeros(50), atol=1e-6, rtol=0)


def test_equal_knots_and_unit_slopes_make_a_straight_line_exactly() -> None:
    places = torch.linspace(-2, 2, 5)[:, None].expand(5, 9)
    k = spline.Knots(places, places, torch.ones(5, 9))
    x = torch.linspace(-1.9, 1.9, 9)
    for change in (spline.rational_quadratic, spline.inverse_rational_quadratic):
        y, log_slope = change(k, x)
        torch.testing.assert_close(y, x, atol=1e-14, rtol=0)
        torch.testing.assert_close(log_slope, torch.zeros(9), atol=1e-14, rtol=0)


@pytest.mark.parametrize("bins", [-1, 1, 1000])
def test_impossible_numbers_of_bins_are_refused(bins: int) -> None:
    with pytest.raises(ValueError, match=f"got {bins} bins; choose from 2 to 999"):
        spline.parameters_per_value(bins)
    assert spline.parameters_per_value(8) == 23


def test_softmax_and_softplus_are_those_of_the_paper() -> None:
    """Widths, heights and slopes by hand, for one spline."""
    parameters = torch.tensor([0.3, -0.2, 1.0, 0.5, 0.0, -1.0, 0.7, -0.4])  # 3 bins
    k = spline.make_knots(parameters, 2.0)
    for places, raw in ((k.x, parameters[:3]), (k.y, parameters[3:6])):
        total = sum(math.exp(v) for v in raw.tolist())
        at = -2.0
        for k_, v in enumerate(raw.tolist()):
            assert float(places[k_]) == pytest.approx(at)
            at += 4 * (1e-3 + (1 - 3e-3) * math.exp(v) / total)
    inner: Tensor = k.slope[1:-1]
    assert inner.tolist() == pytest.approx([1e-3 + math.log1p(math.exp(v)) for v in (0.7, -0.4)])
