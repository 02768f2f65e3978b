"""Experiments with flows: in the plane, of a table, of images."""

from __future__ import annotations

from typing import Any

from gentext import data
from gentext.data.prepared import plane, shuttle
from gentext.flows.dequantization import ImageFlow
from gentext.flows.flow import MAF, NSF, RealNVP
from gentext.recipes.budgets import Experiment, config_for

TABLE: dict[str, Any] = {"batch_size": 256, "lr": 2e-3, "clip": 20.0, "ema": 0.998}


def nsf_moons(budget: str | None = None) -> Experiment:
    """A spline flow of the two moons, a density in the plane."""
    return _plane("two-moons", budget)


def nsf_checkerboard(budget: str | None = None) -> Experiment:
    """A spline flow of the checkerboard, a density with edges."""
    return _plane("checkerboard", budget)


def nsf_gaussians(budget: str | None = None) -> Experiment:
    """A spline flow of eight Gaussians on a circle."""
    return _plane("eight-gaussians", budget)


def realnvp_gaussians(budget: str | None = None) -> Experiment:
    """A flow of affine couplings of eight Gaussians, between which it cannot cut."""
    model = RealNVP(features=2, transforms=8, hidden=(64, 64))
    config = config_for(budget, 800, 4000, batch_size=512, lr=2e-3, clip=5.0)
    return model, plane("eight-gaussians"), config


def maf_shuttle(budget: str | None = None) -> Experiment:
    """A masked autoregressive flow of the shuttle's table in its usual state."""
    model = MAF(features=9, transforms=4, hidden=(128, 128))
    return model, shuttle(), config_for(budget, 300, 6000, **TABLE)


def nsf_shuttle(budget: str | None = None) -> Experiment:
    """An autoregressive spline flow of the shuttle's table in its usual state."""
    model = NSF(features=9, transforms=3, hidden=(128, 128), autoregressive=True)
    return model, shuttle(), config_for(budget, 200, 4000, **TABLE)


def realnvp_digits(budget: str | None = None) -> Experiment:
    """Affine couplings on the 8x8 digits with uniform noise."""
    return _digits("realnvp", budget, 2500, transforms=8, hidden=(512,), dropout=0.5)


def maf_digits(budget: str | None = None) -> Experiment:
    """A masked autoregressive flow on the 8x8 digits with uniform noise."""
    return _digits("maf", budget, 3500, transforms=4, hidden=(512,), dropout=0.6)


def nsf_digits(budget: str | None = None) -> Experiment:
    """Spline couplings on the 8x8 digits with uniform noise."""
    return _digits("nsf", budget, 4000, transforms=6, hidden=(256,), dropout=0.5)


def nsf_variational_digits(budget: str | None = None) -> Experiment:
    """The flow of ``nsf_digits`` with noise from a second flow that is shown the image."""
    options: dict[str, Any] = {"transforms": 6, "hidden": (256,), "dropout": 0.5}
    return _digits("nsf", budget, 4000, noise="variational", **options)


def glow_fashion(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A multi-scale flow of splines on Fashion-MNIST with uniform noise."""
    model = ImageFlow(shape=(1, 28, 28), flow="glow", scales=2, steps=8, hidden=64, bins=8)
    config = config_for(budget, 40, 5000, batch_size=64, lr=2e-3, clip=500.0, ema=0.998)
    return model, data.load("fashion-mnist", full=full_data).without_labels(), config


def _plane(name: str, budget: str | None) -> Experiment:
    model = NSF(features=2, transforms=6, hidden=(64, 64), bins=16)
    config = config_for(budget, 400, 4000, batch_size=512, lr=5e-3)
    return model, plane(name), config


def _digits(flow: str, budget: str | None, full: int, **options: Any) -> Experiment:
    model = ImageFlow(shape=(1, 8, 8), levels=17, flow=flow, **options)
    settings: dict[str, Any] = {"batch_size": 64, "weight_decay": 0.1, "clip": 50.0, "ema": 0.998}
    return model, data.load("digits").without_labels(), config_for(budget, 300, full, **settings)
