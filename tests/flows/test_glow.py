"""Glow: layers on images against Jacobians by autograd, the first batch, scales."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gentext.flows.bases import NormalBase
from gentext.flows.glow import (
    ActNorm,
    ChannelCoupling,
    Glow,
    InvertibleConv1x1,
    Multiscale,
    Squeeze,
)
from gentext.flows.transforms import (
    Transform,
)
from gentext.flows.univariate import Spline
from gentext.training.config import TrainConfig
from gentext.training.train import fit
from tests.oracles import check_gradients, check_transform, scrambled_transform

pytestmark = pytest.mark.usefixtures("float64")

IMAGE = (4, 2, 2)


IMAGES: dict[str, Callable[[], Transform]] = {
    "actnorm": lambda: ActNorm(4),
    "convolution": lambda: InvertibleConv1x1(4),
    "squeeze": Squeeze,
    "channel coupling": lambda: ChannelCoupling(4, hidden=6),
    "channel coupling by splines": lambda: ChannelCoupling(4, hidden=6, univariate=Spline(4)),
}


@pytest.mark.equation("eq-flow-actnorm", "eq-flow-conv1x1", "eq-flow-coupling")
@pytest.mark.parametrize("name", IMAGES)
def test_images_come_back_and_the_determinant_is_that_of_the_jacobian(name: str) -> None:
    check_transform(scrambled_transform(IMAGES[name]), 2 * torch.randn(3, *IMAGE), None)


@pytest.mark.parametrize(("scales", "bins"), [(1, None), (2, None), (2, 4)])
def test_scales_come_back_too(scales: int, bins: int | None) -> None:
    def make() -> Transform:
        return Multiscale((2, 4, 4), scales=scales, steps=2, hidden=5, bins=bins)

    check_transform(scrambled_transform(make, 0.1), torch.randn(2, 32), None)


@pytest.mark.equation("eq-flow-actnorm")
def test_the_first_batch_is_standardised_and_only_the_first() -> None:
    layer = ActNorm(3).double().train()
    x = 5 * torch.randn(9, 3, 4, 4) + 2
    z, _ = layer(x)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3), atol=1e-12, rtol=0)
    torch.testing.assert_close(z.var((0, 2, 3), correction=0), torch.ones(3), atol=1e-12, rtol=0)
    before = layer.b.clone()
    layer(x + 100)
    assert torch.equal(layer.b, before)
    constant = ActNorm(2).double().train()
    assert bool(torch.isfinite(constant(torch.ones(5, 2))[0]).all())
    again = ActNorm(3).double().train()
    again.load_state_dict(layer.state_dict())
    again(x + 100)
    assert torch.equal(again.b, before)
    still = ActNorm(2).double().eval()
    assert torch.equal(still(x[:, :2])[0], x[:, :2])


@pytest.mark.equation("eq-flow-conv1x1")
def test_the_convolution_multiplies_by_the_matrix_that_it_was_given() -> None:
    layer, matrix, x = InvertibleConv1x1(3).double(), torch.randn(3, 3), torch.randn(2, 3, 2, 5)
    layer.set_matrix(matrix)
    torch.testing.assert_close(layer.matrix(), matrix)
    torch.testing.assert_close(layer.inverse_matrix(), matrix.inverse())
    z, log_det = layer(x)
    torch.testing.assert_close(z, torch.einsum("ij,njhw->nihw", matrix, x))
    expected = 10 * torch.linalg.slogdet(matrix)[1]
    torch.testing.assert_close(log_det, expected.expand(2))
    start = InvertibleConv1x1(4).double()
    eye = start.matrix() @ start.matrix().t()
    torch.testing.assert_close(eye, torch.eye(4), atol=1e-5, rtol=0)


def test_a_restored_glow_goes_on_where_it_was(tmp_path: Path) -> None:
    """Its first batch is not standardised a second time."""
    torch.manual_seed(0)
    x, whole = torch.randn(64, 16) * 3 + 1, {}
    for name, stops in {"at once": (8,), "in two": (4, 8)}.items():
        for steps in stops:
            torch.manual_seed(1)
            flow = Glow(shape=(1, 4, 4), scales=1, steps=2, hidden=4)
            config = TrainConfig(steps=steps, batch_size=16, schedule="constant")
            fit(flow, (x,), config, out=tmp_path / name, resume=True, progress=False)
        whole[name] = flow
    with torch.no_grad():
        assert torch.equal(*(flow.log_prob(x) for flow in whole.values()))
    fresh = Glow(shape=(1, 4, 4), scales=1, steps=2, hidden=4)
    again = copy.deepcopy(fresh)  # the layers of the copy are told, not those of the original
    again.load_state_dict(whole["at once"].state_dict())
    assert not [m for m in again.modules() if getattr(m, "waiting", False)]
    assert [m for m in fresh.modules() if getattr(m, "waiting", False)]


def test_a_flow_of_images_has_mass_and_comes_back() -> None:
    flow = Glow(shape=(2, 4, 4), scales=2, steps=2, hidden=6).double()
    flow.train()
    flow.loss(torch.randn(20, 32))  # standardises
    flow.eval()
    x = torch.randn(3, 32)
    torch.testing.assert_close(flow.decode(flow.encode(x)), x, atol=1e-9, rtol=0)
    jacobian = torch.autograd.functional.jacobian(lambda v: flow.encode(v[None])[0], x[0])
    expected = NormalBase(32).log_prob(flow.encode(x[:1])) + torch.linalg.slogdet(jacobian)[1]
    torch.testing.assert_close(flow.log_prob(x[:1]), expected, atol=1e-9, rtol=0)
    assert flow.sample(2).shape == (2, 32)


@pytest.mark.parametrize("name", IMAGES)
def test_gradients_reach_every_parameter(name: str) -> None:
    check_gradients(scrambled_transform(IMAGES[name]), torch.randn(30, *IMAGE), None)


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got 1 channel; .* squeeze first"):
        ChannelCoupling(1, hidden=4)
    with pytest.raises(ValueError, match="got hidden=0; hidden must be a whole number"):
        ChannelCoupling(4, hidden=0)
    with pytest.raises(ValueError, match="6 x 4 and scales=2; both sides must be divisible"):
        Multiscale((1, 6, 4), scales=2, steps=1, hidden=4, bins=None)
    with pytest.raises(ValueError, match=r"shape \(64,\); give \(channels"):
        Glow(shape=(64,))
