"""Experiments with noise: above all the two-stage models that build on weights of the zoo."""

from __future__ import annotations

import pytest
import torch

from gentext import recipes, zoo


@pytest.mark.parametrize("name", ["fashion", "emoji"])
def test_a_latent_diffusion_builds_on_the_autoencoder_of_the_zoo(name: str) -> None:
    """Its codes are divided by their standard deviation on the first 2,000 examples."""
    model, dataset, _ = recipes.build(f"latent_diffusion_{name}", "quick")
    coder = zoo.load(f"image_vae_{name}")
    for key, value in coder.state_dict().items():
        assert model.autoencoder.state_dict()[key].equal(value), key
    assert not any(p.requires_grad for p in model.autoencoder.parameters())
    with torch.no_grad():
        q = coder.encode(dataset.train[0][:500]).base_dist
    expected = (q.loc.var() + (q.scale**2).mean()).sqrt()
    assert float(model.scale) == pytest.approx(float(expected), rel=0.03)
    again = recipes.build(f"latent_diffusion_{name}", "quick")[0]
    assert float(again.scale) == float(model.scale)
    assert {"steps", "sampler", "guidance", "mean", "y"} <= {*model.sample_options}


def test_prompts_are_read_by_the_vocabulary_of_the_names() -> None:
    model, dataset, _ = recipes.latent_diffusion_emoji("quick")
    assert model.vocab_size == dataset.tokenizer.size
    assert dataset.train[1].shape[1] == model.diffusion.arguments["context"]


def test_grey_levels_are_those_of_the_data() -> None:
    for name in ("diffusion_mlp_digits", "diffusion_digits", "score_digits"):
        model, dataset, _ = recipes.build(name, "quick")
        assert model.arguments["levels"] == dataset.levels == 17
        assert model.shape == dataset.shape


def test_a_masked_diffusion_has_a_place_for_each_token() -> None:
    digits, rows, _ = recipes.masked_diffusion_digits("quick")
    poems, texts, _ = recipes.masked_diffusion_poems("quick")
    assert (digits.context,) == rows.shape
    assert (poems.context,) == texts.shape
    assert poems.vocab_size == texts.tokenizer.size
    assert digits.vocab_size == rows.levels == 17
