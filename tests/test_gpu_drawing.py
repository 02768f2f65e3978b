"""Drawing with every option, measuring and plotting on a GPU give what they give on the CPU.

The models are tiny and untrained, with weights that leave no layer at 0. Random numbers come from
the CPU for both, and what a generator of the device draws is the same each time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import small_models
import torch
from gpu import DEVICE, MARKS, awake, close, nearly
from torch import Tensor

from gentext.core import Density, Model, Samples
from gentext.evaluation import fidelity, report
from gentext.figures import plot
from gentext.sequences import speculative

pytestmark = MARKS
STEPS: dict[str, Any] = {"steps": 4}
CLASSES = torch.tensor([0, 2])
Draw = Callable[[Any, Any, tuple[Tensor, ...]], Any]


def classes(x: Tensor) -> Tensor:
    """Two labels where ``x`` is."""
    return CLASSES.to(x.device)


def classifier_of(model: Any, y: Tensor) -> Any:
    """A classifier in noise, on the device of y: here a linear map of what it sees."""
    return lambda x_t, t: (x_t.flatten(1)[:, :3].log_softmax(1) * y[:, None].add(1)).sum(1)


def told_apart(m: Any, g: Any, x: tuple[Tensor, ...]) -> Tensor:
    """Steered by a classifier."""
    steer = classifier_of(m, classes(x[0]))
    return m.sample(2, classifier=steer, guidance=1.0, generator=g, **STEPS)


def half_known(m: Any, g: Any, x: tuple[Tensor, ...]) -> Tensor:
    """The lower half drawn to go with the upper one."""
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool, device=x[0].device)
    mask[..., :4, :] = True
    given = [y[:2] for y in x]
    return m.inpaint(given[0], mask, *given[1:], repeats=2, generator=g, **STEPS)


def filled(m: Any, g: Any, x: tuple[Tensor, ...]) -> Tensor:
    """Rows with gaps."""
    gaps = x[0][:2].clone()
    gaps[:, 3:6] = m.mask
    return m.sample(2, tokens=gaps, order="confidence", generator=g)


def ahead(m: Any, g: Any, x: tuple[Tensor, ...]) -> Tensor:
    """With a draft that is another model."""
    draft = copy.deepcopy(awake("padded GPT")).to(x[0].device)
    return speculative.generate(m, draft, x[0][:2, :2], 5, generator=g)[0]


DRAWS: dict[str, tuple[str, Draw]] = {
    "ddpm": ("diffusion", lambda m, g, x: m.sample(2, sampler="ddpm", generator=g, **STEPS)),
    "ddim": ("diffusion", lambda m, g, x: m.sample(2, sampler="ddim", generator=g, **STEPS)),
    "ddim with noise": (
        "diffusion",
        lambda m, g, x: m.sample(2, sampler="ddim", eta=0.5, generator=g, **STEPS),
    ),
    "dpm++": ("diffusion", lambda m, g, x: m.sample(2, generator=g, **STEPS)),
    "dpm++ with noise": ("diffusion", lambda m, g, x: m.sample(2, eta=1.0, generator=g, **STEPS)),
    "heun": (
        "diffusion",
        lambda m, g, x: m.sample(2, sampler="heun", spacing="karras", generator=g, **STEPS),
    ),
    "dynamic clipping": (
        "diffusion",
        lambda m, g, x: m.sample(2, clip="dynamic", generator=g, **STEPS),
    ),
    "guidance": (
        "U-Net diffusion",
        lambda m, g, x: m.sample(2, classes(x[0]), guidance=2.0, generator=g, **STEPS),
    ),
    "classifier guidance": ("diffusion", told_apart),
    "inpainting": ("diffusion", half_known),
    "inpainting with labels": ("U-Net diffusion", half_known),
    "prompts": (
        "diffusion Transformer",
        lambda m, g, x: m.sample(2, x[1][:2], guidance=2.0, generator=g, **STEPS),
    ),
    "latents": (
        "latent diffusion",
        lambda m, g, x: m.sample(2, classes(x[0]), guidance=1.0, generator=g, **STEPS),
    ),
    "mean of latents": (
        "latent diffusion",
        lambda m, g, x: m.sample(2, mean=True, generator=g, **STEPS),
    ),
    **{
        f"score by {by}": (
            "score",
            lambda m, g, x, by=by: m.sample(4, sampler=by, generator=g, **STEPS),
        )
        for by in ("ddim", "dpm++", "ode", "sde", "langevin")
    },
    "sde with corrector": (
        "VE score",
        lambda m, g, x: m.sample(4, sampler="sde", corrector=2, eta=0.5, generator=g, **STEPS),
    ),
    "scored by signs": (
        "score",
        lambda m, g, x: m.log_prob(x[0], divergence="hutchinson", generator=g, **STEPS),
    ),
    **{
        f"flow by {by}": (
            "conditional flow matching",
            lambda m, g, x, by=by: m.sample(2, method=by, generator=g, **STEPS),
        )
        for by in ("euler", "midpoint", "heun", "rk4")
    },
    "guided flow": (
        "conditional flow matching",
        lambda m, g, x: m.sample(2, classes(x[0]), guidance=1.5, generator=g, **STEPS),
    ),
    "image flow matching": (
        "image flow matching",
        lambda m, g, x: m.sample(2, generator=g, **STEPS),
    ),
    "image score": ("image score", lambda m, g, x: m.sample(2, generator=g, **STEPS)),
    "masks one by one": ("masked diffusion", lambda m, g, x: m.sample(2, generator=g)),
    "masks in steps": (
        "masked diffusion",
        lambda m, g, x: m.sample(2, steps=3, top_k=5, generator=g),
    ),
    "masks by confidence": ("masked diffusion", filled),
    "masks after a prompt": (
        "masked diffusion",
        lambda m, g, x: m.generate(x[0][:2, :3], 4, generator=g),
    ),
    "temperature": (
        "GPT",
        lambda m, g, x: m.generate(x[0][:2, :3], 5, temperature=0.5, generator=g),
    ),
    "greedy": ("GPT", lambda m, g, x: m.generate(x[0][:2, :3], 5, temperature=0.0)),
    "top k": ("GPT", lambda m, g, x: m.generate(x[0][:2, :3], 5, top_k=3, generator=g)),
    "top p": ("GPT", lambda m, g, x: m.generate(x[0][:2, :3], 5, top_p=0.8, generator=g)),
    "no cache": ("GPT", lambda m, g, x: m.generate(x[0][:2, :3], 5, cache=False, generator=g)),
    "a stop": ("padded GPT", lambda m, g, x: m.generate(x[0][:2, :3], 5, stop=5, generator=g)),
    "speculative": ("GPT", ahead),
    "recurrent": ("recurrent", lambda m, g, x: m.generate(x[0][:2, :3], 5, generator=g)),
    "WaveNet": ("WaveNet", lambda m, g, x: m.generate(x[0][:2, :3], 5, generator=g)),
    "beams": (
        "Transformer",
        lambda m, g, x: m.translate(x[0][:2], width=3, length=5, length_penalty=0.6),
    ),
    "beams of cells": ("recurrent translator", lambda m, g, x: m.translate(x[0][:2], length=5)),
    "Gibbs": ("BERT", lambda m, g, x: m.gibbs_sample(2, length=6, sweeps=2, generator=g)),
    "gaps": ("BERT", lambda m, g, x: m.fill(x[0][:2], [1, 4])),
    "pixels": ("PixelCNN", lambda m, g, x: m.sample(1, generator=g)),
    "pixels without memory": (
        "logistic PixelCNN",
        lambda m, g, x: m.sample(1, cache=False, generator=g),
    ),
    "bits": ("MADE", lambda m, g, x: m.sample(3, generator=g)),
    "codes": ("VQ-VAE", lambda m, g, x: m.sample(2, generator=g)),
    "a class of a VAE": (
        "conditional VAE",
        lambda m, g, x: m.sample(2, classes(x[0]), mean=True, generator=g),
    ),
    "between images": ("VAE", lambda m, g, x: m.interpolate(x[0][:2], x[0][2:4], steps=3)),
    "a class of a GAN": (
        "image GAN",
        lambda m, g, x: m.sample(2, classes(x[0]), temperature=0.7, generator=g),
    ),
    "cool flow": ("NSF", lambda m, g, x: m.sample(4, temperature=0.7, generator=g)),
    "inverse flow": ("IAF", lambda m, g, x: m.log_prob(x[0])),
    "mixture": ("flow of a mixture", lambda m, g, x: m.sample(4, generator=g)),
    "image flow": ("image Glow", lambda m, g, x: m.sample(2, temperature=0.8, generator=g)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_with_options_is_that_of_the_cpu(name: str) -> None:
    family, draw = DRAWS[name]
    torch.manual_seed(2)
    batch = small_models.FAMILIES[family].batch()

    def drawn(model: Model, *x: Tensor) -> dict[str, Tensor]:
        return {"drawn": draw(model, torch.Generator().manual_seed(4), x)}

    nearly(awake(family), batch, drawn)


@pytest.mark.parametrize("name", DRAWS)
def test_a_generator_on_the_device_repeats_a_draw_with_options(name: str) -> None:
    family, draw = DRAWS[name]
    model = copy.deepcopy(awake(family)).to(DEVICE)
    x = tuple(t.to(DEVICE) for t in small_models.FAMILIES[family].batch())
    first, again = (draw(model, torch.Generator(DEVICE).manual_seed(4), x) for _ in range(2))
    assert first.device.type == DEVICE
    assert first.equal(again)


@pytest.mark.skipif(DEVICE == "cpu", reason="a generator of the CPU is the right one there")
@pytest.mark.parametrize("name", small_models.FAMILIES)
def test_a_generator_of_the_cpu_works_or_is_named(name: str) -> None:
    model: Any = copy.deepcopy(awake(name)).to(DEVICE)
    if isinstance(model, Samples):
        try:
            assert model.sample(2, generator=torch.Generator()).device.type == DEVICE
        except (RuntimeError, ValueError) as error:
            assert "generator" in str(error)  # noqa: PT017 - it may also work


def test_distances_are_those_of_the_cpu() -> None:
    torch.manual_seed(3)
    a, b, centres = torch.randn(200, 4), torch.randn(150, 4) + 0.3, torch.randn(5, 4)

    def measured(model: Any, a: Tensor, b: Tensor, centres: Tensor) -> dict[str, Tensor]:
        near = fidelity.precision_recall(a, b)
        found = fidelity.mode_coverage(a, centres, 1.0)
        numbers = [*near, float(found.modes), found.near, found.reverse_kl]
        return {
            "Fréchet": fidelity.frechet_distance(a, b),
            "MMD": fidelity.mmd(a, b),
            "shares": torch.tensor(numbers, device=a.device),
        }

    close(torch.nn.Identity(), (a, b, centres), measured, rtol=1e-4, atol=1e-5)


def test_two_samples_are_told_apart_as_well_as_on_the_cpu() -> None:
    torch.manual_seed(3)
    a, b = torch.randn(300, 2), torch.randn(300, 2) + 2
    here, there = (fidelity.c2st(a.to(d), b.to(d)) for d in ("cpu", DEVICE))
    assert abs(here - there) < 0.03


@pytest.mark.parametrize(
    "name", ["MADE", "NSF", "GPT", "classifier", "U-Net diffusion", "image GAN"]
)
def test_a_report_is_that_of_the_cpu(name: str) -> None:
    """To the noise of a few draws where something is drawn."""
    from gentext.data import Dataset

    model, batch = awake(name), small_models.FAMILIES[name].batch()
    data = Dataset(
        name="tiny", train=batch, test=batch, shape=tuple(batch[0].shape[1:]), licence=""
    )
    features = awake("classifier") if name == "image GAN" else None
    reports = []
    for device in ("cpu", DEVICE):
        there = [None if m is None else copy.deepcopy(m).to(device) for m in (model, features)]
        reports.append(report.evaluate(there[0], data, k=3, features=there[1]))
    assert reports[0].keys() == reports[1].keys()
    for key, value in reports[0].items():
        exact = isinstance(model, Density) or name == "classifier"
        assert reports[1][key] == pytest.approx(value, rel=1e-3 if exact else 1.0, abs=1e-3), key


def test_figures_of_tensors_of_the_device_are_those_of_the_cpu() -> None:
    x = small_models.grey()
    here, there = (plot.png(plot.image_grid(t, 4)) for t in (x, x.to(DEVICE)))
    assert here == there
    y = torch.rand(5, requires_grad=True)
    pictures = []
    for device in ("cpu", DEVICE):
        figure, ax = plot.figure()
        plot.curves({"a": y.detach().to(device)}, ax=ax)
        pictures.append(plot.png(figure))
    assert pictures[0] == pictures[1]
