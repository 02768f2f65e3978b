"""Notebooks are written as text, packed, run and stored in one form without loss."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from chapter_pair import CHINESE, Pair
from typer.testing import CliRunner, Result

from book.tools import notebook_text, notebooks, translation
from book.tools.build import site_url

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_pack_and_unpack_are_inverse(pair: Pair) -> None:
    en, zh = pair.read()
    text = notebook_text.unpack(en)
    assert notebook_text.pack(text, en) == en
    assert notebook_text.unpack(notebook_text.pack(text)) == text
    chinese = notebook_text.unpack(zh, chinese=True)
    assert chinese == CHINESE.replace("%% md end", '%% md end {"gentext": {"cited": ["0.7"]}}')
    assert translation.synced(en, notebook_text.pack(chinese, zh)) == zh


def test_pack_keeps_the_outputs_of_unchanged_cells_only(pair: Pair) -> None:
    en, _ = pair.read()
    text = notebook_text.unpack(en)
    moved = notebook_text.pack(text.replace("bound = 1.251", "bound = 1.252"), en)
    assert pair.cell(moved, "compute").execution_count is None
    assert pair.cell(moved, "picture").outputs == pair.cell(en, "picture").outputs
    redrawn = notebook_text.pack(text.removesuffix("\n").replace("\nbound\n", "\nbound + 1\n"), en)
    assert pair.cell(redrawn, "picture").outputs == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("words before\n%% md a\n", "must begin"),
        ("%% md a\n\n%% md a\n", "twice"),
        ("%% md Bad_Id\n", "lower-case"),
        ("%% md a {bad: json}\n", "JSON"),
        ("%% md a\n\n%% code\nx\n", "no cell header"),
        ("%% md a\n\n%% markdown b\nx\n", "no cell header"),
    ],
)
def test_a_faulty_text_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        notebook_text.pack(text)


def test_what_is_written_is_stable_and_plain(pair: Pair) -> None:
    path = notebook_text.notebook_path(pair.root, "zh", "toy")
    text = path.read_text(encoding="utf-8")
    assert "隐变量" in text
    assert text.startswith('{\n "cells"')
    assert not notebook_text.write(notebook_text.read(path), path)
    assert sorted(p.name for p in path.parent.iterdir()) == ["toy.ipynb"]


def test_a_write_that_fails_leaves_the_notebook_as_it_was(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = notebook_text.notebook_path(pair.root, "en", "toy")
    before = path.read_bytes()

    def full(*paths: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    notebook = notebook_text.read(path)
    notebook.cells.pop()
    with pytest.raises(OSError, match="No space"):
        notebook_text.write(notebook, path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["toy.ipynb"]


def test_the_command_line_packs_checks_and_tells_errors_in_a_line(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def call(*arguments: object) -> Result:
        return CliRunner().invoke(notebooks.app, [str(argument) for argument in arguments])

    monkeypatch.setattr(notebooks, "ROOT", pair.root)
    zh = notebook_text.notebook_path(pair.root, "zh", "toy")
    assert call("check", "--quiet").output == ""
    text = call("unpack", zh).output
    (tmp_path / "zh.txt").write_text(text.replace("1.25", "1.26"), encoding="utf-8")
    assert call("pack", tmp_path / "zh.txt", zh).exit_code == 0
    found = call("check")
    assert found.exit_code == 1
    assert "cell bound: the numbers differ" in found.output
    (tmp_path / "zh.txt").write_text(text, encoding="utf-8")
    call("pack", tmp_path / "zh.txt", zh)
    assert call("check").exit_code == 0
    for wrong in (("run", "boy"), ("pack", tmp_path / "none.txt", zh), ("translated", "toy", "x")):
        failed = call(*wrong)
        assert (failed.exit_code, failed.output.count("\n")) == (1, 1)


def test_running_fills_in_outputs_and_names_the_cell_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "toy.ipynb"
    sound = notebook_text.pack("%% code one\nx = 2\n\n%% code two\nprint(x + 1)\n")
    first = notebooks.executed(sound, path, 30)
    assert [cell.execution_count for cell in first.cells] == [1, 2]
    assert first.cells[1].outputs[0].text == "3\n"
    warns = notebook_text.pack(
        "%% code one\nx = 2\n\n%% code two\nimport warnings; warnings.warn('!')\n"
    )
    with pytest.raises(ValueError, match=r"toy\.ipynb, cell two: writes to stderr"):
        notebooks.executed(warns, path, 30)
    fails = notebook_text.pack("%% code one\nx = 2\n\n%% code two\n1 / 0\n")
    with pytest.raises(ValueError, match=r"(?s)toy\.ipynb, cell two.*ZeroDivisionError"):
        notebooks.executed(fails, path, 30)


def test_widgets_are_numbered_in_their_order() -> None:
    names = ["f" * 32, "0" * 31 + "a"]
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": names[0]}}
    cell = nbformat.v4.new_code_cell(
        "x", id="x", outputs=[nbformat.v4.new_output("display_data", view)]
    )
    state = {name: {"children": [f"IPY_MODEL_{names[1]}"]} for name in names}
    widgets = {"application/vnd.jupyter.widget-state+json": {"state": state}}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": widgets})
    text = nbformat.writes(notebook_text.with_stable_widgets(notebook))
    assert names[0] not in text
    assert f'"model_id": "{0:032x}"' in text
    assert f"IPY_MODEL_{1:032x}" in text


def test_the_first_cell_holds_the_addresses_and_is_silent(root: Path) -> None:
    address = notebook_text.yaml.safe_load((root / "_config.yml").read_text())["repository"]["url"]
    source = notebook_text.first_cell(root)
    assert f'"{address}/archive/refs/heads/' in source
    assert f'"{site_url(address)}/gentext.zip"' in source
    exec(source, {})  # gentext is installed here, so nothing happens


class Pip:
    """It can install from the sources whose names contain ``able``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, able: str, there: dict[str, str]) -> None:
        self.able, self.asked = able, list[list[str]]()
        monkeypatch.setattr("importlib.util.find_spec", there.get)
        monkeypatch.setattr("importlib.metadata.version", there.__getitem__)
        monkeypatch.setattr("subprocess.run", self.run)

    def run(self, command: list[str], **how: object) -> subprocess.CompletedProcess[str]:
        self.asked.append(command)
        failed = not self.able or not any(self.able in word for word in command)
        return subprocess.CompletedProcess(command, int(failed))


