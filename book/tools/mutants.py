"""Flip one sign of an implemented equation at a time and see whether its tests notice.

    python book/tools/mutants.py                        # every numbered equation; takes a while
    python book/tools/mutants.py --equation eq-vae-kl   # one, or several
    python book/tools/mutants.py --module vae           # those that one module implements

In each function that names an equation, one ``+`` becomes ``-``, one ``*`` becomes ``/`` (and the
other way round), or one minus sign is lost; then the tests that are marked with the equation run on
this mutant. A mutant that they let live is printed: either the change means nothing there (sizes of
a tensor, a symmetric quadrature), or the test is decoration. Exit code 1 says that an equation has
mutants of which none died.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from book.tools import equations  # noqa: E402

FLIPPED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}
SKIPPED = (ast.Raise, ast.JoinedStr, ast.Assert, ast.arg)


class Mutant(NamedTuple):
    """A module with one operator changed: its source, the line and what changed there."""

    source: str
    line: int
    change: str


def operators(tree: ast.AST, first: int, last: int) -> Iterator[ast.BinOp | ast.UnaryOp]:
    """The operators to flip in lines ``first`` to ``last``, without those of error messages."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, SKIPPED):
            continue
        known = isinstance(node, ast.BinOp) and type(node.op) in FLIPPED
        minus = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
        if (known or minus) and first <= node.lineno <= last:  # type: ignore[attr-defined]
            yield node  # type: ignore[misc]
        yield from operators(node, first, last)


def mutants(source: str, first: int, last: int) -> Iterator[Mutant]:
    """The module once for each operator in these lines, with that one changed."""
    count = len(list(operators(ast.parse(source), first, last)))
    for place in range(count):
        tree = ast.parse(source)
        node = list(operators(tree, first, last))[place]
        before = ast.unparse(node)
        line = node.lineno
        if isinstance(node, ast.BinOp):
            node.op = FLIPPED[type(node.op)]()
        else:
            node.op = ast.UAdd()
        changed = copy.deepcopy(node)
        yield Mutant(ast.unparse(tree), line, f"{before}  ->  {ast.unparse(changed)}")


def survives(folder: Path, tests: list[str]) -> bool:
    """Whether the tests pass with the package in ``folder``, run in a child of this process."""
    child = os.fork()
    if child == 0:
        code = 70
        with contextlib.suppress(BaseException), open(os.devnull, "w") as nowhere:
            for stream in (1, 2):
                os.dup2(nowhere.fileno(), stream)
            import pytest

            os.chdir(folder)
            os.environ.pop("PYTEST_ADDOPTS", None)  # of who started this
            sys.path.insert(0, str(folder))
            code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def try_equation(label: str, root: Path, folder: Path) -> tuple[int, list[str]]:
    """How many mutants of the equation there are, and those that its tests let live."""
    marked = equations.by_label(equations.tests(root))[label]
    tests = [f"{test.path.relative_to(root)}::{test.name.replace('.', '::')}" for test in marked]
    count, alive = 0, []
    for there in equations.by_label(equations.implementations(root)).get(label, []):
        target = folder / there.path.relative_to(root)
        source = there.path.read_text("utf-8")
        for mutant in mutants(source, there.line, there.end):
            target.write_text(mutant.source, "utf-8")
            count += 1
            if survives(folder, tests):
                alive.append(f"{there.path.name}:{mutant.line}  {mutant.change}")
        target.write_text(source, "utf-8")
    return count, alive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--equation", nargs="*", action="extend", default=[])
    parser.add_argument("--module", nargs="*", action="extend", default=[])
    options = parser.parse_args()
    import torch  # noqa: F401 - loaded once, for all the children

    labels = sorted(
        {
            there.label
            for there in equations.implementations(ROOT)
            if there.label in equations.by_label(equations.tests(ROOT))
            and (not options.module or there.path.stem in options.module)
            and (not options.equation or there.label in options.equation)
        }
    )
    decoration = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("gentext", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pyc*"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        for label in labels:
            count, alive = try_equation(label, ROOT, folder)
            print(
                f"{label}: {count - len(alive)} of {count} died", *alive, sep="\n    ", flush=True
            )
            if count and count == len(alive):
                decoration.append(label)
    if decoration:
        sys.exit(f"no mutant died of: {', '.join(decoration)}")


if __name__ == "__main__":
    main()
