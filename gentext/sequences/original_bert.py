"""BERT as it was published: pairs of texts, blocks with their norms last, two tasks at a time.

A row is ``[CLS] a [SEP] b [SEP]``, and each of its places knows in which of the two texts it is.
The model restores masked tokens, and says of b whether it follows a, from the features of the first
place. :mod:`gentext.sequences.bert_weights` reads the weights of others into it;
:mod:`gentext.tokens.framing` makes the rows.

Notation: ``tokens`` and ``segments`` (n, t), 0 at the places of a and 1 at those of b; ``follows``
(n,), 1 where b follows a; ``M`` the chosen places.

Source: Devlin et al., NAACL 2019.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from gentext.core import at_least_single, check_labels, check_tokens, whole_numbers
from gentext.core.shapes import Logits, Scalar, Tokens
from gentext.core.signatures import keep_contract
from gentext.sequences.bert import BERT, initialise, mlm_loss, mlm_mask
from gentext.sequences.transformer import FeedForward

SEGMENTS = 2
EPS = 1e-12  # of every normalisation
FOLLOWS, ELSEWHERE = 0, 1  # the columns of the logits of the next sentence


class OriginalBERT(BERT):
    """The encoder of Devlin et al., of the size "base" where no other is given.

    ``fill``, ``pseudo_log_prob`` and ``gibbs_sample`` read a row as one text, of segment 0.

    Args: ``vocab_size`` tokens; ``context`` the longest row; ``layers``, ``heads``, ``width``,
    ``dropout`` of the blocks; ``mask`` the token that stands for a hidden one, by default one of
    its own; ``pad`` fills rows and is not read; ``ends`` the numbers of [CLS] and [SEP], which are
    never to be predicted.
    """

    norm_first = False

    def __init__(
        self,
        *,
        vocab_size: int,
        context: int = 512,
        layers: int = 12,
        heads: int = 12,
        width: int = 768,
        dropout: float = 0.1,
        mask: int | None = None,
        pad: int | None = 0,
        ends: Sequence[int] = (),
    ) -> None:
        super().__init__(
            vocab_size=vocab_size,
            context=context,
            layers=layers,
            heads=heads,
            width=width,
            dropout=dropout,
            mask=mask,
            pad=pad,
        )
        self.ends = tuple(ends)
        if not all(0 <= token < vocab_size for token in self.ends):
            raise ValueError(f"got ends={self.ends}; they must be tokens, 0 to {vocab_size - 1}")
        self.segments = nn.Embedding(SEGMENTS, width)
        self.pooler = nn.Linear(width, width)
        self.transform, self.transform_norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.next_sentence = nn.Linear(width, 2)
        for added in (self.segments, self.pooler, self.transform, self.next_sentence):
            initialise(added)
        for part in self.modules():
            if isinstance(part, FeedForward):
                part.dropout.p = 0.0  # only embeddings, sums and attention have dropout
            if isinstance(part, nn.LayerNorm):
                part.eps = EPS

    def encode(self, tokens: Tokens, segments: Tokens | None = None) -> Float[Tensor, "n t width"]:
        """The features of every place, in the mode that the model is in.

        Arguments:
            segments: 0 at places of the first text, 1 at those of the second; 0 if not given.
        """
        tokens = self._checked(tokens)
        segments = self._checked_segments(tokens, segments)
        places = self.positions.weight[: tokens.shape[1]]
        x = self.tokens(tokens) + self.segments(segments) + places
        return self._through_blocks(self.dropout(self.norm(x)), tokens)

    def backbone(self) -> list[nn.Module]:
        """Embeddings with their norm, and blocks; the pooler and both heads are of other tasks."""
        embeddings = [self.tokens, self.segments, self.positions, self.norm]
        return [nn.ModuleList(embeddings), *self.blocks]

    def pooled(self, tokens: Tokens, segments: Tokens | None = None) -> Float[Tensor, "n width"]:
        """tanh(W h + b) of the features h of the first place, which stands for the whole row.

        Like the features, it is in the mode that the model is in.
        """
        return self._pooled(self.encode(tokens, segments))

    def logits(self, tokens: Tokens, segments: Tokens | None = None) -> Logits:
        """Logits of the token at every place; where it is shown, they say little."""
        return self._logits(self.encode(tokens, segments))

    def next_sentence_logits(
        self, tokens: Tokens, segments: Tokens | None = None
    ) -> Float[Tensor, "n 2"]:
        """Logits of that the second text follows the first, and of that it is from elsewhere."""
        return self.next_sentence(self.pooled(tokens, segments))

    def loss(
        self,
        tokens: Tokens,
        segments: Tokens | None = None,
        follows: Int[Tensor, "n"] | None = None,
    ) -> Scalar:
        """−mean over M of log p(x_i | x_{∖M}), and −mean log p(follows) where that is given; nats.

        Both are of the same corrupted rows, in which the places M were drawn afresh (15 %).

        Equation: :eq:`eq-bert-loss`
        """
        tokens, ends = self._checked(tokens), self.ends
        corrupted, M = mlm_mask(
            tokens, vocab_size=self.vocab_size, mask=self.mask, pad=self.pad, ends=ends
        )
        features = self.encode(corrupted, segments)
        loss = mlm_loss(self._logits(features), tokens, M)
        if follows is None:
            return loss
        target = ELSEWHERE + (FOLLOWS - ELSEWHERE) * whole_numbers(follows, "labels")
        logits = self.next_sentence(self._pooled(features))
        return loss + F.cross_entropy(at_least_single(logits), target)

    def check(
        self, tokens: Tensor, segments: Tensor | None = None, follows: Tensor | None = None
    ) -> None:
        """Raise ValueError where tokens, segments or labels do not fit this model."""
        self._checked_segments(self._checked(tokens), segments)
        if follows is not None:
            check_labels(follows, len(tokens), 2)

    def _logits(self, features: Tensor) -> Logits:
        x = self.transform_norm(F.gelu(self.transform(features)))
        return F.linear(x, self.tokens.weight[: self.vocab_size], self.bias)

    def _pooled(self, features: Tensor) -> Tensor:
        return self.pooler(features[:, 0]).tanh()

    def _checked_segments(self, tokens: Tensor, segments: Tensor | None) -> Tokens:
        """The same segments as int64, of which there is one for each token."""
        if segments is None:
            return torch.zeros_like(tokens)
        segments = check_tokens(segments, SEGMENTS, what="segments")
        if segments.shape != tokens.shape:
            raise ValueError(
                f"got segments of shape {tuple(segments.shape)} for tokens of shape "
                f"{tuple(tokens.shape)}; give each token its segment, 0 or 1"
            )
        return segments


keep_contract(globals())
