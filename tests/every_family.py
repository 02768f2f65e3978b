"""Every family of models in a size for tests that go through all of them, with a batch for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gentext.adversarial.gan import GAN, ImageGAN
from gentext.core import Model
from gentext.denoising.diffusion import Diffusion
from gentext.denoising.flow_matching import FlowMatching, ImageFlowMatching
from gentext.denoising.latent_diffusion import LatentDiffusion
from gentext.denoising.masked_diffusion import MaskedDiffusion
from gentext.denoising.reflow import Reflow
from gentext.denoising.score import ImageScoreSDE, ScoreSDE
from gentext.evaluation.classifier import Classifier, NoisyClassifier
from gentext.flows.dequantization import ImageFlow
from gentext.flows.flow import IAF, MAF, NSF, RealNVP
from gentext.flows.glow import Glow
from gentext.latent.autoencoder import Autoencoder, DenoisingAutoencoder
from gentext.latent.conditional_vae import ConditionalVAE, SemiSupervisedVAE
from gentext.latent.image_vae import ImageVAE
from gentext.latent.vae import IWAE, VAE
from gentext.sequences.bert import BERT
from gentext.sequences.gpt import GPT
from gentext.sequences.made import MADE
from gentext.sequences.pixelcnn import PixelCNN
from gentext.sequences.recurrent import RecurrentLM
from gentext.sequences.seq2seq import Seq2Seq
from gentext.sequences.vqvae import VQVAE
from gentext.sequences.wavenet import WaveNet

N, LEVELS, V, T = 8, 17, 11, 8
IMAGE: dict[str, Any] = {"shape": (1, 8, 8)}
GREY: dict[str, Any] = {**IMAGE, "levels": LEVELS}
UNET: dict[str, Any] = {"channels": 8, "multipliers": (1, 2)}
MLP: dict[str, Any] = {"hidden": 16, "layers": 2}
SMALL: dict[str, Any] = {"layers": 1, "heads": 2, "width": 16}
WORDS: dict[str, Any] = {"vocab_size": V, "context": T, **SMALL}
DIT: dict[str, Any] = {"vocab_size": V, "context": T, "patch": 2, "width": 16, "layers": 1}
FLOW: dict[str, Any] = {"features": 2, "transforms": 2, "hidden": (16,)}
NETS: dict[str, Any] = {"generator": "dcgan", "critic": "dcgan", "channels": 8}


def grey() -> tuple[Tensor, ...]:
    """Images of 17 grey levels."""
    return (torch.randint(LEVELS, (N, 1, 8, 8)) / (LEVELS - 1),)


def labels() -> Tensor:
    """Their classes."""
    return torch.randint(3, (N,))


def told() -> tuple[Tensor, ...]:
    """Images and their classes."""
    return (*grey(), labels())


def captioned() -> tuple[Tensor, ...]:
    """Images and prompts."""
    return (*grey(), torch.randint(2, V, (N, T)))


def plane() -> tuple[Tensor, ...]:
    """Points."""
    return (torch.randn(N, 2),)


def pairs() -> tuple[Tensor, ...]:
    """Points and noise to pair them with."""
    return torch.randn(N, 2), torch.randn(N, 2)


def tokens() -> tuple[Tensor, ...]:
    """Rows of tokens, none of which is special."""
    return (torch.randint(4, V, (N, T)),)


def bits() -> tuple[Tensor, ...]:
    """Vectors of zeros and ones."""
    return (torch.randint(2, (N, 6)).float(),)


def half_labelled() -> tuple[Tensor, ...]:
    """Images, half of them without a label."""
    return (*grey(), torch.where(torch.arange(N) < N // 2, labels(), -1))


def _latent() -> Model:
    autoencoder = ImageVAE(shape=(1, 8, 8), channels=2, hidden=8, levels=LEVELS)
    prior = Diffusion("unet", shape=(2, 2, 2), levels=None, channels=8, multipliers=(1,), classes=3)
    return LatentDiffusion(autoencoder=autoencoder, diffusion=prior, scale=1.0)


Family = tuple[Callable[[], Model], Callable[[], tuple[Tensor, ...]]]
FAMILIES: dict[str, Family] = {
    "autoencoder": (lambda: Autoencoder(**IMAGE, latent=4, hidden=16), grey),
    "denoising autoencoder": (
        lambda: DenoisingAutoencoder(**IMAGE, latent=4, sigma=0.2, hidden=16),
        grey,
    ),
    "VAE": (lambda: VAE(**GREY, latent=4, hidden=16, likelihood="logistic"), grey),
    "convolutional VAE": (
        lambda: VAE(**GREY, latent=4, hidden=16, net="conv", likelihood="logistic"),
        grey,
    ),
    "continuous Bernoulli VAE": (
        lambda: VAE(**IMAGE, latent=4, hidden=16, likelihood="continuous-bernoulli"),
        grey,
    ),
    "IWAE": (lambda: IWAE(**GREY, latent=4, hidden=16, likelihood="logistic", k=3), grey),
    "conditional VAE": (
        lambda: ConditionalVAE(**GREY, classes=3, latent=4, hidden=16, likelihood="logistic"),
        told,
    ),
    "M2": (
        lambda: SemiSupervisedVAE(**GREY, classes=3, latent=4, hidden=16, likelihood="logistic"),
        half_labelled,
    ),
    "image VAE": (lambda: ImageVAE(**GREY, channels=2, hidden=8), grey),
    "VQ-VAE": (
        lambda: VQVAE(**GREY, codes=8, code_size=4, hidden=8, likelihood="logistic"),
        grey,
    ),
    "VQ-VAE by gradients": (
        lambda: VQVAE(**GREY, codes=8, code_size=4, hidden=8, likelihood="logistic", decay=None),
        grey,
    ),
    "GPT": (lambda: GPT(**WORDS, dropout=0.1), tokens),
    "padded GPT": (lambda: GPT(**WORDS, pad=0), tokens),
    "recurrent": (lambda: RecurrentLM(vocab_size=V, hidden=16, dropout=0.1, pad=0), tokens),
    "recurrent of rows": (lambda: RecurrentLM(vocab_size=V, hidden=16, cell="lstm", row=4), tokens),
    "WaveNet": (lambda: WaveNet(levels=V, channels=8, layers=2), tokens),
    "MADE": (lambda: MADE(features=6, hidden=16), bits),
    "PixelCNN": (lambda: PixelCNN(**GREY, channels=8, layers=2), grey),
    "logistic PixelCNN": (
        lambda: PixelCNN(**GREY, channels=8, layers=2, likelihood="logistic"),
        grey,
    ),
    "BERT": (lambda: BERT(**WORDS, pad=0, mask=3), tokens),
    "Transformer": (
        lambda: Seq2Seq(vocab_size=V, width=16, layers=1, heads=2),
        lambda: (*tokens(), *tokens()),
    ),
    "recurrent translator": (
        lambda: Seq2Seq(vocab_size=V, net="gru", width=16, layers=1),
        lambda: (*tokens(), *tokens()),
    ),
    "RealNVP": (lambda: RealNVP(**FLOW), plane),
    "MAF": (lambda: MAF(**FLOW), plane),
    "IAF": (lambda: IAF(**FLOW), plane),
    "NSF": (lambda: NSF(**FLOW), plane),
    "autoregressive NSF": (lambda: NSF(**FLOW, autoregressive=True), plane),
    "flow of a uniform base": (lambda: NSF(**FLOW, base="uniform"), lambda: (torch.rand(N, 2),)),
    "flow of a mixture": (lambda: RealNVP(**FLOW, base=3), plane),
    "image flow": (lambda: ImageFlow(**GREY, transforms=2, hidden=(16,)), grey),
    "variational dequantization": (
        lambda: ImageFlow(**GREY, noise="variational", transforms=2, hidden=(16,)),
        grey,
    ),
    "Glow": (
        lambda: Glow(shape=(1, 8, 8), scales=2, steps=1, hidden=8),
        lambda: (torch.randn(N, 64),),
    ),
    "image Glow": (lambda: ImageFlow(**GREY, flow="glow", scales=2, steps=1, hidden=8), grey),
    "diffusion": (lambda: Diffusion("mlp", **GREY, **MLP), grey),
    "U-Net diffusion": (
        lambda: Diffusion("unet", **GREY, **UNET, classes=3, predict="v", dropout=0.1),
        told,
    ),
    "diffusion Transformer": (lambda: Diffusion("dit", **GREY, **DIT, heads=2), captioned),
    "latent diffusion": (_latent, told),
    "score": (lambda: ScoreSDE(shape=(2,), **MLP), plane),
    "VE score": (lambda: ScoreSDE(shape=(2,), process="ve", **MLP), plane),
    "image score": (lambda: ImageScoreSDE(**GREY, **UNET), grey),
    "flow matching": (lambda: FlowMatching(shape=(2,), **MLP), plane),
    "conditional flow matching": (
        lambda: FlowMatching(shape=(2,), classes=3, **MLP),
        lambda: (*plane(), labels()),
    ),
    "image flow matching": (lambda: ImageFlowMatching(**GREY, **UNET), grey),
    "Reflow": (lambda: Reflow(flow=FlowMatching(shape=(2,), **MLP)), pairs),
    "masked diffusion": (lambda: MaskedDiffusion(**WORDS), tokens),
    "GAN": (lambda: GAN(shape=(2,), latent=2, **MLP, penalties={"r1": 0.5, "r2": 0.5}), plane),
    "Wasserstein GAN": (
        lambda: GAN(shape=(2,), latent=2, objective="wasserstein-gp", **MLP),
        plane,
    ),
    "image GAN": (lambda: ImageGAN(**IMAGE, latent=4, classes=3, **NETS), told),
    "spectral GAN": (lambda: ImageGAN(**IMAGE, latent=4, **NETS, spectral=True), grey),
    "classifier": (lambda: Classifier(**IMAGE, classes=3, channels=8, mirror=True), told),
    "noisy classifier": (lambda: NoisyClassifier(**IMAGE, classes=3, channels=8), told),
}


def built(name: str) -> tuple[Any, tuple[Tensor, ...]]:
    """A model of a family, always the same, and a batch for it."""
    torch.manual_seed(0)
    model, batch = FAMILIES[name]
    return model(), batch()
