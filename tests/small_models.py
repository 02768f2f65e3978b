"""A small model of every family with a batch for it, to try in one go what holds for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import gentext as gt
from gentext.core import Model

IMAGE, LEVELS = (1, 8, 8), 4
Batch = tuple[Tensor, ...]


def images(n: int = 3) -> Tensor:
    return torch.randint(LEVELS, (n, *IMAGE)) / (LEVELS - 1)


def points(n: int = 3) -> Tensor:
    return torch.randn(n, 4)


def bits(n: int = 3) -> Tensor:
    return points(n).gt(0).to(torch.get_default_dtype())


def labels(n: int = 3) -> Tensor:
    return torch.arange(n) % 2


def tokens(n: int = 3) -> Tensor:
    return torch.randint(3, 9, (n, 6))


def made(kind: Any, batch: Callable[[], Batch], *unnamed: Any, **named: Any) -> Any:
    return lambda: kind(*unnamed, **named), batch


def one(x: Callable[[], Tensor]) -> Callable[[], Batch]:
    return lambda: (x(),)


def with_labels() -> Batch:
    return images(), labels()


GREY = {"shape": IMAGE, "levels": LEVELS}
VAE = {"shape": IMAGE, "latent": 3, "hidden": 8}
FLOW = {"features": 4, "transforms": 2, "hidden": (8,)}
TEXT = {"vocab_size": 9, "context": 8, "layers": 1, "heads": 2, "width": 8}
MLP = {"hidden": 8, "layers": 1}
PIXELS = {**GREY, "channels": 4, "layers": 1}
CLASSIFIER = {"shape": IMAGE, "classes": 2, "channels": 8, "features": 8}


def latent_vae() -> Model:
    flow = gt.FlowMatching(shape=(3,), **MLP)
    return gt.LatentDiffusion(autoencoder=gt.VAE(**VAE), diffusion=flow, scale=0.3)


def latent_vqvae() -> Model:
    coder = gt.VQVAE(shape=IMAGE, codes=4, code_size=3, hidden=8)
    prior = gt.Diffusion("mlp", shape=(3, 2, 2), levels=None, steps=20, **MLP)
    return gt.LatentDiffusion(autoencoder=coder, diffusion=prior, scale=0.3)


def reflow() -> Model:
    return gt.reflow.Reflow(flow=gt.FlowMatching(shape=(4,), **MLP))


FAMILIES: dict[str, tuple[Callable[[], Any], Callable[[], Batch]]] = {
    "vae": made(gt.VAE, one(images), **VAE),
    "vae_logistic": made(gt.VAE, one(images), **VAE, likelihood="logistic", levels=LEVELS),
    "vae_continuous": made(gt.VAE, one(images), **VAE, likelihood="continuous-bernoulli"),
    "vae_normal": made(gt.VAE, one(images), **VAE, likelihood="normal", scale=0.1),
    "iwae": made(gt.IWAE, one(images), **VAE),
    "conditional_vae": made(gt.ConditionalVAE, with_labels, **VAE, classes=2),
    "m2": made(gt.SemiSupervisedVAE, with_labels, **VAE, classes=2),
    "image_vae": made(gt.ImageVAE, one(images), **GREY, channels=2, hidden=8),
    "autoencoder": made(gt.Autoencoder, one(images), **VAE),
    "denoising": made(gt.DenoisingAutoencoder, one(images), **VAE, sigma=0.3),
    "vqvae": made(gt.VQVAE, one(images), shape=IMAGE, codes=4, code_size=3, hidden=8),
    "realnvp": made(gt.RealNVP, one(points), **FLOW),
    "nsf": made(gt.NSF, one(points), **FLOW),
    "nsf_autoregressive": made(gt.NSF, one(points), **FLOW, autoregressive=True),
    "maf": made(gt.MAF, one(points), **FLOW),
    "iaf": made(gt.IAF, one(points), **FLOW, base=2),
    "glow": made(gt.ImageFlow, one(images), **GREY, flow="glow", scales=1, steps=1, hidden=8),
    "variational": made(
        gt.ImageFlow, one(images), **GREY, noise="variational", transforms=1, hidden=(8,)
    ),
    "made": made(gt.MADE, one(bits), features=4, hidden=8),
    "gpt": made(gt.GPT, one(tokens), **TEXT),
    "gru": made(gt.RecurrentLM, one(tokens), vocab_size=9, hidden=8),
    "lstm": made(gt.RecurrentLM, one(tokens), vocab_size=9, hidden=8, cell="lstm"),
    "wavenet": made(gt.WaveNet, one(tokens), levels=9, channels=4, layers=2),
    "bert": made(gt.BERT, one(tokens), **TEXT),
    "seq2seq": made(gt.Seq2Seq, lambda: (tokens(), tokens()), **TEXT),
    "seq2seq_gru": made(
        gt.Seq2Seq, lambda: (tokens(), tokens()), vocab_size=9, width=8, layers=1, net="gru"
    ),
    "pixelcnn": made(gt.PixelCNN, one(images), **PIXELS),
    "pixelcnn_logistic": made(gt.PixelCNN, one(images), **PIXELS, likelihood="logistic"),
    "pixelcnn_codes": made(gt.PixelCNN, one(images), **PIXELS, ordered=False),
    "diffusion": made(gt.Diffusion, one(images), "mlp", **GREY, steps=20, **MLP),
    "diffusion_learned": made(
        gt.Diffusion, one(images), "mlp", "learned", **GREY, steps=20, weighting="bound", **MLP
    ),
    "diffusion_points": made(
        gt.Diffusion, one(points), "mlp", shape=(4,), levels=None, steps=20, predict="v", **MLP
    ),
    "unet": made(
        gt.Diffusion, with_labels, **GREY, steps=20, channels=8, multipliers=(1, 2), classes=2
    ),
    "dit": made(gt.Diffusion, with_labels, "dit", **GREY, steps=20, width=16, layers=1, classes=2),
    "score": made(gt.ScoreSDE, one(points), shape=(4,), **MLP),
    "image_score": made(gt.ImageScoreSDE, one(images), **GREY, net="mlp", **MLP),
    "flow_matching": made(gt.FlowMatching, one(points), shape=(4,), **MLP),
    "image_flow_matching": made(gt.ImageFlowMatching, one(images), **GREY, net="mlp", **MLP),
    "reflow": (reflow, lambda: (points(), points())),
    "masked_diffusion": made(gt.MaskedDiffusion, one(tokens), **{**TEXT, "context": 6}),
    "latent_vae": (latent_vae, one(images)),
    "latent_vqvae": (latent_vqvae, one(images)),
    "gan": made(gt.GAN, one(points), shape=(4,), latent=3, **MLP),
    "gan_gp": made(gt.GAN, one(points), shape=(4,), latent=3, objective="wasserstein-gp", **MLP),
    "gan_hinge": made(gt.GAN, one(points), shape=(4,), latent=3, objective="hinge", **MLP),
    "image_gan": made(gt.ImageGAN, one(images), shape=IMAGE, latent=3, **MLP),
    "classifier": made(gt.Classifier, with_labels, **CLASSIFIER),
    "noisy_classifier": made(gt.NoisyClassifier, with_labels, **CLASSIFIER),
}


def build(name: str) -> tuple[Any, Batch]:
    """The model, with weights off the zeros that some begin with, and its batch."""
    make, batch = FAMILIES[name]
    torch.manual_seed(0)
    model, rows = make(), batch()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model, rows
