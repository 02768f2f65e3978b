"""Recipes that take no time, and what they have trained."""

import pytest
import torch
from command_line import run, tiny, tiny_text, tiny_translator

from gentext import recipes, zoo


@pytest.fixture(autouse=True)
def small_recipe(monkeypatch, tmp_path):
    """Quick recipes more, an empty zoo, and an empty current folder."""
    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny)
    monkeypatch.setitem(recipes.RECIPES, "tiny_text", tiny_text)
    monkeypatch.setitem(recipes.RECIPES, "tiny_translator", tiny_translator)
    monkeypatch.setattr(zoo, "FOLDER", tmp_path / "zoo")
    (tmp_path / "zoo").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def trained():
    torch.manual_seed(99)  # which must not matter
    assert run("train", "tiny", "--steps", 20, "--out", "runs/first").exit_code == 0
    return "runs/first"


@pytest.fixture
def poet():
    assert run("train", "tiny_text").exit_code == 0
    return ("tiny_text", "--checkpoint", "runs/tiny_text")
