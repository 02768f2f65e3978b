"""Tokens that are words or Chinese characters."""

from __future__ import annotations

import random

import pytest

from gentext.tokens.tokenizer import EOS, PAD, SPECIALS, UNKNOWN, WordTokenizer


@pytest.mark.parametrize(
    "text",
    ["red heart", "汉堡", "T恤", "X射线", "eight-thirty", "man’s shoe", "pool 8 ball", "DVD", ""],
)
def test_words_and_chinese_characters_come_back(text):
    made = WordTokenizer.fit([text, "more words 更多的字"])
    assert made.decode(made.encode(text)) == text


def test_texts_of_random_words_come_back():
    rng = random.Random(0)
    words = ["red", "Heart", "-", "’s", "x1", "é", "红", "心", "龘"]
    made = WordTokenizer(words)
    for _ in range(200):
        chosen = rng.choices(range(len(words)), k=rng.randrange(8))
        tokens = [k + len(SPECIALS) for k in chosen]
        assert made.encode(made.decode(tokens)) == tokens
    assert made.size == len(words) + len(SPECIALS)


def test_the_commonest_word_is_first_and_capitals_are_forgiven():
    made = WordTokenizer.fit(["cat face", "cat", "t-shirt T-Rex", "cat face 猫", "cat’s Tail -"])
    assert made.words == ("-", "cat", "face", "Rex", "T", "Tail", "cat’s", "shirt", "t", "猫")
    for text in ("t-shirt", "T-Rex", "Tail"):
        assert made.decode(made.encode(text)) == text
    assert made.decode(made.encode("Cat FACE tail")) == "cat face Tail"
    assert made.encode("cat's") == made.encode("CAT’S") == made.encode("cat’s")


def test_an_unknown_word_is_named_or_marked():
    made = WordTokenizer(["red", "红", "heart"])
    with pytest.raises(ValueError, match=r"'lion' is not among .* 3 words"):
        made.encode("red lion heart")
    assert made.encode("red lion 红狮", strict=False) == [4, UNKNOWN, 5, UNKNOWN]
    assert made.decode([1, 4, UNKNOWN, 6, EOS, PAD]) == "red \ufffd heart"
    with pytest.raises(ValueError, match="from 7 to 7, but this tokenizer has 0 to 6"):
        made.decode([7])


@pytest.mark.parametrize(
    ("words", "message"),
    [((), "one at least"), (("a", "a"), "1 of them different"), (("a b",), "'a b' is not one")],
)
def test_a_vocabulary_has_each_word_once(words, message):
    with pytest.raises(ValueError, match=message):
        WordTokenizer(words)
