"""Two languages, one run: a Chinese notebook is compared with what the English one has printed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[2]
COUNT = """from pathlib import Path
with Path("../runs.txt").open("a") as file:
    file.write("x")
print(6 * 7)"""


def notebook(path: Path, *cells: tuple[str, str], prose: str = "", tags: tuple = ()) -> None:
    """Write a notebook of code cells with what each is said to have printed."""
    made = [new_markdown_cell(prose)]
    for source, printed in cells:
        outputs = [new_output("stream", name="stdout", text=printed)] if printed else []
        made.append(new_code_cell(source, outputs=outputs, execution_count=1))
    made[-1].metadata["tags"] = list(tags)
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=made), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of notebooks with the settings of the book's."""
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "conftest.py", tmp_path / "notebooks")
    notebook(
        tmp_path / "notebooks" / "en" / "toy.ipynb", (COUNT, "42\n"), ("x = 1", ""), prose="Count."
    )
    notebook(
        tmp_path / "notebooks" / "zh" / "toy.ipynb",
        (COUNT, "42\n"),
        ("x = 1", ""),
        prose="数一数。",
    )
    return tmp_path / "notebooks"


def run(folder: Path, *files: str) -> tuple[dict[str, int], int]:
    """How many cells passed and failed, and how often the code was run."""
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "--rootdir", str(folder.parent), *files],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    *_, last = done.stdout.splitlines()
    words = last.replace(",", "").split()
    counts = {
        kind: int(words[words.index(kind) - 1]) for kind in words if kind[:4] in ("pass", "fail")
    }
    runs = folder / "runs.txt"
    return counts, len(runs.read_text()) if runs.exists() else 0


def test_the_code_of_both_languages_is_run_once(folder: Path) -> None:
    assert run(folder, "en", "zh") == ({"passed": 4}, 1)


def test_both_languages_come_to_the_same_process(folder: Path) -> None:
    for language in ("en", "zh"):
        shutil.copy(folder / language / "toy.ipynb", folder / language / "twin.ipynb")
    assert run(folder, "en", "zh", "-n", "2") == ({"passed": 8}, 2)


def test_the_chinese_notebook_alone_is_run(folder: Path) -> None:
    assert run(folder, "zh") == ({"passed": 2}, 1)


def test_outputs_that_differ_fail_without_another_run(folder: Path) -> None:
    notebook(folder / "zh" / "toy.ipynb", (COUNT, "43\n"), ("x = 1", ""))
    assert run(folder, "en", "zh") == ({"failed": 1, "passed": 3}, 1)


def test_code_that_differs_is_run(folder: Path) -> None:
    notebook(folder / "zh" / "toy.ipynb", (COUNT, "42\n"), ("x = 2", ""))
    assert run(folder, "en", "zh") == ({"passed": 4}, 2)


def test_an_error_is_an_error_in_both(folder: Path) -> None:
    for language in ("en", "zh"):
        notebook(folder / language / "toy.ipynb", (COUNT, "42\n"), ("1 / 0", ""), ("2", ""))
    counts, runs = run(folder, "en", "zh")
    assert (counts["failed"], runs) == (4, 1)  # the last cell prints what is not stored


def test_cells_that_are_skipped_are_not_asked_for(folder: Path) -> None:
    for language in ("en", "zh"):
        path = folder / language / "toy.ipynb"
        notebook(path, (COUNT, "42\n"), ("1 / 0", ""), tags=("nbval-skip",))
    assert run(folder, "en", "zh") == ({"passed": 2}, 1)
