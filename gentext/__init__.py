"""gentext: deep generative models, derived in a bilingual textbook and tested here.

``import gentext as gt`` gives the names below and the modules they stand in; each module is loaded
when one of its names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gentext import (
        autoencoder,
        autoregressive,
        bert,
        chain,
        checkpoint,
        classifier,
        conditional_vae,
        conditions,
        core,
        data,
        decoding,
        dequantization,
        diffusion,
        dirac,
        distributions,
        dit,
        divergence,
        estimators,
        f_divergence,
        fidelity,
        flow,
        flow_matching,
        gan,
        gan_nets,
        glow,
        gpt,
        guidance,
        image_vae,
        langevin,
        latent_diffusion,
        likelihood,
        made,
        masked_diffusion,
        masking,
        metrics,
        mmse,
        nets,
        ngram,
        objectives,
        ode,
        pairs,
        pixelcnn,
        plot,
        recipes,
        recurrent,
        samplers,
        scaling,
        schedule,
        score,
        seq2seq,
        spectral,
        spline,
        spline_kernel,
        text,
        tokenizer,
        toys,
        train,
        transformer,
        transforms,
        transport,
        unet,
        vae,
        velocity,
        vqvae,
        wavenet,
        widgets,
        words,
        zoo,
    )
    from gentext.autoencoder import (
        PPCA,
        Autoencoder,
        DenoisingAutoencoder,
        principal_components,
    )
    from gentext.autoregressive import Autoregressive
    from gentext.bert import BERT
    from gentext.classifier import Classifier, NoisyClassifier
    from gentext.conditional_vae import ConditionalVAE, SemiSupervisedVAE
    from gentext.core import Bound, Density, Encodes, Model, Samples
    from gentext.dequantization import ImageFlow
    from gentext.diffusion import Diffusion
    from gentext.dit import DiT
    from gentext.flow import IAF, MAF, NSF, Flow, RealNVP
    from gentext.flow_matching import FlowMatching, ImageFlowMatching
    from gentext.gan import GAN, ImageGAN
    from gentext.glow import Glow
    from gentext.gpt import GPT
    from gentext.image_vae import ImageVAE
    from gentext.latent_diffusion import LatentDiffusion
    from gentext.made import MADE
    from gentext.masked_diffusion import MaskedDiffusion
    from gentext.ngram import NGram
    from gentext.pixelcnn import PixelCNN
    from gentext.recurrent import RecurrentLM
    from gentext.schedule import Schedule
    from gentext.score import ImageScoreSDE, ScoreSDE
    from gentext.seq2seq import Seq2Seq
    from gentext.train import History, TrainConfig, fit
    from gentext.vae import IWAE, VAE
    from gentext.vqvae import VQVAE
    from gentext.wavenet import WaveNet

__version__ = "0.1.0"

__all__ = [
    "BERT",
    "GAN",
    "GPT",
    "IAF",
    "IWAE",
    "MADE",
    "MAF",
    "NSF",
    "PPCA",
    "VAE",
    "VQVAE",
    "Autoencoder",
    "Autoregressive",
    "Bound",
    "Classifier",
    "ConditionalVAE",
    "DenoisingAutoencoder",
    "Density",
    "DiT",
    "Diffusion",
    "Encodes",
    "Flow",
    "FlowMatching",
    "Glow",
    "History",
    "ImageFlow",
    "ImageFlowMatching",
    "ImageGAN",
    "ImageScoreSDE",
    "ImageVAE",
    "LatentDiffusion",
    "MaskedDiffusion",
    "Model",
    "NGram",
    "NoisyClassifier",
    "PixelCNN",
    "RealNVP",
    "RecurrentLM",
    "Samples",
    "Schedule",
    "ScoreSDE",
    "SemiSupervisedVAE",
    "Seq2Seq",
    "TrainConfig",
    "WaveNet",
    "autoencoder",
    "autoregressive",
    "bert",
    "chain",
    "checkpoint",
    "classifier",
    "conditional_vae",
    "conditions",
    "core",
    "data",
    "decoding",
    "dequantization",
    "diffusion",
    "dirac",
    "distributions",
    "dit",
    "divergence",
    "estimators",
    "f_divergence",
    "fidelity",
    "fit",
    "flow",
    "flow_matching",
    "gan",
    "gan_nets",
    "glow",
    "gpt",
    "guidance",
    "image_vae",
    "langevin",
    "latent_diffusion",
    "likelihood",
    "made",
    "masked_diffusion",
    "masking",
    "metrics",
    "mmse",
    "nets",
    "ngram",
    "objectives",
    "ode",
    "pairs",
    "pixelcnn",
    "plot",
    "principal_components",
    "recipes",
    "recurrent",
    "samplers",
    "scaling",
    "schedule",
    "score",
    "seq2seq",
    "spectral",
    "spline",
    "spline_kernel",
    "text",
    "tokenizer",
    "toys",
    "train",
    "transformer",
    "transforms",
    "transport",
    "unet",
    "vae",
    "velocity",
    "vqvae",
    "wavenet",
    "widgets",
    "words",
    "zoo",
]

_HOME = {
    "Autoencoder": "autoencoder",
    "Autoregressive": "autoregressive",
    "BERT": "bert",
    "Bound": "core",
    "Classifier": "classifier",
    "ConditionalVAE": "conditional_vae",
    "DenoisingAutoencoder": "autoencoder",
    "Density": "core",
    "DiT": "dit",
    "Diffusion": "diffusion",
    "Encodes": "core",
    "Flow": "flow",
    "FlowMatching": "flow_matching",
    "GAN": "gan",
    "GPT": "gpt",
    "Glow": "glow",
    "History": "train",
    "IAF": "flow",
    "IWAE": "vae",
    "ImageFlow": "dequantization",
    "ImageFlowMatching": "flow_matching",
    "ImageGAN": "gan",
    "ImageScoreSDE": "score",
    "ImageVAE": "image_vae",
    "LatentDiffusion": "latent_diffusion",
    "MADE": "made",
    "MAF": "flow",
    "MaskedDiffusion": "masked_diffusion",
    "Model": "core",
    "NGram": "ngram",
    "NSF": "flow",
    "NoisyClassifier": "classifier",
    "PPCA": "autoencoder",
    "PixelCNN": "pixelcnn",
    "RealNVP": "flow",
    "RecurrentLM": "recurrent",
    "Samples": "core",
    "Schedule": "schedule",
    "ScoreSDE": "score",
    "SemiSupervisedVAE": "conditional_vae",
    "Seq2Seq": "seq2seq",
    "TrainConfig": "train",
    "VAE": "vae",
    "VQVAE": "vqvae",
    "WaveNet": "wavenet",
    "fit": "train",
    "principal_components": "autoencoder",
}


def __getattr__(name: str) -> Any:
    """Load the module of a public name on its first use."""
    if name in _HOME:
        return getattr(import_module(f"gentext.{_HOME[name]}"), name)
    if name in __all__:
        return import_module(f"gentext.{name}")
    raise AttributeError(f"module 'gentext' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
