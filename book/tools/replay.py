"""Notebooks of two languages, one run: the Chinese twin is compared with what its code has printed.

Both languages hold the same code. So where the English notebook was just run in this process, cell
by cell and to its end, the Chinese one is not run again: nbval compares the outputs that it stores
with the messages that the English kernel sent. Where the code differs in a single character, or the
English notebook was not run, the Chinese one is run like any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbval.plugin import IPyNbFile

Messages = list[dict[str, Any]]
RUNS: dict[Path, Recorder] = {}  # of English notebooks, by their file


class Recorder:
    """A running kernel that remembers what it was given and what it sent."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.cells: list[tuple[str, str, Messages]] = []  # source, number of the request, messages
        self.whole = True

    def execute_cell_input(self, source: str, **how: Any) -> str:
        """Run a cell and open a record for it."""
        number: str = self.kernel.execute_cell_input(source, **how)
        self.cells.append((source, number, []))
        return number

    def get_message(self, stream: str, timeout: float | None = None) -> dict[str, Any]:
        """The next message, remembered where it is of the last cell."""
        message: dict[str, Any] = self.kernel.get_message(stream, timeout=timeout)
        _, number, messages = self.cells[-1]
        if stream == "iopub" and message["parent_header"].get("msg_id") == number:
            messages.append(message)
        return message

    def interrupt(self) -> None:
        """Stop a cell that takes too long, after which the record is of no use."""
        self.whole = False
        self.kernel.interrupt()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernel, name)


class Replay:
    """What nbval takes for a kernel: it answers each cell with the messages of a record."""

    def __init__(self, record: Recorder) -> None:
        self.cells = iter(record.cells)
        self.messages: Messages = []

    def execute_cell_input(self, source: str, **how: Any) -> str:
        """The number of the request that ran this cell."""
        recorded, number, messages = next(self.cells)
        assert source == recorded
        self.messages = list(messages)
        return number

    def get_message(self, stream: str, timeout: float | None = None) -> dict[str, Any]:
        """The next message of the cell."""
        return self.messages.pop(0)

    def await_reply(self, number: str, timeout: float | None = None) -> None:
        """The reply is there."""

    def await_idle(self, number: str, timeout: float | None = None) -> None:
        """The cell has ended."""

    def is_alive(self) -> bool:
        """As long as it is asked."""
        return True

    def stop(self) -> None:
        """There is nothing to stop."""


def install() -> None:
    """Let nbval look for the run of a twin before it starts a kernel."""
    start = IPyNbFile.setup

    def setup(notebook: IPyNbFile) -> None:
        """Replay the run of the twin, or start a kernel and record it."""
        record = RUNS.get(notebook.path.parents[1] / "en" / notebook.path.name)
        if record and record.whole and [cell[0] for cell in record.cells] == sources(notebook):
            notebook.kernel = Replay(record)
            notebook.setup_sanitize_files()
            return
        start(notebook)
        if notebook.path.parent.name == "en":
            notebook.kernel = RUNS[notebook.path] = Recorder(notebook.kernel)

    IPyNbFile.setup = setup


def sources(notebook: IPyNbFile) -> list[str]:
    """The code of the cells that are run."""
    cells = [cell for cell in notebook.nb.cells if cell.cell_type == "code"]
    return [c.source for c in cells if "nbval-skip" not in c.metadata.get("tags", [])]
