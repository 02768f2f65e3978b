"""Texts as BERT reads them, one or two in a row: ``[CLS] a [SEP] b [SEP]``, and who is where.

Of a tokenizer without [CLS] and [SEP] the tokens BOS and EOS take their places.

Source: Devlin et al., NAACL 2019.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gentext.core import check_count
from gentext.core.shapes import Tokens
from gentext.core.signatures import keep_contract
from gentext.tokens.tokenizer import Tokenizer

Text = str | tuple[str, str]  # one, or a pair


def framed(
    tokenizer: Tokenizer, a: str, b: str | None = None, *, length: int | None = None
) -> tuple[list[int], list[int]]:
    """The tokens of a text or of two with their frame, and the segment of each, 0 or 1.

    Arguments:
        length: the most tokens; the longer text loses its end first.
    """
    x, y = (tokenizer.encode(text or "", strict=False) for text in (a, b))
    frame = 2 if b is None else 3
    if length is not None:
        check_count("length", length, least=2 * frame - 1)
        x, y = _shortened(x, y, length - frame)
    first = [tokenizer.bos, *x, tokenizer.eos]
    second = [] if b is None else [*y, tokenizer.eos]
    return first + second, [0] * len(first) + [1] * len(second)


def framed_rows(tokenizer: Tokenizer, texts: Sequence[Text], length: int) -> tuple[Tokens, Tokens]:
    """Tokens and segments (n, ``length``) of texts or pairs; those too long lose their ends."""
    tokens = torch.full((len(texts), length), tokenizer.pad)
    segments = torch.zeros_like(tokens)
    for k, text in enumerate(texts):
        row, part = framed(tokenizer, *([text] if isinstance(text, str) else text), length=length)
        tokens[k, : len(row)], segments[k, : len(row)] = torch.tensor(row), torch.tensor(part)
    return tokens, segments


def _shortened(x: list[int], y: list[int], room: int) -> tuple[list[int], list[int]]:
    """Both to ``room`` tokens in all: the longer is cut first, then both alike."""
    half = room // 2  # of the shorter text
    share = room - half if len(y) >= len(x) else half
    kept = min(len(y), max(room - len(x), share))
    return x[: room - kept], y[:kept]


keep_contract(globals())
