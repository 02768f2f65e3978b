"""Sphinx extension: links from every numbered equation to its code and its test, and back.

Beside each numbered equation stands a small mark that opens the source of the function which
implements it and the source of the test which checks it. Sources of tests are pages of the book
too (``_modules/tests/<file>.html``), so that everything works without a network. The directive
``equation-list`` writes the appendix of all equations.

``[equation](#eq-vae-elbo)`` in a chapter becomes "equation (2.1)" here, in Chinese 式（2.1）, and
stays "equation" in Jupyter and Colab: the words of the link are kept and the number follows. The
same holds for ``[figure](#fig-vae-latent)`` and ``[exercise](#ex-vae-bound)``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.locale import _
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

from book.tools import equations, pages
from book.tools.build import read_yaml, stems

Groups = dict[str, list[equations.Link]]

WORDS = {
    "en": {
        "code": "code",
        "test": "test",
        "tested": "implemented and tested",
        "gap": "not tested yet",
        "summary": "{total} numbered equations; {tested} of them implemented and tested.",
        "online": "in the repository",
        "eq": "\N{NO-BREAK SPACE}({})",
        "numref": "\N{NO-BREAK SPACE}{}",
    },
    "zh": {
        "code": "代码",
        "test": "测试",
        "tested": "已实现并通过测试",
        "gap": "尚无测试",
        "summary": "共 {total} 个编号公式，其中 {tested} 个已有代码实现并经过测试。",
        "online": "仓库中的文件",
        "eq": "（{}）",
        "numref": "\N{NO-BREAK SPACE}{}",
    },
}


class equation_links(nodes.General, nodes.Element):
    """Stands in the appendix for the links of one equation until the pages of code are known."""


def language(app: Sphinx) -> str:
    """The folder name of the language that is being built."""
    return "zh" if app.config.language.startswith("zh") else "en"


@functools.cache
def marked_tests(root: Path) -> list[equations.Link]:
    """The tests that name an equation, found once a build."""
    return equations.tests(root)


@functools.cache
def code_and_tests(root: Path) -> tuple[Groups, Groups]:
    """Implementations and tests of every equation, by label."""
    return (
        equations.by_label(equations.implementations(root)),
        equations.by_label(marked_tests(root)),
    )


def module_name(root: Path, path: Path) -> str:
    """The dotted name of a source file: ``gentext.vae``, ``tests.test_vae``."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def address(app: Sphinx, docname: str, link: equations.Link) -> str:
    """The page of the book with the source of a linked object, at that object where possible."""
    module = module_name(Path(app.config.gt_root), link.path)
    name = link.name
    if not module.startswith("tests."):
        entry = getattr(app.env, "_viewcode_modules", {}).get(module)
        documented = entry[2] if entry else {}
        while name and name not in documented:  # only objects in the reference have an anchor
            name = name.rpartition(".")[0]
    page = app.builder.get_relative_uri(docname, "_modules/" + module.replace(".", "/"))
    return f"{page}#{name}" if name else page


def links(app: Sphinx, docname: str, label: str, *, named: bool) -> list[nodes.Node]:
    """The links of one equation as inline nodes; ``named`` writes out what they lead to."""
    words = WORDS[language(app)]
    out: list[nodes.Node] = []
    for kind, groups in zip(
        ("code", "test"), code_and_tests(Path(app.config.gt_root)), strict=True
    ):
        found = groups.get(label, [])
        out.append(nodes.Text(" · " if out else ""))
        if named or not found:
            out.append(nodes.inline("", words[kind] + (" " if found else " –")))
        for number, link in enumerate(found):
            name = link.name or link.path.stem
            first = words[kind] if number == 0 else str(number + 1)
            child = nodes.literal("", name) if named else nodes.Text(first)
            uri = address(app, docname, link)
            out.append(nodes.Text(", " if named and number else ""))
            more = ["gt-more"] if number and not named else []
            attributes = {"refuri": uri, "reftitle": name, "classes": more}
            out.append(nodes.reference("", "", child, internal=True, **attributes))
    return out


def status(app: Sphinx, label: str) -> nodes.inline:
    """A sign that tells whether an equation has both code and test."""
    whole = all(label in groups for groups in code_and_tests(Path(app.config.gt_root)))
    sign, name = ("✓", "tested") if whole else ("✗", "gap")
    words = WORDS[language(app)][name]
    return nodes.inline("", f"{sign} ", classes=[f"gt-{name}"], title=words)


