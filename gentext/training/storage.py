"""Tensors and a JSON header in one safetensors file, written so that no crash can spoil it.

A file is written beside its place and moved there when complete: a crash at any moment leaves
either the old file or the new one. There is no pickle, and a checksum finds damage.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors_torch
from torch import Tensor

FORMAT = 1
SUFFIX = ".safetensors"
NAME = f"checkpoint{SUFFIX}"  # in the folder of a training
_KEY = "gentext"


def write(path: str | os.PathLike[str], tensors: dict[str, Tensor], header: dict[str, Any]) -> Path:
    """Write tensors and a JSON header to ``path`` so that a crash leaves the old file or the new.

    Raises ``ValueError`` when the folder cannot be written or has no room.
    """
    path = Path(path).expanduser()
    tensors = {name: t.detach().to("cpu").contiguous().clone() for name, t in tensors.items()}
    header = {**header, **_versions(), "format": FORMAT, "checksum": _checksum(tensors)}
    content = safetensors_torch.save(tensors, {_KEY: json.dumps(header)})
    # A fixed name: what a killed process left behind is overwritten by the next save.
    partial = path.with_name(f".{path.name}.partial")
    try:
        _replace(path, partial, content)
    except BaseException as error:  # also Ctrl-C
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            raise ValueError(_why_not_written(path, error)) from error
        raise
    return path


def at_home(path: str | os.PathLike[str]) -> Path:
    """``path`` with ``~`` as the home folder, if there is one of that name."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def located(path: str | os.PathLike[str]) -> Path:
    """The file that is meant by ``path``: itself, or the one that a training left in a folder.

    Raises ``ValueError`` where there is none.
    """
    path = at_home(path)
    # By os.path, since pathlib may raise PermissionError.
    if os.path.isdir(path):
        if not os.path.isfile(path / NAME):
            raise ValueError(f"there is no {NAME} in the folder {path}; give the file itself")
        return path / NAME
    if not os.path.isfile(path):
        raise ValueError(f"there is no checkpoint {path}; check the path or train it first")
    return path


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a file that ``write`` wrote; ``ValueError`` for any other.

    ``path`` may also be the folder of a training.
    """
    path = located(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        message = f"{path} is damaged or no safetensors file ({error}); fetch or train it again"
        raise ValueError(message) from error
    return _header(metadata, tensors, path), tensors


def _header(metadata: dict[str, str], tensors: dict[str, Tensor], path: Path) -> dict[str, Any]:
    try:
        header = json.loads(metadata[_KEY])
        version, checksum = header["format"], header["checksum"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} was not written by gentext; give a file that gentext.checkpoint.save wrote"
        ) from error
    if version > FORMAT:
        raise ValueError(
            f"{path} has format {version} (gentext {header.get('gentext')}), this gentext reads "
            f"up to {FORMAT}; update it with pip install --upgrade gentext"
        )
    if checksum != _checksum(tensors):
        raise ValueError(f"{path} is damaged (its checksum differs); fetch or train it again")
    return header


def _replace(path: Path, partial: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _why_not_written(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no space left to write {path}; free some or choose another folder"
    if os.path.isdir(path):
        return f"cannot write {path}, which is a folder; name a file in it (*{SUFFIX})"
    reason = error.strerror or error
    return f"cannot write {path} ({reason}); choose a folder in which you may write"


def _checksum(tensors: dict[str, Tensor]) -> int:
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(name.encode(), total)
        # As bytes by way of torch, for numpy knows no bfloat16.
        total = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, total)
    return total


def _versions() -> dict[str, str]:
    from importlib import metadata

    try:
        own = metadata.version("gentext")
    except metadata.PackageNotFoundError:  # run from a folder that is not installed
        own = "unknown"
    return {"gentext": own, "torch": torch.__version__}
