"""A trained model in one safetensors file: weights, and a header that says how to rebuild it.

The header is JSON (format version, class, constructor arguments, recipe, metrics, versions).
Nothing but a ``Model`` of this package is ever built from what a file says.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gentext.core import Model, bare
from gentext.core.signatures import keep_contract
from gentext.training.storage import FORMAT, SUFFIX, located, read, write

__all__ = ["FORMAT", "SUFFIX", "info", "load", "read", "save", "write"]

TRAINING = "training/"  # tensors under this prefix serve only to resume a training
DATA = ("name", "shape", "image_shape", "classes", "levels")  # what a header says of a data set


def save(
    path: str | os.PathLike[str],
    model: nn.Module,
    *,
    recipe: str | None = None,
    dtype: torch.dtype | None = None,
    step: Any = None,
    metrics: Mapping[str, Any] | None = None,
    tokenizer: Any = None,
    data: Any = None,
) -> Path:
    """Write ``model`` to the safetensors file ``path``, replacing an older one only when complete.

    What ``torch.compile``, ``DataParallel`` or ``DDP`` put around it is taken off. ``recipe`` is
    the name of the experiment, ``dtype`` how floating-point weights are stored (such as
    ``torch.float16`` for half the size; ``load`` gives back the model's own), ``step`` the number
    of training steps, ``metrics`` what was measured, ``data`` the data set it was trained on and
    ``tokenizer`` what made the tokens of a model of texts (None: that of ``data``). Raises
    ``ValueError`` when the place cannot be written, and for what ``load`` could not read again:
    what is no ``Model``, and models that were changed after they were built.
    """
    own = bare(model)
    check_rebuilds(own)
    measured = {key: float(value) for key, value in (metrics or {}).items()}
    weights = {name: _stored(tensor, dtype) for name, tensor in unique_weights(own).items()}
    header = {**describe(own), "recipe": recipe, "metrics": measured}
    header["step"] = None if step is None else int(step)
    return write(path, weights, {**header, **describe_data(data, tokenizer)})


def load(path: str | os.PathLike[str], *, model: nn.Module | None = None) -> Model:
    """The model in the file ``path``, in evaluation mode and on the CPU.

    ``path`` may also be the folder of a training. With ``model`` (of the class and the sizes in the
    file) its weights are overwritten where it stands; it is needed for classes outside gentext and
    for constructors that were given networks.
    Raises ``ValueError`` when the file is missing, damaged, foreign or does not fit.
    """
    file = located(path)
    header, tensors = read(file)
    if model is None:
        own = _rebuild(header, file)
    else:
        check_same_model(own := bare(model), header, file)
    restore(own, tensors, file)
    return own.eval()


def info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the file says of itself: class, arguments, recipe, step, data, tokenizer, versions.

    ``data`` holds what ``describe_data`` says of a data set, None where the file does not know.
    """
    header, _ = read(path)
    hidden = ("training", "checksum")
    return {"data": None} | {key: value for key, value in header.items() if key not in hidden}


def unique_weights(model: Model) -> dict[str, Tensor]:
    """Parameters and saved buffers by name; tied weights appear once.

    Raises ``ValueError`` where the model holds anything else, such as quantised layers do.
    """
    saved = model.state_dict(keep_vars=True)
    named = dict([*model.named_parameters(), *model.named_buffers()])
    known = {id(tensor) for tensor in named.values()}
    odd = [name for name, value in saved.items() if id(value) not in known]
    if odd:
        raise ValueError(
            f"{_some(odd)} of this {type(model).__name__} can be no part of a checkpoint; save the "
            "model before it is quantised"
        )
    return {name: tensor.detach() for name, tensor in named.items() if name in saved}


def describe(model: Model) -> dict[str, Any]:
    """The header fields from which a model is rebuilt; ``arguments`` is None if not plain."""
    kind = type(model)
    floating = [t.dtype for t in unique_weights(model).values() if t.is_floating_point()]
    return {
        "class": public_name(kind) or f"{kind.__module__}:{kind.__qualname__}",
        "arguments": model.arguments if _is_plain(model.arguments) else None,
        "dtype": str(floating[0] if floating else torch.get_default_dtype()).split(".")[-1],
    }


def check_rebuilds(model: Model) -> None:
    """``ValueError`` if ``load`` would build another model than this one from its arguments.

    Nothing is said of classes outside gentext or of networks as arguments: ``load`` asks for those.
    """
    if public_name(type(model)) is None or not _is_plain(model.arguments):
        return
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                again = type(model)(**_tuples(_as_json(model.arguments)))
        except RuntimeError:  # a constructor that looks at numbers
            again = _built(type(model), _as_json(model.arguments))
    mine, its = ({n: t.shape for n, t in unique_weights(m).items()} for m in (model, again))
    odd = sorted(n for n in mine.keys() | its.keys() if mine.get(n) != its.get(n))
    if odd:
        raise ValueError(
            f"this {type(model).__name__} was changed after it was built ({_some(odd)}), so no "
            "checkpoint of it could be loaded; undo the change, or make it in the constructor of "
            "a class of your own"
        )


def describe_data(data: Any, tokenizer: Any = None) -> dict[str, Any]:
    """The header fields that say what the examples of a data set are, None where it does not say.

    ``data`` holds its name, the shape of an example, that of the image where an example is a row of
    pixels, names of classes, number of grey levels; it is None for mere tensors and streams.
    """
    tokenizer = getattr(data, "tokenizer", None) if tokenizer is None else tokenizer
    text = None if tokenizer is None else tokenizer.to_json()
    if getattr(data, "train", None) is None:
        return {"data": None, "tokenizer": text}
    said = {key: _json_value(getattr(data, key, None)) for key in DATA}
    return {"data": said, "tokenizer": text}


def restore(model: Model, tensors: dict[str, Tensor], path: Path) -> None:
    """Copy the weights among ``tensors`` into ``model``; ``ValueError`` unless all of them fit."""
    found = {name: t for name, t in tensors.items() if not name.startswith(TRAINING)}
    wanted = unique_weights(model)
    odd = sorted(found.keys() ^ wanted.keys())
    if odd:
        raise ValueError(
            f"{path} does not fit {type(model).__name__}: {_some(odd)} on one side only; "
            "build the model with the arguments it was trained with"
        )
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise ValueError(
                f"{path} does not fit: {name} has shape {tuple(tensor.shape)} in the file and "
                f"{tuple(wanted[name].shape)} in the model; build the model with the file's sizes"
            )
    model.load_state_dict(found, strict=False)  # so that the hooks of layers are called


def check_same_model(model: Model, header: dict[str, Any], path: Path) -> None:
    """``ValueError`` if class or arguments of ``model`` contradict the header of a file."""
    name = header["class"].split(":")[-1]
    own = type(model).__qualname__
    if own != name:
        raise ValueError(f"{path} holds a {name}, not a {own}; pass a model of class {name}")
    saved, given = header["arguments"] or {}, _as_json(describe(model)["arguments"]) or {}
    shared = saved.keys() & given.keys()
    _check_equal({key: saved[key] for key in shared}, {key: given[key] for key in shared}, path)


def check_same_settings(model: Model, header: dict[str, Any], path: Path) -> None:
    """``ValueError`` unless ``model`` was given all that the model of a file was, defaults too."""
    check_same_model(model, header, path)
    saved, given = header.get("settings"), _as_json(settings(model))
    if saved is not None:  # files of weights have none
        # a default that the file does not know came with a later version
        new = given.keys() - saved.keys() - model.arguments.keys()
        _check_equal(saved, {key: given[key] for key in given.keys() - new}, path)


def settings(model: Model) -> dict[str, Any]:
    """All arguments of a model, also those left at their defaults; of networks only the kind."""
    signature = inspect.signature(type(model).__init__).parameters
    defaults = {
        name: parameter.default
        for name, parameter in signature.items()
        if parameter.default is not parameter.empty
    }
    every = defaults | model.arguments
    return {k: v if _is_plain(v) else type(v).__qualname__ for k, v in every.items()}


def _check_equal(saved: dict[str, Any], given: dict[str, Any], path: Path) -> None:
    """``ValueError`` for the first argument in which the two differ."""
    for key in sorted(saved.keys() | given.keys()):
        if key not in saved or key not in given or saved[key] != given[key]:
            sides = (saved, given)
            then, now = (repr(side[key]) if key in side else "(not given)" for side in sides)
            raise ValueError(
                f"{path} was trained with {key}={then}, not {key}={now}; "
                f"build the model with {key}={then} or choose another file"
            )


def _rebuild(header: dict[str, Any], path: Path) -> Model:
    kind = _model_class(header["class"], path)
    if header["arguments"] is None:
        raise ValueError(
            f"{path} was built from arguments that are no plain values (such as networks); "
            f"build the {kind.__name__} yourself and call load(path, model=...)"
        )
    try:
        model = _built(kind, header["arguments"])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be rebuilt by {kind.__name__}(**{header['arguments']}): {error}; "
            "build the model yourself and call load(path, model=...)"
        ) from error
    return model.to(getattr(torch, header["dtype"]))


