"""Sphinx extension: full-text search of Chinese by pairs of neighbouring characters.

Written Chinese has no spaces, and a dictionary cuts terms such as 变分自编码器 differently in a
sentence and in a query. Pairs need no dictionary: a run of characters becomes all its pairs when a
page is indexed, and the same happens to the query in the browser, so that any part of a sentence
of two characters or more is found.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx
from sphinx.search import languages
from sphinx.search.zh import SearchChinese

HAN = "\u3400-\u9fff\uf900-\ufaff"


def pairs(text: str) -> list[str]:
    """All pairs of neighbouring Chinese characters in ``text``; a lone character stands alone."""
    runs = re.findall(f"[{HAN}]+", text)
    return [run[i : i + 2] for run in runs for i in range(max(1, len(run) - 1))]


class PairSearch(SearchChinese):
    """Splits Chinese into pairs and everything else into words."""

    def init(self, options: dict[str, str]) -> None:
        """Keep the Latin words as a set: each word of a page is looked up among them."""
        super().init(options)
        self.latin_terms: set[str] = set()  # type: ignore[assignment]

    js_splitter_code = """
function splitQuery(query) {
  const words = query.match(/[HAN]+|[a-zA-Z0-9_]+/g) || [];
  return words.flatMap((word) => {
    if (/[a-zA-Z0-9_]/.test(word[0]) || word.length < 3) return [word];
    return Array.from({length: word.length - 1}, (_, i) => word.slice(i, i + 2));
  });
}
""".replace("HAN", HAN)

    def split(self, text: str) -> list[str]:
        """The terms under which ``text`` is found."""
        latin = self.latin1_letters.findall(text)
        self.latin_terms.update(latin)
        return latin + pairs(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the splitter for Chinese."""
    languages["zh"] = PairSearch
    return {"parallel_read_safe": True, "parallel_write_safe": True}
