"""The checks of the book that need no build: equations, citations, contents, search, interface.

Each kind of mistake is planted in a small book of two notebooks, a module and a test, and has to be
reported with its file and cell; then the real book has to be free of all of them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from docutils import nodes
from docutils.utils import new_document

from book.extensions import citations, interface, reference, twins, zhsearch
from book.tools import build, equations, pages

ROOT = Path(__file__).resolve().parents[2]

ENGLISH = {
    "intro": "# Models\n\nSee [equation](#eq-one) and [Doe (2001)](#cite-doe2001).",
    "first": "It is\n\n$$\na = b \\quad \\text{for all } b,\n$$ (eq-one)\n\nas `$$code$$` shows.",
    "plain": "Also $$c = 1$$\n\n```python\n'$$d$$ (eq-code)'\n```",
}
CHINESE = {
    "intro": "# 模型\n\n见[式](#eq-one)与 [Doe（2001）](#cite-doe2001)。",
    "first": "即\n\n$$\na = b \\quad \\text{对一切 } b\n$$ (eq-one)\n",
    "plain": "又有 $$c=1.$$",
}
MODULE = '''"""Models."""


class Model:
    """A model."""

    def one(self):
        """Compute a.

        Equation: :eq:`eq-one`
        """
'''
TEST = """import pytest


@pytest.mark.equation("eq-one")
def test_one():
    assert True
"""
BIB = "@article{doe2001, author = {Doe, Jane}, title = {A}, journal = {B}, year = {2001}}\n"


def notebook(cells: dict[str, str]) -> str:
    """A notebook of prose cells, as a file holds it."""
    return json.dumps(
        {
            "cells": [
                {"cell_type": "markdown", "id": id, "metadata": {}, "source": [text]}
                for id, text in cells.items()
            ],
            "metadata": {},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )


class Book:
    """A small book in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("notebooks/en/one.ipynb", notebook(ENGLISH))
        self.write("notebooks/zh/one.ipynb", notebook(CHINESE))
        self.write("gentext/one.py", MODULE)
        self.write("tests/test_one.py", TEST)
        self.write("book/references.bib", BIB)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    def change(self, name: str, old: str, new: str) -> None:
        """Replace what stands in a file; in a notebook, as its cells hold it."""
        old, new = (json.dumps(t)[1:-1] if name.endswith("ipynb") else t for t in (old, new))
        text = (self.root / name).read_text("utf-8")
        assert old in text
        self.write(name, text.replace(old, new))

    def problems(self) -> list[str]:
        """What both checks report."""
        return [str(p) for p in (*equations.problems(self.root), *citations.problems(self.root))]


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


EN, ZH, CODE, CHECK = (
    "notebooks/en/one.ipynb",
    "notebooks/zh/one.ipynb",
    "gentext/one.py",
    "tests/test_one.py",
)
MARKED = "@pytest.mark.equation"


def test_a_sound_book_has_no_problems(book: Book) -> None:
    assert book.problems() == []


def test_code_may_come_before_its_chapter_if_it_is_planned(book: Book) -> None:
    book.change(CODE, "`eq-one`", "`eq-one`, :eq:`eq-two`")
    book.change(CHECK, '"eq-one"', '"eq-one", "eq-two"')
    assert len(book.problems()) == 2
    book.write("book/planned.yml", "two: [eq-two]\n")
    assert book.problems() == []
    book.write("book/planned.yml", "two: [eq-two, eq-three]\none: [eq-one]\n")
    one, three = book.problems()
    assert "a chapter has equation 'eq-one' now" in one
    assert "'eq-three' needs both code that declares it and a test" in three


