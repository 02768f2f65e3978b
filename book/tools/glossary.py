"""The terms on which the two languages agree: the glossary page, and the check of Chinese prose.

``book/glossary.yml`` lists them by subject. ``zh`` is the translation used throughout; the Chinese
words under ``avoid`` are not used for it, save where a text says that others do (又译……). A term
with ``introduce`` is given with its English, ``隐变量（latent variable）``, in each chapter that
uses it in several cells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import yaml
from nbformat import NotebookNode

from book.tools import prose
from book.tools.notebook_text import ROOT
from book.tools.translation import words

SEVERAL = 3  # cells that use a term before its English must be given
ASIDE = re.compile(r"(?:又|也|亦|或|旧|常|有时|有人|有的书)[译称写叫作]+[^。；！？\n]{0,20}$")
PAGE = {
    "en": ("Glossary", "The terms of this book in both languages.", "English", "Chinese", "Note"),
    "zh": ("术语表", "本书两种语言所用的术语。", "英文", "中文", "说明"),
}


@dataclass(frozen=True)
class Term:
    """One agreed translation; ``note`` is given by language."""

    en: str
    zh: str
    avoid: list[str] = field(default_factory=list)
    introduce: bool = False
    note: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """A part of the glossary, its title given by language."""

    title: dict[str, str]
    terms: list[Term]


@lru_cache
def load(root: Path = ROOT) -> tuple[Subject, ...]:
    """The glossary under ``root``; ``ValueError`` names the entry that is not understood."""
    path = root / "book" / "glossary.yml"
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        return tuple(Subject(e["title"], [Term(**t) for t in e["terms"]]) for e in entries)
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise ValueError(f"{path} cannot be read ({error}); its head says what it is.") from error


def terms(root: Path = ROOT) -> list[Term]:
    """All terms, whatever their subject."""
    return [term for subject in load(root) for term in subject.terms]


def page(language: str, root: Path = ROOT) -> str:
    """The glossary as a Markdown page of the book in ``language`` (``en`` or ``zh``)."""
    title, lead, *columns = PAGE[language]
    lines = [f"# {title}", "", lead]
    for subject in load(root):
        lines += ["", f"## {subject.title[language]}", "", row(columns), row(["---"] * 3)]
        ordered = sorted(subject.terms, key=lambda term: term.en.lower())
        lines += [row([term.en, term.zh, note(term, language)]) for term in ordered]
    return "\n".join(lines) + "\n"


def row(columns: list[str]) -> str:
    return f"| {' | '.join(columns)} |"


def note(term: Term, language: str) -> str:
    """What the page says beside a term: its note, and in Chinese the names that others use."""
    others = f"又译{'、'.join(term.avoid)}。" if term.avoid and language == "zh" else ""
    return others + term.note.get(language, "")


def findings(root: Path, notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """What a Chinese notebook says otherwise than agreed, as (cell id, text)."""
    texts = {cell.id: joined(prose.plain(words(cell))) for cell in notebook.cells}
    agreed = terms(root)
    for name, text in texts.items():
        yield from ((name, finding) for finding in unagreed(agreed, text))
    yield from unexplained(agreed, texts)


def joined(text: str) -> str:
    """The text without emphasis and without line breaks between Chinese characters."""
    return re.sub(rf"(?<=[{prose.HAN}])\s*\n\s*(?=[{prose.HAN}])", "", text.replace("*", ""))


def unagreed(agreed: list[Term], text: str) -> Iterator[str]:
    """Each word in ``text`` for which the glossary has another."""
    for term in agreed:
        for variant in term.avoid:
            places = (
                m.start() for m in re.finditer(f"{variant}(?!程)", text)
            )  # 归一化流程 is another
            if any(not ASIDE.search(text[:start]) for start in places):
                yield f"{variant}: the book says {term.zh} ({term.en}); write that"


def unexplained(agreed: list[Term], texts: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Terms to introduce that several cells use and none gives in English, at their first cell."""
    longest = sorted({term.zh for term in agreed if len(term.zh) > 1}, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest)))
    used = {name: set(pattern.findall(text)) for name, text in texts.items()}
    glosses = " ".join(flat(g) for text in texts.values() for g in re.findall(r"（([^）]*)", text))
    for term in agreed:
        cells = [name for name, found in used.items() if term.zh in found]
        if term.introduce and len(cells) >= SEVERAL and flat(term.en) not in glosses:
            yield (
                cells[0],
                (
                    f"{term.zh} stands in {len(cells)} cells and its English in none; write "
                    f"{term.zh}（{term.en}） here or where it is explained"
                ),
            )


def flat(english: str) -> str:
    """English in lower case, hyphens as spaces, spelt with z where that is usual somewhere."""
    text = re.sub(r"[-–\s]+", " ", english.lower())
    return re.sub(r"is(?=(?:e|ed|er|ing|ation)s?\b)", "iz", text)
