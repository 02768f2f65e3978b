"""Experiments with pre-training: features that are learnt without labels, and used with them."""

from __future__ import annotations

from gentext import data, zoo
from gentext.data.prepared import POEM, genres
from gentext.recipes.budgets import Experiment, config_for
from gentext.transfer.finetuning import Finetuned
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


def finetuned_genre_zh(budget: str | None = None) -> Experiment:
    """The genre of a Chinese poem, from its first 32 characters, by the BERT of ``bert_poems``."""
    dataset = genres("zh", tokenizer=zoo.tokenizer("bert_poems"), length=POEM)
    encoder = zoo.load("bert_poems")
    model = Finetuned(encoder=encoder, classes=len(dataset.classes), dropout=0.1)
    config = config_for(budget, 50, 200, batch_size=64, lr=1e-3, weight_decay=0.1, clip=1.0)
    return model, dataset, config
