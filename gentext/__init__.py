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
        checkpoint,
        conditional_vae,
        core,
        data,
        distributions,
        estimators,
        metrics,
        nets,
        plot,
        recipes,
        toys,
        train,
        vae,
        widgets,
        zoo,
    )
    from gentext.autoencoder import (
        PPCA,
        Autoencoder,
        DenoisingAutoencoder,
        principal_components,
    )
    from gentext.conditional_vae import ConditionalVAE, SemiSupervisedVAE
    from gentext.core import Bound, Density, Encodes, Model, Samples
    from gentext.train import History, TrainConfig, fit
    from gentext.vae import IWAE, VAE

__version__ = "0.1.0"

__all__ = [
    "IWAE",
    "PPCA",
    "VAE",
    "Autoencoder",
    "Bound",
    "ConditionalVAE",
    "DenoisingAutoencoder",
    "Density",
    "Encodes",
    "History",
    "Model",
    "Samples",
    "SemiSupervisedVAE",
    "TrainConfig",
    "autoencoder",
    "checkpoint",
    "conditional_vae",
    "core",
    "data",
    "distributions",
    "estimators",
    "fit",
    "metrics",
    "nets",
    "plot",
    "principal_components",
    "recipes",
    "toys",
    "train",
    "vae",
    "widgets",
    "zoo",
]

_HOME = {
    "Autoencoder": "autoencoder",
    "Bound": "core",
    "ConditionalVAE": "conditional_vae",
    "DenoisingAutoencoder": "autoencoder",
    "Density": "core",
    "Encodes": "core",
    "History": "train",
    "IWAE": "vae",
    "Model": "core",
    "PPCA": "autoencoder",
    "Samples": "core",
    "SemiSupervisedVAE": "conditional_vae",
    "TrainConfig": "train",
    "VAE": "vae",
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
