"""The tool that flips signs: what it changes, and that it tells a test from decoration."""

from __future__ import annotations

import ast
from pathlib import Path

from book.tools import mutants

SOURCE = '''
def f(a, b):
    """Docs - with a minus."""
    if a > b:
        raise ValueError(f"got {a - b}, not {a + b}" + "!")
    return -a * b + 1


def g(a):
    return a - 1
'''


def test_each_operator_of_the_lines_is_flipped_once():
    found = list(mutants.mutants(SOURCE, 2, 6))
    values = set()
    for mutant in found:
        space: dict = {}
        exec(compile(mutant.source, "mutant", "exec"), space)
        values.add(space["f"](2.0, 4.0))
        assert space["g"](3) == 2
    assert len(found) == 3
    assert values == {-2.0 * 4.0 - 1, -2.0 / 4.0 + 1, 2.0 * 4.0 + 1}


def test_error_messages_are_left_alone():
    for mutant in mutants.mutants(SOURCE, 1, 20):
        raised = next(n for n in ast.walk(ast.parse(mutant.source)) if isinstance(n, ast.Raise))
        assert "a - b" in ast.unparse(raised)
        assert "a + b" in ast.unparse(raised)


def test_a_mutant_dies_by_a_test_and_lives_without_one(tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "marked.py").write_text("VALUE = 3\n")
    (tmp_path / "test_it.py").write_text(
        "import marked\n"
        "def test_value():\n    assert marked.VALUE == 2\n"
        "def test_nothing():\n    assert marked.VALUE\n"
    )
    assert not mutants.survives(tmp_path, ["test_it.py::test_value"])
    assert mutants.survives(tmp_path, ["test_it.py::test_nothing"])
