"""Byte-pair encoding by plain counting: what the library of :mod:`gentext.tokens.tokenizer` does.

Source: Sennrich et al., ACL 2016.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from gentext.core.signatures import keep_contract


def merge_pairs(tokens: Sequence[Any], pair: Sequence[Any]) -> list[Any]:
    """``tokens`` with every occurrence of ``pair``, from the left, made one token.

    The length falls by the number of occurrences that do not overlap.

    Equation: :eq:`eq-gpt-bpe`
    """
    merged: list[Any] = []
    place = 0
    while place < len(tokens):
        both = tuple(tokens[place : place + 2]) == tuple(pair)
        merged.append(tokens[place] + tokens[place + 1] if both else tokens[place])
        place += 2 if both else 1
    return merged


def byte_pair_merges(text: str, count: int) -> list[tuple[bytes, bytes]]:
    """The first ``count`` merges that byte-pair encoding learns from ``text``, by plain counting.

    Each time the most frequent pair of neighbours is merged, of equals the smaller one. It shows
    what the library does at length; it does not split the text into words first.

    Equation: :eq:`eq-gpt-bpe`
    """
    tokens = [bytes([b]) for b in text.encode("utf-8")]
    merges = []
    for _ in range(count):
        pairs = Counter(pairwise(tokens))
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        tokens = merge_pairs(tokens, best)
        merges.append(best)
    return merges


keep_contract(globals())
