"""Rectified flow: pairs and straightness in closed form, and training on pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gentext.denoising.flow_matching import FlowMatching
from gentext.denoising.reflow import Reflow, reflow_pairs, straightness
from gentext.denoising.transport import transport_cost
from gentext.training.config import TrainConfig
from gentext.training.train import fit
from tests.oracles import (
    F64,
    MixtureVelocity,
)

pytestmark = pytest.mark.usefixtures("float64")

NORMAL = torch.distributions.Normal(torch.zeros((), dtype=F64), torch.ones((), dtype=F64))


def exact(shape: tuple[int, ...] = (1,), **options: Any) -> FlowMatching:
    return FlowMatching(shape=shape, net=MixtureVelocity(), **options)


M, S = 1.5, 0.5


def normal_flow() -> FlowMatching:
    one = torch.ones(1)
    return FlowMatching(shape=(1,), net=MixtureVelocity(one, M * one, S * one))


class Rectified(nn.Module):
    """The velocity of the straight lines from m + sε to ε."""

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        t = time[:, None] / 1000
        eps = (x - (1 - t) * M) / ((1 - t) * S + t)
        return eps - (M + S * eps)


@pytest.mark.equation("eq-sde-reflow")
def test_the_pairs_of_a_normal_law_are_those_of_its_map_at_a_lower_cost() -> None:
    x_0, eps = reflow_pairs(normal_flow(), 500, steps=100, method="rk4")
    torch.testing.assert_close(x_0, M + S * eps, atol=1e-7, rtol=0)
    torch.testing.assert_close(
        transport_cost(x_0, eps), (M - (1 - S) * eps).square().mean(), atol=1e-6, rtol=0
    )
    spread = NORMAL.icdf((torch.arange(4000.0) + 0.5) / 4000)[:, None]
    cost = float(transport_cost(M + S * spread, spread))
    assert cost == pytest.approx(M**2 + (1 - S) ** 2, abs=2e-3)
    assert cost < M**2 + 1 + S**2 - 0.9  # of independent pairs


@pytest.mark.equation("eq-sde-reflow")
def test_no_convex_cost_of_the_mixture_rises() -> None:
    x_0, eps = reflow_pairs(exact((2,)), 4000, generator=torch.Generator().manual_seed(0))
    other = x_0[torch.randperm(4000)]
    for cost in (
        transport_cost,
        lambda a, b: (a - b).abs().sum(1).mean(),
        lambda a, b: (a - b).norm(dim=1).pow(3).mean(),
    ):
        assert float(cost(x_0, eps)) < 0.9 * float(cost(other, eps))


@pytest.mark.equation("eq-sde-reflow")
def test_lines_that_do_not_cross_are_the_flow_of_their_pairs() -> None:
    """The velocity of straight lines has no error on the pairs, and one step draws all."""
    x_0, eps = reflow_pairs(normal_flow(), 50, steps=100, method="rk4")
    model = FlowMatching(shape=(1,), net=Rectified())
    assert float(model.loss(x_0, eps=eps)) < 1e-12
    assert float(model.loss(x_0)) > 0.1
    torch.testing.assert_close(model.decode(eps, steps=1, method="euler"), x_0, atol=1e-7, rtol=0)
    assert float(straightness(model, 50)) < 1e-12


def test_straightness_is_that_of_the_closed_form() -> None:
    """x_t = (1 − t)m + √v ε with v = (1 − t)²s² + t²: ∫(d√v/dt)² dt − (1 − s)², by quadrature."""
    t = (torch.arange(20_000.0) + 0.5) / 20_000
    v = (1 - t) ** 2 * S**2 + t**2
    rate = (t - (1 - t) * S**2) / v.sqrt()
    expected = float((rate**2).mean() - (1 - S) ** 2)
    g = torch.Generator().manual_seed(0)
    eps = torch.randn(3000, 1, generator=torch.Generator().manual_seed(0))
    found = float(straightness(normal_flow(), 3000, steps=400, generator=g))
    assert found == pytest.approx(expected * float(eps.square().mean()), rel=2e-3)


def test_training_on_pairs_learns_their_map() -> None:
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    eps = torch.randn(2000, 1)
    pairs = (M + S * eps, eps)
    model = FlowMatching(shape=(1,), hidden=32, layers=2)
    fit(
        Reflow(flow=model),
        pairs,
        TrainConfig(steps=200, lr=1e-2, schedule="cosine"),
        progress=False,
    )
    drawn = model.decode(eps[:200], steps=1, method="euler")
    assert float((drawn - pairs[0][:200]).abs().mean()) < 0.05


def test_pairs_that_do_not_fit_are_refused() -> None:
    model = Reflow(flow=FlowMatching(shape=(2,), hidden=8, classes=3))
    x, y = torch.randn(5, 2), torch.arange(5) % 3
    model.check(x, x, y)
    torch.manual_seed(1)
    expected = model.flow.double().eval().loss(x, y, eps=-x)
    torch.manual_seed(1)
    assert torch.equal(model(x, -x, y), expected)
    with pytest.raises(ValueError, match=r"\(3, 2\) beside data of \(5, 2\)"):
        model.check(x, x[:3])
    with pytest.raises(ValueError, match="got label 3"):
        model.check(x, x, y + 1)
    with pytest.raises(ValueError, match=r"built for \(n, 2\)"):
        model.check(x[:, :1], x[:, :1])
