"""Byte pairs by plain counting against their definition and against the library."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter

import pytest

from gentext.tokens.bpe import byte_pair_merges, merge_pairs
from gentext.tokens.tokenizer import BPETokenizer

TEXTS = [
    "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。",
    "To be, or not to be, that is the question. To be is to do.",
    "the cat and the hat and the bat",
]


@pytest.mark.equation("eq-gpt-bpe")
@pytest.mark.parametrize("text", [*TEXTS, "aaaa aaa", "abababab"])
def test_each_merge_is_of_the_commonest_pair_and_shortens_by_its_count(text: str) -> None:
    tokens = [bytes([b]) for b in text.encode()]
    for best in byte_pair_merges(text, 8):
        counts = Counter(itertools.pairwise(tokens))
        assert counts[best] == max(counts.values())
        joined, place, occurrences = list(tokens), 0, 0
        while place < len(joined) - 1:  # from the left, without overlaps
            found = (joined[place], joined[place + 1]) == best
            occurrences += found
            place += 2 if found else 1
        merged = merge_pairs(tokens, best)
        assert len(merged) == len(tokens) - occurrences
        assert b"".join(merged).decode() == text
        tokens = merged


@pytest.mark.equation("eq-gpt-bpe")
def test_the_library_merges_the_same_pairs() -> None:
    """In one word, which is not split further, as long as one pair is the most frequent."""
    drawn = "".join(random.Random(0).choices("abcdef", (20, 13, 8, 5, 3, 2), k=2000))
    word = re.sub(r"(.)\1+", r"\1", drawn)  # no pair overlaps itself
    ours = byte_pair_merges(word, 12)
    tokens, certain = [bytes([b]) for b in word.encode()], 0
    for pair in ours:
        counts = Counter(itertools.pairwise(tokens)).most_common(2)
        if counts[0][1] == counts[1][1]:
            break
        tokens, certain = merge_pairs(tokens, pair), certain + 1
    assert certain >= 5
    theirs = BPETokenizer.fit([word], size=260 + certain)
    learned = [theirs.decode([token]).encode() for token in range(260, 260 + certain)]
    assert learned == [a + b for a, b in ours[:certain]]
    assert theirs.pieces(word) == [token.decode() for token in tokens]


def test_merging_ends_where_no_pair_is_left() -> None:
    assert byte_pair_merges("ab", 5) == [(b"a", b"b")]
    assert byte_pair_merges("", 5) == []
    assert merge_pairs([b"a", b"a", b"a"], (b"a", b"a")) == [b"aa", b"a"]  # from the left


def test_of_equally_frequent_pairs_the_smaller_is_merged() -> None:
    assert byte_pair_merges("cdab", 1) == [(b"a", b"b")]


def test_a_pair_may_be_a_list() -> None:
    for pair in ((b"a", b"b"), [b"a", b"b"]):
        assert merge_pairs([b"a", b"b", b"a"], pair) == [b"ab", b"a"]
