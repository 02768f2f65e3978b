"""Chinese twins of the English notebooks: what is copied, and what a translation translates.

Code, outputs, order and metadata come from English; cells are matched by id. Each Chinese cell
records in ``metadata.gentext`` which English text (``en``) and which Chinese text (``zh``) were
last known to say the same, as hashes:

- ``sync`` renews the record of a cell that is new, or whose Chinese text changed since;
- ``mark_translated`` renews it for cells whose English changed in a way that needs no new Chinese;
- nothing else touches it, so that a translation gone stale is found.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from book.tools.notebook_text import (
    RECORD,
    captions,
    normalized,
    notebook_path,
    read,
    without_record,
    write,
)


def words(cell: NotebookNode) -> str:
    """What of a cell is translated: a prose cell's source, a code cell's captions."""
    if cell.cell_type != "code":
        return cell.source
    return "\n".join(text for group in captions(cell).values() for text in group.values())


def digest(cell: NotebookNode) -> str:
    """A hash of the cell's words, insensitive to white space at the ends of lines."""
    lines = (line.rstrip() for line in words(cell).strip().splitlines())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def translated_cell(source: NotebookNode, twin: NotebookNode | None) -> NotebookNode:
    """The Chinese cell for the English ``source``: its code and metadata, the twin's words."""
    cell = copy.deepcopy(source)
    if cell.cell_type != "code" and twin is not None:
        cell.source = twin.source
    chinese = captions(twin) if twin is not None else {}
    for group, texts in captions(source).items():
        for key in texts:
            del cell.metadata["mystnb"][group][key]
        cell.metadata["mystnb"][group].update(chinese.get(group, {}))
    record = recorded(twin) if twin is not None else {}
    if words(source).strip() and words(cell).strip() and record.get("zh") != digest(cell):
        record = {"en": digest(source), "zh": digest(cell)}
    with_record(cell, record)
    return cell


def recorded(cell: NotebookNode) -> dict[str, str]:
    """Which texts the cell was last known to hold and to translate, as hashes."""
    gentext = cell.metadata.get("gentext", {})
    return {key: gentext[key] for key in RECORD if key in gentext}


def with_record(cell: NotebookNode, record: dict[str, str]) -> None:
    metadata = without_record(cell.metadata)
    if record:
        metadata["gentext"] = {**metadata.get("gentext", {}), **record}
    cell.metadata = nbformat.from_dict(metadata)


def synced(en: NotebookNode, zh: NotebookNode) -> NotebookNode:
    """``zh`` in step with ``en``: its order, code, outputs and metadata, and the Chinese words.

    A prose cell without translation is left out, one without English original kept behind the
    cell that it followed; the checks name both.
    """
    twins = {(cell.id, cell.cell_type): cell for cell in zh.cells}
    pairs = [(cell, twins.get((cell.id, cell.cell_type))) for cell in en.cells]
    cells = [translated_cell(c, twin) for c, twin in pairs if c.cell_type == "code" or twin]
    ours, before = {cell.id for cell in en.cells}, None
    for cell in zh.cells:
        if cell.id not in ours and cell.cell_type == "code":
            continue
        if cell.id not in ours:
            place = next((k + 1 for k, c in enumerate(cells) if c.id == before), 0)
            cells.insert(place, copy.deepcopy(cell))
        before = cell.id
    return normalized(nbformat.v4.new_notebook(cells=cells, metadata=en.metadata))


def sync(root: Path, chapters: Iterable[str]) -> Iterator[str]:
    """Bring Chinese notebooks in step with the English; yields a line on each that changed."""
    for stem in chapters:
        path = notebook_path(root, "zh", stem)
        if not path.exists():
            yield f"{path.relative_to(root)}: missing; write the Chinese text and pack it"
            continue
        old = read(path)
        new = synced(read(notebook_path(root, "en", stem)), old)
        if write(new, path):
            renewed = renewed_records(old, new)
            note = f"; recorded as translated: {', '.join(renewed)}" if renewed else ""
            yield f"{path.relative_to(root)}: brought in step{note}"


def renewed_records(old: NotebookNode, new: NotebookNode) -> list[str]:
    """The cells that translate another English text in ``new`` than they did in ``old``."""
    before = {cell.id: recorded(cell).get("en") for cell in old.cells}
    now = {cell.id: recorded(cell).get("en") for cell in new.cells}
    return [name for name, mark in now.items() if mark and mark != before.get(name)]


def mark_translated(root: Path, stem: str, names: Iterable[str]) -> None:
    """Record that the Chinese of the cells ``names`` says what the English says now."""
    path = notebook_path(root, "zh", stem)
    zh = read(path)
    en = {cell.id: cell for cell in read(notebook_path(root, "en", stem)).cells}
    twins = {cell.id: cell for cell in zh.cells}
    for name in names:
        if name not in en or name not in twins:
            raise ValueError(f"{path}: there is no cell {name!r} in both languages; check its id.")
        with_record(twins[name], {"en": digest(en[name]), "zh": digest(twins[name])})
    write(zh, path)
