"""Pairs of sentences: half of them true, and none of the others true by chance."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest

from gentext.data.sentences import next_sentences, sentence_pairs, sentences
from gentext.data.text import Corpus
from gentext.tokens.tokenizer import CharTokenizer, WordTokenizer
from gentext.tokens.wordpiece import WordPieceTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{k}" for k in range(9)), ".", "##s"]


def corpus(*documents: object) -> Corpus:
    return Corpus(
        name="tiny",
        train=documents,
        validation=documents,
        test=documents,
        notes={},
        licence="CC0",
        source="made up",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is 3.14. Is it? Yes!", ["It is 3.14.", "Is it?", "Yes!"]),
        ("A line\ngoes on. “So?” he said… Yes", ["A line goes on.", "“So?”", "he said…", "Yes"]),
        ("春眠不觉晓，处处闻啼鸟。夜来风雨声！", ["春眠不觉晓，处处闻啼鸟。", "夜来风雨声！"]),
        ("他说：“好。”走了。", ["他说：“好。”", "走了。"]),
        ("Heading\n\nText of two\nlines.\n \n", ["Heading", "Text of two lines."]),
        ("", []),
    ],
)
def test_sentences_end_where_they_end(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def story(n: int, kinds: int, seed: int) -> str:
    """Sentences of few kinds, so that what is drawn at random often is right by chance."""
    rng = random.Random(seed)
    return " ".join(f"w{rng.randrange(kinds)}." for _ in range(n))


@pytest.mark.parametrize("seed", range(5))
def test_half_follow_and_what_is_from_elsewhere_never_does(seed: int) -> None:
    documents = [story(25, 9, seed), story(16, 9, seed + 100)]
    texts = [sentences(document) for document in documents]
    true = [pair for text in texts for pair in pairwise(text)]
    tokenizer = WordPieceTokenizer.from_words(WORDS)
    found = sentence_pairs(documents, tokenizer, seed=seed)
    assert [a for a, _, _ in found] == [a for a, _ in true]
    assert Counter(follows for *_, follows in found) == {1: 20, 0: 19}
    for (a, b, follows), pair in zip(found, true, strict=True):
        assert ((a, b) == pair) if follows else (a, b) not in set(true)
        assert follows or a != b
    assert found == sentence_pairs(documents, tokenizer, seed=seed)
    assert found != sentence_pairs(documents, tokenizer, seed=seed + 1)


def test_sentences_that_are_the_same_to_the_tokenizer_are_the_same() -> None:
    """w7 and w8 are unknown: neither is elsewhere to what the other follows."""
    text = "w1. w7. w2. w8. w1. w8. w3. w2. w4. w3. w7."
    tokenizer = WordPieceTokenizer.from_words([w for w in WORDS if w not in ("w7", "w8")])
    for seed in range(20):
        for a, b, follows in sentence_pairs([text], tokenizer, seed=seed):
            assert follows or not (a in ("w1.", "w2.") and b in ("w7.", "w8."))


def test_rows_are_framed_pairs_with_their_segments() -> None:
    documents = [story(24, 9, 1), story(17, 9, 2)]
    tokenizer = WordPieceTokenizer.from_words(WORDS)
    data = next_sentences(corpus(*documents), tokenizer, 10)
    tokens, segments, follows = data.train
    pairs = sentence_pairs(documents, tokenizer)
    assert tokens.shape == segments.shape == (39, 10)
    for row, part, is_true, (a, b, expected) in zip(tokens, segments, follows, pairs, strict=True):
        second = row[part == 1].tolist()
        first = row[: row.tolist().index(tokenizer.eos)].tolist()
        assert tokenizer.decode(first) == tokenizer.decode(tokenizer.encode(a))
        assert tokenizer.decode(second) == tokenizer.decode(tokenizer.encode(b))
        assert int(is_true) == expected
        assert (first[0], second[-1]) == (tokenizer.bos, tokenizer.eos)


def test_what_is_cut_off_tells_no_sentences_apart() -> None:
    text = "abc. abd. xyz. abe. pqr. abf. xyw. cde. cdf. pqs."
    seen: dict[int, set[tuple[int, ...]]] = {0: set(), 1: set()}
    for seed in range(20):  # in each row there are two letters of either sentence
        data = next_sentences(corpus(text), CharTokenizer.fit([text]), 7, seed=seed)
        for row, _, follows in zip(*data.train, strict=True):
            seen[int(follows)].add(tuple(row.tolist()))
    assert all(seen.values())
    assert not seen[0] & seen[1]


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ((("a", "b"),), "consists of pairs"),
        (("one.",), "0 pairs of sentences"),
        (("one two one.",), "0 pairs of sentences"),
        (("one. two. one. one. two. two.",), "every sentence .* follows '(one|two).' somewhere"),
    ],
)
def test_too_little_to_choose_from_is_refused(documents: tuple, message: str) -> None:
    tokenizer = WordTokenizer(["one.", "two."])
    with pytest.raises(ValueError, match=message):
        next_sentences(corpus(*documents), tokenizer, 12)
