"""Weights that others publish: their tensors read from files, and brought under our names.

Read are safetensors files and folders as Hugging Face has them, config.json and model.safetensors,
whole or in parts. A pickle, such as pytorch_model.bin, is never opened: it can run any program.

Notation: ``tensors`` those of a checkpoint by their names there, ``kind`` what it ought to be.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gentext.core import check_tensor
from gentext.core.signatures import keep_contract
from gentext.tokens.foreign_tokenizer import read_json

WHOLE, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
Source = str | os.PathLike[str] | Mapping[str, Tensor]


def read_tensors(source: Source) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint by their names, and its configuration, empty if not a folder's.

    Arguments:
        source: a Hugging Face folder, a safetensors file, or the tensors themselves.

    Raises ValueError where it cannot be read, or holds nothing but a pickle.
    """
    if isinstance(source, Mapping):
        for tensor in source.values():
            check_tensor(tensor, "weights")
        return dict(source), {}
    path = Path(os.path.expanduser(source))
    if not path.is_dir():
        return _read_file(path), {}
    config = read_json(path / CONFIG)
    if (path / WHOLE).is_file():
        return _read_file(path / WHOLE), config
    if (path / INDEX).is_file():
        return _read_parts(path), config
    pickles = sorted(file.name for file in path.iterdir() if file.suffix in PICKLES)
    if pickles:
        raise ValueError(_is_pickle(path / pickles[0]))
    raise ValueError(f"{path} has neither {WHOLE} nor {INDEX}: give the folder that has one")


def check_config(config: Mapping[str, Any], expected: Mapping[str, Any], kind: str) -> None:
    """Raise ValueError where a configuration says something else than ``expected``."""
    for name, value in expected.items():
        if config.get(name, value) != value:
            raise ValueError(
                f"this is no {kind} of the published form: its {CONFIG} has "
                f"{name}={config[name]!r}, and only {value!r} can be read"
            )


def count_layers(tensors: Mapping[str, Tensor], before: str) -> int:
    """One more than the highest number that stands after ``before`` in a name; 1 at least."""
    numbers = (re.match(re.escape(before) + r"(\d{1,6})\.", name) for name in tensors)
    return max((int(number[1]) + 1 for number in numbers if number), default=1)


def matrix_sizes(tensors: Mapping[str, Tensor], name: str, kind: str) -> tuple[int, int]:
    """The two sides of the matrix ``name``; ValueError where there is none."""
    matrix = _found(tensors, name, kind)
    if matrix.ndim != 2:
        raise ValueError(
            f"this is no {kind}: its {name!r} has the shape {tuple(matrix.shape)}, and must be a "
            "matrix"
        )
    return matrix.shape[0], matrix.shape[1]


def load_weights(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    theirs: Callable[[str], Sequence[str]],
    kind: str,
    *,
    transposed: Collection[str] = (),
) -> None:
    """Give ``model`` the weights that a checkpoint has, all of them or none.

    Arguments:
        theirs: the name of one of our tensors to those of the checkpoint that, one below the other,
            are that tensor.
        transposed: those of our names whose matrices the checkpoint keeps transposed.

    Raises ValueError for a tensor that is missing or has another shape.
    """
    ours = {}
    for name, tensor in model.state_dict().items():
        parts = theirs(name)
        shape = (len(tensor) // len(parts), *tensor.shape[1:])
        turned = name in transposed
        found = [_fitting(tensors, part, shape[::-1] if turned else shape, kind) for part in parts]
        found = [part.T for part in found] if turned else found
        ours[name] = torch.cat(found) if len(found) > 1 else found[0]
    model.load_state_dict(ours)


def _fitting(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...], kind: str) -> Tensor:
    tensor = _found(tensors, name, kind)
    if tuple(tensor.shape) != shape:
        raise ValueError(
            f"this is no {kind} of the published form: its {name!r} has the shape "
            f"{tuple(tensor.shape)}, and must have {shape}"
        )
    if not tensor.is_floating_point():
        raise ValueError(f"{name!r} is of {tensor.dtype}: give weights that are not quantised")
    return tensor


def _found(tensors: Mapping[str, Tensor], name: str, kind: str) -> Tensor:
    if name not in tensors:
        raise ValueError(
            f"this is no {kind}: it has no tensor {name!r} among its {len(tensors)}; give a "
            "checkpoint of the whole model, with the heads that it was trained with"
        )
    return tensors[name]


def _read_file(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix in PICKLES:
        raise ValueError(_is_pickle(path))
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as a safetensors file ({error})") from error


def _read_parts(folder: Path) -> dict[str, Tensor]:
    """The tensors of all files that the index of a folder names."""
    named = read_json(folder / INDEX).get("weight_map")
    files = sorted(set(map(str, named.values()))) if isinstance(named, dict) else []
    if not files or any(Path(file).name != file for file in files):
        raise ValueError(
            f"{folder / INDEX} does not say in which files of its folder the tensors are; "
            "download it anew"
        )
    return {name: tensor for file in files for name, tensor in _read_file(folder / file).items()}


def _is_pickle(path: Path) -> str:
    return (
        f"{path} is a pickle, which can run any program and is not opened: download the "
        f"checkpoint's {WHOLE}, or convert it where you trust it, by "
        "transformers.AutoModelForPreTraining.from_pretrained(folder).save_pretrained(new_folder)"
    )


keep_contract(globals())
