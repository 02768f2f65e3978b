"""Sphinx extension: the same pages in less time, and pages that are read again as if new.

The sidebar lists the titles of all pages. Sphinx copies every heading of every page to make it, on
each page and each listing of code, and throws away all but the titles.
"""

from __future__ import annotations

import functools
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


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


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect both, the sidebar before the theme draws it."""
    app.connect("env-before-read-docs", purge)
    app.connect("html-page-context", shorten_sidebar, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
