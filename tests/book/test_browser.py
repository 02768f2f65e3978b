"""The rendered book in a real browser: every page of both languages, as a reader meets it.

All pages are opened once, at the width of a phone, while everything that goes wrong is written
down; each test then asks for one kind of trouble. The last part shows the same inspection a page
with all of these troubles, so that its silence about the book means something.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urldefrag, urljoin

import pytest

from book.tools import browser

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
PHONE = {"width": 390, "height": 844}

# Everything about a loaded page that the tests want to know, in one call.
INSPECT = r"""
() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const problems = [];
  all("mjx-merror").forEach((e) => problems.push("formula with an error: " + e.textContent));
  all(".math").filter((e) => !e.querySelector("mjx-container"))
    .forEach((e) => problems.push("formula not rendered: " + e.textContent.slice(0, 80)));
  all("div.math:has(> .eqno)").filter((e) => e.scrollWidth > e.clientWidth + 25)  // a letter
    .forEach((e) => problems.push("formula cut off: " + e.id));
  all("div.math").forEach((e) => {
    const lines = [...e.querySelectorAll("mjx-linebox")].map((line) => line.clientWidth);
    if (lines.length && Math.max(...lines) < e.clientWidth / 2 - 30)
      problems.push("formula broken too early: " + e.textContent.slice(0, 80));
  });
  const raw = /\$\$|\\\(|\\\[|\\begin\{|\$[^$\n]*[\\_^{][^$\n]*\$/;
  const program = "script, style, code, pre, .math, mjx-container";
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode())
    if (raw.test(node.data) && !node.parentElement.closest(program))
      problems.push("raw mathematics: " + node.data.trim().slice(0, 80));
  all("img").filter((e) => e.complete && !e.naturalWidth && e.getAttribute("src"))
    .forEach((e) => problems.push("broken picture: " + e.src.slice(0, 80)));
  return {
    problems,
    ids: all("[id]").map((e) => e.id),
    links: all("a[href]").map((e) => e.href),
    switches: all("a.gt-language").map((e) => e.href),
    width: document.documentElement.scrollWidth,
    language: document.documentElement.lang,
  };
}
"""
# Words of the interface without any Chinese, outside of what authors and programs say.
INTERFACE = r"""
() => {
  const found = new Set();
  const note = (text) => {
    if (/[A-Za-z]{3}/.test(text) && !/[\u4e00-\u9fff]/.test(text)) found.add(text.trim());
  };
  const attributes = ["title", "aria-label", "placeholder"];
  document.querySelectorAll("[title], [aria-label], [placeholder]").forEach((element) => {
    const author = element.closest("article");  // there, a name of code may be a title
    attributes.map((name) => element.getAttribute(name) || "")
      .filter((text) => !author || text.includes(" ")).forEach(note);
  });
  const places = "button, .prev-next-footer, footer p, summary, .dropdown-item";
  document.querySelectorAll(places).forEach((element) => note(element.textContent));
  return [...found];
}
"""
PROPER = {"English", "Read this page in English", "Colab", ".ipynb", ".md", ".pdf", "Ctrl+K"}


@dataclass
class Visit:
    """What one page showed."""

    troubles: list[str] = field(default_factory=list)  # console, page and network
    found: dict[str, Any] = field(default_factory=dict)  # by INSPECT


class Quiet(SimpleHTTPRequestHandler):
    """A file server that keeps no log."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder at an address of this machine."""
    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def listen(page: Any, base: str, visits: dict[str, Visit]) -> None:
    """Write all troubles of a page into the visit of the address that it shows."""

    def note(text: str) -> None:
        visits.setdefault(urldefrag(page.url)[0], Visit()).troubles.append(text)

    def requested(request: Any) -> None:
        if not request.url.startswith((base, "data:", "blob:")):
            note(f"request to another host: {request.url}")

    page.on("console", lambda m: note(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda error: note(f"page error: {error}"))
    page.on("request", requested)
    page.on("requestfailed", lambda r: note(f"request failed: {r.url}"))
    page.on("response", lambda r: note(f"status {r.status}: {r.url}") if r.status >= 400 else None)


def open_page(page: Any, address: str) -> None:
    """Load a page and wait until its formulas are set."""
    page.goto(address, wait_until="load")
    page.evaluate("() => window.MathJax?.startup?.promise?.then(() => 0)")


def inspect(chromium: Any, base: str, pages: list[str]) -> dict[str, Visit]:
    """Open pages one after the other and note everything about them, by address."""
    visits: dict[str, Visit] = {}
    context = chromium.new_context(viewport=PHONE)
    page = context.new_page()
    listen(page, base, visits)
    for name in pages:
        open_page(page, base + quote(name))
        visits.setdefault(page.url, Visit()).found = page.evaluate(INSPECT)
    context.close()
    return visits


def broken_links(base: str, visits: dict[str, Visit], folder: Path) -> list[str]:
    """Links within the book whose page, file or place on the page does not exist."""
    ids = {address: set(visit.found["ids"]) for address, visit in visits.items()}
    broken = []
    for address, visit in visits.items():
        for link in dict.fromkeys(visit.found["links"]):
            target, place = urldefrag(link)
            if not target.startswith(base):
                continue
            name = unquote(target.removeprefix(base))
            if target not in ids and not (folder / name).is_file():
                broken.append(f"{address}: no such page: {link}")
            elif place and target in ids and unquote(place) not in ids[target]:
                broken.append(f"{address}: no such place: {link}")
    return broken


def listed(troubles: list[str]) -> str:
    """Troubles one a line, each once; pages of one kind often share theirs."""
    return "\n".join(["", *dict.fromkeys(troubles)])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    executable = browser.find()
    if executable is None:
        reason = "NO BROWSER: run `python book/tools/browser.py` or install chromium"
        pytest.fail(reason) if browser.in_ci() else pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    # Nothing but this machine can be reached, so a request elsewhere cannot go unnoticed.
    local = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=str(executable), args=[*browser.FLAGS, local]
        )
        yield running
        running.close()


@pytest.fixture(scope="module")
def book() -> Iterator[str]:
    for language in ("en", "zh"):
        if not (HTML / language / "index.html").is_file():
            pytest.fail(f"{HTML / language} has no book; build it by `make book`", pytrace=False)
    with served(HTML) as base:
        yield base


@pytest.fixture(scope="module")
def visits(chromium: Any, book: str) -> dict[str, Visit]:
    files = [path.relative_to(HTML) for path in sorted(HTML.glob("*/**/*.html"))]
    pages = [path.as_posix() for path in files if path.parts[1] != "_static"]
    return inspect(chromium, book, pages)


def test_no_page_has_errors_or_asks_another_host(visits: dict[str, Visit], book: str) -> None:
    found = [f"{a.removeprefix(book)}: {t}" for a, v in visits.items() for t in v.troubles]
    assert not found, listed(found)


def test_every_formula_and_picture_is_rendered_whole(visits: dict[str, Visit], book: str) -> None:
    found = [f"{a.removeprefix(book)}: {p}" for a, v in visits.items() for p in v.found["problems"]]
    assert not found, listed(found)


def test_no_link_within_the_book_is_broken(visits: dict[str, Visit], book: str) -> None:
    found = broken_links(book, visits, HTML)
    assert not found, listed(found)


def test_no_page_is_wider_than_a_phone(visits: dict[str, Visit], book: str) -> None:
    widths = {a.removeprefix(book): visit.found["width"] for a, visit in visits.items()}
    wide = [f"{a}: {width} px wide" for a, width in widths.items() if width > PHONE["width"]]
    assert not wide, listed(wide)


def test_every_page_leads_to_its_twin(visits: dict[str, Visit], book: str) -> None:
    for address, visit in visits.items():
        here, _, name = address.removeprefix(book).partition("/")
        there = {"en": "zh", "zh": "en"}[here]
        assert visit.found["switches"] == [f"{book}{there}/{name}"]
        assert f"{book}{there}/{name}" in visits, f"{address} has no twin"
        assert visit.found["language"].startswith(here)


def chapters() -> list[str]:
    """The stems of the chapters that have been built."""
    return sorted(path.stem for path in (HTML / "zh" / "_sources").glob("*.ipynb"))


def switch(page: Any, address: str) -> str:
    """Follow an address to its place, switch the language there, and tell where that leads."""
    place = f"document.getElementById({urldefrag(address)[1]!r}).getBoundingClientRect().top"
    open_page(page, address)
    page.wait_for_function(f"Math.abs({place}) < 300")  # scrolling is smooth
    page.click(".gt-language")
    page.wait_for_load_state()
    page.wait_for_function(f"Math.abs({place}) < 300")
    return page.url


def test_language_switch_keeps_the_place(chromium: Any, book: str) -> None:
    page = chromium.new_page(viewport=PHONE)
    assert switch(page, f"{book}en/notation.html#place-3") == f"{book}zh/notation.html#place-3"
    stem = chapters()[0]
    open_page(page, f"{book}zh/{stem}.html")
    equation = page.evaluate("[...document.querySelectorAll('[id^=equation-eq-]')].pop().id")
    there = switch(page, f"{book}zh/{stem}.html#{equation}")
    assert there == f"{book}en/{stem}.html#{equation}"
    page.close()


@pytest.mark.parametrize(("locale", "language"), [("zh-TW", "zh"), ("fr-FR", "en"), ("en", "en")])
def test_front_door_knows_the_reader(chromium: Any, book: str, locale: str, language: str) -> None:
    page = chromium.new_page(locale=locale)
    page.goto(book)
    page.wait_for_url(f"{book}{language}/index.html")
    page.click(".gt-language")
    other = {"en": "zh", "zh": "en"}[language]
    page.wait_for_url(f"{book}{other}/index.html")
    page.goto(book)  # the choice is remembered
    page.wait_for_url(f"{book}{other}/index.html")
    page.close()


def inside_of_a_sentence(text: str) -> str:
    """Four characters from the middle of the longest unbroken run of Chinese in a text."""
    longest = max(re.findall(r"[\u4e00-\u9fff]+", text), key=len)
    middle = len(longest) // 2
    return longest[middle - 2 : middle + 2]


def search(page: Any, book: str, language: str, words: str) -> list[str]:
    """The pages that the search of the book gives for words, when it has gone through all."""
    page.goto(f"{book}{language}/search.html?q={quote(words)}")
    page.wait_for_function("document.querySelector('.search-summary')?.textContent")
    links = page.eval_on_selector_all("#search-results ul.search a", "es => es.map(e => e.href)")
    return [urldefrag(link.split("?")[0])[0].rpartition("/")[2] for link in links]


def test_chinese_search_finds_words_inside_sentences(chromium: Any, book: str) -> None:
    page = chromium.new_page()
    words = {"notation": "协方差为"}
    for stem in chapters():
        open_page(page, f"{book}zh/{stem}.html")
        paragraphs = page.eval_on_selector_all(
            "article section > p", "es => es.map(e => e.textContent)"
        )
        words[stem] = inside_of_a_sentence("\n".join(paragraphs))
    for stem, word in words.items():
        assert f"{stem}.html" in search(page, book, "zh", word), f"{word!r} is on {stem}.html"
    assert search(page, book, "zh", "量子色动力学") == []
    assert "notation.html" in search(page, book, "en", "covariance")
    page.close()


def test_chinese_pages_speak_chinese(chromium: Any, book: str) -> None:
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    for name in ("index", *chapters(), "search", "genindex", "_modules/index"):
        open_page(page, f"{book}zh/{name}.html")
        assert set(page.evaluate(INTERFACE)) <= PROPER, name
    page.close()


BAD_PAGE = """<!doctype html><html lang="en"><title>bad</title><body>
<p>$$x$$</p><p>\\(y\\)</p><p>$z_1$</p> <code>$$</code> costs $5, not $6
<div class="math">\\[ unset \\]</div><div style="width: 9px; overflow: auto"
class="math" id="long"><b class="eqno">(1)</b><mjx-container>xxxxxxxxx</mjx-container></div>
<div class="math" style="width: 300px"><mjx-container><mjx-linebox style="display: block;
width: 60px">a =</mjx-linebox></mjx-container></div>
<mjx-merror>Undefined control sequence</mjx-merror>
<a href="nowhere.html">page</a> <a href="bad.html#nowhere">place</a>
<a id="here" href="#here">good</a>
<img src="missing.png" alt=""> <img src="https://example.org/x.png" alt="">
<div style="width: 500px">wide</div>
<script>console.error("said so"); setTimeout(() => { throw new Error("thrown"); });</script>
</body></html>"""


def test_the_inspection_sees_every_kind_of_trouble(chromium: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(BAD_PAGE, "utf-8")
    with served(tmp_path) as base:
        visits = inspect(chromium, base, ["bad.html"])
        visit = visits[urljoin(base, "bad.html")]
        broken = broken_links(base, visits, tmp_path)
    troubles = "\n".join(visit.troubles)
    for kind in ("console: said so", "page error: thrown", "request to another host: https://exa"):
        assert kind in troubles
    assert "status 404" in troubles
    assert "missing.png" in troubles
    kinds = [problem.partition(":")[0] for problem in visit.found["problems"]]
    assert sorted(kinds) == sorted(
        ["formula with an error", "formula not rendered", "formula cut off"]
        + ["formula broken too early"]
        + ["raw mathematics"] * 3
        + ["broken picture"] * 2
    )
    assert [line.partition(": ")[2] for line in broken] == [
        f"no such page: {base}nowhere.html",
        f"no such place: {base}bad.html#nowhere",
    ]
    assert visit.found["width"] > PHONE["width"]
    assert visit.found["switches"] == []
