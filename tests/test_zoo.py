"""The weights that the package carries are what their cards say."""

from __future__ import annotations

import json
import re

import pytest
import torch
from typer.testing import CliRunner

from gentext import recipes, zoo
from gentext.__main__ import app


@pytest.mark.parametrize("name", zoo.names())
def test_card_names_what_was_done(name: str) -> None:
    card = zoo.card(name)
    model, _, config = recipes.build(card["recipe"], card["budget"])
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    assert zoo.load(name).arguments == model.arguments
    assert card["config"] == json.loads(json.dumps(vars(config)))
    assert card["seconds"] > 0
    assert card["data"]["licence"]
    assert zoo.path(name).stat().st_size <= 2 * 2**20


@pytest.mark.parametrize("name", zoo.names())
def test_evaluate_reproduces_the_bound_of_the_card(name: str) -> None:
    """The command prints the ELBO of the bundled test examples, as the card has it."""
    result = CliRunner().invoke(app, ["evaluate", name])
    assert result.exit_code == 0, result.output
    printed = float(re.search(r"^\s*(?:ELBO|elbo)\s+(-?[\d.]+)", result.output, re.MULTILINE)[1])
    card = zoo.card(name)["metrics"]
    assert abs(printed - card["elbo"]) < 0.02 * card["se"] + 0.5


def test_the_important_bound_is_above_the_elbo_by_more_than_its_error() -> None:
    """k = 500 samples, on some test images of each set of weights, image by image on average."""
    for name in zoo.names():
        model, (x, *_) = zoo.load(name), recipes.build(name, "quick")[1].test
        part = x[:20]
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            elbo = torch.stack([model.elbo(part, generator=generator) for _ in range(20)]).mean(0)
        assert (model.importance_log_prob(part, 500, generator=generator) > elbo).all()


def test_unknown_weights_list_the_known() -> None:
    with pytest.raises(ValueError, match=r"'vae_imagenet'.*'vae_fashion'"):
        zoo.load("vae_imagenet")
