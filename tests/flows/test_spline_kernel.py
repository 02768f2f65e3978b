"""The fast splines against the plain ones: values, and derivatives by autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gentext import spline
from gentext.flows.spline import make_knots
from gentext.flows.spline_kernel import bend

pytestmark = pytest.mark.usefixtures("float64")


def plain(parameters: Tensor, value: Tensor, bound: float, inverse: bool) -> tuple[Tensor, Tensor]:
    change = spline.inverse_rational_quadratic if inverse else spline.rational_quadratic
    return change(spline.make_knots(parameters, bound), value)


@pytest.mark.equation("eq-flow-rqs")
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("bins", [2, 5])
def test_values_and_derivatives_are_those_of_the_plain_splines(bins: int, inverse: bool) -> None:
    parameters = (2 * torch.randn(3 * bins - 1, 4, 50)).requires_grad_()
    value = (2.5 * torch.randn(4, 50)).requires_grad_()  # some of it outside
    assert float((value.abs() > 3).sum()) > 5
    weights = torch.randn(2, 4, 50)
    found = bend(parameters, value, 3.0, inverse=inverse)
    expected = plain(parameters, value, 3.0, inverse)
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)
    for use in ((1.0, 0.0), (0.0, 1.0), (1.0, -0.7)):  # of the value, its slope, and both
        gradients = [
            torch.autograd.grad(
                sum(u * (w * part).sum() for u, w, part in zip(use, weights, out, strict=True)),
                [parameters, value],
                retain_graph=True,
            )
            for out in (found, expected)
        ]
        torch.testing.assert_close(*gradients, atol=1e-8, rtol=1e-9)


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_are_those_of_differences(inverse: bool) -> None:
    parameters = torch.randn(11, 2, 3, requires_grad=True)
    value = (2 * torch.rand(2, 3) - 1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, v: bend(p, v, 2.0, inverse=inverse), (parameters, value)
    )


def test_outside_it_is_the_identity_with_finite_gradients() -> None:
    parameters = torch.randn(17, 1, 6, requires_grad=True)
    x = torch.tensor([[-1e30, -4.0, -4.5, 5.0, 4.0, 1e30]], requires_grad=True)
    for inverse in (False, True):
        y, log_slope = bend(parameters, x, 4.0, inverse=inverse)
        torch.testing.assert_close(y, x, atol=1e-12, rtol=0)
        torch.testing.assert_close(log_slope, torch.zeros(1, 6), atol=1e-12, rtol=0)
        by_parameters, by_x = torch.autograd.grad(y.sum() + log_slope.sum(), [parameters, x])
        assert bool(torch.isfinite(by_parameters).all())
        assert bool((by_x[:, [0, 2, 3, 5]] == 1).all())


@pytest.mark.parametrize("inverse", [False, True])
def test_in_single_precision_it_is_exact_outside_and_finite_at_the_knots(inverse: bool) -> None:
    torch.manual_seed(0)
    parameters = 3 * torch.randn(23, 1, 20_000, dtype=torch.float32)
    knots = make_knots(parameters, 5.0)
    for k in range(9):
        value, log = bend(parameters, (knots.y if inverse else knots.x)[k], 5.0, inverse=inverse)
        assert bool(torch.isfinite(log).all())
        assert bool(torch.isfinite(value).all())
    for outside in (-7.0, 5.5, 1e4):
        x = torch.full((1, 20_000), outside, dtype=torch.float32)
        value, log = bend(parameters, x, 5.0, inverse=inverse)
        assert torch.equal(value, x)
        assert torch.equal(log, torch.zeros_like(x))


def test_other_shapes_and_half_precision_parameters() -> None:
    """Images have three axes beside the batch; autocast gives parameters of 16 bits."""
    parameters = torch.randn(3, 8, 2, 2, 5).transpose(0, 1)
    value = torch.randn(3, 2, 2, 5)
    torch.testing.assert_close(bend(parameters, value, 3.0), plain(parameters, value, 3.0, False))
    rough = bend(parameters.bfloat16(), value.float(), 3.0)
    assert rough[0].dtype == torch.float32
    torch.testing.assert_close(
        rough[0].double(), plain(parameters, value, 3.0, False)[0], atol=0.05, rtol=0
    )


@pytest.mark.parametrize("inverse", [False, True])
def test_second_derivatives_are_those_of_differences(inverse: bool) -> None:
    parameters = torch.randn(8, 1, 3, requires_grad=True)
    value = (2 * torch.rand(1, 3) - 1).requires_grad_()
    for inputs in ((parameters, value), (parameters, value.detach())):
        assert torch.autograd.gradgradcheck(
            lambda p, v: bend(p, v, 2.0, inverse=inverse), inputs, atol=1e-4
        )
