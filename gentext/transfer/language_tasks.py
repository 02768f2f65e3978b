"""What a pre-trained encoder of texts does for other tasks: to translate, and to summarise.

An encoder such as BERT writes no text: its conditionals need not belong to one joint distribution.
It reads a source for a decoder that is trained to write, p(y | x) = Π_t p(y_t | y_<t, x), or it
says which sentences of a text to take over. What is written may also copy tokens of the source.

Notation: ``x`` source and ``y`` target; ``h`` features of the encoder, ``segments`` the sentence
that each token is in, S the most ``sentences`` of a text; ``a`` the attention of a place of the
target to those of the source, p_gen the probability that a token is not copied.

Source: Rothe et al., TACL 2020 and Liu and Lapata, EMNLP 2019 (encoders); Nallapati et al., AAAI
2017 (labels of sentences); See et al., ACL 2017 (copying).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gentext.core import (
    Model,
    OfTokens,
    Represents,
    at_hand,
    at_least_single,
    check_count,
    check_dropout,
    check_number,
    check_tokens,
    evaluating,
    in_evaluation,
    true_or_false,
    whole_numbers,
)
from gentext.core.shapes import Scalar, Tokens
from gentext.core.signatures import keep_contract
from gentext.sequences.bert import BERT
from gentext.sequences.seq2seq import Seq2Seq
from gentext.sequences.seq2seq_nets import Memory, Shown
from gentext.tokens.tokenizer import BOS, EOS, PAD, Tokenizer
from gentext.training.parts import built, described
from gentext.transfer.freezing import freeze, learn_only

Sentences = Sequence[str]


class EncoderDecoder(Seq2Seq):
    """A model of the target text given the source text, which a pre-trained encoder reads.

    log p(y | x) = Σ_t log p(y_t | y_<t, h). In all else it is a ``Seq2Seq``, whose decoder and
    embedded targets are new. The encoder given is copied and stays as it is.

    Equation: :eq:`eq-bert-decoder`

    Args: ``encoder`` such as a BERT, or as it is kept in ``arguments``, a dict of its ``class`` and
    what it is built with; ``vocab_size`` of the vocabulary that source and target share, which is
    the encoder's; ``rate`` the factor of the encoder's learning rate, 0 to leave it as it is;
    ``layers``, ``heads`` and ``dropout`` of the decoder, which is as wide as the encoder;
    ``smoothing`` ε of the targets in the loss; ``context`` the longest row.
    """

    def __init__(
        self,
        *,
        encoder: Model | dict[str, Any],
        vocab_size: int,
        rate: float = 0.1,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        smoothing: float = 0.1,
        context: int = 128,
    ) -> None:
        reader = _copied(encoder, rate)
        _check_vocabulary(reader, vocab_size)
        super().__init__(
            vocab_size=vocab_size,
            width=_width(reader),
            layers=layers,
            heads=heads,
            dropout=dropout,
            smoothing=smoothing,
            context=context,
        )
        self.encoder, self.rate = reader, rate
        self.arguments = self.arguments | {"encoder": described(reader)}
        blocks = self.net.blocks  # of which those that read are not needed
        blocks.encoder, blocks.encoder_norm = nn.ModuleList(), nn.Identity()

    def rates(self) -> dict[nn.Parameter, float]:
        """The encoder learns at ``rate`` times the common rate, the new decoder at that."""
        return _rates(self.encoder, self.rate)

    def check(self, *rows: Tensor) -> None:
        """Raise ValueError where source or target do not fit this model."""
        super().check(*rows)
        self.encoder.check(rows[0])

    def _read(self, source: Tensor) -> tuple[Memory, Shown]:
        return self.encoder.represent(source).to(self.bias.dtype), source != PAD


class Extractive(Model):
    """p(a sentence is in the summary | text) = σ(w·h + b), h the mean features of its tokens.

    The encoder reads all sentences of a text in one row. The one given is copied and stays as it
    is.

    Args: ``encoder`` such as a BERT, or a dict of its ``class`` and what it is built with;
    ``sentences`` S; ``rate`` the factor of the encoder's learning rate, 0 to leave it as it is;
    ``dropout`` of the features.
    """

    def __init__(
        self,
        *,
        encoder: Model | dict[str, Any],
        sentences: int,
        rate: float = 0.1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_count("sentences", sentences)
        check_dropout(dropout)
        self.sentences, self.rate = sentences, rate
        self.encoder = _copied(encoder, rate)
        self.arguments = self.arguments | {"encoder": described(self.encoder)}
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(_width(self.encoder), 1)

    def features(
        self, tokens: Tokens, segments: Int[Tensor, "n t"]
    ) -> Float[Tensor, "n sentences width"]:
        """The mean of h over the tokens of each sentence; 0 for those that a text does not have.

        Arguments:
            segments: the number of the sentence that a token is in, from 0; −1 for none.
        """
        h = self.encoder.represent(tokens).to(self.head.weight.dtype)
        inside = self._inside(tokens, segments).to(h)
        return inside / inside.sum(2, keepdim=True).clamp(min=1) @ h

    def logits(self, tokens: Tokens, segments: Int[Tensor, "n t"]) -> Float[Tensor, "n sentences"]:
        """w·h + b of each sentence; those of sentences that a text does not have are −∞."""
        scores = self.head(self.dropout(self.features(tokens, segments)))[..., 0]
        there = self._inside(tokens, segments).any(2)
        return at_least_single(scores).masked_fill(~there, -math.inf)

    def loss(self, tokens: Tokens, segments: Int[Tensor, "n t"], y: Tensor) -> Scalar:
        """−log p(y | text), the mean over all sentences, in nats; ``y`` (n, S) is 0 or 1."""
        logits = self.logits(tokens, segments)
        y, there = self._checked_labels(y, len(logits)), logits != -math.inf
        nll = -F.logsigmoid(torch.where(there, torch.where(y, logits, -logits), 0))
        return torch.where(there, nll, 0).sum() / there.sum().clamp(min=1)

    def rates(self) -> dict[nn.Parameter, float]:
        """The encoder learns at ``rate`` times the common rate, the head at that."""
        return _rates(self.encoder, self.rate)

    @in_evaluation
    def predict(
        self, tokens: Tokens, segments: Int[Tensor, "n t"], k: int
    ) -> Bool[Tensor, "n sentences"]:
        """True for the ``k`` most probable sentences of each text, or all where it has fewer."""
        check_count("k", k)
        logits = self.logits(tokens, segments)
        best = logits.topk(min(k, self.sentences), dim=1).indices
        chosen = torch.zeros_like(logits, dtype=torch.bool).scatter(1, best, True)
        return chosen & (logits > -math.inf)

    def check(self, tokens: Tensor, segments: Tensor, y: Tensor) -> None:
        """Raise ValueError where tokens, segments or labels do not fit this model."""
        self.encoder.check(tokens)
        self._inside(tokens, segments)
        self._checked_labels(y, len(tokens))

    def _inside(self, tokens: Tensor, segments: Tensor) -> Bool[Tensor, "n sentences t"]:
        """Whether a token is in a sentence."""
        segments = whole_numbers(segments, "segments")
        if segments.shape != tokens.shape:
            raise ValueError(
                f"got segments of shape {tuple(segments.shape)} for tokens of shape "
                f"{tuple(tokens.shape)}; give each token the number of its sentence, or -1"
            )
        if at_hand(segments) and ((segments < -1) | (segments >= self.sentences)).any():
            raise ValueError(
                f"got segments from {int(segments.min())} to {int(segments.max())}; sentences "
                f"have numbers 0 to {self.sentences - 1}, and -1 is none: build with more sentences"
            )
        return segments[:, None] == torch.arange(self.sentences, device=segments.device)[:, None]

    def _checked_labels(self, y: Tensor, n: int) -> Bool[Tensor, "n sentences"]:
        y = true_or_false(y, "table of labels")
        if y.shape != (n, self.sentences):
            raise ValueError(
                f"got labels of shape {tuple(y.shape)}; give ({n}, {self.sentences}), one for each "
                "sentence that a text may have"
            )
        return y


def sentence_rows(
    tokenizer: Tokenizer, texts: Sequence[Sentences], length: int
) -> tuple[Tokens, Tokens]:
    """Tokens and segments (n, ``length``) of texts whose sentences are given.

    A row is the tokens of all sentences, EOS and PAD; texts that are too long lose their ends.
    """
    check_count("length", length, least=2)
    texts = [_sentences(text) for text in texts]
    tokens = torch.full((len(texts), length), tokenizer.pad)
    segments = torch.full_like(tokens, -1)
    for k, text in enumerate(texts):
        parts = [tokenizer.encode(sentence, strict=False) for sentence in text]
        row = [token for part in parts for token in part][: length - 1]
        part_of = [i for i, part in enumerate(parts) for _ in part][: length - 1]
        tokens[k, : len(row) + 1] = torch.tensor([*row, tokenizer.eos])
        segments[k, : len(row)] = torch.tensor(part_of, dtype=torch.long)
    return tokens, segments


def lead(sentences: Sentences, k: int = 1) -> list[str]:
    """The first ``k`` sentences, the summary that others have to beat."""
    check_count("k", k)
    return _sentences(sentences)[:k]


def oracle_extract(
    sentences: Sentences, reference: str, k: int, score: Callable[[list[str], list[str]], Any]
) -> list[int]:
    """The numbers of up to ``k`` sentences that summarise best, found one after the other.

    Each is the one that raises F of all that are chosen, in their order, the most; it ends where
    none does. So a summary of one sentence is the best there is, one of several need not be.

    Arguments:
        score: what has F of texts and their references as its ``f``: ``rouge_l``, ``rouge_n``.

    Source: Nallapati et al., AAAI 2017.
    """
    check_count("k", k)
    sentences, chosen, most = _sentences(sentences), list[int](), 0.0
    while len(chosen) < min(k, len(sentences)):
        larger = [sorted([*chosen, i]) for i in range(len(sentences)) if i not in chosen]
        made = [" ".join(sentences[i] for i in some) for some in larger]
        f = score(made, [reference] * len(made)).f.tolist()
        if max(f) <= most:
            break
        most, chosen = max(f), larger[f.index(max(f))]
    return chosen


def copy_log_prob(
    log_p: Float[Tensor, "n t v"],
    attention: Float[Tensor, "n t s"],
    source: Int[Tensor, "n s"],
    gate: Float[Tensor, "n t"],
) -> Float[Tensor, "n t v"]:
    """log p(y) of p(y) = p_gen p_vocab(y) + (1 − p_gen) Σ_{j: x_j = y} a_j, in nats.

    It sums to one as p_vocab and the attention do; tokens that neither gives are at −∞.

    Arguments:
        log_p: log p_vocab of every token; attention: a, which is 0 where the source is padding.
        source: the tokens x that can be copied; gate: the logit of p_gen.

    Equation: :eq:`eq-bert-copy`

    Source: See et al., ACL 2017.
    """
    log_p, attention, gate = map(at_least_single, (log_p, attention, gate))
    source = check_tokens(source, log_p.shape[-1], what="source tokens")
    places = source[:, None].expand(attention.shape)
    copied = torch.zeros_like(log_p).scatter_add(2, places, attention.to(log_p))
    never = copied == 0
    log_copied = copied.masked_fill(never, 1).log()
    least = torch.finfo(log_p.dtype).min / 4  # for −∞: the gradient of two such would be NaN
    written = F.logsigmoid(gate)[..., None] + log_p
    read = F.logsigmoid(-gate)[..., None] + log_copied.masked_fill(never, least)
    return torch.logaddexp(written, read).masked_fill(never & (log_p == -math.inf), -math.inf)


def _sentences(text: Sentences) -> list[str]:
    if isinstance(text, str):
        raise ValueError(f"got the text {text[:20]!r}; give the list of its sentences")
    return list(text)


def _copied(encoder: Model | dict[str, Any], rate: float) -> Any:
    """A copy of the encoder, of which the features learn, or nothing where ``rate`` is 0."""
    check_number("rate", rate, least=0, most=1)
    own = copy.deepcopy(built(encoder))
    if not (isinstance(own, Represents) and isinstance(own, OfTokens)):
        raise ValueError(
            f"a {type(own).__name__} has no features of tokens that can be trained further: give a "
            "pre-trained encoder of texts, such as a BERT"
        )
    reader: Any = own
    if rate == 0:
        return freeze(reader)
    learn_only(reader, reader.backbone())
    return reader


def _check_vocabulary(encoder: Any, vocab_size: int) -> None:
    """Raise ValueError where the encoder reads other tokens than a ``Seq2Seq`` writes."""
    ends = encoder.ends if isinstance(encoder, BERT) and encoder.ends else (BOS, EOS)
    if (encoder.vocab_size, encoder.pad, set(ends)) != (vocab_size, PAD, {BOS, EOS}):
        raise ValueError(
            f"got vocab_size={vocab_size}, but the encoder was trained on another vocabulary, of "
            f"{encoder.vocab_size} tokens with pad={encoder.pad} and ends {tuple(ends)}: make "
            f"source and target by the encoder's tokenizer, with pad={PAD} and ends {(BOS, EOS)}"
        )


def _width(encoder: Any) -> int:
    """How many features a token has."""
    token = next(encoder.parameters()).new_full((1, 1), EOS, dtype=torch.long)
    with evaluating(encoder), torch.no_grad():
        return int(encoder.represent(token).shape[-1])


def _rates(encoder: Any, rate: float) -> dict[nn.Parameter, float]:
    return {p: rate for part in encoder.backbone() for p in part.parameters()} if rate < 1 else {}


keep_contract(globals())
