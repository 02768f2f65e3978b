"""What is wrong with the notebooks: one line for each finding, with the cell and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from nbformat import NotebookNode

from book.tools import glossary, prose
from book.tools.notebook_text import (
    ROOT,
    captions,
    first_cell,
    normalized,
    notebook_path,
    read,
    without_record,
)
from book.tools.translation import digest, recorded, translated_cell, words

COMMAND = "python book/tools/notebooks.py"
LIMIT = 2 * 2**20  # bytes
WIDGET = "application/vnd.jupyter.widget-view+json"
FIRST_TAGS = {"hide-cell", "nbval-ignore-output"}


def problems(root: Path = ROOT) -> list[str]:
    """Everything that is wrong with the notebooks under ``root`` in either language."""
    found: list[str] = []
    names = {p.stem for lang in ("en", "zh") for p in (root / "notebooks" / lang).glob("*.ipynb")}
    for stem in sorted(names):
        try:
            found += chapter_problems(root, stem)
        except ValueError as error:
            found.append(str(error))
    return found


def chapter_problems(root: Path, stem: str) -> Iterator[str]:
    """What is wrong with one chapter."""
    paths = [notebook_path(root, language, stem) for language in ("en", "zh")]
    missing = [path for path in paths if not path.exists()]
    for path in paths:
        if path.exists() and path.stat().st_size > LIMIT:
            size = path.stat().st_size / 2**20
            yield f"{path.relative_to(root)}: {size:.1f} MiB; shrink its figures below 2 MiB"
    if paths[0].exists():
        yield from located(root, paths[0], english(root, stem, read(paths[0])))
    if missing:
        yield f"{missing[0].relative_to(root)}: missing, while its twin exists; write it"
        return
    en, zh = map(read, paths)
    yield from located(root, paths[1], twins(stem, en, zh))
    yield from located(root, paths[1], glossary.findings(root, zh))


def located(root: Path, path: Path, found: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Findings (cell id or '', text) as lines that name the file."""
    for cell, text in found:
        yield f"{path.relative_to(root)}{f', cell {cell}' if cell else ''}: {text}"


# --- one English notebook ------------------------------------------------------------------------


