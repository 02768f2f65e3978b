"""The glossary is sound, makes a page, and its check of Chinese prose finds what it should."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from book.tools import glossary, notebook_text, prose

ROOT = Path(__file__).resolve().parents[2]
TERMS = glossary.terms(ROOT)


def findings(*texts: str) -> list[tuple[str, str]]:
    """What the book's glossary says about a notebook with these prose cells, c0, c1, …"""
    text = "\n\n".join(f"%% md c{k}\n{text}" for k, text in enumerate(texts))
    return list(glossary.findings(ROOT, notebook_text.pack(text)))


def test_the_glossary_is_large_enough_and_names_nothing_twice() -> None:
    assert len(TERMS) >= 170
    assert sum(term.introduce for term in TERMS) >= 40
    for name in ("en", "zh"):
        counts = Counter(getattr(term, name).lower() for term in TERMS)
        assert [word for word, count in counts.items() if count > 1] == []


def test_what_the_glossary_forbids_it_does_not_say() -> None:
    clashes = [
        (variant, term.zh)
        for variant in (variant for term in TERMS for variant in term.avoid)
        for term in TERMS
        if variant in term.zh
    ]
    assert clashes == []


def test_terms_are_in_their_languages() -> None:
    han = re.compile(f"[{prose.HAN}]")
    assert [term.en for term in TERMS if han.search(term.en)] == []
    assert [term.zh for term in TERMS if not han.search(term.zh)] == ["Gumbel-softmax"]
    assert [term.en for term in TERMS if set(term.note) not in (set(), {"en", "zh"})] == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_lists_every_term_once(language: str) -> None:
    rows = [line for line in glossary.page(language, ROOT).splitlines() if line.startswith("| ")]
    cells = Counter(row.split(" | ")[0].removeprefix("| ") for row in rows)
    assert all(cells[term.en] == 1 for term in TERMS)
    assert len(rows) == len(TERMS) + 2 * len(glossary.load(ROOT))
    assert len({row.count("|") for row in rows}) == 1


@pytest.mark.parametrize(
    ("text", "word"),
    [("这里的潜变量服从正态分布。", "潜变量"), ("归一化流是一类模型。", "归一化流")],
)
def test_a_word_to_avoid_is_found(text: str, word: str) -> None:
    [(cell, message)] = findings("无关。", text)
    assert cell == "c1"
    assert message.startswith(word)


@pytest.mark.parametrize(
    "text",
    [
        "隐变量（又译潜变量、潜在变量）服从正态分布。",
        "标准化流，有的书译作“归一化流”。",
        "数据的归一化流程如下。",
        "`潜变量` 与 $\\text{潜变量}$ 不在文中。",
    ],
)
def test_a_word_to_avoid_may_be_named_or_be_another(text: str) -> None:
    assert findings(text) == []


def test_a_term_of_the_chapter_is_given_in_english_once() -> None:
    texts = ["后验坍缩一。", "后验坍\n缩二。", "**后验坍缩**三。"]
    [(cell, message)] = findings("引言。", *texts)
    assert cell == "c1"
    assert "后验坍缩（posterior collapse）" in message
    assert findings(*texts[:2]) == []  # a passing mention
    for gloss in (
        "（posterior collapse）",
        "（Posterior\nCollapse，简称 PC）",
        "（posterior-collapse）",
    ):
        assert findings(*texts, f"**后验坍缩**{gloss}四。") == []


def test_a_term_inside_a_longer_term_does_not_count() -> None:
    assert findings(*["变分自编码器（variational autoencoder）很好。"] * 3) == []
    found = findings(*["去噪得分匹配与隐扩散模型。"] * 3)
    assert {message.split(" ")[0] for _, message in found} == {"去噪得分匹配", "隐扩散模型"}


@pytest.mark.parametrize("gloss", ["normalising flow", "Normalizing Flows"])
def test_either_spelling_will_do(gloss: str) -> None:
    texts = ["标准化流。"] * 3
    assert len(findings(*texts)) == 1
    assert findings(*texts, f"标准化流（{gloss}）") == []


def test_a_faulty_glossary_is_told(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    path = tmp_path / "book" / "glossary.yml"
    path.write_text("- title: {en: A, zh: 甲}\n  terms:\n    - {en: a, zn: 甲}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="zn"):
        glossary.load(tmp_path)
