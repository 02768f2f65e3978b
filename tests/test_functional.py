"""Gradients by ``torch.func`` against those of one example after the other, for every family."""

from __future__ import annotations

import pytest
import torch
from small_models import FAMILIES, Batch, built, moved
from torch import Tensor
from torch.func import functional_call, grad, jacfwd, jacrev, vmap

from gentext.core import Model
from gentext.flows.flow import NSF

pytestmark = pytest.mark.usefixtures("float64")

Gradients = dict[str, Tensor]


def per_example(model: Model, batch: Batch, turn: str, randomness: str) -> Gradients:
    """The gradient of the loss of each example, in one pass."""
    weights = {k: p.detach() for k, p in model.named_parameters() if p.requires_grad}

    def loss(weights: Gradients, *rows: Tensor) -> Tensor:
        return functional_call(model, weights, tuple(row[None] for row in rows), {"turn": turn})

    dims = (None, *(0 for _ in batch))
    return vmap(grad(loss), in_dims=dims, randomness=randomness)(weights, *batch)


def one_by_one(model: Model, batch: Batch, turn: str, seed: int) -> Gradients:
    """The same by one backward pass each, every time with the same random numbers."""
    weights = {k: p for k, p in model.named_parameters() if p.requires_grad}
    found = []
    for rows in zip(*batch, strict=True):
        torch.manual_seed(seed)
        loss = model(*(row[None] for row in rows), turn=turn)
        slopes = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        found.append(slopes)
    return {k: torch.stack(s) for k, s in zip(weights, zip(*found, strict=True), strict=True)}


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_of_each_example_in_one_pass_are_those_one_by_one(name: str) -> None:
    """In evaluation mode: there no statistic of batches is kept, as codebooks and norms do."""
    model, batch = built(name)
    model, batch = moved(model.eval()), tuple(t[:3] for t in batch)
    for turn in model.turns():
        expected = one_by_one(model, batch, turn, seed=5)
        torch.manual_seed(5)
        same = per_example(model, batch, turn, "same")
        for key, slope in expected.items():
            torch.testing.assert_close(same[key], slope, rtol=1e-6, atol=1e-9)
        for slope in per_example(model, batch, turn, "different").values():
            assert slope.isfinite().all()


def test_examples_may_have_noise_of_their_own() -> None:
    model, (x,) = built("VAE")
    slopes = per_example(model, (x[:1].expand(3, -1, -1, -1),), "loss", "different")
    spread = torch.cat([s.flatten(1) for s in slopes.values()], 1).std(0)
    assert (spread > 0).double().mean() > 0.9


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by forward mode itself
@pytest.mark.parametrize("autoregressive", [False, True])
def test_the_jacobian_of_a_spline_flow_is_its_log_determinant(autoregressive: bool) -> None:
    """In both directions, by reverse and by forward mode; and its Hessian is that of autograd."""
    flow = NSF(features=3, transforms=2, hidden=(8,), autoregressive=autoregressive)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(3)
    z, log_det = (part[0].detach() for part in flow.map(x[None]))
    for jacobian in (jacrev, jacfwd):
        forward = jacobian(lambda x: flow.map(x[None])[0][0])(x)
        torch.testing.assert_close(torch.linalg.slogdet(forward)[1].detach(), log_det)
        back = jacobian(lambda z: flow.map.inverse_and_log_det(z[None])[0][0])(z)
        torch.testing.assert_close((forward @ back).detach(), torch.eye(3), rtol=0, atol=1e-5)
    ours = jacfwd(jacrev(lambda x: flow.log_prob(x[None])[0]))(x)
    theirs = torch.autograd.functional.hessian(lambda x: flow.log_prob(x[None])[0], x)
    torch.testing.assert_close(ours.detach(), theirs)
