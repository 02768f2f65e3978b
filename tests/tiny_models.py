"""A tiny model of every family, with data for it: whatever training can disturb is in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import gentext as gt

IMAGES = {"shape": (1, 8, 8)}
LABELLED: dict[str, Any] = {"classes": 3}
BLOCKS: dict[str, Any] = {"layers": 1, "heads": 2, "width": 8, "dropout": 0.5}
ROWS: dict[str, Any] = {"vocab_size": 9, "context": 6, **BLOCKS}
FLOW: dict[str, Any] = {"features": 4, "transforms": 2, "hidden": (8,)}
CODER: dict[str, Any] = {**IMAGES, "latent": 3, "hidden": 16}
TIMED: dict[str, Any] = {"net": "mlp", "hidden": 8, "layers": 1, "dropout": 0.5}
SORTED: dict[str, Any] = {**IMAGES, **LABELLED, "channels": 8, "features": 8, "dropout": 0.5}

Batch = tuple[Tensor, ...]


def images() -> Tensor:
    """Of 17 grey levels."""
    return torch.randint(17, (6, 1, 8, 8)) / 16


def binary() -> Tensor:
    return images().round()


def points() -> Tensor:
    return torch.randn(6, 4)


def labels() -> Tensor:
    return torch.tensor([0, 1, 2, 2, 1, 0])


def tokens() -> Tensor:
    return torch.randint(3, 9, (6, 5))


def disturbed(model: Any) -> Any:
    """The same model with dropout and batch normalisation before each linear layer."""
    for name, child in list(model.named_children()):
        if type(child) is nn.Linear:
            norm = nn.BatchNorm1d(child.in_features)
            setattr(model, name, nn.Sequential(nn.Dropout(0.5), norm, child))
        elif type(child) is nn.Conv2d:
            norm = nn.BatchNorm2d(child.in_channels)
            setattr(model, name, nn.Sequential(nn.Dropout(0.5), norm, child))
        else:
            disturbed(child)
    return model


def latent_diffusion() -> Any:
    coder = gt.VAE(**CODER, likelihood="normal")
    net = {**TIMED, "levels": None, "steps": 20, **LABELLED}
    return gt.LatentDiffusion(
        autoencoder=coder, diffusion=gt.Diffusion(shape=(3,), **net), scale=1.0
    )


# name: the arguments by which it is built, and the data that it is given
SETTINGS: dict[str, tuple[dict[str, Any], Callable[[], Batch]]] = {
    "Autoencoder": (CODER, lambda: (images(),)),
    "DenoisingAutoencoder": ({**CODER, "sigma": 0.5}, lambda: (images(),)),
    "VAE": ({**CODER, "likelihood": "normal", "scale": 0.5, "beta": 2.0}, lambda: (images(),)),
    "IWAE": ({**CODER, "k": 2}, lambda: (binary(),)),
    "ImageVAE": ({**IMAGES, "channels": 2, "hidden": 4, "levels": 17}, lambda: (images(),)),
    "ConditionalVAE": (
        {**CODER, **LABELLED, "likelihood": "logistic", "levels": 17},
        lambda: (images(), labels()),
    ),
    "SemiSupervisedVAE": ({**CODER, **LABELLED, "alpha": 2.0}, lambda: (binary(), labels())),
    "VQVAE": (
        {**IMAGES, "codes": 4, "code_size": 2, "hidden": 4, "beta": 0.5, "decay": 0.5},
        lambda: (binary(),),
    ),
    "GAN": (
        {"shape": (4,), "latent": 2, "hidden": 8, "objective": "hinge", "critic_steps": 2}
        | LABELLED
        | {"penalties": {"r1": 0.5}},
        lambda: (points(), labels()),
    ),
    "ImageGAN": ({**CODER, **LABELLED, "spectral": True}, lambda: (images(), labels())),
    "Diffusion": (
        {**IMAGES, **TIMED, **LABELLED, "levels": 17, "steps": 20, "skip": 1},
        lambda: (images(), labels()),
    ),
    "FlowMatching": ({"shape": (4,), **TIMED, **LABELLED}, lambda: (points(), labels())),
    "ImageFlowMatching": (
        {**IMAGES, **TIMED, **LABELLED, "levels": 17},
        lambda: (images(), labels()),
    ),
    "ScoreSDE": (
        {"shape": (4,), **TIMED, "data_std": 0.5, "end": 1e-3, "noise": (0.1, 20.0)},
        lambda: (points(),),
    ),
    "ImageScoreSDE": ({**IMAGES, **TIMED, "levels": 17}, lambda: (images(),)),
    "MaskedDiffusion": ({**ROWS, "grid": (2, 3)}, lambda: (torch.randint(9, (6, 6)),)),
    "BERT": (ROWS, lambda: (tokens(),)),
    "GPT": ({**ROWS, "bos": 1, "pad": 0}, lambda: (tokens(),)),
    "RecurrentLM": (
        {"vocab_size": 9, "hidden": 8, "dropout": 0.5, "row": 3},
        lambda: (tokens(),),
    ),
    "WaveNet": (
        {"levels": 9, "channels": 4, "layers": 2, "dropout": 0.5},
        lambda: (tokens(),),
    ),
    "Seq2Seq": (
        {"vocab_size": 9, "context": 6, **BLOCKS, "smoothing": 0.25},
        lambda: (tokens(), tokens()),
    ),
    "PixelCNN": (
        {"shape": (1, 4, 4), "levels": 4, "channels": 4, "layers": 2, "dropout": 0.5},
        lambda: (torch.randint(4, (6, 1, 4, 4)) / 3,),
    ),
    "MADE": ({"features": 4, "hidden": 8}, lambda: (points().sign().relu(),)),
    "RealNVP": ({**FLOW, "dropout": 0.5}, lambda: (points(),)),
    "MAF": ({**FLOW, "dropout": 0.5, "base": 2}, lambda: (points(),)),
    "IAF": (FLOW, lambda: (points(),)),
    "NSF": ({**FLOW, "dropout": 0.5, "bins": 4}, lambda: (points(),)),
    "Glow": ({**IMAGES, "scales": 1, "steps": 1, "hidden": 4}, lambda: (images().flatten(1),)),
    "ImageFlow": (
        {**IMAGES, "levels": 17, "transforms": 2, "hidden": (8,), "dropout": 0.5},
        lambda: (images(),),
    ),
    "Classifier": (SORTED, lambda: (images(), labels())),
    "NoisyClassifier": (SORTED, lambda: (images(), labels())),
}
WITHOUT_DROPOUT = ("AE", "Autoencoder", "GAN")


def tiny(name: str) -> Any:
    """The model of this name, in training mode, after a while of training: no weight is zero."""
    if name == "LatentDiffusion":
        model = latent_diffusion()
    else:
        model = getattr(gt, name)(**SETTINGS[name][0])
    model = disturbed(model) if name.endswith(WITHOUT_DROPOUT) else model
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def batch(name: str) -> Batch:
    """Data for it, the same each time."""
    torch.manual_seed(1)
    return (images(), labels()) if name == "LatentDiffusion" else SETTINGS[name][1]()


NAMES = (*SETTINGS, "LatentDiffusion")