# What is changed in which file, and what has to be reported: place, then words of the message.
PLANTED = {
    "label in one language": (
        ZH,
        "$$ (eq-one)",
        "$$",
        [
            (f"{EN}: cell first", "is missing in 'zh'"),
            (f"{ZH}: cell intro", "refers to equation 'eq-one'"),
        ],
    ),
    "label in the other language": (
        EN,
        "b,\n$$ (eq-one)",
        "b,\n$$",
        [
            (f"{ZH}: cell first", "is missing in 'en'"),
            (f"{EN}: cell intro", "refers to equation 'eq-one'"),
        ],
    ),
    "no test": (CHECK, f'{MARKED}("eq-one")\n', "", [(f"{EN}: cell first", "no test carries")]),
    "no code": (CODE, "Equation: ", "Compare ", [(f"{EN}: cell first", "no docstring in gentext")]),
    "docstring cites nothing": (
        CODE,
        "`eq-one`",
        "`eq-one`, :eq:`eq-two`",
        [(f"{CODE}: line 7", "Model.one names equation 'eq-two'")],
    ),
    "marker cites nothing": (
        CHECK,
        '"eq-one"',
        '"eq-one", "eq-two"',
        [(f"{CHECK}: line 4", "test_one names equation 'eq-two'")],
    ),
    "text cites nothing": (
        ZH,
        "(#eq-one)",
        "(#eq-two)",
        [(f"{ZH}: cell intro", "refers to equation 'eq-two'")],
    ),
    "numbered formula differs": (
        ZH,
        "a = b",
        "a = -b",
        [(f"{ZH}: cell first", "display formula 1 differs")],
    ),
    "plain formula differs": (
        EN,
        "c = 1",
        "c = 2",
        [(f"{ZH}: cell plain", "display formula 1 differs: c=2 in English, c=1 in Chinese")],
    ),
    "formula is missing": (ZH, "$$c=1.$$", "", [(f"{ZH}: cell plain", "nothing in Chinese")]),
    "formula in a cell without twin": (
        ZH,
        '"id": "plain"',
        '"id": "other"',
        [(f"{EN}: cell plain", "nothing in Chinese"), (f"{ZH}: cell other", "nothing in English")],
    ),
    "label twice": (
        EN,
        "Also $$c = 1$$",
        "Also $$c = 1$$ (eq-one)",
        [(f"{EN}: cell plain", "already used in notebooks/en/one.ipynb, cell first")],
    ),
    "labels computed in a test": (
        CHECK,
        '"eq-one")',
        '"eq-one", *MORE)',
        [(f"{CHECK}: line 4", "write the labels of the equation marker as plain strings")],
    ),
    "missing reference": (
        EN,
        "cite-doe2001",
        "cite-roe2001",
        [(f"{EN}: cell intro", "cites 'roe2001', which book/references.bib lacks")],
    ),
    "wrong year": (
        ZH,
        "（2001）",
        "（2002）",
        [(f"{ZH}: cell intro", "but the entry is of 2001")],
    ),
    "key with a capital": (
        "book/references.bib",
        BIB,
        BIB + BIB.replace("doe2001", "Doe2002"),
        [("book/references.bib: Doe2002", "lower-case")],
    ),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_mistake_is_reported_with_its_place(book: Book, kind: str) -> None:
    name, old, new, expected = PLANTED[kind]
    if '"id"' in old:
        book.write(name, (book.root / name).read_text("utf-8").replace(old, new))
    else:
        book.change(name, old, new)
    found = book.problems()
    assert len(found) == len(expected), found
    for place, words in expected:
        assert any(line.startswith(f"{place}: ") and words in line for line in found), found


def test_a_misnamed_label_is_reported_in_both_languages(book: Book) -> None:
    for name in (EN, ZH):
        book.change(name, "$$ (eq-one)", "$$ (one)")
        book.change(name, "(#eq-one)", "")
    book.change(CODE, "eq-one", "one")
    book.change(CHECK, "eq-one", "one")
    assert [line.partition(": label")[0] for line in book.problems()] == [
        f"{EN}: cell first",
        f"{ZH}: cell first",
    ]


def test_a_missing_twin_is_one_problem(book: Book) -> None:
    (book.root / ZH).unlink()
    assert book.problems() == [f"{EN}: has no twin in 'zh'; add notebooks/zh/one.ipynb"]


def test_a_broken_notebook_is_named(book: Book) -> None:
    book.write(EN, "{")
    with pytest.raises(ValueError, match=r"one\.ipynb is not a notebook"):
        book.problems()


def test_links_lead_to_the_innermost_object(book: Book) -> None:
    book.write(
        CHECK,
        "import pytest\nMARK = pytest.mark\n\n\n@pytest.mark.slow\n@pytest.mark.equation('eq-a')\n"
        "class TestIt:\n    @pytest.mark.equation('eq-b', 'eq-c')\n    def test_b(self):\n"
        "        pass\n\n\npytestmark = pytest.mark.equation('eq-d')\n"
        "CASES = [pytest.param(1, marks=pytest.mark.equation('eq-e'))]\n",
    )
    links = {link.label: (link.name, link.line, link.end) for link in equations.tests(book.root)}
    assert links["eq-a"] == ("TestIt", 5, 10)
    assert links["eq-b"] == links["eq-c"] == ("TestIt.test_b", 8, 10)
    assert links["eq-d"][0] == links["eq-e"][0] == ""


def test_one_declaration_may_span_lines_and_name_several(book: Book) -> None:
    book.change(CODE, ":eq:`eq-one`", ":eq:`eq-one`,\n            :eq:`eq-two`\n\n        :eq:`no`")
    assert [link.label for link in equations.implementations(book.root)] == ["eq-one", "eq-two"]
    assert [link.label for link in equations.mentions(book.root)] == ["eq-one", "eq-two", "no"]


def test_prose_leaves_out_programs_but_not_directives() -> None:
    text = "a\n```{note}\nb\n~~~\nc\n~~~\nd\n```\n`e` f\n````\n```\ng\n````\nh"
    assert "".join(pages.prose(text).split()) == "abdfh"


def test_amsmath_environments_are_displayed() -> None:
    cell = pages.Cell(Path("x"), "", "\\begin{align}\na &= b\n\\end{align}\n$\\begin{cases}$")
    assert [e.tex for e in equations.displayed(cell)] == ["\\begin{align}\na &= b\n\\end{align}"]


# The table of contents and what derives from the public address ---------------------------------


@pytest.fixture
def tree(book: Book) -> Book:
    """The small book with contents and settings."""
    book.write(
        "book/toc.yml", "root: index\nparts:\n  - caption: {en: P, zh: 部}\n    chapters: [one]\n"
    )
    for language in ("en", "zh"):
        book.write(f"book/{language}/index.md", "# Book\n")
        book.write(f"book/{language}/_config.yml", "")
    shutil.copy(ROOT / "_config.yml", book.root)
    return book


def test_staging_gathers_both_folders_and_forgets_removed_pages(tree: Book) -> None:
    folder = build.stage(tree.root, "zh")
    (folder / "old.md").write_text("# old\n")
    build.stage(tree.root, "zh")
    assert sorted(p.name for p in folder.iterdir()) == [
        "_config.yml",
        "_toc.yml",
        "index.md",
        "one.ipynb",
    ]
    toc = build.read_yaml(folder / "_toc.yml")
    assert toc["root"] == "index"
    assert toc["parts"] == [{"caption": "部", "chapters": [{"file": "one"}]}]


def test_contents_without_file_and_files_without_contents_are_errors(tree: Book) -> None:
    (tree.root / ZH).unlink()
    with pytest.raises(ValueError, match=r"names 'one', .* notebooks/zh/one\.ipynb .* but 0 do"):
        build.stage(tree.root, "zh")
    tree.write("notebooks/en/two.ipynb", notebook({}))
    with pytest.raises(ValueError, match=r"two\.ipynb is not in book/toc\.yml"):
        build.stage(tree.root, "en")


@pytest.mark.parametrize(
    ("repository", "site"),
    [
        ("https://github.com/Some-Org/book", "https://some-org.github.io/book"),
        ("https://github.com/some-org/some-org.github.io/", "https://some-org.github.io"),
    ],
)
def test_site_follows_from_the_repository(tree: Book, repository: str, site: str) -> None:
    assert build.site_url(repository) == site
    address = build.read_yaml(ROOT / "_config.yml")["repository"]["url"]
    tree.change("_config.yml", address, repository)
    settings = build.configuration(tree.root, "zh")
    assert settings["html"]["baseurl"] == f"{site}/zh/"
    assert settings["sphinx"]["config"]["html_context"]["gt_site"] == site
    assert settings["repository"]["path_to_book"] == "notebooks/zh"


def test_address_stands_in_one_place_of_the_book() -> None:
    address = build.read_yaml(ROOT / "_config.yml")["repository"]["url"].partition("//")[2]
    site = build.site_url(address).partition("//")[2]
    for path in (ROOT / "book").rglob("*"):
        if path.is_file() and "vendor" not in path.parts and path.suffix != ".pyc":
            text = path.read_bytes().decode("utf-8", "ignore")
            assert address not in text, path
            assert site not in text, path


# Search, interface, reference -------------------------------------------------------------------


def test_chinese_is_searched_by_pairs() -> None:
    assert zhsearch.pairs("变分自编码器, a VAE！的") == [
        "变分",
        "分自",
        "自编",
        "编码",
        "码器",
        "的",
    ]
    assert zhsearch.PairSearch({}).split("用 VAE 训练") == ["VAE", "用", "训练"]


def test_chinese_lines_are_joined_without_a_space() -> None:
    texts = ["一。", "\n", "", "二", "\n", "and", "\n", "三", "\n", "\n"]
    paragraph = nodes.paragraph("", "", *map(nodes.Text, texts))
    paragraph[3:4] = [nodes.strong("", "二")]
    document = new_document("page")
    document += [paragraph, nodes.literal_block("", "", nodes.Text("四"), nodes.Text("\n"))]
    twins.join_lines(None, document)
    assert paragraph.astext() == "一。二\nand\n三\n\n"


def test_interface_is_translated_outside_of_programs() -> None:
    page = '<nav aria-label="Main"> Page </nav><p>Main idea</p><pre title="Main">Page</pre>'
    assert interface.translated(page) == (
        '<nav aria-label="主导航"> 本页 </nav><p>Main idea</p><pre title="Main">Page</pre>'
    )


def test_reference_has_every_module_once() -> None:
    listed = [name for names in reference.modules(ROOT).values() for name in names]
    files = (ROOT / "gentext").glob("*/*.py")
    stems = {f"gentext.{p.parent.name}.{p.stem}" for p in files if p.parent.name != "cli"}
    assert len(set(listed)) == len(listed)
    assert {name for name in stems if not name.endswith(".__init__")} <= set(listed)
    assert {"gentext.core.shapes", "gentext.latent.vae", "gentext.zoo"} <= set(listed)


def test_a_folder_without_a_heading_is_told(tmp_path: Path) -> None:
    (tmp_path / "gentext" / "cellar").mkdir(parents=True)
    (tmp_path / "gentext" / "cellar" / "__init__.py").write_text("")
    with pytest.raises(ValueError, match="give \\['cellar'\\] a heading"):
        reference.modules(tmp_path)


def test_what_is_served_from_others_carries_its_licence() -> None:
    vendor = ROOT / "book" / "static" / "vendor"
    for folder in (path for path in vendor.iterdir() if path.is_dir()):
        assert (folder / "LICENSE").is_file()
        assert f"`{folder.name}/`" in (vendor / "README.md").read_text("utf-8")


# The real book ----------------------------------------------------------------------------------


def test_every_equation_of_the_book_is_implemented_tested_and_alike_in_both_languages() -> None:
    found = [str(problem) for problem in equations.problems(ROOT)]
    assert not found, "\n".join(["", *found])


def test_every_citation_of_the_book_has_its_reference() -> None:
    found = [str(problem) for problem in citations.problems(ROOT)]
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize("language", build.LANGUAGES)
def test_contents_of_the_book_are_complete(language: str) -> None:
    assert list(build.sources(ROOT, language)) == build.stems(
        build.read_yaml(ROOT / "book" / "toc.yml")
    )