def add_marks(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put the mark beside every numbered equation and the links into the appendix."""
    for formula in list(doctree.findall(nodes.math_block)):
        label = formula.get("label")
        if label and label.startswith("eq-"):
            mark = nodes.container(classes=["gt-mark"])
            mark += nodes.inline("", "", status(app, label))
            mark[0].extend(links(app, docname, label, named=False))
            formula.parent.insert(formula.parent.index(formula) + 1, mark)
    for place in list(doctree.findall(equation_links)):
        label = place["label"]
        place.replace_self([status(app, label), *links(app, docname, label, named=True)])


class NumberedReferences(SphinxPostTransform):
    """Adds the number to the words of a Markdown link to an equation, figure or exercise."""

    default_priority = 5  # before MyST, which would put the number or caption in place of the words
    roles: ClassVar = {
        "eq-": ("math", "eq"),
        "fig-": ("std", "numref"),
        "ex-": ("std", "numref"),
    }

    def run(self, **kwargs: Any) -> None:
        """Resolve every link whose target has a number; the rest is MyST's."""
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node.get("reftype") == "myst":
                self.number(node, node["reftarget"], node[0].children)
        for reference in list(self.document.findall(nodes.reference)):  # on the same page
            if "refid" in reference:
                implicit = any(
                    "std-ref" in child.get("classes", ())
                    for child in reference
                    if isinstance(child, nodes.Element)
                )  # MyST's, for a link without
                self.number(reference, reference["refid"], [] if implicit else reference.children)

    def number(self, node: nodes.Element, target: str, words: list[nodes.Node]) -> None:
        """Replace a link by one with its words and the number of its target, where that has one."""
        kind = next((kind for kind in self.roles if target.startswith(kind)), None)
        if kind is None:
            return
        domain, role = self.roles[kind]
        plain = addnodes.pending_xref("", refexplicit=False, refdoc=self.env.docname)
        found = self.env.get_domain(domain).resolve_xref(
            *(self.env, self.env.docname, self.app.builder, role, target),
            *(plain, nodes.inline("", target)),
        )
        number = re.search(r"\d[\d.]*", found.astext()) if found is not None else None
        if found is None or number is None:
            return
        if words:
            style = WORDS[language(self.app)][role].format(number[0])
            found.clear()
            found += [*(word.deepcopy() for word in words), nodes.Text(style)]
        node.replace_self(found)


class EquationList(SphinxDirective):
    """``{equation-list}``: every numbered equation, by page, with its formula and links."""

    def run(self) -> list[nodes.Node]:
        """A sentence that counts them, then one section for each page that has any."""
        root = Path(self.config.gt_root)
        groups: dict[str, list[equations.Equation]] = {}
        for equation in equations.labelled(root, language(self.env.app)):
            groups.setdefault(equation.cell.path.stem, []).append(equation)
        labels = [equation.label for group in groups.values() for equation in group]
        tested = sum(all(label in g for g in code_and_tests(root)) for label in labels)
        words = WORDS[language(self.env.app)]["summary"]
        summary = nodes.paragraph("", words.format(total=len(labels), tested=tested))
        order = [stem for stem in stems(read_yaml(root / "book" / "toc.yml")) if stem in groups]
        return [summary, *(self.section(root, stem, groups[stem]) for stem in order)]

    def section(self, root: Path, stem: str, group: list[equations.Equation]) -> nodes.section:
        """The equations of one page under its title."""
        name = pages.title(root, language(self.env.app), stem)
        section = nodes.section(ids=[f"equations-{stem}"], names=[])
        section += nodes.title("", name)
        for equation in group:
            section += self.entry(equation)
        return section

    def entry(self, equation: equations.Equation) -> nodes.container:
        """Number, formula and links of one equation."""
        number = addnodes.pending_xref(
            "",
            nodes.inline("", equation.label),
            refdomain="math",
            reftype="eq",
            reftarget=equation.label,
            refdoc=self.env.docname,
            refwarn=True,
        )
        head = nodes.paragraph("", "", number, classes=["gt-number"])
        line = nodes.paragraph("", "", equation_links(label=equation.label))
        formula = nodes.math_block(
            equation.tex, equation.tex, nowrap=False, number=None, label=None
        )
        self.set_source_info(formula)
        return nodes.container("", head, formula, line, classes=["gt-entry"])


def source_lines(app: Sphinx, text: str) -> list[str]:
    """Highlighted lines of a program; element 0 is the opening markup, then line n is element n."""
    lines = app.builder.highlighter.highlight_block(text, "python").splitlines()  # type: ignore[attr-defined]
    before, first = lines[0].split("<pre>")
    return [before + "<pre>", first, *lines[1:]]


def back_link(app: Sphinx, page: str, label: str) -> str:
    """A link from a test to the equation that it checks, or nothing where there is no such one."""
    place = app.env.get_domain("math").equations.get(label)  # type: ignore[attr-defined]
    if place is None:
        return ""
    uri = app.builder.get_relative_uri(page, place[0]) + f"#equation-{nodes.make_id(label)}"
    return f'<a class="viewcode-back" href="{uri}">[{escape(label)}]</a>'


def test_page(app: Sphinx, root: Path, path: Path, found: list[equations.Link]) -> str:
    """The body of the page that shows a test file."""
    page = "_modules/" + module_name(root, path).replace(".", "/")
    lines = source_lines(app, path.read_text("utf-8"))
    objects: dict[str, list[equations.Link]] = {}
    for link in found:
        objects.setdefault(link.name, []).append(link)
    for name, group in objects.items():
        if name:
            back = "".join(back_link(app, page, link.label) for link in group)
            start, end = group[0].line, min(group[0].end, len(lines) - 1)
            opening = f'<div class="viewcode-block" id="{escape(name)}">\n'
            lines[start] = opening + back + lines[start]
            lines[end] += "</div>"
    theme = app.config.html_theme_options
    place = path.relative_to(root).as_posix()
    uri = f"{theme['repository_url']}/blob/{theme['repository_branch']}/{place}"
    heading = _("<h1>Source code for %s</h1>") % module_name(root, path)
    online = f'<p><a href="{escape(uri)}">{WORDS[language(app)]["online"]}</a></p>'
    return heading + online + "\n".join(lines)


def test_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for every test file that checks an equation."""
    root = Path(app.config.gt_root)
    groups: dict[Path, list[equations.Link]] = {}
    for link in marked_tests(root):
        groups.setdefault(link.path, []).append(link)
    for path, found in groups.items():
        module = module_name(root, path)
        context = {"title": module, "body": test_page(app, root, path, found), "parents": []}
        yield "_modules/" + module.replace(".", "/"), context, "page.html"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the marks, the references, the appendix and the pages of tests."""
    app.add_config_value("gt_root", "", "env", str)
    app.add_node(equation_links)
    app.add_directive("equation-list", EquationList)
    app.add_post_transform(NumberedReferences)
    app.connect("doctree-resolved", add_marks)
    app.connect("html-collect-pages", test_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
