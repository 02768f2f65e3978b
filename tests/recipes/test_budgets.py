"""How long experiments are trained."""

from __future__ import annotations

import pytest
import torch

from gentext import recipes
from gentext.recipes import RECIPES
from gentext.recipes.budgets import config_for, transformer_config_for
from gentext.training.config import TrainConfig


def test_the_budget_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENTEXT_BUDGET", "full")
    assert recipes.budget() == "full"
    assert recipes.vae_fashion()[2].steps > recipes.vae_fashion("quick")[2].steps
    monkeypatch.setenv("GENTEXT_BUDGET", "huge")
    with pytest.raises(ValueError, match=r"'huge'.*quick, full"):
        recipes.budget()
    monkeypatch.delenv("GENTEXT_BUDGET")
    assert recipes.budget() == ("full" if torch.cuda.is_available() else "quick")


def test_a_budget_sets_the_steps_and_a_fifth_at_most_of_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert config_for("quick", 40, 4000, lr=2e-3) == TrainConfig(
        steps=40, schedule="cosine", warmup=8, lr=2e-3
    )
    assert config_for("full", 40, 4000) == TrainConfig(steps=4000, schedule="cosine", warmup=100)
    monkeypatch.setenv("GENTEXT_BUDGET", "full")
    assert config_for(None, 40, 4000).steps == 4000
    assert config_for("quick", 40, 4000).steps == 40
    with pytest.raises(ValueError, match="unknown budget 'ful': did you mean 'full'"):
        config_for("ful", 40, 4000)


def test_transformers_are_trained_alike() -> None:
    expected = config_for(
        "full", 60, 1500, batch_size=64, lr=2e-3, weight_decay=0.1, clip=1.0, ema=0.99
    )
    assert transformer_config_for("full", 60, 1500, batch_size=64) == expected
    assert recipes.gpt_digits("quick")[2].weight_decay == expected.weight_decay


@pytest.mark.parametrize("name", ["gan_gaussians", "nsf_moons", "vae_digits", "classifier_digits"])
def test_a_recipe_knows_both_budgets(name: str) -> None:
    quick, full = (RECIPES[name](budget)[2] for budget in recipes.BUDGETS)
    assert quick.steps <= full.steps
    assert quick.lr == full.lr
