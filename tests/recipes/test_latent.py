"""Experiments with latent variables: what they train on, and what they share."""

from __future__ import annotations

import math

import torch

from gentext import data, recipes
from gentext.latent.vae import IWAE


def test_binary_images_and_hidden_labels() -> None:
    binary = recipes.vae_mnist("quick")[1]
    assert set(binary.train[0].unique().tolist()) == {0.0, 1.0}
    assert binary.levels == 2
    _, few, _ = recipes.m2_digits("quick")
    shown = few.train[1]
    full = data.load("digits").train[1]
    for label in range(10):
        assert int((shown == label).sum()) == 10
        assert (full[shown == label] == label).all()
    assert (shown[shown >= 10]).numel() == 0
    assert int((shown == -1).sum()) == len(full) - 100
    assert math.isclose(few.test[1].float().mean(), data.load("digits").test[1].float().mean())


def test_the_tighter_bound_is_of_the_same_model_and_training() -> None:
    vae, digits, config = recipes.vae_digits("full")
    iwae, same, again = recipes.iwae_digits("full")
    assert isinstance(iwae, IWAE)
    assert iwae.arguments == {**vae.arguments, "k": 8}
    assert again == config
    assert torch.equal(same.train[0], digits.train[0])
    iwae.load_state_dict(vae.state_dict())


def test_what_models_are_given_is_what_they_take() -> None:
    """Classes only where the model is conditional; grey levels as the likelihood counts them."""
    for name in ("vae_digits", "image_vae_emoji", "autoencoder_digits", "conditional_vae_fashion"):
        model, dataset, _ = recipes.build(name, "quick")
        assert model.shape == dataset.shape
        assert len(dataset.train) == 1 + bool(getattr(model, "classes", 0))
    assert recipes.vae_digits("quick")[0].arguments["levels"] == data.load("digits").levels == 17
