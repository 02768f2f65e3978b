"""Traces of Jacobians and densities along paths: exactly, by all signs, and of a mixture."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from gentext.core.draws import draw_noise
from gentext.denoising.flow_matching import FlowMatching
from gentext.denoising.langevin import VE, VP, LinearSDE, in_log_snr, pf_velocity
from gentext.flows.continuous import exact_divergence, hutchinson_divergence, ode_log_prob
from tests.oracles import (
    LINE,
    PLANE,
    MixtureVelocity,
    exact_score,
    gauss_hermite,
    log_p_t,
    mixture_log_prob,
)

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


PROCESSES: dict[str, LinearSDE] = {"vp": VP(), "ve": VE(0.01, 10.0)}


@pytest.mark.equation("eq-sde-loglik")
@pytest.mark.parametrize("end", [1e-3, 1e-5])
@pytest.mark.parametrize("means", [LINE, PLANE])
@pytest.mark.parametrize("name", PROCESSES)
def test_the_likelihood_is_the_mixtures(name: str, means: Tensor, end: float) -> None:
    process = PROCESSES[name]
    line = torch.linspace(-3.5, 4, 16 if means is LINE else 6)
    x = line[:, None] if means is LINE else torch.cartesian_prod(line, line)
    velocity = in_log_snr(pf_velocity(exact_score(process, means), process), process)
    with torch.no_grad():
        got = ode_log_prob(
            velocity,
            x,
            prior_log_prob=lambda z: log_p_t(process, z, 1.0, means),
            start=process.log_snr(end),
            end=process.log_snr(1.0),
            steps=100 if means is LINE else 150,
            method="rk4",
        )
    torch.testing.assert_close(got, log_p_t(process, x, end, means), atol=1e-4, rtol=0)


@pytest.mark.equation("eq-sde-loglik")
def test_the_two_draws_of_signs_lie_around_the_likelihood() -> None:
    """In the plane only the product of the signs matters, so there are two values."""
    process, n = VP(), 60
    velocity = in_log_snr(pf_velocity(exact_score(process, PLANE), process), process)
    options: dict[str, Any] = {
        "prior_log_prob": lambda z: log_p_t(process, z, 1.0, PLANE),
        "start": process.log_snr(1e-3),
        "end": process.log_snr(1.0),
        "steps": 60,
        "method": "rk4",
    }
    x = torch.tensor([[0.4, -0.3]]).expand(n, 2)
    with torch.no_grad():
        exact = ode_log_prob(velocity, x[:1], **options)
        g = torch.Generator().manual_seed(0)
        drawn = ode_log_prob(velocity, x, divergence="hutchinson", generator=g, **options)
    low, high = drawn.min(), drawn.max()
    assert float(high - low) > 0.01
    torch.testing.assert_close((low + high)[None] / 2, exact, atol=1e-9, rtol=0)
    assert bool((((drawn - low) < 1e-9) | ((high - drawn) < 1e-9)).all())


@pytest.mark.equation("eq-sde-loglik")
def test_from_the_other_end_the_noise_has_its_density_too() -> None:
    """The density of the noise from that of the data, start and end exchanged."""
    field = FlowMatching(shape=(2,), net=MixtureVelocity()).velocity
    eps = torch.randn(20, 2)
    found = ode_log_prob(
        field,
        eps,
        prior_log_prob=lambda x: mixture_log_prob(x).sum(1),
        start=1.0,
        end=0.0,
        steps=60,
        method="rk4",
    )
    torch.testing.assert_close(found, Normal(0.0, 1.0).log_prob(eps).sum(1), atol=1e-4, rtol=0)
