"""A small chapter in both languages, in order until a test changes something."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from book.tools import notebook_checks, notebook_text, translation

CONFIG = "repository:\n  url: https://github.com/someone/somewhere\n  branch: main\n"
GLOSSARY = """\
- title: {en: Basics, zh: 基础}
  terms:
    - {en: latent variable, zh: 隐变量, avoid: [潜变量], introduce: true}
    - {en: autoencoder, zh: 自编码器, avoid: [自动编码器]}
"""
ENGLISH = r"""%% md title
# A model

A model with latent variables, by [Kingma & Welling, 2014](#cite-kingma2014), in 3 steps.

%% code setup {"tags": ["hide-cell", "nbval-ignore-output"]}
FIRST

%% md bound
The bound is

$$\log p(x) \ge L(x) \quad\text{for all } x.$$ (eq-toy-bound)

By [equation](#eq-toy-bound) it is at least 1.25 nats, or $62.5\%$ of `9.75`.

%% code compute
bound = 1.251
assert abs(bound - 1.25) < 0.01
assert bound / 2 > 0.625

%% code picture {"mystnb": {"figure": {"caption": "The bound.", "name": "fig-bound"}}}
bound

%% md end
:::{exercise}
:label: ex-toy-one
Show that the bound is tight at the temperature 0.7 of the paper.
:::
"""
CHINESE = r"""%% md title
# 一个模型

[Kingma 与 Welling，2014](#cite-kingma2014) 提出的隐变量模型，分 3 步。

%% md bound
下界为

$$\log p(x) \ge L(x) \quad\text{对所有 } x。$$ (eq-toy-bound)

由[公式](#eq-toy-bound)，它至少是 1.25 奈特，即 `9.75` 的 62.5%。

%% code picture {"mystnb": {"figure": {"caption": "下界。"}}}

%% md end
:::{exercise}
:label: ex-toy-one
试证：在文中的温度 0.7 下，下界是紧的。
:::
"""
CITED = {"cited": ["0.7"]}


class Pair:
    """The chapter ``toy`` in both languages under ``root``, in order until something is changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "book").mkdir()
        (root / "_config.yml").write_text(CONFIG)
        (root / "book" / "glossary.yml").write_text(GLOSSARY, encoding="utf-8")
        en = notebook_text.pack(ENGLISH.replace("FIRST", notebook_text.first_cell(root)))
        for count, cell in enumerate((c for c in en.cells if c.cell_type == "code"), 1):
            cell.execution_count = count
        result = nbformat.v4.new_output("execute_result", {"text/plain": "1.251"})
        self.cell(en, "picture").outputs = [result]
        self.cell(en, "end").metadata["gentext"] = CITED
        self.save(en, translation.synced(en, notebook_text.pack(CHINESE)))

    @staticmethod
    def cell(notebook: NotebookNode, name: str) -> NotebookNode:
        return next(cell for cell in notebook.cells if cell.id == name)

    def read(self) -> tuple[NotebookNode, NotebookNode]:
        en, zh = (notebook_text.notebook_path(self.root, lang, "toy") for lang in ("en", "zh"))
        return notebook_text.read(en), notebook_text.read(zh)

    def save(self, en: NotebookNode, zh: NotebookNode) -> None:
        for language, notebook in (("en", en), ("zh", zh)):
            path = notebook_text.notebook_path(self.root, language, "toy")
            notebook_text.write(notebook, path)

    def edit(self, language: str, name: str, old: str, new: str) -> None:
        """Replace ``old`` by ``new`` in the source of the cell ``name``."""
        pair = dict(zip(("en", "zh"), self.read(), strict=True))
        cell = self.cell(pair[language], name)
        assert old in cell.source
        cell.source = cell.source.replace(old, new)
        self.save(**pair)

    def sync(self) -> list[str]:
        return list(translation.sync(self.root, ["toy"]))

    def problems(self) -> list[str]:
        return notebook_checks.problems(self.root)
