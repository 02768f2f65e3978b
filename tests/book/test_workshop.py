"""What is run while working: the commands for one stem, and for the files that changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from book.tools import workshop

ROOT = Path(__file__).resolve().parents[2]


def git(folder: Path, *arguments: str) -> None:
    """Run git as somebody, whatever the machine's settings are."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small checkout with a module, its test and a notebook in two languages."""
    for name in (
        "gentext/latent/vae.py",
        "tests/latent/test_vae.py",
        "gentext/core/checks.py",
        "tests/core/test_checks.py",
        "notebooks/en/vae.ipynb",
        "notebooks/zh/vae.ipynb",
        "README.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    git(tmp_path, "init", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def words(commands: list[workshop.Command]) -> set[str]:
    """All words of some commands."""
    return {word for command in commands for word in command}


def test_a_stem_is_its_module_its_test_and_both_notebooks(house: Path) -> None:
    found = words(workshop.of_stem(house, "vae"))
    assert {"gentext/latent/vae.py", "tests/latent/test_vae.py"} <= found
    assert {"notebooks/en/vae.ipynb", "notebooks/zh/vae.ipynb", "--nbval"} <= found
    assert not any("checks" in word for word in found)
    assert "--nbval" not in words(workshop.of_stem(house, "checks"))
    with pytest.raises(ValueError, match="there is no 'vaes'"):
        workshop.of_stem(house, "vaes")


def test_changes_are_those_since_the_main_branch(house: Path) -> None:
    assert workshop.changed(house) == []
    git(house, "checkout", "-b", "work")
    (house / "gentext/latent/vae.py").write_text("x = 1\n")
    git(house, "commit", "-am", "second")
    (house / "README.md").write_text("words\n")
    (house / "tests/latent/test_new.py").write_text("")
    (house / "gentext/core/checks.py").unlink()
    expected = ["README.md", "gentext/latent/vae.py", "tests/latent/test_new.py"]
    assert workshop.changed(house) == expected


def test_what_changed_is_tested_by_its_stem(house: Path) -> None:
    tests = set(workshop.tests_of(house, ["gentext/latent/vae.py", "tests/core/test_checks.py"]))
    assert tests == {"tests/latent/test_vae.py", "tests/core/test_checks.py"}
    assert set(workshop.tests_of(house, ["README.md"])) == set(workshop.HOUSE)
    commands = workshop.of_changes(house, ["notebooks/en/vae.ipynb"])
    assert ("mypy",) in commands
    assert any("book/tools/notebooks.py" in command for command in commands)


def test_a_command_that_fails_is_counted(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = (sys.executable, "-c", "0"), (sys.executable, "-c", "1 / 0")
    assert workshop.run(house, [good, bad, good]) == 1
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines() if line] == ["ok", "FAILED", "ok"]


def test_every_command_for_a_chapter_can_be_given() -> None:
    for command in workshop.of_stem(ROOT, "vae"):
        scripts = [word for word in command if word.startswith("book/")]
        assert all((ROOT / script).is_file() for script in scripts)


def test_notebooks_are_those_of_the_parts_of_the_book() -> None:
    found = workshop.notebooks_of(ROOT, "zh", ["latent", "adversarial"])
    stems = ["autoencoder", "vae", "gan"]
    assert [name for name in found if Path(name).stem in stems] == [
        f"notebooks/zh/{stem}.ipynb" for stem in stems
    ]
    assert all((ROOT / name).is_file() for name in found)
    with pytest.raises(ValueError, match="no part of the book is in"):
        workshop.notebooks_of(ROOT, "en", ["core"])
