"""Experiments with noise: diffusions, scores, flow matching, of images and of tokens."""

from __future__ import annotations

from typing import Any

import torch

from gentext import data, zoo
from gentext.data import Dataset
from gentext.data.prepared import POEM, PROMPT, captions, pixels, plane, poems
from gentext.denoising.diffusion import Diffusion
from gentext.denoising.flow_matching import FlowMatching, ImageFlowMatching
from gentext.denoising.latent_diffusion import LatentDiffusion
from gentext.denoising.masked_diffusion import MaskedDiffusion
from gentext.denoising.score import ImageScoreSDE, ScoreSDE
from gentext.recipes.budgets import Experiment, config_for, transformer_config_for

PLANE: dict[str, Any] = {"batch_size": 512, "lr": 2e-3, "ema": 0.998}
SMALL: dict[str, Any] = {
    "batch_size": 64,
    "lr": 4e-3,
    "weight_decay": 0.01,
    "clip": 1.0,
    "ema": 0.998,
}
SMALL_UNET: dict[str, Any] = {"multipliers": (1, 2), "dropout": 0.2}
CODES: dict[str, Any] = {"batch_size": 64, "lr": 2e-3, "ema": 0.998}


def diffusion_mlp_digits(budget: str | None = None) -> Experiment:
    """A perceptron that predicts noise on the 8x8 digits, at the levels of the first papers."""
    model = Diffusion("mlp", "linear", shape=(1, 8, 8), levels=17, hidden=512, layers=3)
    config = config_for(budget, 400, 3000, lr=2e-3, ema=0.998)
    return model, data.load("digits").without_labels(), config


def diffusion_digits(budget: str | None = None) -> Experiment:
    """A U-Net that predicts noise on the 8x8 digits, whose least noise suits their grey levels."""
    options: dict[str, Any] = {"channels": 24, "multipliers": (1, 2), "dropout": 0.1}
    model = Diffusion("unet", "linear", shape=(1, 8, 8), levels=17, skip=9, **options)
    config = config_for(budget, 100, 4000, lr=2e-3, weight_decay=0.01, ema=0.998)
    return model, data.load("digits").without_labels(), config


def diffusion_fashion(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A U-Net that predicts velocities on Fashion-MNIST, with the class or without it."""
    options: dict[str, Any] = {"channels": 24, "predict": "v", "classes": 10}
    model = Diffusion("unet", "cosine", shape=(1, 28, 28), **options)
    config = config_for(budget, 30, 3500, batch_size=64, lr=2e-3, clip=1.0, ema=0.998)
    return model, data.load("fashion-mnist", full=full_data), config


def score_moons(budget: str | None = None) -> Experiment:
    """A score model of two moons in the plane."""
    model = ScoreSDE(shape=(2,), data_std=1.5, end=1e-3, hidden=128, layers=3)
    return model, plane("two-moons"), config_for(budget, 600, 6000, **PLANE)


def score_digits(budget: str | None = None) -> Experiment:
    """A U-Net that learns the score of the 8x8 digits with noise within their grey levels."""
    model = ImageScoreSDE(shape=(1, 8, 8), levels=17, data_std=0.75, channels=24, **SMALL_UNET)
    return model, data.load("digits").without_labels(), config_for(budget, 100, 8000, **SMALL)


def flow_matching_checkerboard(budget: str | None = None) -> Experiment:
    """Flow matching on a checkerboard in the plane."""
    model = FlowMatching(shape=(2,), hidden=128, layers=3)
    return model, plane("checkerboard"), config_for(budget, 600, 10000, **PLANE)


def flow_matching_digits(budget: str | None = None) -> Experiment:
    """Flow matching by a U-Net on the 8x8 digits with noise within their grey levels."""
    options: dict[str, Any] = {"times": "near-data", "channels": 24, **SMALL_UNET}
    model = ImageFlowMatching(shape=(1, 8, 8), levels=17, **options)
    return model, data.load("digits").without_labels(), config_for(budget, 100, 8000, **SMALL)


def latent_diffusion_fashion(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A U-Net that diffuses the codes of ``image_vae_fashion``, with the class or without it."""
    dataset = data.load("fashion-mnist", full=full_data)
    options: dict[str, Any] = {"channels": 64, "multipliers": (1,), "predict": "v", "classes": 10}
    prior = Diffusion("unet", "cosine", skip=20, shape=(4, 7, 7), levels=None, **options)
    model = _latent("image_vae_fashion", prior, dataset)
    return model, dataset, config_for(budget, 40, 9000, clip=1.0, **CODES)


def latent_diffusion_emoji(budget: str | None = None) -> Experiment:
    """A diffusion Transformer of the codes of ``image_vae_emoji``, that may be told their names."""
    dataset = captions(language="en")
    options: dict[str, Any] = {"vocab_size": dataset.tokenizer.size, "context": PROMPT}
    options |= {"patch": 2, "width": 128, "layers": 3, "dropout": 0.1, "predict": "v"}
    prior = Diffusion("dit", "cosine", skip=20, shape=(4, 8, 8), levels=None, **options)
    model = _latent("image_vae_emoji", prior, dataset)
    return model, dataset, config_for(budget, 30, 2500, clip=1.0, **CODES)


def masked_diffusion_digits(budget: str | None = None) -> Experiment:
    """A masked diffusion of the pixels of the 8x8 digits."""
    options: dict[str, Any] = {"layers": 3, "heads": 4, "width": 64, "grid": (8, 8)}
    model = MaskedDiffusion(vocab_size=17, context=64, **options)
    config = transformer_config_for(budget, 200, 5500, batch_size=64)
    return model, pixels(data.load("digits")), config


def masked_diffusion_poems(budget: str | None = None) -> Experiment:
    """A masked diffusion of quatrains of the Tang, which writes a poem in any order."""
    dataset = poems()
    options: dict[str, Any] = {"layers": 3, "heads": 4, "width": 128, "dropout": 0.1}
    model = MaskedDiffusion(vocab_size=dataset.tokenizer.size, context=POEM, **options)
    return model, dataset, transformer_config_for(budget, 40, 10000, batch_size=64)


def _latent(autoencoder: str, prior: Diffusion, dataset: Dataset) -> LatentDiffusion:
    """``prior`` for the codes of the zoo's ``autoencoder``, divided by their spread in training."""
    model = LatentDiffusion(autoencoder=zoo.load(autoencoder), diffusion=prior)
    model.fit_scale(dataset.train[0][:2000], generator=torch.Generator().manual_seed(0))
    return model
