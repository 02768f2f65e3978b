"""Translation: an encoder reads the source, a decoder writes the target token by token.

p(y | x) = Π_t p(y_t | y_<t, x) is exact and sums to one over all texts y that end. Two networks of
:mod:`gentext.sequences.seq2seq_nets` compute it: a Transformer, and gated recurrent networks
joined by attention, which came before.

Notation: ``memory`` what the encoder made of the source, ``shown`` (n, s) where that is no padding;
``h`` features from which tokens are predicted; ε = ``smoothing``, V the tokens that can come.

Source: Sutskever et al., NeurIPS 2014; Bahdanau et al., ICLR 2015; Vaswani et al., NeurIPS 2017.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gentext.core import (
    Model,
    at_hand,
    at_least_single,
    check_counts,
    check_dropout,
    check_number,
    check_tokens,
    chosen,
    evaluating,
    in_evaluation,
)
from gentext.core.shapes import Logits, PerExample, Scalar, Tokens
from gentext.core.signatures import keep_contract
from gentext.sequences.decoding import beam_search
from gentext.sequences.seq2seq_nets import NETS, Features, Maps, Memory, Shown
from gentext.tokens.tokenizer import BOS, EOS, PAD

FIRST = EOS  # the first token that can be predicted; PAD and BOS, which stand before it, cannot


class Seq2Seq(Model):
    """A model of the target text given the source text.

    Source (n, s) and target (n, t) are rows of tokens, EOS, and PAD to the length of the longest.

    Args: ``vocab_size`` of the vocabulary that both languages share; ``net`` "transformer" or
    "gru"; ``width``, ``layers`` (of encoder and of decoder), ``heads`` of the Transformer;
    ``dropout``; ``smoothing`` ε of the targets in the loss; ``context`` the longest row.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        net: str = "transformer",
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        smoothing: float = 0.1,
        context: int = 128,
    ) -> None:
        super().__init__()
        network = chosen("net", net, NETS)
        check_counts(width=width, layers=layers, context=context)
        check_counts(FIRST + 1, vocab_size=vocab_size)
        check_number("smoothing", smoothing, least=0, below=1)
        check_dropout(dropout)
        self.vocab_size, self.context, self.smoothing = vocab_size, context, smoothing
        self.embedding = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.bias = nn.Parameter(torch.zeros(vocab_size - FIRST))
        self.net = network(width, layers, heads, dropout, context)

    def logits(self, source: Tensor, target: Tensor) -> Logits:
        """Logits of every token of ``target`` given those before it and the source.

        Those of PAD and BOS are −∞: a text consists of other tokens.
        """
        return F.pad(self._scores(source, target), (FIRST, 0), value=-math.inf)

    def loss(self, source: Tensor, target: Tensor) -> Scalar:
        """Cross-entropy with smoothed targets, the mean over all tokens but padding, in nats.

        Equation: :eq:`eq-attn-labelsmooth`
        """
        source, target = map(_trim, self._checked(source, target))
        scores = self._scores(source, target)
        return label_smoothing_loss(scores, target - FIRST, self.smoothing, ignore=PAD - FIRST)

    @in_evaluation
    def log_prob(self, source: Tensor, target: Tensor) -> PerExample:
        """log p(target | source), exact, in nats; a row without EOS is the start of a text."""
        source, target = self._checked(source, target)
        log_p = at_least_single(self.logits(source, target)).log_softmax(-1)
        written = target != PAD
        values = log_p.gather(2, target.masked_fill(~written, EOS)[..., None])[..., 0]
        return torch.where(written, values, 0).sum(1)

    @torch.no_grad()
    def attention(self, source: Tensor, target: Tensor) -> Maps:
        """The weights with which row t, which predicts token t of the target, reads the source.

        They are those of evaluation mode, without dropout.
        """
        source, target = self._checked(source, target)
        with evaluating(self):
            memory, shown = self._read(source)
            return self.net.attention(self._embed(_shifted(target)), memory, shown)

    @torch.no_grad()
    def translate(
        self,
        source: Tensor,
        *,
        width: int = 1,
        length: int | None = None,
        length_penalty: float = 0.0,
    ) -> Tokens:
        """The best target (n, t) that beam search finds: tokens, EOS if it came, and PAD.

        Arguments:
            width: number of beams; 1 takes the most probable token each time (greedy).
            length: the most tokens, EOS among them; by default those of the context.
            length_penalty: α in log p/((5 + tokens)/6)^α, by which finished texts are compared.
        """
        source = self._checked_rows("source", source)
        length = self.context if length is None else length
        if not 1 <= length <= self.context:
            raise ValueError(f"length must be 1 to {self.context}, the context, but got {length}")
        source = _trim(source)
        with evaluating(self):
            memory, shown = self._read(source)
            tokens, _ = beam_search(
                self._step,
                self.net.begin(memory, shown, length),
                source.new_full((len(source),), BOS),
                width=width,
                length=length,
                eos=EOS,
                length_penalty=length_penalty,
            )
        ended = tokens == EOS
        return tokens.masked_fill(ended.cumsum(1) - ended.long() > 0, PAD)

    def check(self, *rows: Tensor) -> None:
        """Raise ValueError where source or target do not fit this model."""
        self._checked(*rows)

    def _checked(self, *rows: Tensor) -> tuple[Tensor, ...]:
        """The same rows as int64."""
        if len(rows) != 2 or len(rows[0]) != len(rows[1]):
            raise ValueError(
                f"got {len(rows)} tensors of {', '.join(str(len(r)) for r in rows)} rows: give "
                "source and target, a row each for every pair"
            )
        return tuple(map(self._checked_rows, ("source", "target"), rows))

    def _checked_rows(self, name: str, tokens: Tensor) -> Tensor:
        tokens = check_tokens(
            tokens, self.vocab_size, least=1, most=self.context, rows=1, what=f"{name} tokens"
        )
        if not at_hand(tokens):
            return tokens
        written = tokens != PAD
        if not written[:, 0].all() or (written[:, 1:] & ~written[:, :-1]).any():
            raise ValueError(
                f"{name} has a row that is empty or has padding before its end: rows are tokens, "
                f"then EOS ({EOS}), then only PAD ({PAD})"
            )
        return tokens

    def _embed(self, tokens: Tokens) -> Features:
        return self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim)

    def _read(self, source: Tensor) -> tuple[Memory, Shown]:
        """The memory of a source, and where that is no padding."""
        shown = source != PAD
        return self.net.read(self._embed(source), shown), shown

    def _scores(self, source: Tensor, target: Tensor) -> Logits:
        """Logits of the tokens from EOS on, from the same table that embeds them."""
        memory, shown = self._read(source)
        h = self.net.write(self._embed(_shifted(target)), memory, shown)
        return self._predict(h)

    def _predict(self, h: Features) -> Logits:
        return F.linear(h, self.embedding.weight[FIRST:], self.bias)

    def _step(self, token: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The logits (n, v) of the token after ``token`` (n,)."""
        h, state = self.net.step(self._embed(token[:, None]), state)
        return F.pad(self._predict(h)[:, 0], (FIRST, 0), value=-math.inf), state


def label_smoothing_loss(
    logits: Float[Tensor, "*n v"], targets: Tensor, smoothing: float, *, ignore: int = -100
) -> Scalar:
    """−(1 − ε) log p_y − (ε/V) Σ_k log p_k in nats, the mean over targets that are not ``ignore``.

    Equation: :eq:`eq-attn-labelsmooth`

    Source: Szegedy et al., CVPR 2016.
    """
    log_p = logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    counted = targets != ignore
    nll = -log_p.gather(-1, targets.masked_fill(~counted, 0)[..., None])[..., 0]
    smoothed = (1 - smoothing) * nll - smoothing * log_p.mean(-1)
    return torch.where(counted, smoothed, 0).sum() / counted.sum().clamp(min=1)


def smoothing_optimum(smoothing: float, classes: int) -> tuple[float, float]:
    """The least value H(q_ε) of the smoothed loss, in nats, and the gap of the logits there.

    The best logit of the true class is log((1 − ε + ε/V)/(ε/V)) above all others: without
    smoothing it would be infinite.

    Equation: :eq:`eq-attn-labelsmooth`
    """
    if not 0 < smoothing < 1 or classes < 2:
        raise ValueError(
            f"smoothing must be between 0 and 1 and classes at least 2, but got {smoothing} and "
            f"{classes}: without smoothing no logits are optimal"
        )
    other = smoothing / classes
    true = 1 - smoothing + other
    floor = -true * math.log(true) - (classes - 1) * other * math.log(other)
    return floor, math.log(true / other)


def _shifted(target: Tokens) -> Tokens:
    """What the decoder reads: BOS, then the target without its last token."""
    return F.pad(target[:, :-1], (1, 0), value=BOS)


def _trim(tokens: Tensor) -> Tensor:
    """Without the columns in which all rows are padding, where looking at values costs nothing."""
    if not at_hand(tokens):
        return tokens
    return tokens[:, : int((tokens != PAD).sum(1).max())]


keep_contract(globals())
