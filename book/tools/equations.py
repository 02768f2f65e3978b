"""The equations of the book: where they stand, which code implements them, which test checks them.

Nothing here needs Sphinx or a build, so that the checks run in a second:

- a display equation is ``$$ ... $$ (eq-label)`` in a prose cell, alike in both languages;
- the code that implements it says ``Equation: :eq:`eq-label` `` in its docstring (several labels
  are separated by commas);
- its test carries ``@pytest.mark.equation("eq-label", ...)``.

Code may stand before its chapter: ``book/planned.yml`` lists the labels of chapters to come.

`problems` lists every gap between the three and every difference between the languages.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that this file runs as a script

from book.tools.pages import LANGUAGES, Cell, Problem, cells

AMSMATH = r"(?:equation|multline|gather|align|alignat|flalign|eqnarray)\*?"
DISPLAY = re.compile(
    r"(?<!\\)\$\$(?P<dollars>.+?)(?<!\\)\$\$(?:[ \t]*\((?P<label>[^()\s]+)\))?"
    rf"|^[ \t]*(?P<amsmath>\\begin\{{(?P<name>{AMSMATH})\}}.+?\\end\{{(?P=name)\}})",
    re.DOTALL | re.MULTILINE,
)
REFERENCE = re.compile(r"\]\(#(eq-[^)\s]*)\)")
ROLE = re.compile(r":eq:`([^`]+)`")
DECLARATION = re.compile(r"\bEquations?:(.*?)(?:\n\s*\n|\Z)", re.DOTALL)
WORDS = re.compile(r"\\(?:text|textbf|textit|mbox)\{[^{}]*\}")
OWNERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Equation:
    """A display formula: its label (empty when it has no number), its TeX and its cell."""

    label: str
    tex: str
    cell: Cell


@dataclass(frozen=True)
class Link:
    """A place in code that names an equation: file, first and last line, name of the object."""

    label: str
    path: Path
    line: int
    end: int
    name: str


def displayed(cell: Cell) -> list[Equation]:
    """The display formulas of a cell in the order in which they stand."""
    matches = DISPLAY.finditer(cell.text)
    return [
        Equation(match["label"] or "", (match["dollars"] or match["amsmath"]).strip(), cell)
        for match in matches
    ]


def labelled(root: Path, language: str) -> list[Equation]:
    """All numbered equations of one language."""
    return [e for cell in cells(root, language) for e in displayed(cell) if e.label]


def owners(tree: ast.AST, path: tuple[str, ...] = ()) -> Iterator[tuple[ast.AST, str]]:
    """Every module, class and function of a syntax tree with its dotted name."""
    yield tree, ".".join(path)
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from owners(node, (*path, node.name))


def link(label: str, path: Path, node: ast.AST, name: str) -> Link:
    """A link to an object, from its first decorator to its last line."""
    decorators = getattr(node, "decorator_list", [])
    line = min([getattr(node, "lineno", 1), *(decorator.lineno for decorator in decorators)])
    return Link(label, path, line, getattr(node, "end_lineno", 0) or 0, name)


def docstrings(root: Path) -> Iterator[tuple[str, Path, ast.AST, str]]:
    """Every docstring of the package with its file, object and dotted name."""
    for path in sorted((root / "gentext").rglob("*.py")):
        for node, name in owners(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, OWNERS) and (text := ast.get_docstring(node)):
                yield text, path, node, name


def implementations(root: Path) -> list[Link]:
    """The objects of the package whose docstring declares an equation."""
    return [
        link(label, path, node, name)
        for text, path, node, name in docstrings(root)
        for declaration in DECLARATION.findall(text)
        for label in ROLE.findall(declaration)
    ]


def mentions(root: Path) -> list[Link]:
    """Every equation named in a docstring of the package, declared or only referred to."""
    return [
        link(label, path, node, name)
        for text, path, node, name in docstrings(root)
        for label in ROLE.findall(text)
    ]


def is_marker(node: ast.AST) -> bool:
    """Whether a node is a call of ``pytest.mark.equation``."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "equation"
        and isinstance(node.func.value, ast.Attribute)
        and node.func.value.attr == "mark"
    )


