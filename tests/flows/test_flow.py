"""Flows: densities that integrate to one, exact divergences, conditions, bases, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from gentext.core import Density, Encodes, Samples
from gentext.flows.bases import NormalBase, UniformBase
from gentext.flows.flow import IAF, MAF, NSF, Flow, RealNVP
from gentext.flows.glow import (
    Glow,
)
from gentext.flows.transforms import (
    Compose,
    Coupling,
    MaskedAutoregressive,
    Transform,
)
from gentext.flows.univariate import Affine, Spline

pytestmark = pytest.mark.usefixtures("float64")

FLOWS: dict[str, Callable[..., Flow]] = {
    "realnvp": lambda **o: RealNVP(transforms=4, hidden=(8,), **o),
    "nsf": lambda **o: NSF(transforms=3, hidden=(8,), bins=4, **o),
    "autoregressive nsf": lambda **o: NSF(
        transforms=3, hidden=(8,), bins=4, autoregressive=True, **o
    ),
    "maf": lambda **o: MAF(transforms=3, hidden=(8,), **o),
    "iaf": lambda **o: IAF(transforms=2, hidden=(8,), **o),
}


def scrambled(name: str, noise: float = 0.15, **options: object) -> Flow:
    flow = FLOWS[name](**options).double().eval()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return flow


def plane(extent: float, points: int) -> tuple[Tensor, float]:
    """Midpoints of a grid of squares over [-extent, extent]², and the area of each."""
    side = 2 * extent / points
    line = -extent + side * (torch.arange(points) + 0.5)
    return torch.cartesian_prod(line, line), side**2


@pytest.mark.equation("eq-flow-cov")
@pytest.mark.parametrize("base", ["normal", 3])
@pytest.mark.parametrize("name", FLOWS)
def test_densities_in_the_plane_integrate_to_one(name: str, base: str | int) -> None:
    flow = scrambled(name, features=2, base=base)
    points, area = plane(16.0, 700)
    with torch.no_grad():
        total = float(flow.log_prob(points).exp().sum() * area)
    assert total == pytest.approx(1, abs=1e-3)


@pytest.mark.equation("eq-flow-cov")
@pytest.mark.parametrize("name", ["maf", "autoregressive nsf"])
def test_densities_on_the_line_integrate_to_one(name: str) -> None:
    flow = scrambled(name, features=1)
    line = torch.linspace(-30, 30, 60_001)[:, None]
    with torch.no_grad():
        total = float(flow.log_prob(line).exp().sum() * 1e-3)
    assert total == pytest.approx(1, abs=1e-3)


@pytest.mark.equation("eq-flow-cov")
def test_log_determinants_of_a_composition_add() -> None:
    layers: list[Transform] = [
        Coupling(3, hidden=(5,)),
        MaskedAutoregressive(3, hidden=(5,)),
        Coupling(3, univariate=Spline(3), odd=True, hidden=(5,)),
    ]
    whole = Compose(layers).double()
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x = torch.randn(4, 3)
    flow = Flow(base=NormalBase(3), transforms=layers)
    at, total = x, torch.zeros(4)
    for layer in layers:
        at, log_det = layer(at)
        total = total + log_det
    expected = Normal(0.0, 1.0).log_prob(at).sum(1) + total
    torch.testing.assert_close(flow.log_prob(x), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(flow.encode(x), at, atol=1e-12, rtol=0)
    torch.testing.assert_close(flow.decode(at), x, atol=1e-9, rtol=0)


def straight(scale: Tensor, shift: Tensor) -> Flow:
    """z₂ = x₂ eˢ + t and z₁ likewise, with constants: a flow whose density is known."""
    layers = []
    for odd in (False, True):
        layer = Coupling(2, univariate=Affine(), odd=odd, hidden=(2,))
        with torch.no_grad():
            raw = 3 * torch.atanh(scale[int(odd)].log() / 3)
            layer.net[-1].bias.copy_(torch.stack([raw, shift[int(odd)]]))  # type: ignore[operator]
        layers.append(layer)
    return Flow(base=NormalBase(2), transforms=layers).double()


@pytest.mark.equation("eq-flow-kl")
def test_the_divergence_is_the_same_on_both_sides_of_the_map() -> None:
    """Normal data and an affine map: both divergences are known in closed form."""
    scale, shift = torch.tensor([2.1, 0.6]), torch.tensor([-0.3, 0.8])
    mean, std = torch.tensor([0.7, -0.2]), torch.tensor([1.4, 0.5])
    model = Normal(-shift / scale, 1 / scale)
    in_x = kl_divergence(Normal(mean, std), model).sum()
    in_z = kl_divergence(Normal(mean * scale + shift, std * scale), Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(in_x, in_z, atol=1e-13, rtol=0)

    flow = straight(scale, shift)
    nodes, area = plane(8.0, 400)
    x = mean + std * nodes  # data by quadrature instead of by chance
    weights = Normal(0.0, 1.0).log_prob(nodes).sum(1).exp() * area
    with torch.no_grad():
        entropy = Normal(mean, std).entropy().sum()
        torch.testing.assert_close(
            -(weights * flow.log_prob(x)).sum() - entropy, in_x, atol=1e-5, rtol=0
        )
        torch.testing.assert_close(flow.loss(x), -flow.log_prob(x).mean())
        torch.testing.assert_close(flow.log_prob(x), model.log_prob(x).sum(1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", FLOWS)
def test_draws_have_the_density_that_is_claimed(name: str) -> None:
    """E[f] over draws against E[f] by quadrature of the density, within five standard errors."""
    flow = scrambled(name, features=2)
    points, area = plane(16.0, 700)
    drawn = flow.sample(40_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        density = flow.log_prob(points).exp() * area
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda v: v[:, 0],
        lambda v: v[:, 1].cos(),
        lambda v: (v[:, 0] > v[:, 1]).double(),
        lambda v: torch.exp(-(v**2).sum(1)),
    ]
    for function in functions:
        values = function(drawn)
        error = float(values.std()) / math.sqrt(len(drawn))
        expected = float((density * function(points)).sum())
        assert float(values.mean()) == pytest.approx(expected, abs=5 * error + 1e-3)


@pytest.mark.parametrize("name", FLOWS)
def test_conditions_change_the_density_and_each_has_mass_one(name: str) -> None:
    flow = scrambled(name, features=2, context=3)
    points, area = plane(16.0, 500)
    densities = []
    for context in torch.randn(2, 3):
        with torch.no_grad():
            p = flow.log_prob(points, context.expand(len(points), -1)).exp()
        assert float(p.sum() * area) == pytest.approx(1, abs=2e-3)
        densities.append(p)
    assert float((densities[0] - densities[1]).abs().sum() * area) > 0.05
    g = torch.Generator().manual_seed(3)
    assert flow.sample(5, torch.randn(5, 3), generator=g).shape == (5, 2)


def test_points_outside_a_bounded_base_have_density_zero_and_no_nan() -> None:
    flow = scrambled("nsf", features=2, base="uniform")
    x = torch.tensor([[0.1, 0.2], [50.0, 0.0], [-1e6, 1e6]], requires_grad=True)
    log_p = flow.log_prob(x)
    assert log_p[1:].tolist() == [-math.inf, -math.inf]
    assert bool(torch.isfinite(log_p[0]))
    (gradient,) = torch.autograd.grad(log_p[0], x)
    assert bool(torch.isfinite(gradient).all())


def test_temperature_narrows_what_is_drawn() -> None:
    flow = straight(torch.tensor([2.0, 0.5]), torch.tensor([0.3, -1.0]))
    g = torch.Generator().manual_seed(0)
    spread = [float(flow.sample(5000, temperature=t, generator=g)[:, 0].std()) for t in (1.0, 0.5)]
    assert spread[0] == pytest.approx(0.5, rel=0.05)
    assert spread[1] == pytest.approx(0.25, rel=0.05)
    same = flow.sample(3, temperature=0.0)
    torch.testing.assert_close(same, same[:1].expand(3, -1))


def test_temperature_follows_the_base() -> None:
    """Draws of a mixture near its means, and of a uniform base near its middle, never outside."""
    flow, g = FLOWS["realnvp"](features=2, base=2).double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        flow.base.means.copy_(torch.tensor([[10.0, 0.0], [-10.0, 0.0]]))
    drawn = flow.sample(4000, temperature=0.5, generator=g)
    assert torch.equal(drawn[:, 0].abs() > 5, torch.ones(4000, dtype=torch.bool))
    assert float(drawn[:, 1].std()) == pytest.approx(0.5, rel=0.05)
    bounded = Flow(base=UniformBase(2, 2.0, 3.0), transforms=[Coupling(2, hidden=(3,))]).double()
    half = bounded.sample(4000, temperature=0.5, generator=g)
    assert float(half.min()) == pytest.approx(2.25, abs=0.01)
    assert float(half.max()) == pytest.approx(2.75, abs=0.01)
    with pytest.raises(ValueError, match=r"temperature=1\.5; of a bounded base"):
        bounded.sample(2, temperature=1.5)


def test_a_flow_on_a_bounded_base_learns_and_refuses_what_lies_outside() -> None:
    x = (0.5 * torch.randn(2000, 2)).tanh() * 0.9
    flow = NSF(features=2, transforms=2, hidden=(16,), base="uniform").double()
    flow.check(x)
    before = float(flow.loss(x).detach())
    assert before == pytest.approx(2 * math.log(2))  # it begins as the identity
    optimizer = torch.optim.Adam(flow.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        flow.loss(x).backward()
        optimizer.step()
    assert float(flow.loss(x).detach()) < before - 0.1
    assert float(flow.sample(500).abs().max()) <= 1
    with pytest.raises(ValueError, match="have density 0, as the base is bounded"):
        flow.check(3 * x)
    for family in (RealNVP, MAF, IAF):
        with pytest.raises(ValueError, match="push data out of a uniform base"):
            family(features=2, base="uniform")


def test_drawing_in_training_is_as_in_evaluation_and_goes_back() -> None:
    flow = RealNVP(features=4, transforms=2, hidden=(32,), dropout=0.5).double().train()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    a, b = (flow.sample(9, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(a, b)
    assert flow.training
    with pytest.raises(ValueError, match="without dropout"):
        IAF(features=4, dropout=0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RealNVP(features=64, transforms=4, hidden=(64,)),
        lambda: MAF(features=16, transforms=3, hidden=(64,)),
        lambda: Glow(shape=(1, 8, 8), scales=2, steps=3, hidden=8),
        lambda: Glow(shape=(1, 8, 8), scales=2, steps=3, hidden=8, bins=6),
    ],
)
def test_sixteen_bits_are_for_the_networks_only(make: Callable[[], Flow]) -> None:
    """Under autocast the maps stay exact inverses; a model of 16 bits draws too."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    flow = make()
    x = torch.randn(50, flow.base.features)
    flow.loss(x)
    with torch.no_grad():
        for parameter in flow.eval().parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        exact = flow.log_prob(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough, back = flow.log_prob(x), flow.decode(flow.encode(x))
    assert float((back - x).abs().mean()) < 1e-3
    assert float((rough - exact).abs().max()) < 0.1
    drawn = flow.to(torch.bfloat16).sample(3)
    assert drawn.dtype == torch.float32
    assert bool(torch.isfinite(drawn).all())


@pytest.mark.parametrize("family", [RealNVP, NSF, MAF])
def test_dropout_acts_in_training_and_never_else(family: type[Flow]) -> None:
    flow = family(features=4, transforms=2, hidden=(64,), dropout=0.5).double()  # type: ignore[call-arg]
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(5, 4)
    flow.train()
    assert not torch.equal(flow.loss(x), flow.loss(x))
    known = flow.log_prob(x)
    flow.eval()
    assert torch.equal(flow.log_prob(x), known)
    assert torch.equal(flow.loss(x), -known.mean())
    torch.testing.assert_close(flow.decode(flow.encode(x)), x, atol=1e-9, rtol=0)
    with pytest.raises(ValueError, match=r"got dropout=1\.0"):
        family(features=4, dropout=1.0)  # type: ignore[call-arg]


def test_a_triangular_linear_map_is_the_cholesky_factor_of_the_precision() -> None:
    """z = L⁻¹ x, L Lᵀ the covariance: a linear autoregressive flow of any normal density."""
    root = torch.randn(3, 3)
    covariance = root @ root.t() + torch.eye(3)
    factor = torch.linalg.cholesky(covariance)
    x = torch.randn(5, 3)
    z = torch.linalg.solve_triangular(factor, x.t(), upper=False).t()
    log_p = NormalBase(3).log_prob(z) - factor.diagonal().log().sum()
    expected = MultivariateNormal(torch.zeros(3), covariance).log_prob(x)
    torch.testing.assert_close(log_p, expected)


def test_what_flows_can_do() -> None:
    for flow in (FLOWS["maf"](features=2), Glow(shape=(1, 4, 4), scales=1, steps=1, hidden=4)):
        assert isinstance(flow, Density)
        assert isinstance(flow, Encodes)
        assert isinstance(flow, Samples)


def test_bad_input_is_explained() -> None:
    flow = FLOWS["realnvp"](features=2, context=3).double()
    x, context = torch.randn(4, 2), torch.randn(4, 3)
    flow.log_prob(x, context)
    with pytest.raises(ValueError, match=r"context of shape None, .* built for \(4, 3\)"):
        flow.log_prob(x)
    with pytest.raises(ValueError, match=r"context of shape \(4, 2\), .* built for \(4, 3\)"):
        flow.log_prob(x, x)
    with pytest.raises(ValueError, match=r"built for None"):
        FLOWS["maf"](features=2).double().log_prob(x, context)
    with pytest.raises(ValueError, match=r"built for \(n, 2\)"):
        flow.log_prob(torch.randn(4, 3), context)
    with pytest.raises(ValueError, match="NaN"):
        flow.log_prob(x / 0 * 0, context)
    with pytest.raises(ValueError, match="17 values only, on which a density can grow"):
        MAF(features=64).double().check(torch.randint(17, (100, 64)) / 16)
    mixed = torch.stack([torch.randn(3000), torch.randint(0, 2, (3000,)).double()], 1)
    with pytest.raises(ValueError, match="2 values only"):
        FLOWS["maf"](features=2).check(mixed)
    MAF(features=64).double().check(torch.randn(100, 64))
    with pytest.raises(ValueError, match="NaN"):
        flow.log_prob(x, context * math.nan)
    with pytest.raises(ValueError, match=r"hidden=\(\); give the size"):
        MAF(features=4, hidden=())
    with pytest.raises(ValueError, match=r"each layer at least 63 units"):
        MAF(features=64, hidden=(16,))
    for options, message in (
        ({"base": "cauchy"}, "unknown base 'cauchy': choose one of normal, uniform"),
        ({"base": 0}, "got components=0"),
        ({"transforms": 0}, "got transforms=0"),
    ):
        with pytest.raises(ValueError, match=message):
            RealNVP(features=2, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got n=0"):
        flow.sample(0)
    with pytest.raises(ValueError, match="got temperature=-1"):
        flow.sample(1, context[:1], temperature=-1.0)
