"""Sphinx extension: citations that read well everywhere, and the bibliography.

A citation is an ordinary Markdown link, ``[Kingma and Welling (2014)](#cite-kingma2014)``: plain
text in Jupyter and Colab, a link to the entry in the book. The key is that of
``book/references.bib``; a key that is missing there fails the build, as does (in `problems`) a year
in the words of the link that is not the entry's. The directive ``reference-list`` writes the page
of all entries, each with the chapters that cite it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from pybtex.database import BibliographyData, parse_file
from pybtex.plugin import find_plugin
from pybtex_docutils import Backend
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from book.tools import pages

CITATION = re.compile(r"\[([^\[\]]*)\]\(#cite-([^)\s]+)\)")
CITED = {"en": "Cited in: ", "zh": "引用于："}


def references(root: Path) -> BibliographyData:
    """The entries of ``book/references.bib``."""
    return parse_file(str(root / "book" / "references.bib"))


def citations(root: Path, language: str) -> Iterator[tuple[pages.Cell, str, str]]:
    """Every citation of one language: its cell, the words of the link and the key."""
    for cell in pages.cells(root, language):
        for words, key in CITATION.findall(cell.text):
            yield cell, words, key


def problems(root: Path) -> list[pages.Problem]:
    """Cited keys that are missing, years that are wrong, keys that a link cannot hold."""
    bib = references(root).entries
    place = Path("book", "references.bib")
    found = [
        pages.Problem(place, key, "a key has only lower-case letters, digits and hyphens")
        for key in bib
        if not re.fullmatch(r"[a-z0-9-]+", key)
    ]
    for cell, words, key in (c for language in pages.LANGUAGES for c in citations(root, language)):
        message = ""
        if key not in bib:
            message = f"cites {key!r}, which book/references.bib lacks; add the entry"
        else:
            years, year = re.findall(r"\b(?:19|20)\d\d\b", words), bib[key].fields.get("year", "")
            if years and year not in years:
                message = f"cites {key!r} as {words!r}, but the entry is of {year}"
        if message:
            where = f"cell {cell.id}" if cell.id else ""
            found.append(pages.Problem(cell.path.relative_to(root), where, message))
    return found


def formatted(data: BibliographyData) -> list[tuple[str, list[nodes.Node]]]:
    """Key and text of every entry, sorted by author and year."""
    style = find_plugin("pybtex.style.formatting", "unsrt")(sorting_style="author_year_title")
    entries = style.format_entries(data.entries.values())
    return [(entry.key, entry.text.render(Backend())) for entry in entries]


class ReferenceList(SphinxDirective):
    """``{reference-list}``: all entries of the bibliography."""

    def run(self) -> list[nodes.Node]:
        """One bulleted list."""
        root = Path(self.config.gt_root)
        language = "zh" if self.config.language.startswith("zh") else "en"
        cited: dict[str, list[str]] = {}
        for cell, _, key in citations(root, language):
            stems = cited.setdefault(key, [])
            if cell.path.stem not in stems:
                stems.append(cell.path.stem)
        out = nodes.bullet_list(classes=["gt-references"])
        for key, text in formatted(references(root)):
            out += self.entry(key, text, cited.get(key, []), CITED[language])
        return [out]

    def entry(
        self, key: str, text: list[nodes.Node], stems: list[str], words: str
    ) -> nodes.list_item:
        """One entry under the name that citations link to, and where it is cited."""
        item = nodes.list_item(names=[f"cite-{key}"])
        self.state.document.note_explicit_target(item)
        item += nodes.paragraph("", "", *text)
        if stems:
            places: list[nodes.Node] = []
            for stem in stems:
                places += [nodes.Text("; ")] if places else []
                places.append(page_link(stem, self.env.docname))
            item[0] += nodes.inline("", " " + words, *places, classes=["gt-cited"])
        return item


def page_link(stem: str, docname: str) -> addnodes.pending_xref:
    """A link to a page under its title."""
    attributes: dict[str, Any] = {"refdomain": "std", "reftype": "doc", "reftarget": f"/{stem}"}
    attributes |= {"refdoc": docname, "refexplicit": False, "refwarn": True}
    return addnodes.pending_xref("", nodes.inline("", stem), **attributes)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the bibliography."""
    app.add_directive("reference-list", ReferenceList)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
