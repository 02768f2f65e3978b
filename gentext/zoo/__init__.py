"""Weights of recorded longer runs: ``load(name)`` gives the model, ``card(name)`` how it was made.

Each is a pair of files in this folder: ``<name>.safetensors`` and the card, ``<name>.json``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gentext.core import Model, chosen
from gentext.core.signatures import keep_contract
from gentext.tokens.tokenizer import Tokenizer, from_json
from gentext.training import checkpoint

FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """The names of all weights there are, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob(f"*{checkpoint.SUFFIX}")))


def load(name: str) -> Model:
    """The trained model ``name``, in evaluation mode; ``ValueError`` if there is none."""
    return checkpoint.load(path(name))


def card(name: str) -> dict[str, Any]:
    """How ``name`` was made (recipe, data, time, metrics); ``ValueError`` if there is none."""
    card: dict[str, Any] = json.loads(path(name).with_suffix(".json").read_text("utf-8"))
    return card


def classifier(data: str) -> Model | None:
    """The classifier of the data set ``data`` in whose features samples are compared, or None."""
    for name in names():
        if name.startswith("classifier_") and card(name)["data"]["name"] == data:
            return load(name)
    return None


def tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a model of texts; ``ValueError`` if ``name`` has none."""
    return tokenizer_of(path(name))


def tokenizer_of(path: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer that the checkpoint ``path`` carries; ``ValueError`` if it has none."""
    text = checkpoint.info(path).get("tokenizer")
    if text is None:
        raise ValueError(f"{path} holds no model of texts, so it has no tokenizer")
    return from_json(text)


def path(name: str) -> Path:
    """The checkpoint file of ``name``; ``ValueError`` if there is none."""
    return FOLDER / f"{chosen('weights', name, names(), '`gentext list`')}{checkpoint.SUFFIX}"


keep_contract(globals())
