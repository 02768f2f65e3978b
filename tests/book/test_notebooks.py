"""The notebooks of the book are in order, and each way of not being so is found and located."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from chapter_pair import Pair
from typer.testing import CliRunner

from book.tools import notebook_checks, notebook_text, notebooks, translation


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def only_finding(pair: Pair, language: str, name: str, *told: str) -> None:
    """There is one problem; it names the cell and says what it is."""
    found = pair.problems()
    assert len(found) == 1, found
    assert found[0].startswith(f"notebooks/{language}/toy.ipynb, cell {name}: ")
    for words in told:
        assert words in found[0]


# --- the book's own notebooks -------------------------------------------------------------------


def test_the_notebooks_of_the_book_are_in_order(root: Path) -> None:
    found = notebook_checks.problems(root)
    assert not found, "\n".join(["", *found])


# --- what newcomers do in one language only -----------------------------------------------------


def test_an_untouched_pair_has_no_problems(pair: Pair) -> None:
    assert pair.problems() == []
    assert pair.sync() == []


def test_code_changed_in_english_only(pair: Pair) -> None:
    pair.edit("en", "compute", "1.251", "1.249")
    only_finding(pair, "zh", "compute", "the code differs", "sync toy")


def test_formula_changed_in_chinese_only(pair: Pair) -> None:
    pair.edit("zh", "bound", r"\ge", r"\le")
    pair.sync()  # does not hide it
    only_finding(pair, "zh", "bound", "eq-toy-bound", r"\le")


def test_sentence_changed_in_english_only(pair: Pair) -> None:
    pair.edit("en", "title", "A model with", "No model with")
    only_finding(pair, "zh", "title", "the English text changed", "translated toy title")
    pair.sync()
    only_finding(pair, "zh", "title", "the English text changed")


def test_a_new_chinese_text_or_a_word_from_the_author_ends_staleness(pair: Pair) -> None:
    pair.edit("en", "title", "A model with", "No model with")
    pair.edit("zh", "title", "提出的", "未提出的")
    only_finding(pair, "zh", "title", "new or changed")
    assert "title" in pair.sync()[0]
    assert pair.problems() == []
    pair.edit("en", "bound", "The bound is", "This bound is")
    translation.mark_translated(pair.root, "toy", ["bound"])
    assert pair.problems() == []
    with pytest.raises(ValueError, match="bounds"):
        translation.mark_translated(pair.root, "toy", ["bounds"])


def test_a_stale_caption_is_found(pair: Pair) -> None:
    en, zh = pair.read()
    pair.cell(en, "picture").metadata["mystnb"]["figure"]["caption"] = "Another bound."
    pair.save(en, zh)
    only_finding(pair, "zh", "picture", "the English text changed")


# --- every other kind of problem ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "name", "old", "new", "told"),
    [
        ("zh", "bound", "(eq-toy-bound)", "(eq-toy-other)", "eq-toy-other"),
        ("zh", "bound", "[公式](#eq-toy-bound)", "公式", "references differ"),
        ("zh", "bound", "由[公式]", "$$y = 1$$\n\n由[公式]", "2 in Chinese"),
        ("zh", "title", "cite-kingma2014", "cite-kingma2013", "cite-kingma2013"),
        ("zh", "end", "ex-toy-one", "ex-toy-two", "labels differ"),
        ("zh", "title", "# 一个", "## 一个", "## in Chinese"),
        ("zh", "end", ":::{exercise}", ":::{note}", "{exercise} in English"),
        ("zh", "bound", "1.25", "1.26", "numbers differ: 1.25 only in English"),
        ("zh", "bound", "62.5%", "六成", "62.5% only in English"),
        ("zh", "title", "模型，分", "模型,分", "half-width"),
        ("zh", "title", "3 步。", "3 步（见下文).", "half-width"),
        ("zh", "title", "3 步。", "**3 步。**见下文。", "bold type that Markdown does not end"),
        ("zh", "title", "隐变量", "潜变量", "隐变量 (latent variable)"),
    ],
)
def test_a_change_of_chinese_prose_is_found(
    pair: Pair, language: str, name: str, old: str, new: str, told: str
) -> None:
    pair.edit(language, name, old, new)
    pair.sync()
    only_finding(pair, language, name, told)


def test_text_left_in_english_or_left_out_is_found(pair: Pair) -> None:
    en, zh = pair.read()
    pair.cell(zh, "title").source = pair.cell(en, "title").source
    pair.save(en, zh)
    pair.sync()
    only_finding(pair, "zh", "title", "not translated")
    pair.cell(zh, "title").source = ""
    pair.save(en, zh)
    assert any("cell title: the text is not translated" in line for line in pair.problems())


def without(name: str, language: str) -> Callable[[Pair], None]:
    def change(pair: Pair) -> None:
        both = dict(zip(("en", "zh"), pair.read(), strict=True))
        both[language].cells = [cell for cell in both[language].cells if cell.id != name]
        pair.save(**both)

    return change


def changed(language: str, name: str, **fields: Any) -> Callable[[Pair], None]:
    def change(pair: Pair) -> None:
        both = dict(zip(("en", "zh"), pair.read(), strict=True))
        pair.cell(both[language], name).update(nbformat.from_dict(fields))
        pair.save(**both)

    return change


def swapped(pair: Pair) -> None:
    en, zh = pair.read()
    zh.cells[-1], zh.cells[-2] = zh.cells[-2], zh.cells[-1]
    pair.save(en, zh)


OUTPUT = {"output_type": "stream", "name": "stdout", "text": "2"}


@pytest.mark.parametrize(
    ("change", "name", "told"),
    [
        (without("end", "zh"), "end", "not translated"),
        (without("compute", "zh"), "compute", "missing"),
        (without("end", "en"), "end", "no English original"),
        (changed("zh", "compute", outputs=[OUTPUT]), "compute", "outputs differ"),
        (changed("zh", "compute", execution_count=7), "compute", "outputs differ"),
        (changed("zh", "compute", metadata={"tags": ["hide-input"]}), "compute", "metadata"),
        (changed("zh", "picture", metadata={}), "picture", "no Chinese caption"),
        (swapped, "picture", "another order"),
    ],
)
def test_a_twin_out_of_step_is_found(
    pair: Pair, change: Callable[[Pair], None], name: str, told: str
) -> None:
    change(pair)
    found = pair.problems()
    assert any(told in line for line in found)
    assert all(f"notebooks/zh/toy.ipynb, cell {name}:" in line or told in line for line in found)


def test_another_title_of_the_notebook_is_found(pair: Pair) -> None:
    en, zh = pair.read()
    zh.metadata["title"] = "玩具"
    pair.save(en, zh)
    [line] = pair.problems()
    assert line.startswith("notebooks/zh/toy.ipynb: the notebook's metadata differ")


def test_sync_mends_what_it_can_and_loses_no_prose(pair: Pair) -> None:
    for change in (without("compute", "zh"), changed("zh", "setup", outputs=[OUTPUT]), swapped):
        change(pair)
    without("title", "en")(pair)
    pair.sync()
    assert [c.id for c in pair.read()[1].cells] == [
        *("title", "setup", "bound", "compute", "picture", "end")
    ]
    only_finding(pair, "zh", "title", "no English original")


WARNING = {"output_type": "stream", "name": "stderr", "text": "UserWarning"}
ERROR = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
LIVE = {
    "output_type": "display_data",
    "data": {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "interactive()"},
    "metadata": {},
}


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        ("compute", {"execution_count": None}, "never run"),
        ("compute", {"execution_count": 9}, "top to bottom"),
        ("compute", {"outputs": [WARNING]}, "warning"),
        ("compute", {"outputs": [ERROR]}, "error"),
        ("compute", {"outputs": [LIVE]}, "live widget"),
        ("setup", {"source": "import gentext"}, "not the standard one"),
        ("setup", {"metadata": {"tags": ["hide-cell"]}}, "nbval-ignore-output"),
        ("end", {"metadata": {}}, "no cell asserts the number 0.7"),
    ],
)
def test_an_english_notebook_not_in_order_is_found(
    pair: Pair, name: str, fields: dict[str, Any], told: str
) -> None:
    changed("en", name, **fields)(pair)
    pair.sync()
    only_finding(pair, "en", name, told)


def test_cells_never_run_are_told_together(pair: Pair) -> None:
    en, zh = pair.read()
    for name in ("compute", "picture"):
        pair.cell(en, name).execution_count = None
    pair.save(en, zh)
    pair.sync()
    only_finding(pair, "en", "compute", "never run", "1 more")


def test_a_number_that_no_assertion_confirms_is_found(pair: Pair) -> None:
    pair.edit("en", "bound", "1.25 nats", "1.27 nats")
    pair.edit("zh", "bound", "1.25", "1.27")
    pair.sync()
    only_finding(pair, "en", "bound", "1.27")


def test_a_missing_twin_is_found(pair: Pair) -> None:
    notebook_text.notebook_path(pair.root, "zh", "toy").unlink()
    [line] = pair.problems()
    assert line.startswith("notebooks/zh/toy.ipynb: missing")
    assert pair.sync() == ["notebooks/zh/toy.ipynb: missing; write the Chinese text and pack it"]


def test_bringing_in_step_fails_without_a_twin(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks, "ROOT", pair.root)
    assert CliRunner().invoke(notebooks.app, ["sync"]).exit_code == 0
    notebook_text.notebook_path(pair.root, "zh", "toy").unlink()
    done = CliRunner().invoke(notebooks.app, ["sync"])
    assert (done.exit_code, "missing; write the Chinese" in done.output) == (1, True)


def test_an_overweight_notebook_is_found(pair: Pair) -> None:
    en, zh = pair.read()
    heavy = {**OUTPUT, "text": "x" * (2 * 2**20)}
    pair.cell(en, "compute").outputs = [nbformat.from_dict(heavy)]
    pair.save(en, zh)
    pair.sync()
    assert [line for line in pair.problems() if "2.0 MiB" in line] == pair.problems() != []


def test_a_damaged_notebook_is_told(pair: Pair) -> None:
    path = notebook_text.notebook_path(pair.root, "zh", "toy")
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    [line] = pair.problems()
    assert str(path) in line
    assert "not a valid notebook" in line


def test_metadata_of_one_machine_are_found(pair: Pair) -> None:
    path = notebook_text.notebook_path(pair.root, "en", "toy")
    text = path.read_text(encoding="utf-8").replace(
        '"name": "python"', '"name": "python", "version": "3.1"'
    )
    path.write_text(text, encoding="utf-8")
    assert any("differs between machines" in line for line in pair.problems())
    notebook_text.write(notebook_text.read(path), path)
    assert pair.problems() == []
