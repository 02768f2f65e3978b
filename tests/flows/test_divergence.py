"""Traces of Jacobians: exactly, and by all possible signs."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from gentext.core.draws import draw_noise
from gentext.flows.continuous import exact_divergence, hutchinson_divergence
from tests.oracles import gauss_hermite

pytestmark = pytest.mark.usefixtures("float64")
D = 5


def field(x: Tensor) -> Tensor:
    """Nonlinear, with a Jacobian that is not symmetric."""
    a = torch.randn(D, D, generator=torch.Generator().manual_seed(1))
    return torch.tanh(x @ a.t()) * x.roll(1, 1)


def jacobian(x: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(lambda v: field(v[None])[0], x)


def test_the_exact_divergence_is_the_trace() -> None:
    x = torch.randn(7, D)
    y, trace = exact_divergence(field, x)
    torch.testing.assert_close(y, field(x))
    torch.testing.assert_close(trace, torch.stack([jacobian(row).trace() for row in x]))
    with torch.no_grad():
        assert not exact_divergence(field, x)[1].requires_grad


@pytest.mark.equation("eq-flow-hutch")
def test_the_mean_over_all_signs_is_the_trace_and_the_variance_the_formula() -> None:
    x = torch.randn(D)
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=D)))
    _, found = hutchinson_divergence(field, x.expand(len(signs), D), signs)
    matrix = jacobian(x)
    torch.testing.assert_close(found.mean(), matrix.trace(), atol=1e-12, rtol=0)
    s = (matrix + matrix.t()) / 2
    expected = 2 * ((s**2).sum() - (s.diagonal() ** 2).sum())
    torch.testing.assert_close(found.var(correction=0), expected, atol=1e-12, rtol=0)


@pytest.mark.equation("eq-flow-hutch")
def test_normal_noise_has_the_larger_variance_of_the_formula() -> None:
    """By quadrature in two dimensions, which is exact for polynomials."""
    nodes, weights = gauss_hermite(6)
    epsilon, weight = torch.cartesian_prod(nodes, nodes), torch.outer(weights, weights).flatten()
    matrix = torch.tensor([[0.7, -1.2], [0.4, 0.3]])
    _, found = hutchinson_divergence(lambda v: v @ matrix.t(), torch.zeros(36, 2), epsilon)
    mean = (weight * found).sum()
    torch.testing.assert_close(mean, matrix.trace(), atol=1e-12, rtol=0)
    s = (matrix + matrix.t()) / 2
    variance = (weight * (found - mean) ** 2).sum()
    torch.testing.assert_close(variance, 2 * (s**2).sum(), atol=1e-10, rtol=0)
    assert float(variance) > 2 * float((s**2).sum() - (s.diagonal() ** 2).sum()) + 1


def test_constant_fields_inference_and_wrong_shapes() -> None:
    x = torch.randn(4, 3)
    epsilon = draw_noise(x)
    for method in (exact_divergence, lambda f, x: hutchinson_divergence(f, x, epsilon)):
        assert method(torch.ones_like, x)[1].tolist() == [0.0] * 4
        with torch.inference_mode():
            assert method(lambda v: 2 * v, x)[1].tolist() == [6.0] * 4
        with pytest.raises(ValueError, match=r"\(4, 2\) for x of \(4, 3\)"):
            method(lambda v: v[:, :2], x)


def test_noise_is_signs_or_normal_and_follows_its_generator() -> None:
    like = torch.zeros(20_000, 2)
    g = torch.Generator().manual_seed(0)
    signs = draw_noise(like, generator=g)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 0.02
    normal = draw_noise(like, "normal", g)
    assert abs(float(normal.var()) - 1) < 0.03
    assert torch.equal(signs, draw_noise(like, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match="unknown noise 'pink': choose one of rademacher, normal"):
        draw_noise(like, "pink")


def test_second_derivatives_pass_through() -> None:
    x = torch.randn(3, D, requires_grad=True)
    for trace in (
        exact_divergence(field, x)[1],
        hutchinson_divergence(field, x, torch.ones_like(x))[1],
    ):
        (gradient,) = torch.autograd.grad(trace.sum(), x)
        assert float(gradient.abs().sum()) > 0
