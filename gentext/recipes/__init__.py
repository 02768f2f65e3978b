"""Experiments of the book: each function gives a model, its data and how to train it.

A recipe is named ``<stem>_<data>`` and stands in the file of its model's folder. It knows two
budgets, ``quick`` for a minute on two cores and ``full`` for a GPU or patience. Where more data
exist than come with gentext, ``full_data=True`` takes them all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType

from gentext.core import chosen
from gentext.core.signatures import keep_contract
from gentext.recipes import adversarial, denoising, evaluation, flows, latent, sequences, transfer
from gentext.recipes.budgets import BUDGETS, Experiment, budget

__all__ = ["BUDGETS", "RECIPES", "Experiment", "budget", "build", "takes_full_data"]

# in the order of the book
FILES = (latent, sequences, flows, denoising, adversarial, transfer, evaluation)


def _defined_in(file: ModuleType) -> dict[str, Callable[..., Experiment]]:
    """The public functions that a file defines itself, in its order."""
    return {
        name: value
        for name, value in vars(file).items()
        if inspect.isfunction(value) and value.__module__ == file.__name__ and name[0] != "_"
    }


RECIPES: dict[str, Callable[..., Experiment]] = {
    name: recipe for file in FILES for name, recipe in _defined_in(file).items()
}


def __getattr__(name: str) -> Callable[..., Experiment]:
    """``recipes.vae_fashion`` is ``recipes.latent.vae_fashion``."""
    if name in RECIPES:
        return RECIPES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *RECIPES})


def build(name: str, budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """The model, data and training of the recipe called ``name``.

    Raises ValueError for a name or a budget that is unknown, and for ``full_data`` where there are
    no more data than come with gentext.
    """
    recipe = chosen("recipe", name, RECIPES, "`gentext list`")
    if not full_data:
        return recipe(budget)
    if not takes_full_data(name):
        raise ValueError(
            f"there are no more data for {name} than come with gentext; leave out full_data=True"
        )
    return recipe(budget, full_data=True)


def takes_full_data(name: str) -> bool:
    """Whether there are more data for a recipe than come with gentext."""
    return "full_data" in inspect.signature(chosen("recipe", name, RECIPES)).parameters


keep_contract(globals())
