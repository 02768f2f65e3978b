"""How a reader's own documents are divided: the shares, what stays together, what is said."""

from __future__ import annotations

import itertools
import random
import warnings
from collections import Counter

import pytest

from gentext.data import splits

WORDS = [f"{a}{b}" for a, b in itertools.product("bcdfghklmnprst", ("ana", "eso", "ilu", "oma"))]
HAN = [chr(c) for c in range(0x5000, 0x5800)]


def sizes(dealt: splits.Splits) -> tuple[int, int, int]:
    return len(dealt["train"]), len(dealt["validation"]), len(dealt["test"])


def side(dealt: splits.Splits) -> dict[str, str]:
    """The split of each text."""
    return {text: split for split, documents in dealt.items() for text, _ in documents}


def prose(source: random.Random, n: int, words: list[str] = WORDS, gap: str = " ") -> str:
    return gap.join(source.choices(words, k=n))


@pytest.mark.parametrize(
    "line",
    [
        "story {}: the cat sat",
        "{} said yes, and then no.",
        "第{}个故事：小猫坐着。",
        "名字{}，好不好？",
        "word{}",
    ],
)
def test_lines_that_share_a_few_words_are_divided_as_promised(line: str) -> None:
    dealt = splits.lines("\n".join(line.format(k) for k in range(1000)))
    assert sizes(dealt) == (850, 50, 100)


def test_pairs_that_share_a_short_target_are_divided_as_promised() -> None:
    for targets in (["yes"], ["是", "否"], ["yes", "no", "maybe"]):
        made = (f"question {k}\t{targets[k % len(targets)]}" for k in range(1000))
        dealt = splits.pairs("\n".join(made))
        assert sizes(dealt) == (850, 50, 100)
        for split in dealt.values():
            assert {target for (_, target), _ in split} == {*targets}


def test_pairs_of_a_target_that_is_not_common_are_on_one_side() -> None:
    dealt = splits.pairs("\n".join(f"question {k}\tanswer {k // 10}" for k in range(1000)))
    assert sizes(dealt) == (850, 50, 100)
    targets = [{target for (_, target), _ in part} for part in dealt.values()]
    assert sum(map(len, targets)) == len(set.union(*targets)) == 100


def near_duplicates(seed: int, words: list[str], gap: str) -> list[tuple[str, ...]]:
    """200 families of 1 to 4 texts that share a passage and little else."""
    source = random.Random(seed)
    made = []
    for _ in range(200):
        passage = prose(source, 25, words, gap)
        own = (prose(source, source.randrange(1, 20), words, gap) for _ in itertools.count())
        n = source.randrange(1, 5)
        made.append(tuple(gap.join((next(own), passage, next(own))) for _ in range(n)))
    return made


@pytest.mark.parametrize(("words", "gap"), [(WORDS, " "), (HAN, "")])
@pytest.mark.parametrize("seed", range(3))
def test_texts_that_share_a_long_passage_are_on_one_side(words, gap, seed) -> None:
    families = near_duplicates(seed, words, gap)
    listed = [text for family in families for text in family]
    random.Random(seed).shuffle(listed)
    dealt = splits.lines("\n".join(listed))
    where = side(dealt)
    assert all(len({where[text] for text in family}) == 1 for family in families)
    total = len(listed)
    for split, share in (("validation", 0.05), ("test", 0.10)):
        assert abs(len(dealt[split]) - share * total) < 4, "families are of four at most"


def test_passages_are_found_at_either_end_and_whatever_the_capitals() -> None:
    source = random.Random(0)
    passage = prose(source, 13)
    texts = [f"{passage} {prose(source, 9)}", f"{prose(source, 5)} {passage.upper()}"]
    assert len({*splits.families(texts)}) == 1
    texts = [f"{prose(source, 7)} {passage}", f"{passage} {prose(source, 9)}"]
    assert len({*splits.families(texts)}) == 1
    texts = [prose(source, 8), prose(source, 7)]
    texts.append(texts[0].capitalize() + "!")
    assert len({*splits.families(texts)}) == 2


def test_a_passage_at_an_end_is_found_inside_a_text_that_stands_before_or_after() -> None:
    source = random.Random(0)
    for place in range(1, 30):
        passage = prose(source, 13)
        long = f"{prose(source, place)} {passage} {prose(source, 20)}"
        for text in (passage, f"{passage} {prose(source, 9)}", f"{prose(source, 9)} {passage}"):
            assert len({*splits.families([text, long])}) == 1
            assert len({*splits.families([long, text])}) == 1


def test_a_clause_joins_short_texts_and_not_long_ones() -> None:
    """A line of a quatrain is a quarter of it; the same five words in a tale are a manner."""
    source = random.Random(0)
    line = "离离原上草"
    verses = [f"{line}，{prose(source, 5, HAN, '')}。{prose(source, 5, HAN, '')}，" for _ in "ab"]
    assert len({*splits.families(verses)}) == 1
    tales = [f"{line}，{prose(source, 40, HAN, '')}。" for _ in "ab"]
    assert len({*splits.families(tales)}) == 2


def test_every_document_is_in_exactly_one_split() -> None:
    for seed in range(40):
        source = random.Random(seed)
        n = source.randrange(3, 60)
        texts = [prose(source, source.choice((1, 3, 20)), WORDS[:20]) for _ in range(n)]
        texts += [f"unlike {k} {seed}" for k in range(n)]
        text = "\n".join(f"{k}\t{text}" for k, text in enumerate(texts))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dealt = splits.lines(text)
        assert all(dealt.values())
        found = Counter((note[0], text) for part in dealt.values() for text, note in part)
        assert found == Counter((str(k), text) for k, text in enumerate(texts))
        where: dict[str, set[str]] = {}
        for split, part in dealt.items():
            for document, _ in part:
                where.setdefault(document, set()).add(split)
        assert all(len(in_splits) == 1 for in_splits in where.values())


