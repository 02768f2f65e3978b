"""Framed texts against the pair encoding of ``transformers``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_wordpiece import WORDS, theirs

from gentext.tokens.framing import framed, framed_rows
from gentext.tokens.tokenizer import BOS, EOS, PAD, CharTokenizer
from gentext.tokens.wordpiece import WordPieceTokenizer

A, B = "the playing 春眠 café", "played, the 晓。"


@pytest.fixture(scope="module")
def made() -> WordPieceTokenizer:
    return WordPieceTokenizer.from_words(WORDS)


@pytest.fixture(scope="module")
def other() -> Any:
    return theirs(True)


@pytest.mark.parametrize("pair", [(A,), (A, B), (B, A), ("", B), ("狮 the", "the")])
def test_one_text_or_two_are_framed_as_by_transformers(
    made: WordPieceTokenizer, other: Any, pair: tuple[str, ...]
) -> None:
    expected = other(*pair)
    assert framed(made, *pair) == (expected["input_ids"], expected["token_type_ids"])


@pytest.mark.parametrize("sizes", [(6, 6), (2, 9), (9, 2), (5, 6), (6, 5), (0, 9), (1, 1)])
def test_the_longer_text_is_cut_first_as_by_transformers(
    made: WordPieceTokenizer, other: Any, sizes: tuple[int, int]
) -> None:
    a, b = (" ".join(["the", "a", "u"][k % 3] for k in range(size)) for size in sizes)
    for length in range(5, 16):
        options = {"truncation": "longest_first", "max_length": length}
        expected = other(a, b, **options)
        found = framed(made, a, b, length=length)
        assert found == (expected["input_ids"], expected["token_type_ids"]), length
        assert framed(made, a, length=length)[0] == other(a, **options)["input_ids"]


def test_rows_are_filled_with_padding(made: WordPieceTokenizer, other: Any) -> None:
    texts = [A, (A, B), ("the", "a")]
    tokens, segments = framed_rows(made, texts, 9)
    for k, text in enumerate(texts):
        pair = [text] if isinstance(text, str) else text
        expected = other(*pair, truncation=True, max_length=9, padding="max_length")
        assert tokens[k].tolist() == expected["input_ids"]
        assert segments[k].tolist() == expected["token_type_ids"]


def test_of_our_own_tokenizers_the_ends_of_a_text_are_the_frame() -> None:
    tokens, segments = framed_rows(CharTokenizer("ab"), [("a", "bb")], 8)
    assert tokens.equal(torch.tensor([[BOS, 4, EOS, 5, 5, EOS, PAD, PAD]]))
    assert segments.equal(torch.tensor([[0, 0, 0, 1, 1, 1, 0, 0]]))


@pytest.mark.parametrize(("pair", "least"), [((A,), 3), ((A, B), 5)])
def test_a_row_has_room_for_something(
    made: WordPieceTokenizer, pair: tuple[str, ...], least: int
) -> None:
    assert len(framed(made, *pair, length=least)[0]) == least
    with pytest.raises(ValueError, match=rf"length={least - 1}.* at least {least}"):
        framed(made, *pair, length=least - 1)
