"""Sphinx extension: the same pages in less time, and pages that are read again as if new.

- The sidebar lists the titles of all pages. Sphinx copies every heading of every page to make it,
  on each page and each listing of code, and throws away all but the titles.
- Listings are coloured once and kept beside the pages that were read, and a listing of the package
  is made from the code that was read with the reference, so that nothing has to be imported.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.build_phase import BuildPhase

from book.tools.build import digest


def purge(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Forget all pages before the first is read again, so that a label may move between two."""
    for docname in docnames:
        app.emit("env-purge-doc", env, docname)
        env.clear_doc(docname)


def title_only(toc: nodes.Element) -> nodes.Element:
    """The contents of a page without its headings; those of a page that has others are whole."""
    if next(toc.findall(addnodes.toctree), None):
        return toc
    short = toc.deepcopy()
    for item in short:
        del item[1:2]
    return short


@functools.cache
def titles(env: BuildEnvironment) -> dict[str, nodes.Element]:
    """The contents of every page that is a title only, made once a build."""
    return {docname: title_only(toc) for docname, toc in env.tocs.items()}


def shorten_sidebar(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Make the list of titles from the titles."""
    whole, env = context["toctree"], app.env

    def toctree(**options: Any) -> str:
        if not options.get("titles_only"):
            return whole(**options)
        kept, env.tocs = env.tocs, titles(env)
        try:
            return whole(**options)
        finally:
            env.tocs = kept

    context["toctree"] = toctree


def remember(highlight: Callable[..., str], old: dict[str, str], new: dict[str, str]) -> Any:
    """A function that colours a listing only where ``old`` lacks it; ``new`` gets what is used."""

    def block(source: str, lang: str, opts: Any = None, **more: Any) -> str:
        location = more.pop("location", None)
        key = digest(repr((source, lang, opts, more)).encode())
        if key not in new:
            new[key] = old.get(key) or highlight(source, lang, opts, location=location, **more)
        return new[key]

    return block


def keep_listings(app: Sphinx) -> None:
    """Colour no listing twice; a build with a warning keeps none, as the next has to repeat it."""
    path = Path(app.doctreedir, "listings.json")
    new: dict[str, str] = {}
    old = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    highlighter = app.builder.highlighter  # type: ignore[attr-defined]
    highlighter.highlight_block = remember(highlighter.highlight_block, old, new)

    def save(app: Sphinx, exception: Exception | None) -> None:
        if exception is None and not app._warncount:
            path.write_text(json.dumps(new), "utf-8")

    app.connect("build-finished", save)


def read_source(app: Sphinx, module: str) -> tuple[str, Any] | None:
    """The code and the places in it of a module, when its listing is written."""
    reading = app.phase == BuildPhase.READING
    entry = None if reading else app.env._viewcode_modules.get(module)  # type: ignore[attr-defined]
    return entry[:2] if entry else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect all of it, the sidebar before the theme draws it."""
    app.connect("env-before-read-docs", purge)
    app.connect("html-page-context", shorten_sidebar, priority=100)
    app.connect("builder-inited", keep_listings)
    app.setup_extension("sphinx.ext.viewcode")
    app.connect("viewcode-find-source", read_source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
