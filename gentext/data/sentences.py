"""Pairs of sentences, of which the second follows the first in a text, or comes from elsewhere.

A sentence from elsewhere is never one that follows the first somewhere in the text, as a refrain
may: what is drawn at random could be right by chance, and the model would be taught that it is not.

Notation: ``a`` and ``b`` the sentences of a pair, ``follows`` 1 where b follows a.

Source: Devlin et al., NAACL 2019.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from typing import Any

import torch

from gentext.core import check_count
from gentext.core.signatures import keep_contract
from gentext.data.dataset import Dataset
from gentext.data.text import Corpus
from gentext.tokens.framing import framed_rows
from gentext.tokens.tokenizer import Tokenizer

CLOSING = r"[\"')\]\u2019\u201d\u300d\u300f\uff09\u300b]*"  # what may stand behind an end
CHINESE = rf"[\u3002\uff01\uff1f]+\u2026*{CLOSING}"
ENGLISH = rf"[.!?\u2026]+{CLOSING}(?=\s|$)"  # 3.14 goes on
LIMIT = re.compile(rf"({CHINESE}|{ENGLISH})|\n\s*\n")

Pair = tuple[str, str, int]  # a, b, follows


def sentences(text: str) -> list[str]:
    """The sentences of a text in their order, each in one line.

    They end in a full stop, "?", "!" (English or Chinese) or "…", or at an empty line; that of an
    abbreviation, such as "Mr.", is taken for an end.
    """
    parts = LIMIT.sub(lambda end: f"{end[1] or ''}\0", text).split("\0")
    joined = (" ".join(part.split()) for part in parts)
    return [sentence for sentence in joined if sentence]


def sentence_pairs(
    documents: Sequence[str], tokenizer: Tokenizer, *, most: int | None = None, seed: int = 0
) -> list[Pair]:
    """Each sentence but the last of a document, with the next one or one from elsewhere.

    Half of the pairs follow one another, or one more than half. What is told apart is what the
    tokenizer sees.

    Arguments:
        most: tokens that a sentence is told apart by; all, if not given.
    """
    texts = [sentences(document) for document in documents]
    keys = {s: tuple(tokenizer.encode(s, strict=False)[:most]) for t in texts for s in t}
    every = [sentence for text in texts for sentence in text]
    true = [pair for text in texts for pair in itertools.pairwise(text)]
    after: dict[Any, set[Any]] = {key: {key} for key in keys.values()}  # and the sentence itself
    for a, b in true:
        after[keys[a]].add(keys[b])
    rng = random.Random(seed)
    follows = [1] * (len(true) - len(true) // 2) + [0] * (len(true) // 2)
    rng.shuffle(follows)
    found: list[Pair] = []
    for (a, b), is_true in zip(true, follows, strict=True):
        if not is_true:
            if len(after[keys[a]]) == len(after):
                raise ValueError(
                    f"every sentence of these {len(documents)} documents follows {a[:40]!r} "
                    "somewhere: give a longer text"
                )
            while keys[b] in after[keys[a]]:
                b = rng.choice(every)
        found.append((a, b, is_true))
    return found


def next_sentences(corpus: Corpus, tokenizer: Tokenizer, length: int, *, seed: int = 0) -> Dataset:
    """Tokens and segments (n, ``length``) of pairs of sentences, and ``follows`` (n,).

    The rows are framed, ``[CLS] a [SEP] b [SEP]``; sentences that are too long lose their ends.
    Raises ValueError for documents that are pairs, and for a split without two pairs.
    """
    check_count("length", length, least=5)
    cut: dict[str, Any] = {}
    for split, documents in corpus.splits.items():
        if not all(isinstance(document, str) for document in documents):
            raise ValueError(f"{corpus.name!r} consists of pairs: give a corpus of single texts")
        pairs = sentence_pairs(documents, tokenizer, most=(length - 3) // 2, seed=seed)
        if len(pairs) < 2:
            raise ValueError(
                f"{split} of {corpus.name!r} has {len(pairs)} pairs of sentences: give documents "
                "of more sentences"
            )
        rows = framed_rows(tokenizer, [(a, b) for a, b, _ in pairs], length)
        cut[split] = (*rows, torch.tensor([follows for *_, follows in pairs]))
    return Dataset(
        name=corpus.name,
        shape=(length,),
        tokenizer=tokenizer,
        licence=corpus.licence,
        source=corpus.source,
        **cut,
    )


keep_contract(globals())
