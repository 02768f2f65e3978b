"""Error rates against jiwer's own, plain recursion and counts by hand."""

from __future__ import annotations

import functools
from collections import Counter

import jiwer
import pytest
import torch

from gentext.evaluation import recognition

Row = tuple[int, ...]


def pairs() -> list[tuple[Row, Row]]:
    """Thirty pairs of rows of up to seven of three tokens."""
    g = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 8, (30, 2), generator=g).tolist()
    return [tuple(tuple(torch.randint(3, (n,), generator=g).tolist()) for n in s) for s in sizes]


@functools.cache
def distance(a: Row, b: Row) -> int:
    """The least number of edits, by trying the first one."""
    if not a or not b:
        return len(a) + len(b)
    edited = distance(a[1:], b[1:]) + (a[0] != b[0])
    return min(edited, distance(a[1:], b) + 1, distance(a, b[1:]) + 1)


@pytest.mark.equation("eq-audio-wer")
def test_edits_are_those_of_plain_recursion_and_of_jiwer() -> None:
    for made, wanted in pairs():
        edits = recognition.levenshtein(made, wanted)
        assert edits.total == distance(made, wanted)
        assert edits.deletions - edits.insertions == len(wanted) - len(made)
        texts = [" ".join(map(str, row)) for row in (made, wanted)]
        found = jiwer.process_words(texts[1], texts[0])
        assert edits.total == found.substitutions + found.deletions + found.insertions
        rate = recognition.word_error_rate(texts[:1], texts[1:])
        assert rate == pytest.approx(edits.total / len(wanted), abs=1e-15)


def test_an_alignment_has_both_rows_and_the_fewest_edits() -> None:
    for made, wanted in pairs():
        both = recognition.aligned(made, wanted)
        assert tuple(a for a, _ in both if a is not None) == wanted
        assert tuple(b for _, b in both if b is not None) == made
        assert (None, None) not in both
        assert sum(a != b for a, b in both) == distance(made, wanted)


@pytest.mark.equation("eq-audio-wer")
@pytest.mark.parametrize(
    ("made", "wanted", "edits"),
    [
        ("sitting", "kitten", (2, 0, 1)),
        ("kitten", "sitting", (2, 1, 0)),
        ("", "ab", (0, 2, 0)),
        ("ab", "", (0, 0, 2)),
        ("abc", "abc", (0, 0, 0)),
    ],
)
def test_edits_by_hand(made: str, wanted: str, edits: tuple[int, int, int]) -> None:
    assert recognition.levenshtein(made, wanted) == edits


@pytest.mark.equation("eq-audio-wer")
def test_a_rate_may_be_two_hundred_percent() -> None:
    assert recognition.word_error_rate(["b c"], ["a"]) == 2
    assert recognition.character_error_rate(["b c"], ["a"]) == 3


def test_the_rate_of_a_corpus_weighs_texts_by_their_words() -> None:
    """One wrong of 4 words and one of 1: 2/5, while the mean of the rates is 5/8."""
    made, wanted = ["a b c x", "y"], ["a b c d", "e"]
    assert recognition.word_error_rate(made, wanted) == pytest.approx(2 / 5)
    assert jiwer.wer(wanted, made) == pytest.approx(2 / 5)


def test_words_that_were_not_said_count_also_where_nothing_was() -> None:
    made, wanted = ["a b", " x y", ""], ["a b", " ", "c"]
    assert recognition.word_error_rate(made, wanted) == pytest.approx(3 / 3)


@pytest.mark.parametrize("rate", [recognition.word_error_rate, recognition.character_error_rate])
def test_of_chinese_both_rates_are_those_of_characters(rate) -> None:
    """One of five is left out, and one is another."""
    assert rate(["春眠不晚"], ["春眠不觉晓"]) == pytest.approx(2 / 5)


def test_words_and_characters_of_mixed_texts() -> None:
    """Three words of which one is wrong, and of five characters and a space one."""
    assert recognition.word_error_rate(["ab 春x"], ["ab 春秋"]) == pytest.approx(1 / 3)
    assert recognition.character_error_rate(["ab  春x "], ["ab 春秋"]) == pytest.approx(1 / 5)
    assert jiwer.cer("ab 春秋", "ab 春x") == pytest.approx(1 / 5)


def test_confusions_count_what_was_heard_for_what_was_said() -> None:
    made, wanted = [[1, 5, 3], [5, 3], [2, 2]], [[1, 2, 3], [2, 3, 4], [2]]
    found = recognition.confusions(made, wanted)
    assert found == Counter({(2, 5): 2, (4, None): 1, (None, 2): 1})
    assert found.most_common(1) == [((2, 5), 2)]
    assert recognition.confusions(["bar"], ["far"]) == Counter({("f", "b"): 1})


@pytest.mark.parametrize(
    ("made", "wanted", "message"),
    [
        (["a"], ["a", "b"], "1 texts for 2 references"),
        ([], [], "0 texts for 0"),
        (["a"], [" "], "references have no word"),
        ("abc", "abd", "lists of texts"),
    ],
)
def test_what_are_no_pairs_is_refused(made, wanted, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recognition.word_error_rate(made, wanted)
