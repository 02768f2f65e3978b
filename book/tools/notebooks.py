"""The command line for the notebooks: write them as text, run, translate and check them.

The Chinese notebooks follow the English ones: see ``translation.py`` for what is copied and when a
translation counts as up to date, ``notebook_text.py`` for the text that authors write, and
``notebook_checks.py`` for what is checked.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import nbformat
import typer
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that this file runs as a script

from book.tools import notebook_checks, notebook_text, translation
from book.tools.notebook_text import ROOT, notebook_path, read, stems, write

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__.partition("\n")[0])
Stems = Annotated[list[str] | None, typer.Argument(help="Chapters; all when none is named.")]


def plain_errors(command: Callable[..., None]) -> Callable[..., None]:
    """``command``, with a ``ValueError`` or a missing file told in one line."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, OSError) as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error

    return wrapped


def kernel_environment() -> dict[str, str]:
    """What notebooks run in, here and when they are tested: figures inline, no live widgets.

    The budget is the small one unless the environment names another.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    return {"GENTEXT_BUDGET": "quick"} | inherited | {"GENTEXT_STATIC": "1"}


def executed(notebook: NotebookNode, path: Path, timeout: int) -> NotebookNode:
    """``notebook`` with fresh outputs; ``ValueError`` names the cell that fails or warns.

    The kernel runs in the folder of ``path``.
    """
    client = NotebookClient(
        nbformat.from_dict(notebook),
        timeout=timeout,
        record_timing=False,
        coalesce_streams=True,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute(env=kernel_environment())
    except (CellExecutionError, CellTimeoutError) as error:
        cell = next((c for c in client.nb.cells if notebook_checks.failed(c)), None)
        where = f", cell {cell.id}" if cell else ""
        raise ValueError(f"{path}{where}: {error}") from error
    for cell in client.nb.cells:
        text = notebook_checks.stderr(cell)
        if text:
            raise ValueError(
                f"{path}, cell {cell.id}: writes to stderr; cure the cause of this:\n{text}"
            )
    return notebook_text.with_stable_widgets(client.nb)


def known(chapters: list[str] | None) -> list[str]:
    """The chapters named, or all; ``ValueError`` for one that has no English notebook."""
    there = stems(ROOT)
    if unknown := sorted(set(chapters or ()) - set(there)):
        raise ValueError(f"no English notebook {', '.join(unknown)}; there are {', '.join(there)}.")
    return chapters or there


@app.command()
@plain_errors
def run(chapters: Stems = None, timeout: int = 300) -> None:
    """Run English notebooks in place; one that fails or warns is left as it was."""
    for stem in known(chapters):
        path = notebook_path(ROOT, "en", stem)
        start = time.perf_counter()
        changed = write(executed(read(path), path, timeout), path)
        note = "new outputs" if changed else "unchanged"
        seconds = time.perf_counter() - start
        typer.echo(f"{path.relative_to(ROOT)}: {note}, {seconds:.0f} s")


@app.command()
@plain_errors
def sync(chapters: Stems = None) -> None:
    """Copy code, outputs and order to the Chinese notebooks; their prose stays.

    Fails where there is no Chinese notebook yet.
    """
    chapters = known(chapters)
    for line in translation.sync(ROOT, chapters):
        typer.echo(line)
    if not all(notebook_path(ROOT, "zh", stem).exists() for stem in chapters):
        raise typer.Exit(1)


@app.command()
@plain_errors
def translated(stem: str, cells: list[str]) -> None:
    """Say that the Chinese of these cells holds although their English changed."""
    translation.mark_translated(ROOT, stem, cells)


@app.command()
@plain_errors
def check(quiet: Annotated[bool, typer.Option(help="Print problems only.")] = False) -> None:
    """List what is wrong with the notebooks, one line each; fails when there is anything."""
    found = notebook_checks.problems(ROOT)
    for line in found:
        typer.echo(line)
    if not found and not quiet:
        typer.echo(f"the notebooks are in order: {', '.join(stems(ROOT)) or 'there are none'}")
    raise typer.Exit(1 if found else 0)


@app.command()
@plain_errors
def first() -> None:
    """Print the first code cell that every notebook has."""
    typer.echo(notebook_text.first_cell(ROOT))


@app.command()
@plain_errors
def unpack(
    notebook: Path, output: Annotated[Path | None, typer.Option("--output", "-o")] = None
) -> None:
    """Print a notebook as the text that authors write, or write it to a file."""
    text = notebook_text.unpack(read(notebook), chinese=is_chinese(notebook))
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


@app.command()
@plain_errors
def pack(text: Path, notebook: Path) -> None:
    """Write the notebook of a text; what its cells put out is kept where they did not change."""
    old = read(notebook) if notebook.exists() else None
    new = notebook_text.pack(text.read_text(encoding="utf-8"), old)
    english = notebook.resolve().parent.parent / "en" / notebook.name
    if is_chinese(notebook) and english.exists():
        new = translation.synced(read(english), new)
    changed = write(new, notebook)
    typer.echo(f"{notebook}: {'written' if changed else 'unchanged'}")


def is_chinese(notebook: Path) -> bool:
    return notebook.resolve().parent.name == "zh"


if __name__ == "__main__":
    app()
