"""Experiments with pre-training: what they learn from has no labels."""

from __future__ import annotations

import pytest

from gentext import recipes
from gentext.core import Encodes


@pytest.mark.parametrize("name", ["contrastive_digits", "masked_autoencoder_digits"])
def test_features_are_learnt_from_images_alone(name: str) -> None:
    model, dataset, config = recipes.build(name, "quick")
    assert isinstance(model, Encodes)
    assert [len(part) for part in (dataset.train, dataset.test)] == [1, 1]
    assert model.shape == dataset.shape
    full = recipes.build(name, "full")
    assert full[0].arguments == model.arguments
    assert full[2].steps > config.steps
