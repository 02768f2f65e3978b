"""The experiments as a whole: one list, in the order of the book, on all data where there are."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import yaml

import gentext
from gentext import data, recipes
from gentext.core import Model
from gentext.recipes import FILES, RECIPES

FULL = [name for name in RECIPES if recipes.takes_full_data(name)]


def test_the_list_is_computed_from_the_files_in_the_order_of_the_book(root: Path) -> None:
    contents = yaml.safe_load((root / "book" / "toc.yml").read_text("utf-8"))
    folders = [part["folder"] for part in contents["parts"] if part.get("numbered")]
    stems = [file.__name__.rpartition(".")[2] for file in FILES]
    assert stems == [*(folder for folder in folders if folder in stems), "evaluation"]
    files = {path.stem for path in Path(recipes.__file__).parent.glob("*.py")}
    assert files == {*stems, "budgets", "__init__"}
    written = [
        node.name
        for file in FILES
        for node in ast.parse(inspect.getsource(file)).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    assert list(RECIPES) == written
    assert len(written) == len(set(written)) >= 56


def test_every_recipe_is_called_by_its_name() -> None:
    assert {*RECIPES} <= {*dir(recipes)}
    for name, recipe in RECIPES.items():
        assert getattr(gentext.recipes, name) is recipe
        assert next(iter(inspect.signature(recipe).parameters)) == "budget"
    with pytest.raises(AttributeError, match="no attribute 'vae_imagenet'"):
        _ = recipes.vae_imagenet


def test_a_file_names_the_models_of_its_folder_only() -> None:
    for file in FILES:
        folder = file.__name__.rpartition(".")[2]
        kinds = {v for v in vars(file).values() if isinstance(v, type) and issubclass(v, Model)}
        assert kinds, folder
        assert {kind.__module__.split(".")[1] for kind in kinds} == {folder}


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(ValueError, match=r"'vae_imagenet': did you mean 'vae_.*see `gentext list`"):
        recipes.build("vae_imagenet")
    with pytest.raises(ValueError, match=r"'tiny'.*quick, full"):
        recipes.build("vae_digits", "tiny")


class Loaded(Exception):
    """Data were asked for."""


@pytest.mark.parametrize("name", RECIPES)
def test_all_data_are_taken_where_there_are_more_and_are_refused_elsewhere(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(source: str, *, full: bool = False) -> None:
        assert full
        assert data.describe(source).full  # of which there is more than the excerpt
        raise Loaded(source)

    monkeypatch.setattr(data, "load", load)
    if name in FULL:
        with pytest.raises(Loaded, match="mnist"):
            recipes.build(name, full_data=True)
        with pytest.raises(Loaded, match="mnist"):
            RECIPES[name](full_data=True)
    else:
        with pytest.raises(ValueError, match=f"no more data for {name} .*leave out full_data"):
            recipes.build(name, full_data=True)


def test_the_larger_sets_are_those_of_clothes_and_digits_of_28_pixels() -> None:
    assert FULL
    assert [name for name in RECIPES if name.endswith(("_fashion", "_mnist", "_codes"))] == FULL
