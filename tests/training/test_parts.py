"""Models inside models: described and built again, and nothing else is ever built."""

from __future__ import annotations

from typing import Any

import pytest
from models_to_train import Line

import gentext as gt
from gentext.training.parts import built, described


def test_a_public_model_is_described_and_built_again() -> None:
    model = gt.VAE(shape=(1, 4, 4), latent=3, hidden=8)
    said = described(model)
    assert said == {"class": "VAE", "shape": (1, 4, 4), "latent": 3, "hidden": 8}
    again = built(said)
    assert type(again) is gt.VAE
    assert again.arguments == model.arguments
    assert built(model) is model


def test_a_model_without_a_public_name_is_itself() -> None:
    model = Line()
    assert described(model) is model


@pytest.mark.parametrize(
    "said", [{"class": "os"}, {"class": "Model"}, {"class": "fit"}, {"latent": 3}, {"class": []}]
)
def test_nothing_but_a_model_of_gentext_is_built(said: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="whose class is one of gentext"):
        built(said)
