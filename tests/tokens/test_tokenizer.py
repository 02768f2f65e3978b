"""Tokenizers: what is encoded comes back, merges are those of the definition."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from gentext import checkpoint, tokenizer, zoo
from gentext.sequences.recurrent import RecurrentLM
from gentext.tokens.tokenizer import (
    BOS,
    EOS,
    PAD,
    SPECIALS,
    UNKNOWN,
    BPETokenizer,
    CharTokenizer,
    WordTokenizer,
    rows,
)
from gentext.tokens.wordpiece import WordPieceTokenizer

TEXTS = [
    "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。",
    "To be, or not to be, that is the question. To be is to do.",
    "the cat and the hat and the bat",
]
ODD = ["", " ", "\n\t x", "naïve café 😀👩‍👩‍👧", "春\u3000江", "a" * 50, "<bos>", "\x00\x7f"]


@pytest.fixture(scope="module")
def bpe() -> BPETokenizer:
    return BPETokenizer.fit(TEXTS, size=300)


# --- characters ----------------------------------------------------------------------------------


def test_characters_come_back_and_the_commonest_is_first() -> None:
    made = CharTokenizer.fit(TEXTS)
    for text in TEXTS:
        assert made.decode(made.encode(text)) == text
    counts = Counter("".join(TEXTS))
    ranks = [counts[c] for c in made.alphabet]
    assert ranks == sorted(ranks, reverse=True)
    assert made.size == len(counts) + len(SPECIALS)
    assert CharTokenizer.fit(TEXTS, at_most=5).alphabet == made.alphabet[:5]


def test_an_unknown_character_is_named_or_marked() -> None:
    made = CharTokenizer("abc")
    with pytest.raises(ValueError, match=r"'x' at place 2 .* 3 characters"):
        made.encode("abx")
    assert made.encode("abx", strict=False) == [4, 5, UNKNOWN]
    assert made.decode([BOS, 4, UNKNOWN, 6, EOS, PAD]) == "a\ufffdc"


@pytest.mark.parametrize("token", [7, -1])
def test_numbers_that_are_no_tokens_are_refused(token: int) -> None:
    with pytest.raises(ValueError, match=rf"{token}.* 0 to 6"):
        CharTokenizer("abc").decode([4, token])


@pytest.mark.parametrize("alphabet", ["", "aa"])
def test_an_alphabet_has_each_character_once(alphabet: str) -> None:
    with pytest.raises(ValueError, match="each one once"):
        CharTokenizer(alphabet)


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["red heart", "汉堡", "T恤", "X射线", "eight-thirty", "man’s shoe", "pool 8 ball", "DVD", ""],
)
def test_words_and_chinese_characters_come_back(text: str) -> None:
    made = WordTokenizer.fit([text, "more words 更多的字"])
    assert made.decode(made.encode(text)) == text


def test_texts_of_random_words_come_back() -> None:
    rng = random.Random(0)
    words = ["red", "Heart", "-", "’s", "x1", "é", "红", "心", "龘"]
    made = WordTokenizer(words)
    for _ in range(200):
        chosen = rng.choices(range(len(words)), k=rng.randrange(8))
        tokens = [k + len(SPECIALS) for k in chosen]
        assert made.encode(made.decode(tokens)) == tokens
    assert made.size == len(words) + len(SPECIALS)


def test_the_commonest_word_is_first_and_capitals_are_forgiven() -> None:
    made = WordTokenizer.fit(["cat face", "cat", "t-shirt T-Rex", "cat face 猫", "cat’s Tail -"])
    assert made.words == ("-", "cat", "face", "Rex", "T", "Tail", "cat’s", "shirt", "t", "猫")
    for text in ("t-shirt", "T-Rex", "Tail"):
        assert made.decode(made.encode(text)) == text
    assert made.decode(made.encode("Cat FACE tail")) == "cat face Tail"
    assert made.encode("cat's") == made.encode("CAT’S") == made.encode("cat’s")


def test_an_unknown_word_is_named_or_marked() -> None:
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
def test_a_vocabulary_has_each_word_once(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WordTokenizer(words)


# --- byte pairs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*TEXTS, *ODD])
def test_byte_pairs_give_any_text_back(bpe: BPETokenizer, text: str) -> None:
    assert bpe.decode(bpe.encode(text)) == text
    assert all(len(SPECIALS) <= token < bpe.size for token in bpe.encode(text))


def test_merged_pairs_make_a_known_text_short(bpe: BPETokenizer) -> None:
    assert bpe.size == 300
    assert len(bpe.encode(TEXTS[2])) < len(TEXTS[2]) / 1.5
    assert "".join(bpe.pieces("the cat")) == "the cat"
    assert bpe.decode([BOS, *bpe.encode("the"), EOS, PAD]) == "the"


@pytest.mark.parametrize("written", TEXTS)
def test_the_bytes_of_the_tokens_are_those_of_the_text(bpe: BPETokenizer, written: str) -> None:
    sizes, data = bpe.sizes(written), written.encode()
    assert len(sizes) == len(bpe.encode(written))
    starts = [0, *itertools.accumulate(sizes)]
    assert starts[-1] == len(data)
    parts = [data[a:b].decode(errors="replace") for a, b in itertools.pairwise(starts)]
    assert parts == bpe.pieces(written)


def test_fewer_tokens_than_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"size=100.*260"):
        BPETokenizer.fit(TEXTS, size=100)
    with pytest.raises(ValueError, match="at most 1,048,576"):  # the library would end the process
        BPETokenizer.fit(TEXTS, size=10**12)


# --- kept and used -------------------------------------------------------------------------------


def test_tokenizers_come_back_from_their_json(bpe: BPETokenizer) -> None:
    for made in (bpe, CharTokenizer.fit(TEXTS), WordTokenizer.fit(TEXTS)):
        again = tokenizer.from_json(made.to_json())
        assert type(again) is type(made)
        assert again.size == made.size
        assert [again.encode(t) for t in TEXTS] == [made.encode(t) for t in TEXTS]
    bad = ("", "{}", '{"kind": "words"}', "[1]", '"a"', '{"kind": "bpe", "tokenizers": "{}"}')
    for broken in (*bad, '{"kind": "characters", "words": ["a"]}'):
        with pytest.raises(ValueError, match=r"this is no .*tokenizer"):
            tokenizer.from_json(broken)
    with pytest.raises(ValueError, match="unknown tokenizer 'word': did you mean 'words'"):
        tokenizer.from_json('{"kind": "word", "words": ["a"]}')


def test_rows_are_ended_and_filled_up() -> None:
    made = CharTokenizer("abc")
    table = rows(made, ["ab", "", "cx"], 4)
    assert table.tolist() == [[4, 5, EOS, PAD], [EOS, PAD, PAD, PAD], [6, UNKNOWN, EOS, PAD]]
    with pytest.raises(ValueError, match="5 tokens with EOS; rows are 4"):
        rows(made, ["abca"], 4)


def test_rows_of_other_vocabularies_end_in_their_own_tokens() -> None:
    words = ["[UNK]", "a", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    made = WordPieceTokenizer.from_words(words)
    assert rows(made, ["a", "b a"], 4).tolist() == [[1, 4, 2, 2], [0, 1, 4, 2]]
    bare = BPETokenizer.fit(["a"], size=260)._inner.to_str().replace("<eos>", "<end>")
    with pytest.raises(ValueError, match=r"neither <eos> nor <\|endoftext\|>"):
        BPETokenizer(bare)


def test_a_checkpoint_carries_the_tokenizer(tmp_path, bpe: BPETokenizer) -> None:
    model = RecurrentLM(vocab_size=bpe.size, hidden=4)
    path = checkpoint.save(tmp_path / "a.safetensors", model, tokenizer=bpe)
    assert zoo.tokenizer_of(path).encode(TEXTS[0]) == bpe.encode(TEXTS[0])
    path = checkpoint.save(tmp_path / "b.safetensors", model)
    with pytest.raises(ValueError, match="no tokenizer"):
        zoo.tokenizer_of(path)


def test_words_come_back_from_json() -> None:
    made = WordTokenizer.fit(["red heart", "红心"])
    again = tokenizer.from_json(made.to_json())
    assert again.to_json() == made.to_json()
    assert again.decode(again.encode("red heart")) == "red heart"
    assert again.decode(again.encode("红心")) == "红心"
