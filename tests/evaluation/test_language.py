"""Scores of texts and translations against hand computation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from gentext.evaluation import language
from gentext.tokens.tokenizer import PAD, CharTokenizer, rows


@pytest.mark.parametrize(("pad", "tokens"), [(PAD, 7), (None, 12)])
def test_texts_are_weighed_by_their_tokens_not_one_by_one(pad: int | None, tokens: int) -> None:
    """Of three texts with 1 to 3 letters and an end each, or 4 tokens a row."""
    letters = CharTokenizer("abc")
    test = rows(letters, ["ab", "c", "a"], 4)
    log_p = torch.tensor([-3.0, -1.0, -10.0])
    found = language.text_perplexity(log_p, test, pad)
    assert found == pytest.approx(math.exp(14 / tokens), rel=1e-12)
    bits = language.text_bits_per_char(log_p, test, letters)
    assert bits == pytest.approx(14 / math.log(2) / 4, rel=1e-12)


def test_many_texts_are_summed_in_double_precision() -> None:
    """A million texts of 16 + 2⁻¹⁹ nats, of which the part beyond 16 is lost in single."""
    log_p, test = torch.full((1_000_000,), -(16 + 2.0**-19)), torch.zeros(1_000_000, 1).long()
    found = math.log(language.text_perplexity(log_p, test, None))
    assert found == pytest.approx(16 + 2**-19, rel=1e-9)


@pytest.mark.parametrize(
    ("made", "wanted"),
    [("a b c d e", "a b c d f"), ("春眠不觉晓", "春眠不觉晚")],
)
def test_bleu_is_the_geometric_mean_of_the_precisions(made: str, wanted: str) -> None:
    """Words of English and characters of Chinese; 4/5, 3/4, 2/3, 1/2 of the n-grams are found."""
    scores = language.translation_scores([made], [wanted])
    assert scores["bleu"] == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert scores["exact"] == 0
    short = language.translation_scores([made[:7] if " " in made else made[:4]], [wanted])
    assert short["bleu"] == pytest.approx(100 * math.exp(1 - 5 / 4))  # all found, but too few
    assert language.translation_scores([wanted], [wanted])["chrf"] == pytest.approx(100)


def test_chrf_is_the_f2_of_characters() -> None:
    """Of "ab" and "abc": precisions 1, recalls 2/3 and 1/2 of one and two characters."""
    orders = [5 * p * r / (4 * p + r) for p, r in ((1, 2 / 3), (1, 1 / 2))]
    found = language.translation_scores(["ab"], ["abc"])["chrf"]
    precision, recall = 1, (2 / 3 + 1 / 2) / 2  # sacrebleu averages these before it takes F2
    assert found == pytest.approx(100 * 5 * precision * recall / (4 * precision + recall))
    assert min(orders) < found / 100 < max(orders)


@pytest.mark.parametrize(("made", "wanted"), [(["a"], ["a", "b"]), ([], [])])
def test_scores_need_pairs(made: list[str], wanted: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"{len(made)} translations for {len(wanted)} ref"):
        language.translation_scores(made, wanted)


def subsequences(words: list[int]) -> set[tuple[int, ...]]:
    """All of them, by enumeration."""
    return {c for r in range(len(words) + 1) for c in itertools.combinations(words, r)}


@pytest.mark.equation("eq-bert-rouge")
def test_the_longest_common_subsequence_is_that_of_enumeration() -> None:
    torch.manual_seed(0)
    for _ in range(20):
        a, b = torch.randint(3, (7,)).tolist(), torch.randint(3, (6,)).tolist()
        longest = max(map(len, subsequences(a) & subsequences(b)))
        assert language.common_length(a, b) == language.common_length(b, a) == longest
    assert language.common_length([], [1]) == language.common_length([1], []) == 0


@pytest.mark.equation("eq-bert-rouge")
@pytest.mark.parametrize(
    ("made", "wanted", "precision", "recall"),
    [
        ("the cat sat on the mat", "the cat is on the mat", 5 / 6, 5 / 6),
        ("police kill the gunman", "police killed the gunman", 3 / 4, 3 / 4),  # Lin 2004, section 3
        ("the gunman kill police", "police killed the gunman", 2 / 4, 2 / 4),
        ("A cat, a cat!", "a CAT", 2 / 4, 1),
        ("春晓", "春眠不觉晓", 1, 2 / 5),
        ("晓，春", "春晓", 1 / 2, 1 / 2),
        ("", "春晓", 0, 0),
        ("！", "？", 0, 0),
    ],
)
def test_rouge_l_is_what_was_counted_by_hand(made, wanted, precision, recall) -> None:
    found = language.rouge_l([made], [wanted])
    f = 2 * precision * recall / (precision + recall) if precision + recall else 0
    for value, counted in zip(found, (precision, recall, f), strict=True):
        assert value.tolist() == pytest.approx([counted], abs=1e-15)


def test_rouge_n_counts_what_both_have_as_often_as_both_have_it() -> None:
    """Of "a a b a" and "a b b a": runs of one word share a a b, of two ab and ba, of three none."""
    for n, shared in ((1, 3), (2, 2), (3, 0), (5, 0)):
        found = language.rouge_n(["a a b a"] * 2, ["a b b a", "a a b a"], n)
        length = max(5 - n, 0)
        assert found.precision.tolist() == pytest.approx([shared / max(length, 1), float(n < 5)])
        assert torch.equal(found.f, found.recall)
    found = language.rouge_n(["春眠不觉"], ["春眠"], 2)
    assert [float(v) for v in found] == pytest.approx([1 / 3, 1, 1 / 2])


def test_rouge_needs_pairs() -> None:
    for score in (language.rouge_l, language.rouge_n):
        for made, wanted in ((["a"], ["a", "b"]), ([], [])):
            with pytest.raises(ValueError, match=rf"{len(made)} texts for {len(wanted)} ref"):
                score(made, wanted)
    with pytest.raises(ValueError, match="n=0"):
        language.rouge_n(["a"], ["a"], 0)
