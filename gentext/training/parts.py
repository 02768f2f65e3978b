"""Models inside models: how a checkpoint keeps what they are, and builds them again.

Nothing but a ``Model`` of this package is ever built from what a file says.
"""

from __future__ import annotations

import importlib
from typing import Any

from gentext.core import Model
from gentext.core.signatures import keep_contract
from gentext.training.checkpoint import public_name


def described(model: Model) -> Any:
    """Public name and arguments of a model, for a checkpoint; the model itself if it has no name.

    ``built`` makes an untrained one of it.
    """
    name = public_name(type(model))
    return model if name is None else {"class": name, **model.arguments}


def built(model: Model | dict[str, Any]) -> Model:
    """A model that is there already, or a new one by what ``described`` says."""
    if isinstance(model, Model):
        return model
    gentext = importlib.import_module("gentext")
    name = model.get("class") if isinstance(model, dict) else None
    kind = getattr(gentext, str(name)) if name in gentext.__all__ else None
    if not (isinstance(kind, type) and issubclass(kind, Model) and kind is not Model):
        raise ValueError(f"got {model!r}; give a model, or a dict whose class is one of gentext")
    return kind(**{key: value for key, value in model.items() if key != "class"})


keep_contract(globals())
