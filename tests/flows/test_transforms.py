"""Invertible layers: inverses, Jacobians by autograd, and a known library."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from gentext.flows.transforms import (
    Compose,
    Coupling,
    Inverse,
    InvertibleLinear,
    MaskedAutoregressive,
    Transform,
)
from gentext.flows.univariate import LOG_SCALE, Affine, ShiftAndScale, Spline, Univariate
from tests.oracles import check_gradients, check_transform, scrambled_transform

pytestmark = pytest.mark.usefixtures("float64")

BENDS: dict[str, Callable[[], Univariate]] = {
    "affine": Affine,
    "shift and scale": ShiftAndScale,
    "spline": lambda: Spline(5, 3.0),
}


VECTORS: dict[str, Callable[[], Transform]] = {}


for name, bend in BENDS.items():
    VECTORS |= {
        f"coupling, {name}": lambda bend=bend: Coupling(
            5, univariate=bend(), context=2, hidden=(7, 6)
        ),  # type: ignore[misc]
        f"odd coupling, {name}": lambda bend=bend: Coupling(  # type: ignore[misc]
            5, univariate=bend(), odd=True, context=2, hidden=(7,)
        ),
        f"autoregressive, {name}": lambda bend=bend: MaskedAutoregressive(  # type: ignore[misc]
            5, univariate=bend(), context=2, hidden=(9, 7)
        ),
        f"reversed, {name}": lambda bend=bend: MaskedAutoregressive(  # type: ignore[misc]
            5, univariate=bend(), reverse=True, context=2, hidden=(11,)
        ),
    }


VECTORS["matrix"] = lambda: InvertibleLinear(5)


VECTORS["inverse"] = lambda: Inverse(MaskedAutoregressive(5, context=2, hidden=(8,)))


VECTORS["composition"] = lambda: Compose(
    [
        Coupling(5, univariate=Spline(4), context=2, hidden=(6,)),
        Inverse(Coupling(5, odd=True, context=2, hidden=(6,))),
        MaskedAutoregressive(5, context=2, hidden=(6,)),
    ]
)


@pytest.mark.equation("eq-flow-coupling", "eq-flow-maf", "eq-flow-cov", "eq-flow-conv1x1")
@pytest.mark.parametrize("name", VECTORS)
def test_vectors_come_back_and_the_determinant_is_that_of_the_jacobian(name: str) -> None:
    x = 2.5 * torch.randn(4, 5)  # some of it outside of the splines
    check_transform(scrambled_transform(VECTORS[name]), x, torch.randn(4, 2))


@pytest.mark.parametrize("name", VECTORS)
def test_gradients_reach_every_parameter(name: str) -> None:
    check_gradients(scrambled_transform(VECTORS[name]), torch.randn(30, 5), torch.randn(30, 2))


@pytest.mark.parametrize("name", [name for name in VECTORS if name != "matrix"])
def test_layers_begin_as_the_identity(name: str) -> None:
    x, context = torch.randn(6, 5), torch.randn(6, 2)
    z, log_det = VECTORS[name]().double()(x, context)
    torch.testing.assert_close(z, x, atol=1e-5, rtol=0)
    torch.testing.assert_close(log_det, torch.zeros(6), atol=1e-5, rtol=0)


@pytest.mark.equation("eq-flow-coupling")
@pytest.mark.parametrize("odd", [False, True])
def test_an_affine_coupling_is_the_formula_and_that_of_a_known_library(odd: bool) -> None:
    layer = scrambled_transform(lambda: Coupling(6, odd=odd, hidden=(8,)))
    assert isinstance(layer, Coupling)
    x = torch.randn(7, 6)
    kept, bent = x[:, 1 - odd :: 2], x[:, int(odd) :: 2]
    raw, t = layer.net(kept).chunk(2, 1)
    s = LOG_SCALE * (raw / LOG_SCALE).tanh()
    z, log_det = layer(x)
    assert torch.equal(z[:, 1 - odd :: 2], kept)
    torch.testing.assert_close(z[:, int(odd) :: 2], bent * s.exp() + t)
    torch.testing.assert_close(log_det, s.sum(1))

    zuko = pytest.importorskip("zuko")
    limit = abs(torch.tensor(1e-3).log())  # theirs is bounded in another way: give what makes s
    theirs = zuko.transforms.MonotonicAffineTransform(t, s / (1 - s.abs() / limit))
    expected, log_expected = theirs.call_and_ladj(bent)
    torch.testing.assert_close(z[:, int(odd) :: 2], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(log_det, log_expected.sum(1), atol=1e-6, rtol=0)


@pytest.mark.equation("eq-flow-maf")
def test_an_autoregressive_layer_is_a_gaussian_model_of_each_value() -> None:
    """z standard normal: then log p(x) is the sum of log N(x_i; μ_i(x_<i), exp a_i(x_<i))."""
    layer = scrambled_transform(lambda: MaskedAutoregressive(5, hidden=(12, 12)))
    assert isinstance(layer, MaskedAutoregressive)
    x = torch.randn(6, 5)
    mean, raw = layer.net(x).unbind(-1)
    a = LOG_SCALE * (raw / LOG_SCALE).tanh()
    z, log_det = layer(x)
    standard, gaussian = (
        torch.distributions.Normal(0.0, 1.0),
        torch.distributions.Normal(mean, a.exp()),
    )
    torch.testing.assert_close(
        standard.log_prob(z).sum(1) + log_det, gaussian.log_prob(x).sum(1), atol=1e-10, rtol=0
    )
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v[None])[0][0], x[0])
    assert bool((jacobian.triu(1) == 0).all())


@pytest.mark.parametrize("hidden", [(7,), (16, 5), (5, 9, 6)])
@pytest.mark.parametrize("features", [1, 2, 6])
@pytest.mark.parametrize("reverse", [False, True])
def test_reading_one_by_one_gives_what_one_pass_gives(
    features: int, hidden: tuple[int, ...], reverse: bool
) -> None:
    layer = scrambled_transform(
        lambda: MaskedAutoregressive(features, context=3, hidden=hidden, reverse=reverse)
    )
    assert isinstance(layer, MaskedAutoregressive)
    x, context = torch.randn(4, features), torch.randn(4, 3)
    whole = layer.net(x, context)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            reader = layer.net.read(4, context)
            for d in reversed(range(features)) if reverse else range(features):
                torch.testing.assert_close(reader.parameters().t(), whole[:, d], atol=1e-12, rtol=0)
                reader.add(x[:, d])


def test_a_matrix_keeps_its_precision_under_autocast() -> None:
    layer, x = InvertibleLinear(6).float(), torch.randn(5, 6, dtype=torch.float32)
    exact = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        z, _ = layer(x)
        torch.testing.assert_close(layer.inverse_and_log_det(z)[0], x, atol=1e-5, rtol=0)
    torch.testing.assert_close(z, exact, atol=1e-6, rtol=0)


def test_what_cannot_be_inverted_or_split_is_refused() -> None:
    with pytest.raises(ValueError, match="singular"):
        InvertibleLinear(2).set_matrix(torch.ones(2, 2))
    with pytest.raises(ValueError, match="singular"):
        InvertibleLinear(4).double().set_matrix(torch.randn(4, 2) @ torch.randn(2, 4))
    InvertibleLinear(2).double().set_matrix(1e-13 * torch.eye(2))
    with pytest.raises(ValueError, match=r"got a matrix \(1, 1\); give \(2, 2\)"):
        InvertibleLinear(2).set_matrix(torch.ones(1, 1))
    with pytest.raises(ValueError, match="got features=1; a coupling needs two parts"):
        Coupling(1)
    with pytest.raises(ValueError, match="got features=0"):
        MaskedAutoregressive(0)


def test_extreme_inputs_and_weights_stay_finite() -> None:
    for make in VECTORS.values():
        layer = make().double()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(100).add_(50 * torch.randn_like(parameter))
        x = torch.cat([torch.randn(3, 5), 1e4 * torch.randn(3, 5)])
        for change in (layer.forward_and_log_det, layer.inverse_and_log_det):
            z, log_det = change(x, torch.randn(6, 2))
            assert bool(torch.isfinite(z).all())
            assert bool(torch.isfinite(log_det).all())
