"""Experiments with latent variables: autoencoders, and VAEs of several kinds."""

from __future__ import annotations

from typing import Any

from gentext import data
from gentext.data.prepared import binary, few_labels
from gentext.latent.autoencoder import Autoencoder, DenoisingAutoencoder
from gentext.latent.conditional_vae import ConditionalVAE, SemiSupervisedVAE
from gentext.latent.image_vae import ImageVAE
from gentext.latent.vae import IWAE, VAE
from gentext.recipes.budgets import Experiment, config_for

MAPS: dict[str, Any] = {"batch_size": 64, "lr": 2e-3, "ema": 0.998}


def autoencoder_digits(budget: str | None = None) -> Experiment:
    """An autoencoder with codes of size 8 on the 8x8 digits."""
    model = Autoencoder(shape=(1, 8, 8), latent=8)
    return model, data.load("digits").without_labels(), config_for(budget, 1500, 20_000)


def denoiser_digits(budget: str | None = None) -> Experiment:
    """A denoising autoencoder on the 8x8 digits, at noise of a quarter of the grey range."""
    model = DenoisingAutoencoder(shape=(1, 8, 8), latent=64, sigma=0.25, hidden=512)
    return model, data.load("digits").without_labels(), config_for(budget, 2000, 20_000)


def vae_digits(budget: str | None = None) -> Experiment:
    """A convolutional VAE on the 8x8 digits, whose likelihood is that of the 17 grey levels."""
    model = VAE(
        shape=(1, 8, 8), latent=16, hidden=256, net="conv", likelihood="logistic", levels=17
    )
    config = config_for(budget, 1500, 1500, lr=2e-3, weight_decay=0.01)
    return model, data.load("digits").without_labels(), config


def vae_fashion(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A convolutional VAE on Fashion-MNIST, whose likelihood is that of the 256 grey levels."""
    model = VAE(shape=(1, 28, 28), latent=32, hidden=256, net="conv", likelihood="logistic")
    config = config_for(budget, 500, 20_000, lr=2e-3, ema=0.999)
    return model, data.load("fashion-mnist", full=full_data).without_labels(), config


def vae_mnist(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A convolutional VAE on binary MNIST (grey above one half is ink): exact Bernoulli."""
    model = VAE(shape=(1, 28, 28), latent=20, hidden=256, net="conv", likelihood="bernoulli")
    config = config_for(budget, 500, 3000, weight_decay=0.01, ema=0.999)
    return model, binary(data.load("mnist", full=full_data)).without_labels(), config


def iwae_digits(budget: str | None = None) -> Experiment:
    """The model of ``vae_digits``, trained on the bound of 8 samples."""
    model = IWAE(
        shape=(1, 8, 8), latent=16, hidden=256, net="conv", likelihood="logistic", levels=17, k=8
    )
    config = config_for(budget, 1500, 1500, lr=2e-3, weight_decay=0.01)
    return model, data.load("digits").without_labels(), config


def conditional_vae_fashion(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A VAE of Fashion-MNIST given the class."""
    model = ConditionalVAE(
        shape=(1, 28, 28), classes=10, latent=16, hidden=256, net="conv", likelihood="logistic"
    )
    config = config_for(budget, 500, 20_000, lr=2e-3, ema=0.999)
    return model, data.load("fashion-mnist", full=full_data), config


def m2_digits(budget: str | None = None) -> Experiment:
    """M2 on the 8x8 digits with ten labels a class."""
    model = SemiSupervisedVAE(
        shape=(1, 8, 8), classes=10, latent=8, likelihood="logistic", levels=17, alpha=50.0
    )
    return model, few_labels(data.load("digits"), 10), config_for(budget, 2000, 6000)


def image_vae_fashion(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A VAE whose codes are maps of 4x7x7, of Fashion-MNIST."""
    model = ImageVAE(shape=(1, 28, 28), hidden=48, beta=0.5)
    dataset = data.load("fashion-mnist", full=full_data).without_labels()
    return model, dataset, config_for(budget, 60, 6000, **MAPS)


def image_vae_emoji(budget: str | None = None) -> Experiment:
    """A VAE whose codes are maps of 4x8x8, of emoji in colour."""
    model = ImageVAE(shape=(3, 32, 32), hidden=48, beta=0.2)
    return model, data.load("emoji").without_labels(), config_for(budget, 40, 5000, **MAPS)
