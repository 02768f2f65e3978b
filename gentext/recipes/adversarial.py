"""Experiments with games: GANs in the plane and of images."""

from __future__ import annotations

from typing import Any

from gentext import data
from gentext.adversarial.gan import GAN, ImageGAN
from gentext.adversarial.semi_supervised_gan import SemiSupervisedGAN
from gentext.data.prepared import few_labels, plane
from gentext.recipes.budgets import Experiment, config_for

GAME: dict[str, Any] = {"batch_size": 128, "lr": 2e-3, "betas": (0.5, 0.9), "ema": 0.99}
IMAGE_GAME: dict[str, Any] = {"batch_size": 64, "lr": 2e-3, "betas": (0.0, 0.99), "ema": 0.998}


def gan_gaussians(budget: str | None = None) -> Experiment:
    """A GAN of eight normals in a ring, relativistic with R1 and R2."""
    model = GAN(shape=(2,), latent=2, hidden=64, layers=2, penalties={"r1": 0.5, "r2": 0.5})
    return model, plane("eight-gaussians"), config_for(budget, 1500, 10_000, **GAME)


def gan_grid25(budget: str | None = None) -> Experiment:
    """A GAN of 25 narrow normals, with waves of codes and points, relativistic with R1 and R2."""
    model = GAN(
        shape=(2,),
        latent=1,
        hidden=64,
        layers=2,
        frequencies=(20.0, 6.0),
        penalties={"r1": 0.5, "r2": 0.5},
    )
    settings = {**GAME, "lr": 5e-3, "ema": 0.999}
    return model, plane("grid25"), config_for(budget, 10_000, 20_000, **settings)


def gan_fashion(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A DCGAN of Fashion-MNIST, relativistic with R1 and R2."""
    dataset = data.load("fashion-mnist", full=full_data).without_labels()
    return _image_gan(), dataset, config_for(budget, 60, 4000, **IMAGE_GAME)


def gan_mnist(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A DCGAN of MNIST, relativistic with R1 and R2."""
    dataset = data.load("mnist", full=full_data).without_labels()
    return _image_gan(), dataset, config_for(budget, 60, 4000, **IMAGE_GAME)


def conditional_gan_fashion(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A DCGAN of Fashion-MNIST given the class, with a projection critic."""
    dataset = data.load("fashion-mnist", full=full_data)
    return _image_gan(classes=10), dataset, config_for(budget, 60, 4000, **IMAGE_GAME)


def semi_supervised_gan_digits(budget: str | None = None) -> Experiment:
    """A GAN of the 8x8 digits whose critic sorts them, with ten labels a class."""
    model = SemiSupervisedGAN(
        shape=(1, 8, 8), classes=10, generator="dcgan", critic="dcgan", channels=32
    )
    config = config_for(budget, 200, 1500, batch_size=128, lr=1e-3, betas=(0.5, 0.9))
    return model, few_labels(data.load("digits"), 10), config


def _image_gan(classes: int = 0) -> ImageGAN:
    networks: dict[str, Any] = {"generator": "dcgan", "critic": "dcgan", "channels": 32}
    return ImageGAN(
        shape=(1, 28, 28), latent=64, classes=classes, penalties={"r1": 3.0, "r2": 3.0}, **networks
    )
