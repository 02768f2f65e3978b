"""How good a model of texts is: perplexity, bits a character, scores of translations and titles.

Notation: ``log_p`` log p(x) of each text, in nats; LCS the length of the longest common
subsequence of two texts, made of the same words in the same order, with or without gaps.

Source: Papineni et al., ACL 2002 (BLEU); Popović, WMT 2015 (chrF); Lin, 2004 (ROUGE).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gentext.core import check_count
from gentext.core.shapes import PerExample, Tokens
from gentext.core.signatures import keep_contract
from gentext.sequences.autoregressive import bits_per_char, perplexity
from gentext.tokens.tokenizer import CHINESE

WORD = re.compile(rf"{CHINESE}|(?:(?!{CHINESE})[^\W_])+")  # of letters and digits


class Rouge(NamedTuple):
    """Of each text: the share of what was made that is wanted, the reverse, and F of the two."""

    precision: PerExample
    recall: PerExample
    f: PerExample


def text_perplexity(log_p: PerExample, tokens: Tokens, pad: int | None) -> float:
    """The perplexity of all texts together; the end of a text is a token, ``pad`` is none."""
    count = tokens.numel() if pad is None else int((tokens != pad).sum())
    return float(perplexity(_total(log_p), count))


def text_bits_per_char(log_p: PerExample, tokens: Tokens, tokenizer: Any) -> float:
    """Bits for each character of all texts together; the end of a text is no character."""
    characters = sum(len(tokenizer.decode(row)) for row in tokens.tolist())
    return float(bits_per_char(_total(log_p), characters))


def translation_scores(made: list[str], wanted: list[str]) -> dict[str, float]:
    """BLEU and chrF by sacrebleu, from 0 to 100, and the share ``exact`` of equal texts.

    Chinese is split into characters, as sacrebleu's tokenizer "zh" does, other text by its "13a".
    """
    if len(made) != len(wanted) or not made:
        raise ValueError(f"got {len(made)} translations for {len(wanted)} references; give pairs")
    import sacrebleu

    chinese = any("\u4e00" <= c <= "\u9fff" for text in wanted for c in text)
    tokenize = "zh" if chinese else "13a"
    return {
        "bleu": sacrebleu.corpus_bleu(made, [wanted], tokenize=tokenize).score,
        "chrf": sacrebleu.corpus_chrf(made, [wanted]).score,
        "exact": sum(a == b for a, b in zip(made, wanted, strict=True)) / len(made),
    }


def rouge_l(made: Sequence[str], wanted: Sequence[str]) -> Rouge:
    """ROUGE-L of each text, from 0 to 1: P = LCS/m, R = LCS/n, F = 2PR/(P + R).

    m and n are the words of what was made and of what is wanted. A Chinese character is a word;
    capitals and punctuation make no difference. The mean of F is the score of all texts.

    Equation: :eq:`eq-bert-rouge`
    """
    pairs = _words_of_pairs(made, wanted)
    return _rouge([(common_length(a, b), len(a), len(b)) for a, b in pairs])


def rouge_n(made: Sequence[str], wanted: Sequence[str], n: int = 2) -> Rouge:
    """ROUGE-N of each text, from 0 to 1, with the words of ``rouge_l``.

    As ROUGE-L, with the number of runs of ``n`` words that both have in the place of LCS; a run
    counts as often as it is in both.
    """
    check_count("n", n)
    pairs = [(_runs(a, n), _runs(b, n)) for a, b in _words_of_pairs(made, wanted)]
    return _rouge([((a & b).total(), a.total(), b.total()) for a, b in pairs])


def common_length(a: Sequence[Any], b: Sequence[Any]) -> int:
    """LCS(a, b), by its recursion over beginnings of both.

    It is LCS of both without their last, plus 1, where these are equal; else the larger of the two
    that leave out the last of one.
    """
    row = [0] * (len(b) + 1)  # LCS of what was seen of a and of each beginning of b
    for word in a:
        before, row = row, [0]
        for j, other in enumerate(b):
            row.append(before[j] + 1 if word == other else max(before[j + 1], row[j]))
    return row[-1]


def _words_of_pairs(made: Sequence[str], wanted: Sequence[str]) -> list[tuple[list[str], ...]]:
    if len(made) != len(wanted) or not len(made):
        raise ValueError(f"got {len(made)} texts for {len(wanted)} references; give pairs")
    words = ([WORD.findall(text.casefold()) for text in texts] for texts in (made, wanted))
    return list(zip(*words, strict=True))


def _runs(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _rouge(counts: list[tuple[int, int, int]]) -> Rouge:
    """Of (common, made, wanted): what has nothing to count scores 0."""
    common, m, n = torch.tensor(counts, dtype=torch.float64).T
    precision, recall = common / m.clamp(min=1), common / n.clamp(min=1)
    return Rouge(precision, recall, 2 * common / (m + n).clamp(min=1))


def _total(log_p: PerExample) -> Tensor:
    """The log-probability of all texts together, summed in double precision."""
    log_p = log_p.detach()
    if log_p.is_complex():
        raise ValueError(f"got log_p of {log_p.dtype}; log-probabilities are real numbers")
    return (log_p.cpu() if log_p.device.type == "mps" else log_p).sum(dtype=torch.float64)


keep_contract(globals())
