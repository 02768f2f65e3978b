"""Experiments of the book: each function gives a model, its data and how to train it.

A recipe is named ``<stem>_<data>`` and knows two budgets: ``quick`` for a minute on two cores and
``full`` for a GPU or patience. ``full_data`` takes the whole data set instead of the excerpt.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

from gentext import data, zoo
from gentext.adversarial.gan import GAN, ImageGAN
from gentext.core import Model
from gentext.data import Dataset
from gentext.data.prepared import (
    POEM,
    PROMPT,
    SENTENCE,
    binary,
    captions,
    codes,
    few_labels,
    images,
    pixels,
    plane,
    poems,
    shakespeare,
    shuttle,
    translations,
)
from gentext.denoising.diffusion import Diffusion
from gentext.denoising.flow_matching import FlowMatching, ImageFlowMatching
from gentext.denoising.latent_diffusion import LatentDiffusion
from gentext.denoising.masked_diffusion import MaskedDiffusion
from gentext.denoising.score import ImageScoreSDE, ScoreSDE
from gentext.evaluation.classifier import Classifier, NoisyClassifier
from gentext.flows.dequantization import ImageFlow
from gentext.flows.flow import MAF, NSF, RealNVP
from gentext.latent.autoencoder import Autoencoder, DenoisingAutoencoder
from gentext.latent.conditional_vae import ConditionalVAE, SemiSupervisedVAE
from gentext.latent.image_vae import ImageVAE
from gentext.latent.vae import IWAE, VAE
from gentext.sequences.bert import BERT
from gentext.sequences.gpt import GPT
from gentext.sequences.pixelcnn import PixelCNN
from gentext.sequences.recurrent import RecurrentLM
from gentext.sequences.seq2seq import Seq2Seq
from gentext.sequences.vqvae import VQVAE
from gentext.tokens.tokenizer import PAD
from gentext.training.config import TrainConfig

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


def recurrent_shakespeare(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A gated recurrent network that writes Shakespeare character by character."""
    dataset = shakespeare(128)
    model = RecurrentLM(vocab_size=dataset.tokenizer.size, hidden=384)
    return model, dataset, _config(chosen, 40, 1500, batch_size=32, lr=4e-3, clip=1.0, ema=0.99)