def _built(kind: type[Model], arguments: dict[str, Any]) -> Model:
    """A model of a class from arguments as JSON has them, on the CPU."""
    with torch.device("cpu"):
        return kind(**_tuples(arguments))


def public_name(kind: type[Model]) -> str | None:
    """The name under which gentext offers the class ``kind``, None if it does not."""
    gentext, name = importlib.import_module("gentext"), kind.__qualname__
    return name if name in gentext.__all__ and getattr(gentext, name) is kind else None


def _model_class(name: str, path: Path) -> type[Model]:
    """The class called ``name``, if it is a public model of this package.

    Older files say ``gentext.module:name``.
    """
    module, _, public = name.rpartition(":")
    gentext, kind = importlib.import_module("gentext"), None
    if public in gentext.__all__ and (not module or module.startswith("gentext.")):
        kind = getattr(gentext, public)
    if isinstance(kind, type) and issubclass(kind, Model) and kind is not Model:
        return kind
    raise ValueError(
        f"{path} holds a {name}, which is no model of this gentext; "
        "build the model yourself and call load(path, model=...)"
    )


def _stored(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def _json_value(value: Any) -> Any:
    """A name, a number or a sequence of them as JSON has it; None for an empty sequence."""
    if value is None or isinstance(value, str):
        return value
    return (
        [_json_value(part) for part in value] or None if isinstance(value, Iterable) else int(value)
    )


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _tuples(value: Any) -> Any:
    """``value`` with lists turned into tuples: JSON has one kind, constructors are given tuples."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


keep_contract(globals())
