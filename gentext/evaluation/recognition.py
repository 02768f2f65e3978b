"""How well speech was recognised: rates of words and of characters that are wrong.

What was recognised is aligned with what was said, its reference, by as few edits as can be: S
substitutions, D deletions of what was said, and I insertions of what was not. The rate is
(S + D + I)/N for N words of the reference. It is no share, and above 1 where much is inserted.

Notation: ``made`` what was recognised and ``wanted`` the references, texts or rows of tokens; d the
distance, the least number of edits between beginnings of both.

Source: Levenshtein, 1966; the rates are computed by jiwer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import chain
from typing import NamedTuple

from gentext.core.signatures import keep_contract
from gentext.tokens.tokenizer import CHINESE

Tokens = Sequence[Hashable]
Pair = tuple[Hashable | None, Hashable | None]  # of reference and recognised
WORD = re.compile(rf"{CHINESE}|(?:(?!{CHINESE})\S)+")


class Edits(NamedTuple):
    """How many of each kind make the reference of what was recognised."""

    substitutions: int
    deletions: int
    insertions: int

    @property
    def total(self) -> int:
        """S + D + I, the distance."""
        return sum(self)


def word_error_rate(made: Sequence[str], wanted: Sequence[str]) -> float:
    """(S + D + I)/N of the words of all texts together, by jiwer.

    Words are what stands between spaces, as it is written: capitals and punctuation count. A
    Chinese character is a word, so of Chinese it is the rate of characters.

    Equation: :eq:`eq-audio-wer`
    """
    return _rate([WORD.findall(text) for text in _texts(made, wanted)], len(made), "word")


def character_error_rate(made: Sequence[str], wanted: Sequence[str]) -> float:
    """(S + D + I)/N of the characters of all texts together, by jiwer.

    One space between words is a character; further ones and those at the ends are none.

    Equation: :eq:`eq-audio-wer`
    """
    texts = [list(" ".join(text.split())) for text in _texts(made, wanted)]
    return _rate(texts, len(made), "character")


def levenshtein(made: Tokens, wanted: Tokens) -> Edits:
    """S, D and I of two rows of tokens, by the recursion over beginnings of both.

    d(i, j) is the least of d(i−1, j−1) + [a_i ≠ b_j], d(i−1, j) + 1 and d(i, j−1) + 1. Only the
    total is unique, and D − I.

    Equation: :eq:`eq-audio-wer`
    """
    pairs = aligned(made, wanted)
    deleted = sum(b is None for _, b in pairs)
    inserted = sum(a is None for a, _ in pairs)
    return Edits(sum(a != b for a, b in pairs) - deleted - inserted, deleted, inserted)


def aligned(made: Tokens, wanted: Tokens) -> list[Pair]:
    """Pairs (said, recognised) of two rows of tokens, None for what has no partner.

    Of the alignments with the fewest edits it is one, which pairs as many tokens as it can from the
    end.
    """
    if any(token is None for token in (*made, *wanted)):
        raise ValueError("got None among the tokens, which stands for no token: leave it out")
    d, pairs = _distances(made, wanted), list[Pair]()
    i, j = len(wanted), len(made)
    while i or j:
        paired = i and j and d[i][j] == d[i - 1][j - 1] + (wanted[i - 1] != made[j - 1])
        deleted = not paired and i and d[i][j] == d[i - 1][j] + 1
        a, b = (1, 1) if paired else (1, 0) if deleted else (0, 1)
        pairs.append((wanted[i - 1] if a else None, made[j - 1] if b else None))
        i, j = i - a, j - b
    return pairs[::-1]


def confusions(made: Sequence[Tokens], wanted: Sequence[Tokens]) -> Counter[Pair]:
    """How often each (said, recognised) is wrong in the alignments of rows of tokens.

    A text is a row of its characters; None is for what was left out or put in. The most frequent
    are ``.most_common()``.
    """
    _check_pairs(made, wanted)
    both = zip(made, wanted, strict=True)
    return Counter(pair for a, b in both for pair in aligned(a, b) if pair[0] != pair[1])


def _distances(made: Tokens, wanted: Tokens) -> list[list[int]]:
    """d(i, j) of the first i tokens of ``wanted`` and the first j of ``made``."""
    d = [list(range(len(made) + 1))]
    for i, a in enumerate(wanted, start=1):
        row = [i]
        for j, b in enumerate(made, start=1):
            row.append(min(d[-1][j - 1] + (a != b), d[-1][j] + 1, row[-1] + 1))
        d.append(row)
    return d


def _texts(made: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """All of ``made``, then all of ``wanted``."""
    _check_pairs(made, wanted)
    texts = [*made, *wanted]
    if isinstance(made, str) or isinstance(wanted, str) or not all(type(t) is str for t in texts):
        raise ValueError("give lists of texts, one recognised text for each reference")
    return texts


def _check_pairs(made: Sequence[Tokens], wanted: Sequence[Tokens]) -> None:
    if len(made) != len(wanted) or not len(made):
        raise ValueError(f"got {len(made)} texts for {len(wanted)} references; give pairs")


def _rate(rows: list[list[str]], n: int, kind: str) -> float:
    """Of the ``n`` rows that were recognised, then their references."""
    import jiwer

    made, wanted = rows[:n], rows[n:]
    size = sum(map(len, wanted))
    if not size:
        raise ValueError(f"the references have no {kind}, of which there could be a rate")
    number = {token: str(k) for k, token in enumerate(dict.fromkeys(chain.from_iterable(rows)))}
    texts = [" ".join(number[token] for token in row) for row in rows]  # of which none is a space
    both = [(a, b) for a, b in zip(texts[:n], texts[n:], strict=True) if b]
    found = jiwer.process_words([b for _, b in both], [a for a, _ in both])
    inserted = sum(len(a) for a, b in zip(made, wanted, strict=True) if not b)
    return (found.substitutions + found.deletions + found.insertions + inserted) / size


keep_contract(globals())
