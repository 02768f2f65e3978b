"""How good a model of texts is: perplexity, bits for each character, and scores of translations.

Notation: ``log_p`` log p(x) of each text, in nats.

Source: Papineni et al., ACL 2002 (BLEU); Popović, WMT 2015 (chrF).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gentext.core.shapes import PerExample, Tokens
from gentext.core.signatures import keep_contract
from gentext.sequences.autoregressive import bits_per_char, perplexity


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


def _total(log_p: PerExample) -> Tensor:
    """The log-probability of all texts together, summed in double precision."""
    log_p = log_p.detach()
    return (log_p.cpu() if log_p.device.type == "mps" else log_p).sum(dtype=torch.float64)


keep_contract(globals())
