"""The house: folders are layers and parts of the book, and a stem is one idea."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gentext"
CONTENTS = yaml.safe_load((ROOT / "book" / "toc.yml").read_text("utf-8"))
NUMBERED = [part for part in CONTENTS["parts"] if part.get("numbered")]
MODULES = sorted(path for path in PACKAGE.glob("*/*.py") if path.stem != "__init__")
LONGEST = 350  # lines


def test_imports_run_one_way_and_in_no_circle() -> None:
    """By the contracts of pyproject.toml."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stem_is_unique() -> None:
    counts = Counter(path.stem for path in MODULES)
    assert [stem for stem, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("part", NUMBERED, ids=lambda part: part["folder"])
def test_a_chapter_has_its_module_in_the_folder_of_its_part(part: dict) -> None:
    for stem in part["chapters"]:
        here = PACKAGE / part["folder"] / f"{stem}.py"
        assert here.is_file() or stem == part["folder"], stem


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_has_a_test_of_its_stem_in_the_same_folder(path: Path) -> None:
    test = ROOT / "tests" / path.parent.name / f"test_{path.stem}.py"
    assert test.is_file(), f"add {test.relative_to(ROOT)}"


def test_no_file_is_longer_than_a_class_reads() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text("utf-8").splitlines())) > LONGEST
    }
    assert long == {}
