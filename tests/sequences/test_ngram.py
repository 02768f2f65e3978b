"""Counting models against counts made by hand, and their probabilities against one."""

from __future__ import annotations

import lzma
import math
from collections import Counter

import pytest
import torch

from gentext.sequences.ngram import NGram, xz_bits_per_char

pytestmark = pytest.mark.usefixtures("float64")
V = 5


def by_hand(text: list[int], context: tuple[int, ...], c: int) -> float:
    """Witten and Bell's recursion, word for word."""
    shorter = 1 / V if not context else by_hand(text, context[1:], c)
    if not context:
        after = Counter(text)
    else:
        k = len(context)
        after = Counter(
            text[i + k] for i in range(len(text) - k) if tuple(text[i : i + k]) == context
        )
    total = sum(after.values())
    return (after[c] + len(after) * shorter) / (total + len(after)) if total else shorter


def test_unigrams_to_fourgrams_are_the_recursion() -> None:
    text = torch.randint(V - 1, (60,))  # the last token is never seen
    held_out = torch.randint(V, (30,))
    for order in (1, 2, 3, 4):
        found = NGram(text, order=order, vocab_size=V).log_probs(held_out).exp()
        for t in range(len(held_out)):
            # At the start there are fewer tokens before, so the order is lower.
            context = tuple(held_out[max(0, t - order + 1) : t].tolist())
            expected = by_hand(text.tolist(), context, int(held_out[t]))
            assert math.isclose(float(found[t]), expected, abs_tol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_next_token_has_probability_one_in_all(order: int) -> None:
    model = NGram(torch.randint(V, (80,)), order=order, vocab_size=V)
    for seed in range(10):
        context = torch.randint(V, (6,), generator=torch.Generator().manual_seed(seed))
        assert math.isclose(float(model.next_log_probs(context).exp().sum()), 1.0)


def test_a_longer_context_helps_on_a_text_with_memory() -> None:
    text = torch.tensor([0, 1, 2, 0, 1, 3] * 200)
    bits = [-NGram(text, order=n, vocab_size=V).log_probs(text).mean() for n in (1, 2, 3, 6)]
    assert bits[0] > bits[1] > bits[2] > bits[3]


def test_xz_is_given_the_training_text_first() -> None:
    train, test = "to be or not to be, " * 50, "that is the question: to be or not to be, "

    def size(text: str) -> int:
        return 8 * len(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))

    alone, after = xz_bits_per_char(train, test)
    assert math.isclose(alone, size(test) / len(test))
    assert math.isclose(after, (size(train + test) - size(train)) / len(test))
    assert after < alone


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="order=0"):
        NGram(torch.tensor([0]), order=0, vocab_size=V)
    with pytest.raises(ValueError, match=r"order=40.*orders 1 to 26"):
        NGram(torch.tensor([0]), order=40, vocab_size=V)
    with pytest.raises(ValueError, match=r"0 tokens.*0 to 4"):
        NGram(torch.tensor([], dtype=torch.long), order=1, vocab_size=V)
    with pytest.raises(ValueError, match="all from 0 to 4"):
        NGram(torch.tensor([5]), order=1, vocab_size=V)