def english(root: Path, stem: str, notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """What is wrong with an English notebook by itself."""
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    yield from first_cell_findings(root, codes)
    yield from run_findings(stem, codes)
    yield from number_findings(notebook)
    if normalized(notebook) != notebook:
        yield "", f"holds what differs between machines; run `{COMMAND} run {stem}`"


def first_cell_findings(root: Path, codes: list[NotebookNode]) -> Iterator[tuple[str, str]]:
    expected = first_cell(root)
    if not codes or codes[0].source != expected:
        name = codes[0].id if codes else ""
        yield name, f"the first code cell is not the standard one; `{COMMAND} first` prints it"
    elif lacking := sorted(FIRST_TAGS - set(codes[0].metadata.get("tags", []))):
        yield codes[0].id, f"the first code cell lacks tags; add {', '.join(lacking)}"


def run_findings(stem: str, codes: list[NotebookNode]) -> Iterator[tuple[str, str]]:
    """Cells that were not run, not in order, or that ended in an error or a warning."""
    remedy = f"run `{COMMAND} run {stem}`"
    full = [cell for cell in codes if cell.source.strip()]
    never = [cell for cell in full if cell.execution_count is None]
    if never:
        others = f" (as of {len(never) - 1} more cells)" if len(never) > 1 else ""
        yield never[0].id, f"the code{others} was never run, or changed since; {remedy}"
    for cell in full:
        if failed(cell):
            yield cell.id, f"the stored output is an error; correct the code and {remedy}"
        if stderr(cell):
            yield cell.id, f"the stored output has a warning; cure its cause and {remedy}"
        if live_widget(cell):
            yield cell.id, "the stored output is a live widget; show it by gentext.widgets.live"
    if not never:
        for count, cell in enumerate(full, 1):
            if cell.execution_count != count:
                yield cell.id, f"the cells were not run from top to bottom; {remedy}"
                return


def failed(cell: NotebookNode) -> bool:
    """Whether the cell put out an error that it is not meant to show."""
    shown = "raises-exception" in cell.metadata.get("tags", [])
    return not shown and any(o.output_type == "error" for o in cell.get("outputs", []))


def live_widget(cell: NotebookNode) -> bool:
    """Whether the cell put out a widget that needs a kernel; a progress bar is none."""
    data = [output.data for output in cell.outputs if "data" in output]
    return any(WIDGET in d and "%|" not in d.get("text/plain", "") for d in data)


def stderr(cell: NotebookNode) -> str:
    """What the cell wrote to stderr."""
    outputs = cell.get("outputs", [])
    return "".join(o.text for o in outputs if o.get("name") == "stderr")


def number_findings(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """Decimals and percentages in the prose that no cell asserts and no citation covers."""
    values = prose.asserted([cell.source for cell in notebook.cells if cell.cell_type == "code"])
    for cell in notebook.cells:
        cited = map(str, cell.metadata.get("gentext", {}).get("cited", []))
        known = {prose.canonical(number) for number in cited}
        for number in prose.numbers(words(cell)):
            if number not in known and not prose.confirmed(number, values):
                yield cell.id, unconfirmed(number)


def unconfirmed(number: str) -> str:
    example = f'{{"gentext": {{"cited": ["{number}"]}}}}'
    return (
        f"no cell asserts the number {number}; assert it where it is computed, or, when it is "
        f"given or from the literature, add {example} to the cell's metadata"
    )


# --- a Chinese notebook beside its English one ---------------------------------------------------


def twins(stem: str, en: NotebookNode, zh: NotebookNode) -> Iterator[tuple[str, str]]:
    """Where the Chinese notebook does not follow the English one."""
    theirs = {(cell.id, cell.cell_type): cell for cell in zh.cells}
    sync = f"run `{COMMAND} sync {stem}`"
    for cell in en.cells:
        twin = theirs.pop((cell.id, cell.cell_type), None)
        if twin is None and cell.cell_type == "code":
            yield cell.id, f"this code cell is missing; {sync}"
        elif twin is None:
            yield cell.id, "this cell is not translated; write its Chinese text under the same id"
        else:
            yield from ((cell.id, text) for text in pair(stem, cell, twin))
    for name, kind in theirs:
        where = sync if kind == "code" else "delete it, or write the English cell and " + sync
        yield name, f"this cell has no English original; {where}"
    if same_cells(en, zh) and [c.id for c in en.cells] != [c.id for c in zh.cells]:
        name = next(b.id for a, b in zip(en.cells, zh.cells, strict=True) if a.id != b.id)
        yield name, f"the cells stand in another order than in English; {sync}"
    if en.metadata != zh.metadata:
        yield "", f"the notebook's metadata differ from the English; {sync}"


def same_cells(en: NotebookNode, zh: NotebookNode) -> bool:
    return sorted(c.id for c in en.cells) == sorted(c.id for c in zh.cells)


def pair(stem: str, cell: NotebookNode, twin: NotebookNode) -> Iterator[str]:
    """What differs between an English cell and its Chinese twin that should not."""
    if cell.cell_type == "code":
        yield from code_pair(stem, cell, twin)
    yield from text_pair(cell, twin)
    yield from staleness(stem, cell, twin)
    if without_record(twin.metadata) != without_record(translated_cell(cell, twin).metadata):
        yield f"the cell's metadata differ from English; run `{COMMAND} sync {stem}`"


def code_pair(stem: str, cell: NotebookNode, twin: NotebookNode) -> Iterator[str]:
    sync = f"`{COMMAND} sync {stem}`"
    if cell.source != twin.source:
        yield f"the code differs from English, which counts; `{COMMAND} run {stem}`, then {sync}"
    elif cell.outputs != twin.outputs or cell.execution_count != twin.execution_count:
        yield f"the outputs differ from English; run {sync}"
    elif (theirs := captions(twin)) != (ours := captions(cell)):
        missing = [key for group in ours for key in ours[group] if key not in theirs.get(group, {})]
        if missing:
            yield f"the figure has no Chinese {' and no '.join(missing)}; write it in the metadata"


def text_pair(cell: NotebookNode, twin: NotebookNode) -> Iterator[str]:
    """Differences of equations, outline, labels, references and numbers; bad Chinese."""
    ours, theirs = words(cell), words(twin)
    yield from equation_pair(prose.equations(ours), prose.equations(theirs))
    if (en := prose.outline(ours)) != (zh := prose.outline(theirs)):
        yield (
            f"headings or directives differ: {' '.join(en) or 'none'} in English, "
            f"{' '.join(zh) or 'none'} in Chinese; make them the same"
        )
    for what, of in (("labels", prose.labels), ("references", prose.references)):
        if difference := listed(of(ours) - of(theirs), of(theirs) - of(ours)):
            yield f"the {what} differ: {difference}; make them the same"
    there, here = prose.numbers(ours), prose.numbers(theirs)
    if difference := listed(there - here, here - there):
        yield f"the numbers differ: {difference}; write the same in both languages"
    if prose.is_english(ours) and not prose.is_chinese(theirs):
        yield "the text is not translated; write it in Chinese"
    if places := prose.stars(ours) + prose.stars(theirs):
        shown = " … ".join(places[:3])
        yield f"bold type that Markdown does not end ({shown}); write a space after 。** and ，**"
    if places := prose.half_width(theirs):
        shown = " … ".join(places[:3])
        yield f"half-width punctuation beside Chinese ({shown}); write ，。：；？！（）“”"


def equation_pair(ours: list[tuple[str, str]], theirs: list[tuple[str, str]]) -> Iterator[str]:
    """Where display equations, which must stand in the same order, differ."""
    if len(ours) != len(theirs):
        yield f"{len(ours)} display equations in English, {len(theirs)} in Chinese; make them equal"
        return
    for (en, label), (zh, other) in zip(ours, theirs, strict=True):
        if label != other:
            yield f"the equation ({label}) is labelled ({other}) in Chinese; make them the same"
        if not prose.same_mathematics(en, zh):
            name = f"equation ({label})" if label else "a display equation"
            yield f"{name} differs: {excerpt(en, zh)}; make them the same"


def excerpt(en: str, zh: str) -> str:
    """Where two texts part, a few characters of each."""
    start = next((k for k, (a, b) in enumerate(zip(en, zh, strict=False)) if a != b), 0)
    start = max(start - 10, 0)
    return f"'{en[start : start + 30]}' in English, '{zh[start : start + 30]}' in Chinese"


def listed(english: Iterable[str], chinese: Iterable[str]) -> str:
    """What is in one language only."""
    sides = (("English", sorted(english)), ("Chinese", sorted(chinese)))
    return ", ".join(f"{', '.join(side)} only in {name}" for name, side in sides if side)


def staleness(stem: str, cell: NotebookNode, twin: NotebookNode) -> Iterator[str]:
    """Whether the record says that the Chinese text translates the English one."""
    record, sync = recorded(twin), f"run `{COMMAND} sync {stem}`"
    done = f"`{COMMAND} translated {stem} {cell.id}`"
    if not words(cell).strip() or not words(twin).strip():
        return
    if record.get("zh") != digest(twin):
        yield f"the Chinese text is new or changed; {sync} to record what it translates"
    elif record.get("en") != digest(cell):
        yield (
            "the English text changed since it was translated; update the Chinese text, then "
            f"{sync} (or, if the Chinese still holds, {done})"
        )
