"""WordPiece against the tokenizers of ``transformers`` that are made of the same vocabulary."""

from __future__ import annotations

from typing import Any

import pytest

from gentext.tokens.tokenizer import BPETokenizer, Tokenizer, from_json
from gentext.tokens.wordpiece import SPECIALS, WordPieceTokenizer

WORDS = [
    *("[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "The", "play", "##ing"),
    *("##ed", "caf", "##e", "##é", "cafe", "naive", "naïve", "春", "眠", "不", "觉", "晓", "GP"),
    *(
        "gp",
        "##t",
        "##T",
        "##晓",
        ",",
        ".",
        "!",
        "。",
        "，",
        "a",
        "##b",
        "##c",
        "1",
        "##2",
        "Ü",
        "u",
    ),
]
TEXTS = [
    "the playing played. The PLAYED!",
    "café Café naïve Ü",
    "春眠不觉晓，the春 眠。",
    "GPT春眠 gpt，12.1",
    "a\tabc\u00a0a\u200bb \ufffd a\x00b",
    "unknown 狮 play龘ing 🙂",
    "the [MASK] played [SEP]",
    "ca\u0301fe cafe\u0301",
    "",
    " . ",
    "a" * 101,
]
FORMS = [
    {"lowercase": True},
    {"lowercase": False},
    {"lowercase": True, "accents": True},
    {"lowercase": False, "accents": False},
    {"lowercase": False, "chinese": False},
]


def theirs(lowercase: bool, accents: bool | None = None, chinese: bool = True) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.BertTokenizer(
        vocab={word: k for k, word in enumerate(WORDS)},
        do_lower_case=lowercase,
        strip_accents=None if accents is None else not accents,
        tokenize_chinese_chars=chinese,
    )


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_tokens_are_those_of_transformers(form: dict[str, bool]) -> None:
    made, other = WordPieceTokenizer.from_words(WORDS, **form), theirs(**form)
    for text in TEXTS:
        expected = other.encode(text, add_special_tokens=False)
        assert made.encode(text, strict=False) == expected, text
    assert made.size == len(WORDS)


@pytest.mark.parametrize(
    ("text", "lowercase", "pieces"),
    [
        ("The café", True, ["the", "cafe"]),
        ("The café", False, ["The", "caf", "##é"]),
        ("春眠GPT", True, ["春", "眠", "gp", "##t"]),
        ("played!", True, ["play", "##ed", "!"]),
    ],
)
def test_pieces_are_the_longest_from_the_beginning(
    text: str, lowercase: bool, pieces: list[str]
) -> None:
    made = WordPieceTokenizer.from_words(WORDS, lowercase=lowercase)
    assert [WORDS[token] for token in made.encode(text)] == pieces


def test_texts_come_back_without_specials_and_spaces_beside_chinese() -> None:
    made, other = WordPieceTokenizer.from_words(WORDS), theirs(True)
    tokens = made.encode("the played café")
    assert made.decode(tokens) == other.decode(tokens) == "the played cafe"
    assert made.decode([made.bos, *tokens, made.eos, made.pad]) == "the played cafe"
    assert made.decode(made.encode("春眠不觉晓，the 春")) == "春眠不觉晓，the春"
    assert made.decode(made.encode("the 狮 played", strict=False)) == "the \ufffd played"
    assert made.decode([]) == ""


def test_an_unknown_word_is_named_or_marked() -> None:
    made = WordPieceTokenizer.from_words(WORDS)
    with pytest.raises(ValueError, match=r"'Lion' at place 4 is not among .* 39 pieces"):
        made.encode("the Lion played")
    assert made.encode("the Lion", strict=False) == [WORDS.index("the"), made.unknown]


def test_special_tokens_have_their_places_in_the_vocabulary() -> None:
    made = WordPieceTokenizer.from_words(WORDS)
    numbers = (made.pad, made.unknown, made.bos, made.eos, made.mask)
    assert numbers == tuple(map(WORDS.index, SPECIALS)) == (0, 2, 3, 4, 5)
    assert made.encode("[MASK]") == [made.mask]


def test_its_json_makes_it_anew() -> None:
    made = WordPieceTokenizer.from_words(WORDS, lowercase=False)
    again = from_json(made.to_json())
    assert isinstance(again, WordPieceTokenizer)
    assert isinstance(again, Tokenizer)
    assert [again.encode(text, strict=False) for text in TEXTS] == [
        made.encode(text, strict=False) for text in TEXTS
    ]
    assert (again.pad, again.eos, again.size) == (made.pad, made.eos, made.size)


def test_a_file_that_cuts_texts_short_does_not() -> None:
    made = WordPieceTokenizer.from_words(WORDS)
    made._inner.enable_truncation(2)
    made._inner.enable_padding(length=9)
    assert len(WordPieceTokenizer(made._inner.to_str()).encode("the the the")) == 3


@pytest.mark.parametrize("token", [39, -1])
def test_numbers_that_are_no_tokens_are_refused(token: int) -> None:
    with pytest.raises(ValueError, match=rf"{token}.* 0 to 38"):
        WordPieceTokenizer.from_words(WORDS).decode([6, token])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WordPieceTokenizer("{}"), "no WordPiece tokenizer"),
        (lambda: WordPieceTokenizer.from_words(["[UNK]", "a"]), r"no \[PAD\] and no \[CLS\]"),
        (
            lambda: WordPieceTokenizer(BPETokenizer.fit(["a"], size=260)._inner.to_str()),
            "of the kind BPE",
        ),
    ],
)
def test_what_is_no_wordpiece_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
