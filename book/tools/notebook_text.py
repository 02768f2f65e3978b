"""Notebook files: one stable form on disk, and a plain text that authors write.

In the text, cells are headed by ``%% md <id>`` or ``%% code <id>``, each followed on the same line
by the cell's metadata in JSON where there is any. A Chinese text needs prose cells only; a code
cell stands in it, without its code, where a caption is translated.
"""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode

from book.tools.build import site_url

ROOT = Path(__file__).resolve().parents[2]
HEADER = re.compile(r"^%% (md|code|raw) (\S+)[ \t]*(\{.*\})?[ \t]*$", re.MULTILINE)
ALMOST = re.compile(r"^%%(?:[ \t]*(?:md|code|raw)|[ \t]+markdown)\b.*", re.MULTILINE)
KINDS = {"md": "markdown", "code": "code", "raw": "raw"}
CELL_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
CAPTIONS = (("figure", "caption"), ("image", "alt"))  # under metadata.mystnb; translated
RECORD = ("en", "zh")  # under metadata.gentext; never written by hand
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT = {"widgets", "mystnb", "gentext", "title"}  # of a notebook's metadata
VOLATILE = {"execution", "ExecuteTime", "collapsed", "scrolled", "colab", "outputId", "trusted"}

FIRST_CELL = """\
# Where gentext is missing (Colab, Kaggle, your own Jupyter): install it, beside the torch and numpy
# that are there.
import importlib.metadata
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("gentext") is None:
    there = [name for name in ("torch", "numpy") if importlib.util.find_spec(name)]
    kept = [f"{name}=={importlib.metadata.version(name)}" for name in there]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *kept]
    sources = ("ARCHIVE", "SITE/gentext.zip")
    if not any(subprocess.run([*pip, f"gentext @ {s}"]).returncode == 0 for s in sources):
        raise RuntimeError(
            "gentext could not be installed: switch the network on (Kaggle: Settings, Internet) "
            "and run this cell again, or install it by hand as README says "
            "没有装上 gentext：请打开网络（Kaggle：Settings, Internet）再运行本格，"
            "或按 README 自行安装"
        )
    importlib.invalidate_caches()"""


# --- files ---------------------------------------------------------------------------------------


def read(path: Path) -> NotebookNode:
    """The notebook at ``path``; ``ValueError`` when it cannot be read as one."""
    try:
        notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        nbformat.validate(notebook)
    except (nbformat.ValidationError, nbformat.reader.NotJSONError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is not a valid notebook ({reason}); restore it.") from error
    return notebook


def write(notebook: NotebookNode, path: Path) -> bool:
    """Write ``notebook`` whole or not at all; true when the file changed."""
    text = nbformat.writes(normalized(notebook), version=4) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return True


def normalized(notebook: NotebookNode) -> NotebookNode:
    """``notebook`` without what differs from one run or machine to the next."""
    metadata = {k: v for k, v in notebook.metadata.items() if k in KEPT} | KERNEL
    cells = [copy.deepcopy(cell) for cell in notebook.cells]
    for cell in cells:
        cell.source = cell.source.strip("\n")
        cell.metadata = NotebookNode({k: v for k, v in cell.metadata.items() if k not in VOLATILE})
    return nbformat.from_dict(
        {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}
    )


def with_stable_widgets(notebook: NotebookNode) -> NotebookNode:
    """``notebook`` with its widgets numbered: Jupyter names each by a random hexadecimal word."""
    widgets = notebook.metadata.get("widgets", {})
    state = widgets.get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    numbers = {name: f"{k:032x}" for k, name in enumerate(state)}
    text = nbformat.writes(notebook, version=4)
    stable = re.sub(r"[0-9a-f]{32}", lambda found: numbers.get(found[0], found[0]), text)
    return nbformat.reads(stable, as_version=4)


def stems(root: Path = ROOT) -> list[str]:
    """The chapters that have an English notebook."""
    return sorted(path.stem for path in (root / "notebooks" / "en").glob("*.ipynb"))


def notebook_path(root: Path, language: str, stem: str) -> Path:
    """Where the chapter ``stem`` of ``language`` is."""
    return root / "notebooks" / language / f"{stem}.ipynb"


def first_cell(root: Path = ROOT) -> str:
    """The source of every notebook's first code cell, with addresses by ``_config.yml``."""
    try:
        repository = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))[
            "repository"
        ]
        url, branch = repository["url"].rstrip("/"), repository["branch"]
    except (OSError, KeyError, TypeError) as error:
        raise ValueError(
            f"{root / '_config.yml'} does not name repository.url and repository.branch; add both."
        ) from error
    archive = f"{url}/archive/refs/heads/{branch}.zip"
    return FIRST_CELL.replace("ARCHIVE", archive).replace("SITE", site_url(url))


