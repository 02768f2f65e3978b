"""Experiments with pre-training: features that are learnt from images without labels."""

from __future__ import annotations

from gentext import data
from gentext.recipes.budgets import Experiment, config_for
from gentext.transfer.masked_autoencoder import MaskedAutoencoder
from gentext.transfer.pretraining import Contrastive


def contrastive_digits(budget: str | None = None) -> Experiment:
    """Contrastive pre-training of a convolutional encoder on the 8x8 digits."""
    model = Contrastive(shape=(1, 8, 8))
    config = config_for(budget, 100, 1500, batch_size=256, lr=2e-3)
    return model, data.load("digits").without_labels(), config


def masked_autoencoder_digits(budget: str | None = None) -> Experiment:
    """A masked autoencoder of patches of 2x2 on the 8x8 digits."""
    model = MaskedAutoencoder(shape=(1, 8, 8))
    config = config_for(budget, 100, 1800, batch_size=128, lr=2e-3)
    return model, data.load("digits").without_labels(), config
