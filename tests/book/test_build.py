"""The build of the book: what is kept from one build to the next, and that nothing is missed.

Which pages are read again is tested with a stand-in for Sphinx; that all of them are checked and
come out as from a whole build, with Sphinx itself and a small book.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.utils import new_document
from sphinx.search import IndexBuilder, languages
from test_book import BIB, MODULE, ROOT, TEST, Book, notebook

from book.extensions import zhsearch
from book.tools import build, pages

STEMS = ("index", "about", "one", "notes", "equations", "bibliography", "glossary")
ONE = "It is\n\n$$\na = b\n$$ (eq-one)\n"
FILES = {
    "_config.yml": (ROOT / "_config.yml").read_text("utf-8"),
    "constraints.txt": "torch==2\n",
    "book/toc.yml": (
        "root: index\nparts:\n  - caption: {en: P, zh: 部}\n"
        f"    chapters: [{', '.join(STEMS[1:])}]\n"
    ),
    "book/glossary.yml": "- title: {en: A, zh: 甲}\n  terms: [{en: code, zh: 编码}]\n",
    "book/references.bib": BIB,
    "book/static/css/book.css": "p {}\n",
    "book/templates/copyright.html": "\n",
    "book/templates/lang-switch.html": "\n",
    "book/extensions/marks.py": "MARKS = 1\n",
    "book/en/_config.yml": "",
    "book/en/index.md": "# Book\n",
    "book/en/notes.md": "# Notes\n\nSee [equation](#eq-one) and [Doe (2001)](#cite-doe2001).\n",
    "book/en/about.md": "# About\n\n## Why\n\nSo.\n\n```python\nwhy = 1\n```\n",
    "book/en/equations.md": "# Equations\n\n```{equation-list}\n```\n",
    "book/en/bibliography.md": "# References\n\n```{reference-list}\n```\n",
    "notebooks/en/one.ipynb": notebook({"title": "# One\n\n## More\n", "first": ONE}),
    "notebooks/zh/one.ipynb": notebook({}),
    "gentext/one.py": MODULE,
    "gentext/core/shapes.py": "",
    "tests/test_one.py": TEST,
}
# What is changed, and which pages have to be read again for it; None: all, with nothing kept.
AGAIN = {
    "notebooks/en/one.ipynb": {"one", "equations", "bibliography"},
    "book/en/about.md": {"about", "equations", "bibliography"},
    "book/references.bib": {"equations", "bibliography"},
    "book/glossary.yml": {"equations", "bibliography", "glossary"},
    "gentext/one.py": {"equations"},
    "tests/test_one.py": {"equations"},
    "book/static/css/book.css": {"equations", "bibliography"},
    "book/templates/copyright.html": {"equations", "bibliography"},
    "book/toc.yml": None,
    "book/extensions/marks.py": None,
    "book/en/_config.yml": None,
    "_config.yml": None,
    "constraints.txt": None,
}


class Sphinx:
    """Stands for Sphinx: reads the pages of which it has kept nothing, and fails when told to."""

    def __init__(self) -> None:
        self.fails: int | BaseException = 0
        self.read: set[str] = set()

    def __call__(self, root: Path, language: str) -> int:
        kept = root / "_build" / "doctrees" / language
        self.read = {stem for stem in STEMS if not (kept / f"{stem}.doctree").is_file()}
        for stem in STEMS:
            path = kept / f"{stem}.doctree"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        page = root / "_build" / "html" / language / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.touch()
        if isinstance(self.fails, BaseException):
            raise self.fails
        return self.fails


@pytest.fixture
def book(tmp_path: Path) -> Book:
    book = Book(tmp_path)
    for name, text in FILES.items():
        book.write(name, text)
    return book


@pytest.fixture
def sphinx(monkeypatch: pytest.MonkeyPatch) -> Sphinx:
    sphinx = Sphinx()
    monkeypatch.setattr(build, "run_sphinx", sphinx)
    return sphinx


@pytest.fixture
def built(book: Book, sphinx: Sphinx) -> Book:
    """The small book after a build."""
    assert not build.is_built(book.root, "en")
    assert build.build(book.root, "en") == 0
    assert sphinx.read == set(STEMS)
    assert build.is_built(book.root, "en")
    return book


@pytest.mark.parametrize("name", AGAIN)
def test_each_input_has_its_pages_read_again(built: Book, sphinx: Sphinx, name: str) -> None:
    built.write(name, FILES[name] + "\n")
    assert not build.is_built(built.root, "en")
    assert build.build(built.root, "en") == 0
    assert sphinx.read == (set(STEMS) if AGAIN[name] is None else AGAIN[name])
    assert build.is_built(built.root, "en")


def test_another_language_is_no_input(built: Book) -> None:
    built.write("notebooks/zh/one.ipynb", notebook({"a": "b"}))
    assert build.is_built(built.root, "en")


def test_another_version_of_a_package_has_all_read_again(
    built: Book, sphinx: Sphinx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site" / "sphinx-99.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    assert not build.is_built(built.root, "en")
    build.build(built.root, "en")
    assert sphinx.read == set(STEMS)


def test_pages_that_were_deleted_are_written_again(built: Book, sphinx: Sphinx) -> None:
    (built.root / "_build" / "html" / "en" / "index.html").unlink()
    assert not build.is_built(built.root, "en")
    assert build.build(built.root, "en") == 0
    assert sphinx.read == set()


def test_fresh_reads_everything(built: Book, sphinx: Sphinx) -> None:
    build.build(built.root, "en", fresh=True)
    assert sphinx.read == set(STEMS)


@pytest.mark.parametrize("fails", [1, KeyboardInterrupt()])
def test_what_a_failed_build_changed_is_read_again(
    built: Book, sphinx: Sphinx, fails: int | BaseException
) -> None:
    sphinx.fails = fails
    (built.root / "gentext" / "one.py").unlink()
    for _ in range(2):
        try:
            assert build.build(built.root, "en") == 1
        except KeyboardInterrupt:
            assert not isinstance(fails, int)
        assert sphinx.read == AGAIN["gentext/one.py"]
        assert not build.is_built(built.root, "en")
    sphinx.fails = 0
    built.write("gentext/one.py", MODULE)  # as before the failure, but what was read since is not
    assert build.build(built.root, "en") == 0
    assert sphinx.read == AGAIN["gentext/one.py"]
    assert build.is_built(built.root, "en")


def test_a_first_build_that_fails_keeps_nothing(book: Book, sphinx: Sphinx) -> None:
    sphinx.fails = 1
    for _ in range(2):
        assert build.build(book.root, "en") == 1
        assert sphinx.read == set(STEMS)
        assert not build.is_built(book.root, "en")


# With Sphinx ------------------------------------------------------------------------------------


def run(book: Book) -> tuple[int, str]:
    """Build the small book in a process of its own: whether it failed, and its messages."""
    program = "import sys, pathlib; from book.tools import build\n"
    program += "sys.exit(build.build(pathlib.Path(sys.argv[1]), 'en'))"
    command = [sys.executable, "-W", "ignore", "-c", program, str(book.root)]
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return result.returncode, result.stderr


def html(book: Book) -> dict[str, bytes]:
    """All files of the built book, save the one that Sphinx keeps of the settings."""
    folder = book.root / "_build" / "html" / "en"
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".buildinfo")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_kept_pages_are_checked_and_come_out_as_from_a_whole_build(book: Book) -> None:
    assert run(book) == (0, "")
    first = html(book)
    book.change("notebooks/en/one.ipynb", "$$ (eq-one)", "$$")
    book.change("book/en/about.md", "So.", f"So. {ONE}")  # which is read before the old page
    assert run(book) == (0, "")
    kept = html(book)
    assert kept["about.html"] != first["about.html"]
    assert kept["notes.html"] != first["notes.html"]  # which links to the equation
    book.change("book/en/about.md", "$$ (eq-one)", "$$")
    for _ in range(2):  # the page with the link is neither changed nor read again
        failed, messages = run(book)
        assert failed
        assert "notes.md" in messages
        assert "eq-one" in messages
        assert not build.is_built(book.root, "en")
    book.change("book/en/about.md", "b\n$$", "b\n$$ (eq-one)")
    book.change("_config.yml", "      - book.extensions.quick\n", "")  # which builds from nothing
    assert run(book) == (0, "")
    whole = html(book)
    assert [name for name in kept | whole if kept.get(name) != whole.get(name)] == []
    book.change("book/toc.yml", "about, ", "")
    (book.root / "book" / "en" / "about.md").unlink()
    book.change("book/en/notes.md", "[equation](#eq-one) and ", "")
    run(book)
    assert {"about.html", "_sources/about.md"} <= whole.keys() - html(book).keys()


# The index of the search ------------------------------------------------------------------------


class ListSearch(zhsearch.PairSearch):
    """The splitter with the list of Latin words that Sphinx keeps."""

    def init(self, options: dict[str, str]) -> None:
        super().init(options)
        self.latin_terms = []  # type: ignore[assignment]

    def split(self, text: str) -> list[str]:
        latin = self.latin1_letters.findall(text)
        self.latin_terms.extend(latin)  # type: ignore[attr-defined]
        return latin + zhsearch.pairs(text)


def index(splitter: type, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict:
    """The index of some pages."""
    names = "titles filenames mapping title_mapping all_titles index_entries objtypes objnames"
    environment = SimpleNamespace(
        **{f"_search_index_{name}": {} for name in names.split()}, domains={}, version="1"
    )
    monkeypatch.setitem(languages, "zh", splitter)
    builder = IndexBuilder(environment, "zh_CN", {}, "")
    for name, text in texts.items():
        page = new_document(name)
        page += nodes.section("", nodes.title("", name), nodes.paragraph("", text), ids=["a"])
        builder.feed(name, f"{name}.md", name, page)
    return builder.freeze()


def test_a_set_of_latin_words_gives_the_index_of_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = pages.cells(ROOT, "zh", "vae")
    texts = {"VAE 与 ies": "用 IES 训练，ies、uses", "vae": "\n".join(cell.text for cell in cells)}
    quick = index(zhsearch.PairSearch, texts, monkeypatch)
    assert quick == index(ListSearch, texts, monkeypatch)
    assert "ies" in quick["titleterms"]  # which the stem, being too short, would not be
    assert isinstance(zhsearch.PairSearch({}).latin_terms, set)
