"""How tests and notebooks are shared among processes: what belongs together stays together.

A file of tests runs in one process, since its tests share what was prepared once, and so do the two
languages of a notebook. What takes longest begins first, by ``tests/durations.json``; only the
order depends on it. ``pytest --record-durations`` writes it anew.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent
DURATIONS = ROOT / "tests" / "durations.json"
UNKNOWN = 30.0  # seconds of a new file


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that records how long everything took."""
    text = "write the seconds of each file of tests, for the order of later runs"
    parser.addoption("--record-durations", action="store_true", help=text)


def group(path: str) -> str:
    """What runs in one process: a file of tests, or both languages of a notebook."""
    path = path.partition("::")[0]
    return f"notebooks/{Path(path).stem}" if path.endswith(".ipynb") else path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the groups, and leave the order within each."""
    seconds = json.loads(DURATIONS.read_text("utf-8")) if DURATIONS.is_file() else {}

    def place(item: pytest.Item) -> tuple[float, str]:
        name = group(item.nodeid)
        return -seconds.get(name, UNKNOWN), name

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process one group after the other, in their order."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    config.option.loadscopereorder = False
    return Groups(config, log)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write down how long the groups took, if asked to."""
    if not config.getoption("--record-durations"):
        return
    seconds: dict[str, float] = defaultdict(float)
    for report in (r for reports in terminalreporter.stats.values() for r in reports):
        if isinstance(report, pytest.TestReport):
            seconds[group(report.nodeid)] += report.duration
    known = json.loads(DURATIONS.read_text("utf-8")) if DURATIONS.is_file() else {}
    known |= {name: round(value, 1) for name, value in seconds.items()}
    kept = {name: known[name] for name in sorted(known) if exists(name)}
    DURATIONS.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


def exists(name: str) -> bool:
    """Whether there still are the files of a group."""
    place = ROOT / name
    return place.is_file() or (ROOT / "notebooks" / "en" / f"{place.name}.ipynb").is_file()
