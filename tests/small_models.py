"""Every class of models in small sizes with a batch for each, to try in one go what holds for all.

The first of a class has all that training can disturb: dropout, labels, spectral normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

import gentext as gt
from gentext.core import Model

N, LEVELS, VOCABULARY, LENGTH = 6, 17, 11, 8
Batch = tuple[Tensor, ...]


class Family(NamedTuple):
    """A class of models, what it is built by (a family among that is built too), and its data."""

    kind: type[Any]
    data: tuple[Callable[[], Tensor], ...]
    given: dict[str, Any]

    def model(self) -> Any:
        """A model of it."""
        parts = {k: v.model() if isinstance(v, Family) else v for k, v in self.given.items()}
        return self.kind(**parts)

    def batch(self) -> Batch:
        """Six examples of its data."""
        return tuple(draw() for draw in self.data)


def of(kind: type[Any], *data: Callable[[], Tensor], **given: Any) -> Family:
    return Family(kind, data, given)


def grey() -> Tensor:
    """Images of 17 grey levels."""
    return torch.randint(LEVELS, (N, 1, 8, 8)) / (LEVELS - 1)


def binary() -> Tensor:
    return grey().round()


def tiles() -> Tensor:
    """Smaller images, for models that draw pixel by pixel."""
    return grey()[..., :4, :4]


def pixels() -> Tensor:
    return torch.randn(N, 64)


def points() -> Tensor:
    return torch.randn(N, 4)


def square() -> Tensor:
    return torch.rand(N, 4)


def bits() -> Tensor:
    return points().gt(0).to(torch.get_default_dtype())


def labels() -> Tensor:
    return torch.tensor([0, 1, 2, 2, 1, 0])


def some_labels() -> Tensor:
    """Half of the labels; the others are not known."""
    return torch.where(torch.arange(N) % 2 == 0, labels(), -1)


def tokens() -> Tensor:
    """Rows of tokens, none of which is special."""
    return torch.randint(4, VOCABULARY, (N, LENGTH))


def segments() -> Tensor:
    """Which of two texts a token is in."""
    return (torch.arange(LENGTH) > 3).long().repeat(N, 1)


def both() -> Tensor:
    """Whether the second text follows the first."""
    return labels() % 2


def in_summary() -> Tensor:
    """Which of up to three sentences are in a summary."""
    return torch.stack([both(), 1 - both(), both()], 1)


def frames() -> Tensor:
    """Log-mel features of utterances of 12 frames at most."""
    return torch.randn(N, 12, 4)


def durations() -> Tensor:
    """How many frames they have."""
    return torch.tensor([12, 9, 10, 12, 8, 11])


def transcripts() -> Tensor:
    """Symbols from 1 on."""
    return torch.randint(1, 5, (N, 4))


def letters() -> Tensor:
    """How many symbols they have."""
    return torch.tensor([4, 3, 2, 1, 4, 2])


DROPOUT: dict[str, Any] = {"dropout": 0.5}
CLASSES: dict[str, Any] = {"classes": 3}
IMAGE: dict[str, Any] = {"shape": (1, 8, 8)}
GREY: dict[str, Any] = {**IMAGE, "levels": LEVELS}
CODER: dict[str, Any] = {**IMAGE, "latent": 3, "hidden": 8}
LOGISTIC: dict[str, Any] = {"likelihood": "logistic", "levels": LEVELS}
CODES: dict[str, Any] = {**IMAGE, "codes": 4, "code_size": 3, "hidden": 8}
MLP: dict[str, Any] = {"net": "mlp", "hidden": 8, "layers": 1}
STEPS: dict[str, Any] = {**MLP, "steps": 20}
UNET: dict[str, Any] = {"net": "unet", "channels": 8, "multipliers": (1, 2)}
DIT: dict[str, Any] = {"net": "dit", "patch": 2, "width": 16, "layers": 1, "heads": 2, "steps": 20}
POINTS: dict[str, Any] = {"shape": (4,)}
FLOW: dict[str, Any] = {"features": 4, "transforms": 2, "hidden": (8,)}
GLOW: dict[str, Any] = {"scales": 2, "steps": 1, "hidden": 8}
WORDS: dict[str, Any] = {"vocab_size": VOCABULARY, "context": LENGTH}
ROWS: dict[str, Any] = {**WORDS, "layers": 1, "heads": 2, "width": 8}
CELLS: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden": 8}
TILES: dict[str, Any] = {"shape": (1, 4, 4), "levels": LEVELS, "channels": 4, "layers": 2}
GAME: dict[str, Any] = {**POINTS, "latent": 3, "hidden": 8, "layers": 1}
DCGAN: dict[str, Any] = {"generator": "dcgan", "critic": "dcgan", "channels": 8}
SORTED: dict[str, Any] = {**IMAGE, **CLASSES, "channels": 8, "features": 8}
SPEECH: dict[str, Any] = {"mels": 4, "hidden": 8, "context": 1}
LATENTS: dict[str, Any] = {"levels": None, "steps": 20}

FAMILIES = {
    # latent
    "autoencoder": of(gt.Autoencoder, grey, **CODER),
    "denoising autoencoder": of(gt.DenoisingAutoencoder, grey, **CODER, sigma=0.3),
    "normal VAE": of(gt.VAE, grey, **CODER, likelihood="normal", scale=0.1, beta=2.0),
    "Bernoulli VAE": of(gt.VAE, binary, **CODER),
    "continuous Bernoulli VAE": of(gt.VAE, grey, **CODER, likelihood="continuous-bernoulli"),
    "VAE": of(gt.VAE, grey, **CODER, **LOGISTIC),
    "convolutional VAE": of(gt.VAE, grey, **CODER, **LOGISTIC, net="conv"),
    "IWAE": of(gt.IWAE, grey, **CODER, **LOGISTIC, k=3),
    "image VAE": of(gt.ImageVAE, grey, **GREY, channels=2, hidden=8),
    "conditional VAE": of(gt.ConditionalVAE, grey, labels, **CODER, **CLASSES, **LOGISTIC),
    "M2": of(gt.SemiSupervisedVAE, binary, labels, **CODER, **CLASSES, alpha=2.0),
    "half-labelled M2": of(gt.SemiSupervisedVAE, grey, some_labels, **CODER, **CLASSES, **LOGISTIC),
    # sequences
    "VQ-VAE": of(gt.VQVAE, binary, **CODES, beta=0.5, decay=0.5),
    "VQ-VAE by gradients": of(gt.VQVAE, grey, **CODES, **LOGISTIC, decay=None),
    "padded GPT": of(gt.GPT, tokens, **ROWS, **DROPOUT, bos=1, pad=0),
    "GPT": of(gt.GPT, tokens, **ROWS),
    "recurrent of rows": of(gt.RecurrentLM, tokens, **CELLS, **DROPOUT, cell="lstm", row=4),
    "recurrent": of(gt.RecurrentLM, tokens, **CELLS, pad=0),
    "WaveNet": of(gt.WaveNet, tokens, levels=VOCABULARY, channels=4, layers=2, **DROPOUT),
    "MADE": of(gt.MADE, bits, features=4, hidden=8),
    "PixelCNN": of(gt.PixelCNN, tiles, **TILES, **DROPOUT),
    "logistic PixelCNN": of(gt.PixelCNN, tiles, **TILES, likelihood="logistic"),
    "PixelCNN of codes": of(gt.PixelCNN, tiles, **TILES, ordered=False),
    "BERT": of(gt.BERT, tokens, **ROWS, **DROPOUT, pad=0, mask=3),
    "original BERT": of(gt.OriginalBERT, tokens, **ROWS, **DROPOUT, mask=3, ends=(1, 2)),
    "original BERT of pairs": of(
        gt.OriginalBERT, tokens, segments, both, **ROWS, mask=3, ends=(1, 2)
    ),
    "Transformer": of(gt.Seq2Seq, tokens, tokens, **ROWS, **DROPOUT, smoothing=0.25),
    "recurrent translator": of(gt.Seq2Seq, tokens, tokens, **WORDS, net="gru", width=8, layers=1),
    # flows
    "RealNVP": of(gt.RealNVP, points, **FLOW, **DROPOUT),
    "flow of a mixture": of(gt.RealNVP, points, **FLOW, base=3),
    "MAF": of(gt.MAF, points, **FLOW, **DROPOUT, base=2),
    "IAF": of(gt.IAF, points, **FLOW),
    "NSF": of(gt.NSF, points, **FLOW, **DROPOUT, bins=4),
    "autoregressive NSF": of(gt.NSF, points, **FLOW, autoregressive=True),
    "flow of a uniform base": of(gt.NSF, square, **FLOW, base="uniform"),
    "Glow": of(gt.Glow, pixels, **IMAGE, **GLOW),
    "image flow": of(gt.ImageFlow, grey, **GREY, **DROPOUT, transforms=2, hidden=(8,)),
    "variational dequantization": of(
        gt.ImageFlow, grey, **GREY, noise="variational", transforms=2, hidden=(8,)
    ),
    "image Glow": of(gt.ImageFlow, grey, **GREY, **GLOW, flow="glow"),
    # denoising
    "labelled diffusion": of(
        gt.Diffusion, grey, labels, **GREY, **STEPS, **DROPOUT, **CLASSES, skip=1
    ),
    "diffusion": of(gt.Diffusion, grey, **GREY, **STEPS),
    "diffusion of learned noise": of(
        gt.Diffusion, grey, **GREY, **STEPS, schedule="learned", weighting="bound"
    ),
    "diffusion of points": of(gt.Diffusion, points, **POINTS, **STEPS, levels=None, predict="v"),
    "U-Net diffusion": of(
        gt.Diffusion, grey, labels, **GREY, **UNET, **DROPOUT, **CLASSES, steps=20, predict="v"
    ),
    "diffusion Transformer": of(gt.Diffusion, grey, tokens, **GREY, **DIT, **WORDS),
    "labelled diffusion Transformer": of(gt.Diffusion, grey, labels, **GREY, **DIT, **CLASSES),
    "latent diffusion by layers": of(
        gt.LatentDiffusion,
        *(grey, labels),
        autoencoder=of(gt.ImageVAE, **GREY, channels=2, hidden=8),
        diffusion=of(gt.Diffusion, shape=(2, 2, 2), **MLP, **LATENTS, **DROPOUT, **CLASSES),
        scale=1.0,
    ),
    "latent diffusion": of(
        gt.LatentDiffusion,
        *(grey, labels),
        autoencoder=of(gt.ImageVAE, **GREY, channels=2, hidden=8),
        diffusion=of(gt.Diffusion, shape=(2, 2, 2), **UNET, **LATENTS, **CLASSES),
        scale=1.0,
    ),
    "latent diffusion of codes": of(
        gt.LatentDiffusion,
        binary,
        autoencoder=of(gt.VQVAE, **CODES),
        diffusion=of(gt.Diffusion, shape=(3, 2, 2), **MLP, **LATENTS),
        scale=0.3,
    ),
    "latent flow": of(
        gt.LatentDiffusion,
        binary,
        autoencoder=of(gt.VAE, **CODER),
        diffusion=of(gt.FlowMatching, shape=(3,), **MLP),
        scale=0.3,
    ),
    "score": of(
        gt.ScoreSDE, points, **POINTS, **MLP, **DROPOUT, data_std=0.5, end=1e-3, noise=(0.1, 20.0)
    ),
    "VE score": of(gt.ScoreSDE, points, **POINTS, **MLP, process="ve"),
    "image score by layers": of(gt.ImageScoreSDE, grey, **GREY, **MLP, **DROPOUT),
    "image score": of(gt.ImageScoreSDE, grey, **GREY, **UNET),
    "conditional flow matching": of(
        gt.FlowMatching, points, labels, **POINTS, **MLP, **DROPOUT, **CLASSES
    ),
    "flow matching": of(gt.FlowMatching, points, **POINTS, **MLP),
    "conditional image flow matching": of(
        gt.ImageFlowMatching, grey, labels, **GREY, **MLP, **DROPOUT, **CLASSES
    ),
    "image flow matching": of(gt.ImageFlowMatching, grey, **GREY, **UNET),
    "Reflow": of(gt.reflow.Reflow, points, points, flow=of(gt.FlowMatching, **POINTS, **MLP)),
    "masked diffusion on a grid": of(
        gt.MaskedDiffusion, tokens, **ROWS, **DROPOUT, grid=(2, LENGTH // 2)
    ),
    "masked diffusion": of(gt.MaskedDiffusion, tokens, **ROWS),
    # adversarial
    "hinge GAN": of(
        gt.GAN,
        *(points, labels),
        **GAME,
        **CLASSES,
        objective="hinge",
        critic_steps=2,
        penalties={"r1": 0.5, "r2": 0.5},
    ),
    "GAN": of(gt.GAN, points, **GAME),
    "Wasserstein GAN": of(gt.GAN, points, **GAME, objective="wasserstein-gp"),
    "spectral GAN": of(
        gt.ImageGAN, grey, labels, **IMAGE, **CLASSES, **DCGAN, latent=3, spectral=True
    ),
    "image GAN": of(gt.ImageGAN, grey, labels, **IMAGE, **CLASSES, **DCGAN, latent=3),
    "image GAN by layers": of(gt.ImageGAN, grey, **CODER, layers=1),
    "semi-supervised GAN": of(
        gt.SemiSupervisedGAN, grey, labels, **IMAGE, **CLASSES, **DCGAN, latent=3
    ),
    "semi-supervised GAN by layers": of(
        *(gt.SemiSupervisedGAN, grey, some_labels),
        **{**CODER, **CLASSES, "generator_loss": "non-saturating", "layers": 1},
    ),
    # sound
    "recognizer": of(
        *(gt.Recognizer, frames, durations, transcripts, letters),
        **(SPEECH | DROPOUT),
        vocab_size=5,
    ),
    "pre-trained recognizer": of(
        *(gt.Recognizer, frames, durations, transcripts, letters),
        mels=4,
        vocab_size=5,
        encoder=of(gt.MaskedSpeechEncoder, **SPEECH),
        rate=0.5,
    ),
    "masked speech encoder": of(
        gt.MaskedSpeechEncoder, frames, durations, **(SPEECH | DROPOUT), rate=0.5, span=3
    ),
    # transfer
    "fine-tuned BERT": of(
        gt.Finetuned,
        *(tokens, labels),
        **(DROPOUT | CLASSES),
        encoder=of(gt.BERT, **ROWS, **DROPOUT, pad=0, mask=3),
        pull=0.1,
        decay=0.5,
    ),
    "low-rank BERT": of(
        gt.Finetuned,
        *(tokens, labels),
        **CLASSES,
        encoder=of(gt.BERT, **ROWS),
        lora={"names": ["q", "v"], "rank": 2},
        pool="first",
    ),
    "fine-tuned VAE": of(
        gt.Finetuned, grey, labels, **CLASSES, encoder=of(gt.VAE, **CODER, **LOGISTIC)
    ),
    "probed classifier": of(
        gt.Finetuned,
        *(grey, labels),
        **CLASSES,
        encoder=of(gt.Classifier, **SORTED, **DROPOUT),
        frozen=True,
    ),
    "encoder and decoder": of(
        gt.EncoderDecoder,
        *(tokens, tokens),
        **(WORDS | DROPOUT),
        encoder=of(gt.BERT, **ROWS, **DROPOUT, pad=0, mask=3),
        layers=1,
        heads=2,
    ),
    "frozen original BERT and decoder": of(
        gt.EncoderDecoder,
        *(tokens, tokens),
        **WORDS,
        encoder=of(gt.OriginalBERT, **ROWS, mask=3, ends=(1, 2)),
        layers=1,
        heads=2,
        rate=0.0,
    ),
    "extractive": of(
        gt.Extractive,
        *(tokens, segments, in_summary),
        **DROPOUT,
        encoder=of(gt.BERT, **ROWS, **DROPOUT, pad=0, mask=3),
        sentences=3,
    ),
    "contrastive": of(gt.Contrastive, grey, **IMAGE, **DROPOUT, channels=8, features=8),
    "contrastive with other views": of(
        gt.Contrastive, grey, **IMAGE, channels=8, features=8, views={"shift": 0.2, "noise": 0.1}
    ),
    "masked autoencoder": of(
        gt.MaskedAutoencoder, grey, **IMAGE, **DROPOUT, width=16, layers=1, heads=2
    ),
    # evaluation
    "classifier": of(gt.Classifier, grey, labels, **SORTED, **DROPOUT),
    "mirroring classifier": of(gt.Classifier, grey, labels, **SORTED, mirror=True),
    "noisy classifier": of(gt.NoisyClassifier, grey, labels, **SORTED, **DROPOUT),
}


def built(name: str) -> tuple[Any, Batch]:
    """A model of a family, always the same, and a batch for it."""
    torch.manual_seed(0)
    family = FAMILIES[name]
    return family.model(), family.batch()


def moved(model: Model, by: float = 0.1) -> Any:
    """The model as after a while of training: no weight is at the zero that it may begin with."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return model
