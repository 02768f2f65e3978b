"""What to run while working: all that concerns one stem, or what concerns the files that changed.

``python book/tools/workshop.py check vae`` runs style, the tests of the module, its equations, both
notebooks and the page of the book. ``python book/tools/workshop.py quick`` runs style, types and
the tests of each file that differs from the last commit of the main branch. ``notebooks en latent``
names the notebooks of a part of the book in one language. The whole is ``make test``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that this file runs as a script

from book.tools.build import read_yaml

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable
PYTEST = (PYTHON, "-m", "pytest", "-q", "--no-header")
NBVAL = (
    *("--nbval", "--nbval-current-env", "--nbval-cell-timeout=300"),
    *("--nbval-sanitize-with", "book/tools/sanitize.cfg"),
)
STYLE = (("ruff", "check"), ("ruff", "format", "--check"))
COMMON = {"gentext/__init__.pyi", "pyproject.toml"}  # which the tests of the house look at
HOUSE = ("tests/test_architecture.py", "tests/test_repository.py")
Command = tuple[str, ...]


def files_of(root: Path, stem: str) -> list[Path]:
    """The module, the test and the notebooks of a stem, relative to ``root``."""
    patterns = ("gentext/*/{}.py", "tests/*/test_{}.py", "notebooks/*/{}.ipynb")
    return [p.relative_to(root) for form in patterns for p in sorted(root.glob(form.format(stem)))]


def of_stem(root: Path, stem: str) -> list[Command]:
    """The commands that check one stem; ValueError where there is none."""
    files = files_of(root, stem)
    if not files:
        raise ValueError(f"there is no {stem!r} in gentext/, tests/ or notebooks/; give a stem")
    code = [str(path) for path in files if path.suffix == ".py"]
    tests = [path for path in code if path.startswith("tests/")]
    notebooks = [str(path) for path in files if path.suffix == ".ipynb"]
    commands: list[Command] = [(*style, *code) for style in STYLE if code]
    if tests:
        commands.append((*PYTEST, *tests))
    if notebooks:
        commands.append((PYTHON, "book/tools/notebooks.py", "check"))
        commands.append((PYTHON, "book/tools/equations.py"))
        commands.append((*PYTEST, *NBVAL, *notebooks))
        commands.append((PYTHON, "book/tools/build.py"))
    return commands


def changed(root: Path, base: str = "main") -> list[str]:
    """The files that differ from where this work left the branch ``base``, new ones too."""

    def git(*arguments: str) -> list[str]:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.splitlines()

    fork = (
        git("merge-base", "HEAD", f"origin/{base}") or git("merge-base", "HEAD", base) or ["HEAD"]
    )
    names = git("diff", "--name-only", fork[0]) + git("ls-files", "--others", "--exclude-standard")
    return sorted({name for name in names if (root / name).is_file()})


def tests_of(root: Path, names: Iterable[str]) -> Iterator[str]:
    """The files of tests that concern the files called ``names``."""
    for name in names:
        path = Path(name)
        if path.parts[0] == "tests" and path.stem.startswith("test_"):
            yield name
        elif path.suffix == ".py":
            yield from (str(p.relative_to(root)) for p in root.glob(f"tests/*/test_{path.stem}.py"))
        if name in COMMON or path.suffix == ".md":
            yield from HOUSE


def of_changes(root: Path, names: list[str]) -> list[Command]:
    """The commands that check the files called ``names``."""
    tests = sorted(set(tests_of(root, names)))
    commands: list[Command] = [*((*style, ".") for style in STYLE), ("lint-imports",), ("mypy",)]
    if tests:
        commands.append((*PYTEST, *tests))
    if any(name.endswith(".ipynb") for name in names):
        commands.append((PYTHON, "book/tools/notebooks.py", "check"))
    return commands


def run(root: Path, commands: list[Command]) -> int:
    """Run all commands, say how long each took, and return how many failed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PATH"] = os.pathsep.join([str(Path(PYTHON).parent), os.environ.get("PATH", "")])
    failed = 0
    for command in commands:
        started = time.perf_counter()
        code = subprocess.run(command, cwd=root, env=environment, check=False).returncode
        failed += code != 0
        shown = " ".join("python" if part == PYTHON else part for part in command)
        print(f"{'ok' if code == 0 else 'FAILED'} {time.perf_counter() - started:.0f} s  {shown}\n")
    return failed


def notebooks_of(root: Path, language: str, folders: list[str]) -> list[str]:
    """The notebooks of the parts of the book whose modules stand in ``folders``."""
    parts = read_yaml(root / "book" / "toc.yml")["parts"]
    known = {part["folder"]: part["chapters"] for part in parts if "folder" in part}
    if unknown := set(folders) - known.keys():
        raise ValueError(f"no part of the book is in {sorted(unknown)}; there are {list(known)}")
    return [f"notebooks/{language}/{stem}.ipynb" for name in folders for stem in known[name]]


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tools = parser.add_subparsers(dest="tool", required=True)
    tools.add_parser("check", help="all that concerns one stem").add_argument("stem")
    tools.add_parser("quick", help="style, types and the tests of what changed")
    listed = tools.add_parser("notebooks", help="name the notebooks of parts of the book")
    listed.add_argument("language", choices=("en", "zh"))
    listed.add_argument("folders", nargs="+")
    options = parser.parse_args()
    try:
        if options.tool == "notebooks":
            print(*notebooks_of(ROOT, options.language, options.folders))
            return 0
        quick = options.tool == "quick"
        commands = of_changes(ROOT, changed(ROOT)) if quick else of_stem(ROOT, options.stem)
    except ValueError as error:
        parser.error(str(error))
    return min(run(ROOT, commands), 1)


if __name__ == "__main__":
    sys.exit(main())