def test_the_first_cell_installs_beside_what_is_there(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = Pip(monkeypatch, "archive", {"torch": "9.1", "numpy": "8.2"})
    exec(notebook_text.first_cell(root), {})
    [command] = pip.asked
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert {"torch==9.1", "numpy==8.2"} <= set(command)
    assert command[-1].startswith("gentext @ https://")


def test_the_first_cell_does_not_ask_for_versions_of_what_is_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = Pip(monkeypatch, "archive", {})
    exec(notebook_text.first_cell(root), {})
    assert not any("==" in word for word in pip.asked[0])


def test_the_first_cell_tries_a_second_source(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(monkeypatch, "gentext.zip", {"torch": "9.1"})
    exec(notebook_text.first_cell(root), {})
    assert [len(command) for command in pip.asked] == [7, 7]
    assert "torch==9.1" in pip.asked[1]


def test_the_first_cell_stops_where_nothing_can_be_installed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pip(monkeypatch, "", {})
    with pytest.raises(RuntimeError, match=r"network on \(Kaggle.*请打开网络"):
        exec(notebook_text.first_cell(root), {})


def test_the_second_source_is_published_with_the_book(root: Path) -> None:
    steps = yaml.safe_load((REPOSITORY / ".github/workflows/publish.yml").read_text("utf-8"))
    lines = [" ".join(step.get("run", "").split()) for step in steps["jobs"]["build"]["steps"]]
    [command] = [line for line in lines if line.startswith("git archive")]
    places = command.split("HEAD ")[1].split()
    assert "--output _build/html/gentext.zip" in command
    assert {"pyproject.toml", "gentext", "LICENSE", "README.md"} <= set(places)
    assert all((REPOSITORY / place).exists() for place in places)


def test_a_missing_address_is_told(tmp_path: Path) -> None:
    (tmp_path / "_config.yml").write_text("title: x\n")
    with pytest.raises(ValueError, match=r"repository\.url"):
        notebook_text.first_cell(tmp_path)
