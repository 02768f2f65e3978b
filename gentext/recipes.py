"""Experiments of the book: each function gives a model, its data and how to train it.

A recipe is named ``<stem>_<data>`` and knows two budgets: ``quick`` for a minute on two cores and
``full`` for a GPU or patience. ``full_data`` takes the whole data set instead of the excerpt.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from gentext import data
from gentext.autoencoder import Autoencoder, DenoisingAutoencoder
from gentext.conditional_vae import ConditionalVAE, SemiSupervisedVAE
from gentext.core import Model
from gentext.data import Dataset
from gentext.train import TrainConfig
from gentext.vae import IWAE, VAE

Experiment = tuple[Model, Dataset, TrainConfig]
BUDGETS = ("quick", "full")


def budget() -> str:
    """``$GENTEXT_BUDGET``, or else "full" where there is a GPU and "quick" where there is none."""
    chosen = os.environ.get("GENTEXT_BUDGET") or ("full" if torch.cuda.is_available() else "quick")
    return _checked(chosen)


def autoencoder_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """An autoencoder with codes of size 8 on the 8x8 digits."""
    model = Autoencoder(shape=(1, 8, 8), latent=8)
    return model, data.load("digits").without_labels(), _config(chosen, 1500, 20_000)


def denoiser_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A denoising autoencoder on the 8x8 digits, at noise of a quarter of the grey range."""
    model = DenoisingAutoencoder(shape=(1, 8, 8), latent=64, sigma=0.25, hidden=512)
    return model, data.load("digits").without_labels(), _config(chosen, 2000, 20_000)


def vae_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A convolutional VAE on the 8x8 digits, whose likelihood is that of the 17 grey levels."""
    model = VAE(
        shape=(1, 8, 8), latent=16, hidden=256, net="conv", likelihood="logistic", levels=17
    )
    config = _config(chosen, 1500, 1500, lr=2e-3, weight_decay=0.01)
    return model, data.load("digits").without_labels(), config


def iwae_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """The model of ``vae_digits``, trained on the bound of 8 samples."""
    model = IWAE(
        shape=(1, 8, 8), latent=16, hidden=256, net="conv", likelihood="logistic", levels=17, k=8
    )
    config = _config(chosen, 1500, 1500, lr=2e-3, weight_decay=0.01)
    return model, data.load("digits").without_labels(), config


def vae_fashion(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A convolutional VAE on Fashion-MNIST, whose likelihood is that of the 256 grey levels."""
    model = VAE(shape=(1, 28, 28), latent=32, hidden=256, net="conv", likelihood="logistic")
    config = _config(chosen, 500, 20_000, lr=2e-3, ema=0.999)
    return model, data.load("fashion-mnist", full=full_data).without_labels(), config


def vae_mnist(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A convolutional VAE on binary MNIST (grey above one half is ink): exact Bernoulli."""
    model = VAE(shape=(1, 28, 28), latent=20, hidden=256, net="conv", likelihood="bernoulli")
    config = _config(chosen, 500, 3000, weight_decay=0.01, ema=0.999)
    return model, binary(data.load("mnist", full=full_data)).without_labels(), config


def conditional_vae_fashion(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A VAE of Fashion-MNIST given the class."""
    model = ConditionalVAE(
        shape=(1, 28, 28), classes=10, latent=16, hidden=256, net="conv", likelihood="logistic"
    )
    config = _config(chosen, 500, 20_000, lr=2e-3, ema=0.999)
    return model, data.load("fashion-mnist", full=full_data), config


def m2_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """M2 on the 8x8 digits with ten labels a class."""
    model = SemiSupervisedVAE(
        shape=(1, 8, 8), classes=10, latent=8, likelihood="logistic", levels=17, alpha=50.0
    )
    return model, few_labels(data.load("digits"), 10), _config(chosen, 2000, 6000)


RECIPES: dict[str, Callable[..., Experiment]] = {
    recipe.__name__: recipe
    for recipe in (
        autoencoder_digits,
        denoiser_digits,
        vae_digits,
        vae_fashion,
        vae_mnist,
        iwae_digits,
        conditional_vae_fashion,
        m2_digits,
    )
}


def build(name: str, chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """The model, data and training of the recipe called ``name``."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name](chosen, full_data=full_data)


def binary(dataset: Dataset) -> Dataset:
    """The same images with every value above one half set to 1 and the others to 0."""
    splits: dict[str, Any] = {
        split: ((tensors[0] > 0.5).float(), *tensors[1:]) if tensors else ()
        for split, tensors in (
            ("train", dataset.train),
            ("validation", dataset.validation),
            ("test", dataset.test),
        )
    }
    return replace(dataset, levels=2, **splits)


def few_labels(dataset: Dataset, each: int, *, seed: int = 0) -> Dataset:
    """The same data with all but ``each`` labels of each class hidden as −1."""
    x, y = dataset.train
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    hidden = torch.full_like(y, -1)
    for label in y.unique():
        kept = order[y[order] == label][:each]
        hidden[kept] = label
    return replace(dataset, train=(x, hidden))


def _config(chosen: str | None, quick: int, full: int, **settings: Any) -> TrainConfig:
    """Training for ``quick`` or ``full`` steps on a cosine schedule."""
    steps = quick if _checked(chosen or budget()) == "quick" else full
    return TrainConfig(steps=steps, schedule="cosine", warmup=min(100, steps // 5), **settings)


def _checked(chosen: str) -> str:
    if chosen not in BUDGETS:
        raise ValueError(f"unknown budget {chosen!r}: choose one of {', '.join(BUDGETS)}")
    return chosen
