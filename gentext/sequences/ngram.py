"""Counting models: the probability of a token given the few before it, and compression by xz.

They need no training to speak of, and are what a network has to beat on the same held-out text.

Notation: ``n`` the order; ``w`` a context of n − 1 tokens; ``c`` the next token.
"""

from __future__ import annotations

import lzma
import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gentext.core import whole_numbers
from gentext.core.signatures import keep_contract


class NGram:
    """Interpolated n-grams by Witten and Bell's rule (1991).

    p_n(c | w) = (count(w c) + kinds(w) p_(n−1)(c | w′)) / (count(w) + kinds(w)), where kinds(w)
    counts the different tokens seen after w, and w′ is w without its oldest token; p_0 is uniform.
    A context that was never seen leaves all to the shorter one.

    Arguments:
        stream: the tokens (t,) of the training text; order: n, at least 1.
        vocab_size: how many tokens there are.
    """

    def __init__(self, stream: Int[Tensor, "t"], *, order: int, vocab_size: int) -> None:
        if order < 1 or vocab_size < 1 or order * math.log2(vocab_size) > 62:
            most = int(62 / math.log2(max(2, vocab_size)))
            raise ValueError(f"got order={order}; {vocab_size} tokens allow orders 1 to {most}")
        self.order, self.vocab_size = order, vocab_size
        tokens = self._checked(stream)
        self.tables = [self._count(tokens, n) for n in range(1, order + 1)]

    def log_probs(self, stream: Int[Tensor, "t"]) -> Float[Tensor, "t"]:
        """log p of each token given those before it, in nats; the first ones have less context."""
        tokens = self._checked(stream)
        p = np.full(len(tokens), 1 / self.vocab_size)
        for n, (grams, counts, contexts, totals, kinds) in enumerate(self.tables, 1):
            if len(tokens) < n:
                break
            code = self._codes(tokens, n)
            seen = _look_up(grams, counts, code)
            context = code // self.vocab_size
            total = _look_up(contexts, totals, context)
            different = _look_up(contexts, kinds, context)
            known = total > 0
            p[n - 1 :][known] = (
                (seen + different * p[n - 1 :]) / np.maximum(total + different, 1)
            )[known]
        return torch.from_numpy(np.log(p))

    def next_log_probs(self, context: Int[Tensor, "t"]) -> Float[Tensor, "v"]:
        """log p of every token after ``context``, in nats."""
        context = context[max(0, len(context) - self.order + 1) :]
        last = [
            self.log_probs(torch.cat([context, torch.tensor([c])]))[-1]
            for c in range(self.vocab_size)
        ]
        return torch.stack(last)

    def _count(self, tokens: np.ndarray, n: int) -> tuple[np.ndarray, ...]:
        """n-grams and their counts; contexts, how often each was seen, and its kinds."""
        grams, counts = np.unique(self._codes(tokens, n), return_counts=True)
        contexts, first = np.unique(grams // self.vocab_size, return_index=True)
        kinds = np.diff(np.append(first, len(grams)))
        return grams, counts, contexts, np.add.reduceat(counts, first), kinds

    def _codes(self, tokens: np.ndarray, n: int) -> np.ndarray:
        """Each n-gram as a number in base ``vocab_size``."""
        code = np.zeros(max(0, len(tokens) - n + 1), dtype=np.int64)
        for k in range(n):
            code = code * self.vocab_size + tokens[k : len(tokens) - n + 1 + k]
        return code

    def _checked(self, stream: Tensor) -> np.ndarray:
        tokens = whole_numbers(stream, "tokens").cpu().numpy()
        if len(tokens) == 0 or tokens.min() < 0 or tokens.max() >= self.vocab_size:
            raise ValueError(
                f"got {len(tokens)} tokens; give at least one, all from 0 to {self.vocab_size - 1}"
            )
        return tokens


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key, 0 where there is none."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


def xz_bits_per_char(train: str, test: str) -> tuple[float, float]:
    """What ``xz -9e`` needs for ``test``: bits a character, alone and after ``train``.

    The second is by how much the compressed file grows when test follows train, which lets the
    compressor learn from the training text as a model does.
    """
    alone, before, both = (_compressed_bits(text) for text in (test, train, train + test))
    return alone / len(test), (both - before) / len(test)


def _compressed_bits(text: str) -> int:
    return 8 * len(lzma.compress(text.encode("utf-8"), preset=9 | lzma.PRESET_EXTREME))


keep_contract(globals())
