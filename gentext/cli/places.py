"""Where results are written: refused before anything is computed, made when it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def check(out: Path, suffixes: Sequence[str], kind: str) -> None:
    """Raise ValueError unless ``out`` can be written and ends as a file of this ``kind`` does."""
    if out.is_dir():
        raise ValueError(
            f"--out {out} is a folder; give a file in it, such as {_in(out, suffixes)}"
        )
    if out.suffix.lower() not in suffixes:
        raise ValueError(
            f"--out {out} does not end in {' or '.join(suffixes)}, as {kind} do; rename it"
        )
    _check_writable(out)


def check_folder(out: Path, name: str) -> None:
    """Raise ValueError unless a new file ``name`` can be written into the folder ``out``."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder")
    if (out / name).exists():
        raise ValueError(f"--out {out} already holds a {name}; choose another folder, or delete it")
    _check_writable(out)


def _check_writable(out: Path) -> None:
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir():
        raise ValueError(f"--out {out} lies in {above}, which is no folder; choose another place")
    if not os.access(above if not out.exists() else out, os.W_OK):
        raise ValueError(f"--out {out} cannot be written; choose a folder in which you may write")


def made(out: Path) -> Path:
    """``out``, once its folder is there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def _in(folder: Path, suffixes: Sequence[str]) -> Path:
    return folder / f"result{suffixes[0]}"