def markers(path: Path) -> Iterator[tuple[ast.Call, ast.AST, str]]:
    """Every marker of a test file with the innermost object that it stands in or decorates."""
    innermost: dict[ast.AST, tuple[ast.AST, str]] = {}
    for owner, name in owners(ast.parse(path.read_text("utf-8"))):
        for node in ast.walk(owner):  # inner objects come later and overwrite outer ones
            if is_marker(node):
                innermost[node] = owner, name
    for marker, (owner, name) in innermost.items():
        assert isinstance(marker, ast.Call)
        yield marker, owner, name


def tests(root: Path) -> list[Link]:
    """The tests that name an equation by the marker."""
    return [
        link(argument.value, path, owner, name)
        for path in sorted((root / "tests").rglob("test_*.py"))
        for marker, owner, name in markers(path)
        for argument in marker.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]


def by_label(links: Iterable[Link]) -> dict[str, list[Link]]:
    """Links grouped by the equation that they name."""
    groups: dict[str, list[Link]] = defaultdict(list)
    for item in links:
        groups[item.label].append(item)
    return dict(groups)


def comparable(tex: str) -> str:
    """TeX without what a translation may change: words, spaces and the final punctuation."""
    tex = re.sub(r"\s+", " ", WORDS.sub(r"\\text{}", tex))
    return re.sub(r"(?:\s|\\[,;:!]|\\quad|[.,;。，；])+$", "", tex).replace(" ", "")


def single(root: Path) -> dict[str, Path]:
    """Files that one language has and the other lacks, by name."""
    paths = {lang: {c.path.name: c.path for c in cells(root, lang)} for lang in LANGUAGES}
    english, chinese = (paths[language] for language in LANGUAGES)
    both = english.keys() & chinese.keys()
    return {name: path for name, path in (english | chinese).items() if name not in both}


def file_problems(root: Path) -> Iterator[Problem]:
    """Notebooks and pages without a twin; their content is not compared any further."""
    for path in single(root).values():
        other = next(language for language in LANGUAGES if language != path.parent.name)
        message = f"has no twin in {other!r}; add {path.parent.parent.name}/{other}/{path.name}"
        yield Problem(path.relative_to(root), "", message)


def label_problems(root: Path) -> Iterator[Problem]:
    """Labels used twice, misnamed, or present in one language only."""
    found = {language: by_cell(labelled(root, language)) for language in LANGUAGES}
    alone = single(root)
    for language, other in zip(LANGUAGES, reversed(LANGUAGES), strict=True):
        for label, places in found[language].items():
            path, where = places[0].path.relative_to(root), spot(places[0])
            if not label.startswith("eq-"):
                yield Problem(path, where, f"label {label!r} has to begin with 'eq-'")
            for again in places[1:]:
                message = f"label {label!r} is already used in {path}, {where}; choose another"
                yield Problem(again.path.relative_to(root), spot(again), message)
            if label not in found[other] and path.name not in alone:
                message = f"equation {label!r} is missing in {other!r}; add it there as well"
                yield Problem(path, where, message)


def by_cell(equations: Iterable[Equation]) -> dict[str, list[Cell]]:
    """The cells in which each label is defined."""
    places: dict[str, list[Cell]] = defaultdict(list)
    for equation in equations:
        places[equation.label].append(equation.cell)
    return dict(places)


def spot(cell: Cell) -> str:
    """How a message names a cell."""
    return f"cell {cell.id}" if cell.id else ""


def coverage_problems(root: Path) -> Iterator[Problem]:
    """Equations that no code declares to implement, or that no test checks."""
    code, checked = by_label(implementations(root)), by_label(tests(root))
    seen: set[str] = set()
    for equation in (e for language in LANGUAGES for e in labelled(root, language)):
        label, cell = equation.label, equation.cell
        if label in seen:
            continue
        seen.add(label)
        path, where = cell.path.relative_to(root), spot(cell)
        if label not in code:
            message = f"no docstring in gentext/ says 'Equation: :eq:`{label}`'; add it where "
            yield Problem(path, where, message + "the equation is implemented")
        if label not in checked:
            message = f"no test carries @pytest.mark.equation({label!r}); mark or write one"
            yield Problem(path, where, message)


