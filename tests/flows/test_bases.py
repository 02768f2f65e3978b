"""Bases: densities of torch, draws, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from gentext.flows.bases import Base, MixtureBase, NormalBase, UniformBase, make_base

pytestmark = pytest.mark.usefixtures("float64")


def test_bases_are_those_of_torch() -> None:
    z = 2 * torch.randn(50, 3)
    normal = Independent(Normal(torch.zeros(3), 1.0), 1)
    torch.testing.assert_close(NormalBase(3).log_prob(z), normal.log_prob(z))

    inside = (z.abs() <= 1).all(1)
    log_p = UniformBase(3).log_prob(z)
    assert bool((log_p[inside] == -3 * math.log(2)).all())
    assert bool((log_p[~inside] == -math.inf).all())
    assert 0 < int(inside.sum()) < 50

    base = MixtureBase(3, 4).double()
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.copy_(torch.randn_like(parameter))
    parts = Independent(Normal(base.means, base.log_scales.exp()), 1)
    mixture = MixtureSameFamily(Categorical(logits=base.weights), parts)
    torch.testing.assert_close(base.log_prob(z), mixture.log_prob(z))
    drawn = base.sample(100_000, z, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), mixture.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.var(0), mixture.variance, atol=0.3, rtol=0.03)


@pytest.mark.parametrize("base", [NormalBase(2), UniformBase(2, -0.5, 1.5), MixtureBase(2, 3)])
def test_draws_have_the_density_and_temperature_0_is_one_point_of_each_mode(base: Base) -> None:
    base, g = base.double(), torch.Generator().manual_seed(0)
    drawn = base.sample(40_000, torch.empty(0), g)
    line = -8 + 0.02 * (torch.arange(800) + 0.5)
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():
        p = base.log_prob(grid).exp() * 0.02**2
        assert float(p.sum()) == pytest.approx(1, abs=0.02)
        for f in (torch.cos, lambda v: v.clamp(min=0)):
            expected = float((p[:, None] * f(grid)).sum(0)[0])
            assert float(f(drawn[:, 0]).mean()) == pytest.approx(expected, abs=0.03)
        points = base.sample(50, torch.empty(0), g, temperature=0.0).unique(dim=0)
    assert len(points) == (3 if isinstance(base, MixtureBase) else 1)


def test_bad_bases_are_explained() -> None:
    with pytest.raises(ValueError, match="low < high"):
        UniformBase(2, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"temperature=1\.5; of a bounded base"):
        UniformBase(2).sample(3, torch.empty(0), temperature=1.5)
    with pytest.raises(ValueError, match="unknown base 'cauchy': choose one of normal, uniform"):
        make_base("cauchy", 2)
    with pytest.raises(ValueError, match="push data out of a uniform base"):
        make_base("uniform", 2)
    assert isinstance(make_base("uniform", 2, bounded=True), UniformBase)
    with pytest.raises(ValueError, match="got components=0"):
        make_base(0, 2)
