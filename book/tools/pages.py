"""The prose of the book as its sources hold it: cells of notebooks and whole Markdown pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("en", "zh")
FENCE = re.compile(r"\s*(`{3,}|~{3,})(.*)")
CODE = re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)


@dataclass(frozen=True)
class Cell:
    """A prose cell of a notebook, or a whole Markdown page (then ``id`` is empty)."""

    path: Path
    id: str
    text: str


@dataclass(frozen=True)
class Problem:
    """What is wrong and where: the file, and the cell or line in it."""

    path: Path
    where: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.path), self.where, self.message) if part)


def prose(text: str) -> str:
    """Markdown without fenced programs; a fence that opens a directive holds prose and stays."""
    kept: list[str] = []
    program, directives = "", [""]
    for line in text.splitlines():
        fence = FENCE.fullmatch(line)
        if program:
            if fence and fence[1].startswith(program) and not fence[2].strip():
                program = ""
        elif fence is None:
            kept.append(line)
        elif fence[2].startswith("{"):
            directives.append(fence[1])
        elif directives[-1] == fence[1]:
            directives.pop()
        else:
            program = fence[1]
    return CODE.sub("", "\n".join(kept))


def notebook_cells(path: Path) -> Iterator[Cell]:
    """The prose cells of one notebook; a broken file raises ``ValueError`` with its name."""
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a notebook ({error}); restore it from git") from error
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "markdown":
            text = prose("".join(cell["source"]))
            yield Cell(path, cell.get("id") or f"number-{number}", text)


def cells(root: Path, language: str, stem: str = "*") -> list[Cell]:
    """All prose of one language, or page: first notebooks, then Markdown pages, each by name."""
    notebooks = sorted((root / "notebooks" / language).glob(f"{stem}.ipynb"))
    found = [cell for path in notebooks for cell in notebook_cells(path)]
    for path in sorted((root / "book" / language).glob(f"{stem}.md")):
        found.append(Cell(path, "", prose(path.read_text("utf-8"))))
    return found


def title(root: Path, language: str, stem: str) -> str:
    """The first heading of a page, without markup."""
    for cell in cells(root, language, stem):
        if heading := re.search(r"^# +(.+)$", cell.text, re.MULTILINE):
            return heading[1].strip()
    return stem