def citation_problems(root: Path) -> Iterator[Problem]:
    """Labels that code, tests or text name although no equation has them."""
    for language in LANGUAGES:
        known = {equation.label for equation in labelled(root, language)}
        for cell in cells(root, language):
            for label in REFERENCE.findall(cell.text):
                if label not in known:
                    message = f"refers to equation {label!r}, which no page in {language!r} has"
                    yield Problem(cell.path.relative_to(root), spot(cell), message)
    known = {equation.label for language in LANGUAGES for equation in labelled(root, language)}
    known |= planned(root)
    for item in (*mentions(root), *tests(root)):
        if item.label not in known:
            message = f"{item.name or 'the module'} names equation {item.label!r}, "
            where = f"line {item.line}"
            message += "which no chapter has; correct the label"
            yield Problem(item.path.relative_to(root), where, message)


def planned(root: Path) -> set[str]:
    """The labels of chapters to come, whose code and tests stand already."""
    path = root / "book" / "planned.yml"
    listed = yaml.safe_load(path.read_text("utf-8")) if path.is_file() else {}
    return {label for labels in (listed or {}).values() for label in labels}


def planned_problems(root: Path) -> Iterator[Problem]:
    """Labels listed for chapters to come that a chapter has, or that no code and test name."""
    known = {equation.label for language in LANGUAGES for equation in labelled(root, language)}
    code, checked = by_label(implementations(root)), by_label(tests(root))
    for label in sorted(planned(root)):
        if label in known:
            message = f"a chapter has equation {label!r} now; take it off this list"
        elif label not in code or label not in checked:
            message = f"{label!r} needs both code that declares it and a test; or take it off"
        else:
            continue
        yield Problem(Path("book/planned.yml"), "", message)


def marker_problems(root: Path) -> Iterator[Problem]:
    """Markers whose labels cannot be read without running the test."""
    for path in sorted((root / "tests").rglob("test_*.py")):
        for marker, _, name in markers(path):
            plain = [isinstance(a, ast.Constant) and isinstance(a.value, str) for a in marker.args]
            if not plain or not all(plain):
                message = f"{name or 'the module'}: write the labels of the equation marker as "
                where = f"line {marker.lineno}"
                yield Problem(path.relative_to(root), where, message + "plain strings")


def twin_problems(root: Path) -> Iterator[Problem]:
    """Display mathematics, numbered or not, that differs between the languages."""
    english, chinese = ({key(c): c for c in cells(root, language)} for language in LANGUAGES)
    alone = single(root)
    for name in dict.fromkeys((*english, *chinese)):
        if name[0] in alone:
            continue
        pair = english.get(name), chinese.get(name)
        formulas = [displayed(cell) if cell else [] for cell in pair]
        cell = pair[1] or pair[0]
        assert cell is not None
        for number, (left, right) in enumerate(zip_longest(*formulas), start=1):
            here, there = (comparable(e.tex) if e else "nothing" for e in (left, right))
            if here != there:
                message = f"display formula {number} differs: {here} in English, {there} in Chinese"
                yield Problem(cell.path.relative_to(root), spot(cell), message)
                break


def key(cell: Cell) -> tuple[str, str]:
    """What a cell and its translation have in common."""
    return cell.path.name, cell.id


def problems(root: Path) -> list[Problem]:
    """Everything that is wrong with the equations of the book under ``root``, by file."""
    checks = (
        file_problems,
        label_problems,
        coverage_problems,
        citation_problems,
        planned_problems,
        marker_problems,
        twin_problems,
    )
    return sorted((p for check in checks for p in check(root)), key=lambda p: str(p.path))


def main() -> int:
    """Print what is wrong with the equations; 1 if something is."""
    found = problems(Path(__file__).resolve().parents[2])
    print(*map(str, found), "" if found else "the equations are in order", sep="\n")
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main())
