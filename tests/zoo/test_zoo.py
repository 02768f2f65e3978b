"""The weights that the package carries are what their cards say."""

from __future__ import annotations

import dataclasses
import functools
import json
import re

import pytest
import torch
from typer.testing import CliRunner

from gentext import recipes, zoo
from gentext.cli import app
from gentext.latent.vae import VAE


@pytest.mark.parametrize("name", zoo.names())
def test_card_names_what_was_done(name: str) -> None:
    card = zoo.card(name)
    model, data, config = recipes.build(card["recipe"], card["budget"])
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    changed = card.get("changed", {"model": {}, "config": {}})  # what differs from the recipe
    assert zoo.load(name).arguments == model.arguments | changed["model"]
    config = dataclasses.replace(config, **changed["config"])
    settings = json.loads(json.dumps(vars(config)))
    settings.pop("save_minutes")  # which no result depends on, and older cards lack
    assert {**card["config"], "save_minutes": 0} == {**settings, "save_minutes": 0}
    assert card["seconds"] > 0
    assert card["data"]["licence"]
    assert zoo.path(name).stat().st_size <= 4 * 2**20
    for key in ("name", "shape", "image_shape", "classes", "levels"):  # for whoever draws
        fact = getattr(data, key) or None
        assert card["data"][key] == (list(fact) if isinstance(fact, tuple) else fact), key


@pytest.mark.parametrize("name", zoo.names())
def test_evaluate_reproduces_the_first_metric_of_the_card(name: str) -> None:
    """The command prints what the card has for the bundled test examples, bounds nearly so.

    Where that takes minutes, the card has the metrics of a few of them too.
    """
    card = zoo.card(name)
    measured = card.get("metrics_few", card["metrics"])
    few = ["--limit", str(measured["n"])] if "metrics_few" in card else []
    result = CliRunner().invoke(app, ["evaluate", name, "--k", "0", *few])
    assert result.exit_code == 0, result.output
    first = next(iter(measured))
    printed = float(re.search(rf"^\s*{first}\s+(-?[\d.]+)", result.output, re.MULTILINE)[1])
    slack = 0.02 * measured.get("se", 0) + (0.5 if first in ("elbo", "bleu", "frechet") else 0.1)
    assert abs(printed - measured[first]) < slack


def test_classifiers_are_measured_in_shares() -> None:
    output = CliRunner().invoke(app, ["evaluate", "classifier_digits"]).output
    assert re.search(r"accuracy +0\.9\d+ +share of the examples", output)


def test_the_important_bound_is_above_the_elbo_by_more_than_its_error() -> None:
    """k = 500 samples, on some test images of each set of weights, image by image on average."""
    for name in zoo.names():
        model = zoo.load(name)
        if not isinstance(model, VAE):
            continue
        part = recipes.build(zoo.card(name)["recipe"], "quick")[1].test[0][:20]
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            elbo = torch.stack([model.elbo(part, generator=generator) for _ in range(20)]).mean(0)
        assert (model.importance_log_prob(part, 500, generator=generator) > elbo).all()


def test_models_of_texts_bring_their_tokenizer() -> None:
    data_of = functools.cache(lambda recipe: recipes.build(recipe, "quick")[1])
    for name in zoo.names():
        data = data_of(zoo.card(name)["recipe"])
        if data.tokenizer is None:
            with pytest.raises(ValueError, match="no tokenizer"):
                zoo.tokenizer(name)
        else:
            assert zoo.tokenizer(name).to_json() == data.tokenizer.to_json()
            assert zoo.tokenizer(name).size == zoo.load(name).vocab_size


def test_samples_are_compared_in_the_features_of_the_classifier_of_their_data() -> None:
    for data in ("fashion-mnist", "mnist", "digits"):
        found = zoo.classifier(data)
        assert found is not None
        assert zoo.card(f"classifier_{data.split('-')[0]}")["data"]["name"] == data
        assert hasattr(found, "accuracy")
    assert zoo.classifier("grid25") is None


def test_unknown_weights_list_the_known() -> None:
    with pytest.raises(ValueError, match=r"'vae_imagenet'.*did you mean 'vae_.*see `gentext list`"):
        zoo.load("vae_imagenet")
