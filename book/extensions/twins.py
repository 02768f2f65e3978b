"""Sphinx extension: what makes a page and its twin in the other language interchangeable.

Headings get their ids from their words, which differ between languages; here each gets one more
id, ``place-<number>``, counted from the top of the page, so that the language switch can lead to
the same heading. Chinese lines are joined without the space that a line break leaves in English.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx


def number_sections(app: Sphinx, doctree: nodes.document) -> None:
    """Give every section of a page its place as a further id."""
    for number, section in enumerate(doctree.findall(nodes.section), start=1):
        section["ids"].append(f"place-{number}")


CHINESE = re.compile("[\u2014-\u2026\u3001-\u9fff\uff01-\uff65]")  # characters and punctuation


def join_lines(app: Sphinx, doctree: nodes.document) -> None:
    """Take line breaks out of Chinese sentences; a browser would show them as spaces."""
    for text in list(doctree.findall(nodes.Text)):
        if text.astext() != "\n" or not isinstance(text.parent, nodes.TextElement):
            continue
        line = text.parent.children
        place = next(number for number, child in enumerate(line) if child is text)
        before, after = (
            "".join(child.astext() for child in part) for part in (line[:place], line[place + 1 :])
        )
        if CHINESE.match(before[-1:]) and CHINESE.match(after):
            del line[place]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the numbering to the reading of pages."""
    app.connect("doctree-read", number_sections)
    app.connect("doctree-read", join_lines)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