def recurrent_poems(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A gated recurrent network that writes quatrains of the Tang character by character."""
    dataset = poems()
    model = RecurrentLM(vocab_size=dataset.tokenizer.size, hidden=256, dropout=0.2, pad=PAD)
    return model, dataset, _config(chosen, 40, 1500, batch_size=64, lr=4e-3, clip=1.0, ema=0.99)


def recurrent_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A gated recurrent network on the pixels of the 8x8 digits, given the pixel above as well."""
    dataset = pixels(data.load("digits"))
    model = RecurrentLM(vocab_size=18, hidden=128, dropout=0.5, bos=17, row=8)
    config = _config(
        chosen, 150, 1800, batch_size=64, lr=3e-3, weight_decay=0.1, clip=1.0, ema=0.99
    )
    return model, dataset, config


def gpt_shakespeare(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A GPT that writes Shakespeare character by character, reading the last 256."""
    dataset = shakespeare(256)
    model = GPT(vocab_size=dataset.tokenizer.size, context=256, layers=4, heads=6, width=192)
    return model, dataset, _gpt_config(chosen, 60, 14_000, batch_size=4)


def gpt_poems(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A GPT that writes quatrains of the Tang character by character."""
    dataset = poems()
    model = GPT(
        vocab_size=dataset.tokenizer.size,
        context=POEM,
        layers=3,
        heads=6,
        width=192,
        dropout=0.1,
        pad=PAD,
    )
    return model, dataset, _gpt_config(chosen, 100, 3000, batch_size=64)


def gpt_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A GPT on the pixels of the 8x8 digits, row by row."""
    dataset = pixels(data.load("digits"))
    model = GPT(vocab_size=18, context=64, layers=3, heads=4, width=64, dropout=0.2, bos=17)
    return model, dataset, _gpt_config(chosen, 200, 3000, batch_size=64)


def bert_poems(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A BERT that fills gaps in quatrains of the Tang, character by character."""
    dataset = poems()
    model = BERT(
        vocab_size=dataset.tokenizer.size,
        context=POEM,
        layers=3,
        heads=4,
        width=128,
        pad=PAD,
    )
    return model, dataset, _gpt_config(chosen, 60, 4500, batch_size=64)


def seq2seq_en_zh(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A Transformer that translates English numbers, dates and sentences into Chinese."""
    return _translator(chosen, 750)


def seq2seq_zh_en(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A Transformer that translates Chinese numbers, dates and sentences into English."""
    return _translator(chosen, 1000, reverse=True)


def seq2seq_gru_en_zh(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """The translator of ``seq2seq_en_zh`` by recurrent networks with attention, in equal time."""
    return _translator(chosen, 820, net="gru", lr=3e-3)


def pixelcnn_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A gated PixelCNN on the 8x8 digits."""
    model = PixelCNN(shape=(1, 8, 8), levels=17, channels=24, kernel=5, dropout=0.3)
    config = _config(chosen, 200, 2000, batch_size=64, lr=4e-3, weight_decay=0.01, ema=0.995)
    return model, data.load("digits").without_labels(), config


def pixelcnn_fashion(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A gated PixelCNN on Fashion-MNIST in its 256 grey levels."""
    model = PixelCNN(shape=(1, 28, 28), levels=256, channels=24, kernel=5)
    config = _config(chosen, 40, 3500, batch_size=32, lr=3e-3, clip=1000.0, ema=0.998)
    return model, data.load("fashion-mnist", full=full_data).without_labels(), config


def vqvae_mnist(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A VQ-VAE that writes a binary MNIST digit as 49 of 64 codes."""
    dataset = binary(data.load("mnist", full=full_data)).without_labels()
    model = VQVAE(shape=(1, 28, 28))
    return model, dataset, _config(chosen, 120, 1200, batch_size=64, lr=2e-3, ema=0.99)


def pixelcnn_codes(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A PixelCNN as the prior over the codes of ``vqvae_mnist``."""
    maps = images(_codes(full_data), lambda k: k.view(-1, 1, 7, 7), shape=(1, 7, 7))
    model = PixelCNN(shape=(1, 7, 7), levels=64, layers=3, kernel=5, dropout=0.3, ordered=False)
    return model, maps, _config(chosen, 100, 1000, batch_size=64, lr=2e-3, ema=0.99)


def gpt_codes(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A GPT as the prior over the codes of ``vqvae_mnist``."""
    model = GPT(vocab_size=65, context=49, layers=3, heads=4, width=96, dropout=0.2, bos=64)
    return model, _codes(full_data), _gpt_config(chosen, 60, 1500, batch_size=64)


def nsf_moons(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A spline flow of the two moons, a density in the plane."""
    return _plane("two-moons", chosen)


def nsf_checkerboard(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A spline flow of the checkerboard, a density with edges."""
    return _plane("checkerboard", chosen)


def nsf_gaussians(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A spline flow of eight Gaussians on a circle."""
    return _plane("eight-gaussians", chosen)


def realnvp_gaussians(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A flow of affine couplings of eight Gaussians, between which it cannot cut."""
    model = RealNVP(features=2, transforms=8, hidden=(64, 64))
    config = _config(chosen, 800, 4000, batch_size=512, lr=2e-3, clip=5.0)
    return model, plane("eight-gaussians"), config


def maf_shuttle(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A masked autoregressive flow of the shuttle's table in its usual state."""
    model = MAF(features=9, transforms=4, hidden=(128, 128))
    return model, shuttle(), _config(chosen, 300, 6000, **_TABLE)


def nsf_shuttle(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """An autoregressive spline flow of the shuttle's table in its usual state."""
    model = NSF(features=9, transforms=3, hidden=(128, 128), autoregressive=True)
    return model, shuttle(), _config(chosen, 200, 4000, **_TABLE)


def realnvp_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """Affine couplings on the 8x8 digits with uniform noise."""
    return _digits("realnvp", chosen, 2500, transforms=8, hidden=(512,), dropout=0.5)


def maf_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A masked autoregressive flow on the 8x8 digits with uniform noise."""
    return _digits("maf", chosen, 3500, transforms=4, hidden=(512,), dropout=0.6)


def nsf_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """Spline couplings on the 8x8 digits with uniform noise."""
    return _digits("nsf", chosen, 4000, transforms=6, hidden=(256,), dropout=0.5)


def nsf_variational_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """The flow of ``nsf_digits`` with noise from a second flow that is shown the image."""
    options: dict[str, Any] = {"transforms": 6, "hidden": (256,), "dropout": 0.5}
    return _digits("nsf", chosen, 4000, noise="variational", **options)


def glow_fashion(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A multi-scale flow of splines on Fashion-MNIST with uniform noise."""
    model = ImageFlow(shape=(1, 28, 28), flow="glow", scales=2, steps=8, hidden=64, bins=8)
    config = _config(chosen, 40, 5000, batch_size=64, lr=2e-3, clip=500.0, ema=0.998)
    return model, data.load("fashion-mnist", full=full_data).without_labels(), config


def classifier_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A classifier of the 8x8 digits."""
    model = Classifier(shape=(1, 8, 8), classes=10, dropout=0.3)
    return model, data.load("digits"), _config(chosen, 400, 1500, lr=2e-3, weight_decay=0.05)


def classifier_fashion(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A classifier of Fashion-MNIST, whose codes are where samples are compared with data."""
    model = Classifier(shape=(1, 28, 28), classes=10, dropout=0.3, mirror=True)
    config = _config(chosen, 150, 5000, lr=2e-3, weight_decay=0.05)
    return model, data.load("fashion-mnist", full=full_data), config


def classifier_mnist(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A classifier of MNIST, in whose features samples are compared."""
    model = Classifier(shape=(1, 28, 28), classes=10, channels=32, dropout=0.5)
    dataset = data.load("mnist", full=full_data)
    return model, dataset, _config(chosen, 60, 1200, batch_size=64, lr=2e-3, ema=0.99)


def noisy_classifier_fashion(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A classifier of Fashion-MNIST in noise, which steers diffusions."""
    model = NoisyClassifier(shape=(1, 28, 28), classes=10)
    config = _config(chosen, 150, 4000, lr=2e-3, weight_decay=0.05)
    return model, data.load("fashion-mnist", full=full_data), config


def diffusion_mlp_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A perceptron that predicts noise on the 8x8 digits, at the levels of the first papers."""
    model = Diffusion("mlp", "linear", shape=(1, 8, 8), levels=17, hidden=512, layers=3)
    config = _config(chosen, 400, 3000, lr=2e-3, ema=0.998)
    return model, data.load("digits").without_labels(), config


def diffusion_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A U-Net that predicts noise on the 8x8 digits, whose least noise suits their grey levels."""
    options: dict[str, Any] = {"channels": 24, "multipliers": (1, 2), "dropout": 0.1}
    model = Diffusion("unet", "linear", shape=(1, 8, 8), levels=17, skip=9, **options)
    config = _config(chosen, 100, 4000, lr=2e-3, weight_decay=0.01, ema=0.998)
    return model, data.load("digits").without_labels(), config


def diffusion_fashion(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A U-Net that predicts velocities on Fashion-MNIST, with the class or without it."""
    options: dict[str, Any] = {"channels": 24, "predict": "v", "classes": 10}
    model = Diffusion("unet", "cosine", shape=(1, 28, 28), **options)
    config = _config(chosen, 30, 3500, batch_size=64, lr=2e-3, clip=1.0, ema=0.998)
    return model, data.load("fashion-mnist", full=full_data), config


def score_moons(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A score model of two moons in the plane."""
    model = ScoreSDE(shape=(2,), data_std=1.5, end=1e-3, hidden=128, layers=3)
    return model, plane("two-moons"), _config(chosen, 600, 6000, **_PLANE)


def score_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A U-Net that learns the score of the 8x8 digits with noise within their grey levels."""
    model = ImageScoreSDE(shape=(1, 8, 8), levels=17, data_std=0.75, channels=24, **_SMALL_UNET)
    return model, data.load("digits").without_labels(), _config(chosen, 100, 8000, **_SMALL)


def flow_matching_checkerboard(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """Flow matching on a checkerboard in the plane."""
    model = FlowMatching(shape=(2,), hidden=128, layers=3)
    return model, plane("checkerboard"), _config(chosen, 600, 10000, **_PLANE)


def flow_matching_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """Flow matching by a U-Net on the 8x8 digits with noise within their grey levels."""
    options: dict[str, Any] = {"times": "near-data", "channels": 24, **_SMALL_UNET}
    model = ImageFlowMatching(shape=(1, 8, 8), levels=17, **options)
    return model, data.load("digits").without_labels(), _config(chosen, 100, 8000, **_SMALL)


def image_vae_fashion(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A VAE whose codes are maps of 4x7x7, of Fashion-MNIST."""
    model = ImageVAE(shape=(1, 28, 28), hidden=48, beta=0.5)
    dataset = data.load("fashion-mnist", full=full_data).without_labels()
    return model, dataset, _config(chosen, 60, 6000, **_LATENT)


def image_vae_emoji(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A VAE whose codes are maps of 4x8x8, of emoji in colour."""
    model = ImageVAE(shape=(3, 32, 32), hidden=48, beta=0.2)
    return model, data.load("emoji").without_labels(), _config(chosen, 40, 5000, **_LATENT)


def latent_diffusion_fashion(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A U-Net that diffuses the codes of ``image_vae_fashion``, with the class or without it."""
    dataset = data.load("fashion-mnist", full=full_data)
    options: dict[str, Any] = {"channels": 64, "multipliers": (1,), "predict": "v", "classes": 10}
    prior = Diffusion("unet", "cosine", skip=20, shape=(4, 7, 7), levels=None, **options)
    model = _latent("image_vae_fashion", prior, dataset)
    return model, dataset, _config(chosen, 40, 9000, clip=1.0, **_LATENT)


def latent_diffusion_emoji(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A diffusion Transformer of the codes of ``image_vae_emoji``, that may be told their names."""
    dataset = captions(language="en")
    options: dict[str, Any] = {"vocab_size": dataset.tokenizer.size, "context": PROMPT}
    options |= {"patch": 2, "width": 128, "layers": 3, "dropout": 0.1, "predict": "v"}
    prior = Diffusion("dit", "cosine", skip=20, shape=(4, 8, 8), levels=None, **options)
    model = _latent("image_vae_emoji", prior, dataset)
    return model, dataset, _config(chosen, 30, 2500, clip=1.0, **_LATENT)


def masked_diffusion_digits(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A masked diffusion of the pixels of the 8x8 digits."""
    options: dict[str, Any] = {"layers": 3, "heads": 4, "width": 64, "grid": (8, 8)}
    model = MaskedDiffusion(vocab_size=17, context=64, **options)
    return model, pixels(data.load("digits")), _gpt_config(chosen, 200, 5500, batch_size=64)


def masked_diffusion_poems(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A masked diffusion of quatrains of the Tang, which writes a poem in any order."""
    dataset = poems()
    options: dict[str, Any] = {"layers": 3, "heads": 4, "width": 128, "dropout": 0.1}
    model = MaskedDiffusion(vocab_size=dataset.tokenizer.size, context=POEM, **options)
    return model, dataset, _gpt_config(chosen, 40, 10000, batch_size=64)


def gan_gaussians(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A GAN of eight normals in a ring, relativistic with R1 and R2."""
    model = GAN(shape=(2,), latent=2, hidden=64, layers=2, penalties={"r1": 0.5, "r2": 0.5})
    return model, plane("eight-gaussians"), _config(chosen, 1500, 10_000, **_GAME)


def gan_grid25(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A GAN of 25 narrow normals, with waves of codes and points, relativistic with R1 and R2."""
    model = GAN(
        shape=(2,),
        latent=1,
        hidden=64,
        layers=2,
        frequencies=(20.0, 6.0),
        penalties={"r1": 0.5, "r2": 0.5},
    )
    settings = {**_GAME, "lr": 5e-3, "ema": 0.999}
    return model, plane("grid25"), _config(chosen, 10_000, 20_000, **settings)


def gan_fashion(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A DCGAN of Fashion-MNIST, relativistic with R1 and R2."""
    dataset = data.load("fashion-mnist", full=full_data).without_labels()
    return _image_gan(), dataset, _config(chosen, 60, 4000, **_IMAGE_GAME)


def gan_mnist(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A DCGAN of MNIST, relativistic with R1 and R2."""
    dataset = data.load("mnist", full=full_data).without_labels()
    return _image_gan(), dataset, _config(chosen, 60, 4000, **_IMAGE_GAME)


def conditional_gan_fashion(chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """A DCGAN of Fashion-MNIST given the class, with a projection critic."""
    dataset = data.load("fashion-mnist", full=full_data)
    return _image_gan(classes=10), dataset, _config(chosen, 60, 4000, **_IMAGE_GAME)


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
        recurrent_shakespeare,
        recurrent_poems,
        recurrent_digits,
        gpt_shakespeare,
        gpt_poems,
        gpt_digits,
        bert_poems,
        seq2seq_en_zh,
        seq2seq_zh_en,
        seq2seq_gru_en_zh,
        pixelcnn_digits,
        pixelcnn_fashion,
        vqvae_mnist,
        pixelcnn_codes,
        gpt_codes,
        nsf_moons,
        nsf_checkerboard,
        nsf_gaussians,
        realnvp_gaussians,
        maf_shuttle,
        nsf_shuttle,
        realnvp_digits,
        maf_digits,
        nsf_digits,
        nsf_variational_digits,
        glow_fashion,
        diffusion_mlp_digits,
        diffusion_digits,
        diffusion_fashion,
        score_moons,
        score_digits,
        flow_matching_checkerboard,
        flow_matching_digits,
        image_vae_fashion,
        image_vae_emoji,
        latent_diffusion_fashion,
        latent_diffusion_emoji,
        masked_diffusion_digits,
        masked_diffusion_poems,
        classifier_digits,
        classifier_fashion,
        classifier_mnist,
        noisy_classifier_fashion,
        gan_gaussians,
        gan_grid25,
        gan_fashion,
        gan_mnist,
        conditional_gan_fashion,
    )
}


def build(name: str, chosen: str | None = None, *, full_data: bool = False) -> Experiment:
    """The model, data and training of the recipe called ``name``."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name](chosen, full_data=full_data)


def _plane(name: str, chosen: str | None) -> Experiment:
    model = NSF(features=2, transforms=6, hidden=(64, 64), bins=16)
    config = _config(chosen, 400, 4000, batch_size=512, lr=5e-3)
    return model, plane(name), config


_TABLE: dict[str, Any] = {"batch_size": 256, "lr": 2e-3, "clip": 20.0, "ema": 0.998}

_PLANE: dict[str, Any] = {"batch_size": 512, "lr": 2e-3, "ema": 0.998}
_SMALL: dict[str, Any] = {
    "batch_size": 64,
    "lr": 4e-3,
    "weight_decay": 0.01,
    "clip": 1.0,
    "ema": 0.998,
}
_GAME: dict[str, Any] = {"batch_size": 128, "lr": 2e-3, "betas": (0.5, 0.9), "ema": 0.99}
_IMAGE_GAME: dict[str, Any] = {"batch_size": 64, "lr": 2e-3, "betas": (0.0, 0.99), "ema": 0.998}
_LATENT: dict[str, Any] = {"batch_size": 64, "lr": 2e-3, "ema": 0.998}
_SMALL_UNET: dict[str, Any] = {"multipliers": (1, 2), "dropout": 0.2}


def _image_gan(classes: int = 0) -> ImageGAN:
    networks: dict[str, Any] = {"generator": "dcgan", "critic": "dcgan", "channels": 32}
    return ImageGAN(
        shape=(1, 28, 28), latent=64, classes=classes, penalties={"r1": 3.0, "r2": 3.0}, **networks
    )


def _latent(autoencoder: str, prior: Diffusion, dataset: Dataset) -> LatentDiffusion:
    """``prior`` for the codes of the zoo's ``autoencoder``, divided by their spread in training."""
    model = LatentDiffusion(autoencoder=zoo.load(autoencoder), diffusion=prior)
    model.fit_scale(dataset.train[0][:2000], generator=torch.Generator().manual_seed(0))
    return model


def _digits(flow: str, chosen: str | None, full: int, **options: Any) -> Experiment:
    model = ImageFlow(shape=(1, 8, 8), levels=17, flow=flow, **options)
    settings: dict[str, Any] = {"batch_size": 64, "weight_decay": 0.1, "clip": 50.0, "ema": 0.998}
    return model, data.load("digits").without_labels(), _config(chosen, 300, full, **settings)


def _codes(full_data: bool) -> Dataset:
    """MNIST as the codes of the VQ-VAE of the zoo."""
    dataset = binary(data.load("mnist", full=full_data))
    return codes(zoo.load("vqvae_mnist"), dataset, "vqvae_mnist")


def _translator(
    chosen: str | None,
    full: int,
    *,
    net: str = "transformer",
    lr: float = 2e-3,
    reverse: bool = False,
) -> Experiment:
    dataset = translations(reverse=reverse)
    model = Seq2Seq(vocab_size=dataset.tokenizer.size, net=net, dropout=0.0, context=SENTENCE)
    return model, dataset, _config(chosen, 120, full, batch_size=32, lr=lr, clip=1.0)


def _gpt_config(chosen: str | None, quick: int, full: int, *, batch_size: int) -> TrainConfig:
    return _config(
        chosen, quick, full, batch_size=batch_size, lr=2e-3, weight_decay=0.1, clip=1.0, ema=0.99
    )


def _config(chosen: str | None, quick: int, full: int, **settings: Any) -> TrainConfig:
    """Training for ``quick`` or ``full`` steps on a cosine schedule."""
    steps = quick if _checked(chosen or budget()) == "quick" else full
    return TrainConfig(steps=steps, schedule="cosine", warmup=min(100, steps // 5), **settings)


def _checked(chosen: str) -> str:
    if chosen not in BUDGETS:
        raise ValueError(f"unknown budget {chosen!r}: choose one of {', '.join(BUDGETS)}")
    return chosen
