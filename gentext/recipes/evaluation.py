"""Experiments with classifiers, in whose features samples are compared."""

from __future__ import annotations

from gentext import data
from gentext.evaluation.classifier import Classifier, NoisyClassifier
from gentext.recipes.budgets import Experiment, config_for


def classifier_digits(budget: str | None = None) -> Experiment:
    """A classifier of the 8x8 digits."""
    model = Classifier(shape=(1, 8, 8), classes=10, dropout=0.3)
    return model, data.load("digits"), config_for(budget, 400, 1500, lr=2e-3, weight_decay=0.05)


def classifier_fashion(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A classifier of Fashion-MNIST, whose codes are where samples are compared with data."""
    model = Classifier(shape=(1, 28, 28), classes=10, dropout=0.3, mirror=True)
    config = config_for(budget, 150, 5000, lr=2e-3, weight_decay=0.05)
    return model, data.load("fashion-mnist", full=full_data), config


def classifier_mnist(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A classifier of MNIST, in whose features samples are compared."""
    model = Classifier(shape=(1, 28, 28), classes=10, channels=32, dropout=0.5)
    dataset = data.load("mnist", full=full_data)
    return model, dataset, config_for(budget, 60, 1200, batch_size=64, lr=2e-3, ema=0.99)


def noisy_classifier_fashion(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A classifier of Fashion-MNIST in noise, which steers diffusions."""
    model = NoisyClassifier(shape=(1, 28, 28), classes=10)
    config = config_for(budget, 150, 4000, lr=2e-3, weight_decay=0.05)
    return model, data.load("fashion-mnist", full=full_data), config