def test_families_too_large_to_hold_out_are_trained_on() -> None:
    source = random.Random(0)
    alike = []
    for size in (101, 110, 120, 130, 140):
        opening = prose(source, 14)
        alike += [f"{opening} {prose(source, 4)} {k}" for k in range(size)]
    alone = [f"{prose(source, 6)} {k}" for k in range(1000 - len(alike))]
    dealt = splits.lines("\n".join(alike + alone))
    assert sizes(dealt) == (850, 50, 100)
    assert {side(dealt)[text] for text in alike} == {"train"}


def test_where_everything_is_alike_the_reader_is_told_and_shares_are_kept() -> None:
    opening = "once upon a time in a far away land there lived a king who"
    text = "\n".join(f"{opening} had {k} horses" for k in range(1000))
    with pytest.warns(UserWarning, match=r"1,000 documents share passages.*leave out what they"):
        dealt = splits.lines(text)
    assert sizes(dealt) == (850, 50, 100)


@pytest.mark.parametrize(
    ("divide", "text", "message"),
    [
        (splits.lines, "", "0 documents"),
        (splits.lines, "a\n\n \nb\n", "2 documents, 2 of them different"),
        (splits.lines, "yes\n" * 1000, "1000 documents, 1 of them different"),
        (splits.pairs, "a\tb\na\tc\na\td\n", "1 documents, 1 of them different"),
        (splits.pairs, "a\tb\nc\td\n\ne\n", "line 4 has not: 'e'"),
        (splits.pairs, "a\tb\nc\t \ne\tf", "line 2 has not"),
        (splits.pairs, "a\tb\tc\nc\td\ne\tf", "line 1 has not"),
        (splits.stream, "", "0 characters is too short"),
        (splits.stream, "a\nb", "3 characters is too short"),
    ],
)
def test_no_split_is_silently_empty(divide, text, message) -> None:
    with pytest.raises(ValueError, match=message):
        divide(text)


def test_three_documents_are_enough() -> None:
    assert sizes(splits.lines("a\nb\nc")) == (1, 1, 1)
    assert sizes(splits.pairs("a\tx\nb\tx\nc\tx")) == (1, 1, 1)


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"line {k}\n" for k in range(1000)),
        "word " * 2000,
        "字" * 5000,
        "a long first line " * 500 + "\nb\nc\n",
        "a\n" + "one long line " * 500 + "\n" + "c " * 100,
    ],
)
def test_a_stream_is_cut_near_its_shares_whatever_its_lines(text: str) -> None:
    parts = [splits.stream(text)[split][0][0] for split in ("train", "validation", "test")]
    assert "".join(parts) == text
    for part, share in zip(parts, (0.85, 0.05, 0.10), strict=True):
        assert abs(len(part) / len(text) - share) <= 0.025
    for part in parts[:2]:
        assert part[-1] in "\n 字"


def test_columns_before_the_document_are_its_notes() -> None:
    dealt = splits.lines("x\ty\ta b\n\tz\tc\nd\nw\t\n")
    found = sorted(document for part in dealt.values() for document in part)
    assert found == [("a b", ("x", "y")), ("c", ("", "z")), ("d", ())]


def test_classes_stand_before_documents_and_splits_before_classes() -> None:
    marked = "test\tb\tnote\tone\ntrain\ta\tx\ttwo\n\nvalidation\ta\ty\tthree\ntrain\tb\tz\tfour\n"
    assert splits.classes(marked) == {
        "train": [("two", ("a", "x")), ("four", ("b", "z"))],
        "validation": [("three", ("a", "y"))],
        "test": [("one", ("b", "note"))],
    }
    dealt = "\n".join(f"{'ab'[k % 2]}\tdocument {k} of many" for k in range(100))
    assert splits.classes(dealt) == splits.lines(dealt)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tone\nb\n", "'b' has not"),
        ("train\tone\nvalidation\ta\ttwo\ntest\ta\tthree", "'train one' has not"),
        ("train\ta\tone\ntrain\ta\t \n", "a class, a tab and a document"),
        ("train\ta\tone\ntest\ta\ttwo", "one of them has none"),
        ("", "one of them has none"),
    ],
)
def test_lines_without_class_document_or_split_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        splits.classes(text)


def test_titles_are_of_two_to_eight_chinese_characters() -> None:
    titles = [
        "春",
        "春晓",
        "江雪",
        "登鹳雀楼望江南道",
        "登鹳雀楼望江南道中",
        "春晓 二",
        "Spring",
        "",
    ]
    rows = [f"{i}\t{title}\t{i}号诗{k}" for k in range(20) for i, title in enumerate(titles)]
    made = splits.titles("\n".join(rows))
    whole = splits.lines("\n".join(rows))
    for split, documents in made.items():
        kept = [(d, n) for d, n in whole[split] if n[-1] in titles[1:4]]
        assert documents == [((d, n[-1]), n[:-1]) for d, n in kept]
    with pytest.raises(ValueError, match="2 to 8 Chinese characters"):
        splits.titles("\n".join(f"Title {k}\ttext {k}" for k in range(100)))
    with pytest.raises(ValueError, match="2 to 8 Chinese characters"):
        splits.titles("\n".join(f"text {k}" for k in range(100)))
