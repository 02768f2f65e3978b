"""Tokenizers: what is encoded comes back, merges are those of the definition."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter

import pytest
import torch
from torch import Tensor

from gentext import checkpoint, tokenizer, zoo
from gentext.sequences.recurrent import RecurrentLM
from gentext.tokens.bpe import byte_pair_merges, merge_pairs
from gentext.tokens.completion import complete
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


# --- kept and used -------------------------------------------------------------------------------


def test_tokenizers_come_back_from_their_json(bpe: BPETokenizer) -> None:
    for made in (bpe, CharTokenizer.fit(TEXTS)):
        again = tokenizer.from_json(made.to_json())
        assert type(again) is type(made)
        assert again.size == made.size
        assert [again.encode(t) for t in TEXTS] == [made.encode(t) for t in TEXTS]
    bad = ("", "{}", '{"kind": "words"}', "[1]", '{"kind": "bpe", "tokenizers": "{}"}')
    for broken in bad:
        with pytest.raises(ValueError, match="tokenizer"):
            tokenizer.from_json(broken)


def test_rows_are_ended_and_filled_up() -> None:
    made = CharTokenizer("abc")
    table = rows(made, ["ab", "", "cx"], 4)
    assert table.tolist() == [[4, 5, EOS, PAD], [EOS, PAD, PAD, PAD], [6, UNKNOWN, EOS, PAD]]
    with pytest.raises(ValueError, match="5 tokens with EOS; rows are 4"):
        rows(made, ["abca"], 4)


class Alphabet(RecurrentLM):
    """After any token comes the next one; after the last, the end."""

    def logits(self, tokens: Tensor) -> Tensor:
        following = torch.where(tokens == BOS, 4, torch.where(tokens == 6, EOS, tokens + 1))
        return 50.0 * torch.nn.functional.one_hot(following, 7)

    def begin(self, n: int, capacity: int) -> None:
        return None

    def read(self, tokens: Tensor, state: None) -> tuple[Tensor, None]:
        return self.logits(tokens)[:, -1], None


def test_a_text_is_completed_to_its_end() -> None:
    model, made = Alphabet(vocab_size=7, hidden=2), CharTokenizer("abc")
    assert complete(model, made, "") == "abc"
    assert complete(model, made, "b") == "bc"
    assert complete(model, made, "a", 1) == "ab"
    with pytest.raises(ValueError, match="'z' at place 0"):
        complete(model, made, "z")
    with pytest.raises(ValueError, match="knows 8 tokens, but the model 7"):
        complete(model, CharTokenizer("abcd"), "a")


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
