"""Copies of models in half and in double precision against the single-precision ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from small_models import FAMILIES, IMAGE, Batch, built, moved
from torch import Tensor

import gentext as gt
from gentext.core import Bound, Density, PseudoDensity, Samples, grey_levels
from gentext.denoising.schedule import SCHEDULES, Schedule
from gentext.sequences.autoregressive import Autoregressive

TYPES = [torch.bfloat16, torch.float16, torch.float64]
SOLVING = (gt.ScoreSDE, gt.ImageScoreSDE, gt.FlowMatching, gt.ImageFlowMatching)  # an equation
STEPWISE = (*SOLVING, gt.Diffusion, gt.LatentDiffusion)
ALSO = (
    *("normal VAE", "VQ-VAE", "image Glow", "MADE", "GPT", "PixelCNN"),
    *("U-Net diffusion", "score", "GAN"),
)


def trained(name: str) -> tuple[Any, Batch]:
    """A model that draws and scores, and three examples."""
    model, batch = built(name)
    return moved(model.eval(), 0.05), tuple(t[:3] for t in batch)


def computed(model: Any, batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """The losses and what else the model can compute of the batch, each with the same noise."""

    def same_noise(compute: Callable[..., Tensor], **how: Any) -> Tensor:
        torch.manual_seed(3)
        with torch.no_grad():
            return compute(*batch, **how)

    equation = model.diffusion if isinstance(model, gt.LatentDiffusion) else model
    for turn in model.turns():
        yield turn, same_noise(model, turn=turn)
    steps: dict[str, Any] = {"steps": 2} if isinstance(equation, SOLVING) else {}
    if isinstance(model, Density):
        yield "log_prob", same_noise(model.log_prob, **steps)
    if isinstance(model, Bound):
        yield "elbo", same_noise(model.elbo, **steps)
    if isinstance(model, PseudoDensity):
        yield "pseudo_log_prob", model.pseudo_log_prob(batch[0]).detach()


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, torch.bfloat16) for name in FAMILIES]
    + [(name, dtype) for name in ALSO for dtype in TYPES[1:]],
)
def test_a_copy_of_another_type_computes_nearly_the_same(name: str, dtype: torch.dtype) -> None:
    """From data in single precision; sums over an example are in single precision at least."""
    model, batch = trained(name)
    other = copy.deepcopy(model).to(dtype)
    for (what, exact), (_, rough) in zip(
        computed(model, batch), computed(other, batch), strict=True
    ):
        assert rough.dtype in (torch.float32, torch.float64), what
        if dtype != torch.float64 or name in ("GPT", "MADE", "PixelCNN"):  # else other noise
            scale = float(exact.abs().mean()) + 1
            assert float((rough - exact).abs().max()) < 0.02 * scale, what
        assert rough.isfinite().all(), what
    for turn in other.turns():
        other.zero_grad()
        other(*batch, turn=turn).backward()
        slopes = [p.grad for p in other.parameters() if p.grad is not None]
        assert slopes
        assert all(slope.isfinite().all() and slope.dtype == dtype for slope in slopes)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_half_precision_copy_draws_nearly_the_same(name: str) -> None:
    model, _ = trained(name)
    if not isinstance(model, Samples):
        return
    other = copy.deepcopy(model).bfloat16()
    how: dict[str, Any] = {"length": 5} if isinstance(model, Autoregressive) else {}
    if isinstance(model, STEPWISE):
        how["steps"] = 5
    exact, rough = (
        m.sample(8, generator=torch.Generator().manual_seed(1), **how).detach()
        for m in (model, other)
    )
    assert rough.dtype == exact.dtype
    assert rough.isfinite().all()
    assert float((rough - exact).abs().double().mean()) < 0.02 * float(exact.abs().double().max())


@pytest.mark.parametrize("name", ["PixelCNN", "diffusion", "image flow matching", "image Glow"])
def test_images_of_a_half_precision_copy_have_grey_levels(name: str) -> None:
    """Which 16 bits cannot tell apart."""
    family = FAMILIES[name]
    model = family.kind(**{**family.given, "levels": 256}).bfloat16().eval()
    x = model.sample(2).detach()
    grey_levels(x, 256)
    assert torch.isfinite(model.loss(x))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("dtype", TYPES)
def test_casting_a_model_leaves_the_levels_of_noise_as_they_were(
    name: str, dtype: torch.dtype
) -> None:
    model = gt.Diffusion("mlp", name, shape=(2,), levels=None, steps=1000)
    exact = model.schedule.levels.clone()
    model.to(dtype)
    assert model.schedule.levels.double().equal(exact.double())
    model.float()
    assert model.schedule.levels.equal(exact)
    if dtype == torch.float64:
        return
    made = model.to(dtype).schedule.at(torch.tensor([0, 500, 999]))
    assert made.alpha.dtype == torch.float32
    model.to("meta")
    assert model.schedule.levels.device.type == "meta"


CLOSE = torch.cat([torch.linspace(9, -8, 12), torch.linspace(-8.02, -8.5, 12)])


@pytest.mark.parametrize(
    ("sampler", "close", "share"),
    [("dpm++", True, 0.05), ("ddpm", True, 0.05), ("heun", False, 0.01)],
)
def test_a_half_precision_copy_takes_close_steps(sampler: str, close: bool, share: float) -> None:
    """Through levels of which 16 bits cannot tell all apart, or by some of a thousand."""
    schedule: Any = Schedule(CLOSE) if close else "cosine"
    model = gt.Diffusion("mlp", schedule, shape=(2,), levels=None, hidden=16, layers=1).eval()
    for parameter in model.net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    other = copy.deepcopy(model).bfloat16()
    exact, rough = (
        m.sample(
            64, sampler=sampler, steps=len(CLOSE), generator=torch.Generator().manual_seed(1)
        ).detach()
        for m in (model, other)
    )
    assert rough.isfinite().all()
    assert float((rough - exact).abs().mean()) < share * float(exact.abs().mean())


@pytest.mark.parametrize("name", FAMILIES)
def test_names_and_types_of_what_is_saved_are_those_of_the_weights(name: str) -> None:
    """Single stays single, double becomes double; what is precise stays so in half precision."""
    model, _ = trained(name)
    names = {key: value.dtype for key, value in model.state_dict().items()}
    real = [key for key, dtype in names.items() if dtype.is_floating_point]
    assert {names[key] for key in real} == {torch.float32}
    double = model.double().state_dict()
    assert list(double) == list(names)
    assert {double[key].dtype for key in real} == {torch.float64}
    half = model.bfloat16().state_dict()
    for key, parameter in model.named_parameters():
        assert half[key].dtype == parameter.dtype == torch.bfloat16
    again = model.float().state_dict()
    assert {key: value.dtype for key, value in again.items()} == names


def test_principal_components_stay_exact_in_a_half_precision_copy() -> None:
    model = gt.autoencoder.PPCA.fit(torch.randn(50, 3), 2)
    x = torch.randn(4, 3)
    assert copy.deepcopy(model).bfloat16().log_prob(x).equal(model.log_prob(x))


def test_a_fixed_scale_stays_exact_in_a_half_precision_copy() -> None:
    model = gt.VAE(**IMAGE, latent=2, hidden=4, likelihood="normal", scale=0.1).half()
    assert (
        model.decode(torch.zeros(1, 2))
        .base_dist.scale.flatten()[0]
        .equal(torch.tensor(0.1).log().exp())
    )