# --- the authors' text ---------------------------------------------------------------------------


def captions(cell: NotebookNode) -> dict[str, dict[str, str]]:
    """The caption and alternative text of a code cell's figure, laid out as in ``mystnb``."""
    found: dict[str, dict[str, str]] = {}
    for group, key in CAPTIONS:
        text = cell.metadata.get("mystnb", {}).get(group, {}).get(key)
        if text:
            found.setdefault(group, {})[key] = text
    return found


def without_record(metadata: dict[str, Any]) -> dict[str, Any]:
    """A cell's metadata less the record of what it translates."""
    gentext = {k: v for k, v in metadata.get("gentext", {}).items() if k not in RECORD}
    rest = {k: v for k, v in metadata.items() if k != "gentext"}
    return rest | ({"gentext": gentext} if gentext else {})


def unpack(notebook: NotebookNode, chinese: bool = False) -> str:
    """The authors' text of ``notebook``; of a Chinese one, only what is written in Chinese."""
    names = {kind: name for name, kind in KINDS.items()}
    parts = []
    for cell in notebook.cells:
        metadata, source = without_record(cell.metadata), cell.source
        if chinese and cell.cell_type == "code":
            metadata, source = {"mystnb": captions(cell)}, ""
            if not metadata["mystnb"]:
                continue
        tail = " " + json.dumps(metadata, ensure_ascii=False, sort_keys=True) if metadata else ""
        parts.append(f"%% {names[cell.cell_type]} {cell.id}{tail}\n{source}".rstrip("\n") + "\n")
    return "\n".join(parts)


def cells_of(text: str) -> list[NotebookNode]:
    """The cells of an authors' text; ``ValueError`` names the line that cannot be understood."""
    heads = list(HEADER.finditer(text))
    if not heads or text[: heads[0].start()].strip():
        raise ValueError("The text must begin with a line such as '%% md introduction'.")
    broken = [line for line in ALMOST.findall(text) if not HEADER.fullmatch(line)]
    if broken:
        raise ValueError(f"{broken[0]!r} is no cell header; write '%% md <id> {{json metadata}}'.")
    cells: list[NotebookNode] = []
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        kind, name, metadata = head.groups()
        if not CELL_ID.fullmatch(name) or len(name) > 64:
            raise ValueError(f"{head[0]!r}: a cell id is lower-case words joined by hyphens.")
        if name in {cell.id for cell in cells}:
            raise ValueError(f"{head[0]!r}: the cell id occurs twice; rename one of the cells.")
        cell = new_cell(kind, text[head.end() : following.start() if following else len(text)])
        cell.id, cell.metadata = name, parsed_metadata(head[0], metadata)
        cells.append(cell)
    return cells


def new_cell(kind: str, source: str) -> NotebookNode:
    make = getattr(nbformat.v4, f"new_{KINDS[kind]}_cell")
    return make(source.strip("\n"))


def parsed_metadata(header: str, metadata: str | None) -> NotebookNode:
    try:
        return nbformat.from_dict(json.loads(metadata or "{}"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{header!r}: the metadata is no valid JSON ({error}).") from error


def pack(text: str, old: NotebookNode | None = None) -> NotebookNode:
    """The notebook of an authors' text, with what ``old`` knows of cells that did not change.

    These are the outputs and execution count of a code cell with the same source, and the record
    of what a Chinese cell translates.
    """
    known = {cell.id: cell for cell in old.cells} if old else {}
    cells = cells_of(text)
    for cell in cells:
        before = known.get(cell.id)
        if before is None or before.cell_type != cell.cell_type:
            continue
        if cell.cell_type == "code" and before.source == cell.source:
            cell.outputs, cell.execution_count = before.outputs, before.execution_count
        record = {k: v for k, v in before.metadata.get("gentext", {}).items() if k in RECORD}
        if record:
            cell.metadata["gentext"] = {**cell.metadata.get("gentext", {}), **record}
    metadata = old.metadata if old else {}
    return normalized(nbformat.v4.new_notebook(cells=cells, metadata=metadata))
