"""Masked diffusion: tokens are hidden one by one at random, and a network learns to restore them.

Each token of x_0 is replaced by a mask with probability 1 − α_t, apart from all others. On the way
back a masked token is drawn from the network's prediction and then stays. The bound of the
likelihood is that of BERT's loss, averaged over all numbers of masks, whatever the schedule. It is
also the log-likelihood of an autoregressive model, averaged over all orders of the tokens.

The network is not told the time. It sees which tokens are masked, and since they were chosen
without regard to what they are, p(x_0 | x_t) is p(x_0 | the tokens shown), at every time alike.

Notation: ``x`` tokens (n, t), V = ``vocab_size`` the mask ([MASK] or m in papers); L the length of
a row; ``masked`` M the masked places, ``k`` their number; α_t the share that is shown at the time
t, ``masking.shown``; ``order`` π.

Source: Austin et al., NeurIPS 2021; Sahoo et al., NeurIPS 2024; Shi et al., NeurIPS 2024; Ou et
al., ICLR 2025; for orders Uria et al., ICML 2014, and Hoogeboom et al., ICLR 2022.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gentext.core import (
    Model,
    at_hand,
    at_least_single,
    check_count,
    check_counts,
    check_dropout,
    check_heads,
    check_tokens,
    evaluating,
    in_evaluation,
)
from gentext.core.shapes import PerExample, Scalar, Tokens
from gentext.core.signatures import keep_contract
from gentext.denoising import masking
from gentext.denoising.masking import Order
from gentext.sequences import decoding
from gentext.sequences.transformer import TransformerBlock

DRAWN_MASKS = 32  # for each example of the bound, unless told
EXAMPLES_PER_PASS = 256  # of the network, when nothing is trained
EMBEDDING_STD = 0.02  # of the embeddings at the start


class MaskedDiffusion(Model):
    """A distribution over rows of tokens by a Transformer that predicts masked ones from the rest.

    Padding is a token like any other here: it says where a text ends.

    Args: ``vocab_size`` tokens; ``context`` the length of rows; ``layers``, ``heads``, ``width``,
    ``dropout`` of the blocks; ``grid`` (rows, columns) where the places are those of an image, for
    positions by row and column.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        context: int,
        layers: int = 2,
        heads: int = 4,
        width: int = 128,
        dropout: float = 0.0,
        grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_counts(vocab_size=vocab_size, context=context, layers=layers)
        check_heads(width, heads)
        check_dropout(dropout)
        if grid is not None and (len(grid) != 2 or math.prod(grid) != context or min(grid) < 1):
            raise ValueError(
                f"got grid={tuple(grid)}; it must be rows and columns of context={context} places"
            )
        self.vocab_size, self.context, self.mask = vocab_size, context, vocab_size
        self.tokens = nn.Embedding(vocab_size + 1, width)
        self.positions = nn.ParameterList(
            torch.empty(size, width) for size in ((context,) if grid is None else grid)
        )
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, dropout=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        for table in (self.tokens.weight, *self.positions):
            nn.init.normal_(table, std=EMBEDDING_STD)

    def logits(
        self, tokens: Tokens, places: Int[Tensor, "n k"] | None = None
    ) -> Float[Tensor, "n k v"]:
        """Logits of the true token at every place, or at ``places`` alone; masks are V."""
        x = self.dropout(self.tokens(tokens) + self._positions()[: tokens.shape[1]])
        for block in self.blocks:
            x = block(x)
        if places is not None:  # elsewhere the widest map of all is spared
            x = x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))
        return F.linear(self.norm(x), self.tokens.weight[: self.vocab_size], self.bias)

    def _positions(self) -> Tensor:
        """(context, width), on a grid the sum of a row's and a column's."""
        if len(self.positions) == 1:
            return self.positions[0]
        rows, columns = self.positions
        return (rows[:, None] + columns).flatten(0, 1)

    def loss(self, tokens: Tokens) -> Scalar:
        """The negative bound for each token, by one draw of masks, in nats; the batch's mean.

        Equation: :eq:`eq-diff-mask`
        """
        return -self._bound(self._checked(tokens), 1).mean() / tokens.shape[1]

    def elbo(
        self,
        tokens: Tokens,
        *,
        draws: int = DRAWN_MASKS,
        steps: int | None = None,
        schedule: str = "linear",
        generator: torch.Generator | None = None,
    ) -> PerExample:
        """A lower bound of log p(x) in nats: E_k E_M of ``term``, by ``draws`` masks an example.

        k is uniform on 1 to L, which is all that the integral over t says of it, and M any k
        places. The draws are right on average, and stratified as ``masking.draw_masks`` says.

        With ``steps`` it bounds log p(x) of what ``sample`` draws in so many steps of ``schedule``:
        then k is distributed as ``masking.counts``.

        Equation: :eq:`eq-diff-mask`
        """
        tokens = self._checked(tokens)
        check_count("draws", draws)
        p_k = None if steps is None else masking.counts(tokens.shape[1], steps, schedule)
        with evaluating(self):
            return self._bound(tokens, draws, p_k, generator)

    def _bound(
        self, tokens: Tokens, draws: int, p_k: Tensor | None = None, generator: Any = None
    ) -> PerExample:
        """The same in the mode that the network is in.

        Equation: :eq:`eq-diff-mask`
        """
        masks = masking.draw_masks(tokens, draws, p_k, generator)
        return torch.stack([self._term(tokens, masked) for masked in masks]).mean(0)

    @in_evaluation
    def term(self, tokens: Tokens, masked: Bool[Tensor, "n t"]) -> PerExample:
        """L times the mean over M, where ``masked``, of log p(x_i | x_{∖M}), in nats.

        Equation: :eq:`eq-diff-mask`
        """
        tokens = self._checked(tokens)
        fits = masked.dtype == torch.bool and masked.shape == tokens.shape
        if not fits or (at_hand(masked) and not masked.any(1).all()):
            raise ValueError(
                f"got masked of {masked.dtype} and shape {tuple(masked.shape)} for tokens "
                f"{tuple(tokens.shape)}; give True or False for each, True in every row"
            )
        return self._term(tokens, masked)

    def _term(self, tokens: Tokens, masked: Bool[Tensor, "n t"]) -> PerExample:
        """The same in the mode that the network is in."""
        if len(tokens) > EXAMPLES_PER_PASS and not torch.is_grad_enabled():
            parts = zip(
                tokens.split(EXAMPLES_PER_PASS), masked.split(EXAMPLES_PER_PASS), strict=True
            )
            return torch.cat([self._term(*part) for part in parts])
        logits = self.logits(tokens.masked_fill(masked, self.mask))
        targets = tokens.masked_fill(~masked, -1).flatten()
        logits = at_least_single(logits).flatten(0, 1)
        nats = F.cross_entropy(logits, targets, ignore_index=-1, reduction="none")
        return -tokens.shape[1] * nats.view(tokens.shape).sum(1) / masked.sum(1)

    def any_order_log_prob(self, tokens: Tokens, order: Sequence[int] | Tensor) -> PerExample:
        """log p(x) in nats if the places are filled one at a time in ``order``, (t,) or (n, t).

        It takes as many passes as there are places. Its mean over all orders is the bound. The mean
        of its exponentials is p(x) of ``sample`` in random order, one token at a time.

        Equation: :eq:`eq-conn-oaarm`
        """
        tokens = self._checked(tokens)
        x = torch.full_like(tokens, self.mask)
        total = torch.zeros_like(tokens[:, 0], dtype=at_least_single(self.bias).dtype)
        for places in masking.permutation(order, tokens).split(1, dim=1):
            true = tokens.gather(1, places)
            with evaluating(self):
                log_p = at_least_single(self.logits(x, places)[:, 0]).log_softmax(1)
            total = total + log_p.gather(1, true)[:, 0]
            x = x.scatter(1, places, true)
        return total

    def sample(
        self,
        n: int,
        *,
        steps: int | None = None,
        tokens: Int[Tensor, "given t"] | None = None,
        order: Order = "random",
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> Tokens:
        """``n`` rows, or those of ``tokens`` (n, t) or (1, t) with every mask V in them filled.

        Arguments:
            steps: passes of the network, None for one token at a time; what is drawn in the same
                step is drawn as if independent.
            order: "random", in which each of the ``steps`` fills every mask by itself with the
                probability ``masking.reveal``; "confidence", first where the network is surest; or
                the places (t,) or (n, t) in the order in which they are to be filled.
            options: ``forbid``, tokens that are not to be drawn; ``schedule``; ``temperature``,
                ``top_k`` and ``top_p`` of ``decoding``.

        How sure the network is shows before anything is drawn: with the true conditionals, one
        token at a time is exact in every order, this one too.
        """
        how: dict[str, Any] = {"steps": steps, "tokens": tokens, "order": order, **options}
        return deque(self.trajectory(n, generator=generator, **how), maxlen=1).pop()

    @torch.no_grad()
    def trajectory(
        self,
        n: int,
        *,
        steps: int | None = None,
        tokens: Int[Tensor, "given t"] | None = None,
        order: Order = "random",
        schedule: str = "linear",
        forbid: Sequence[int] = (),
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> Iterator[Tokens]:
        """The rows of ``sample`` before the first step and after each; V where they are masked.

        Equation: :eq:`eq-diff-maskstep`
        """
        decoding.check_options(**options)
        self._check_forbidden(forbid)
        x = self._masked_rows(n, tokens)
        chances = masking.reveal(*masking.times(1 if steps is None else steps), schedule).tolist()
        queue = masking.queue(x == self.mask, order, generator)

        def predict(x: Tensor, places: Tensor | None = None) -> Tensor:
            return self._predict(x, forbid, places)

        def choose(logits: Tensor) -> Tensor:
            drawn = decoding.choose(logits.flatten(0, 1), generator=generator, **options)
            return drawn.view(logits.shape[:2])

        yield x
        if steps is not None and isinstance(order, str) and order == "random":
            yield from masking.fill_by_chance(x, self.mask, chances, predict, choose, generator)
            return
        gaps = x.shape[1] if tokens is None else int((x == self.mask).sum(1).max())
        numbers = masking.count_masked(gaps, steps or gaps, schedule)
        yield from masking.fill_in_order(x, self.mask, numbers, queue, predict, choose)

    def _predict(self, x: Tensor, forbid: Sequence[int], places: Tensor | None = None) -> Tensor:
        """The logits without dropout, and without the tokens to ``forbid``."""
        with evaluating(self):
            logits = self.logits(x, places)
        if not forbid:
            return logits
        return logits.index_fill(-1, torch.tensor([*forbid], device=x.device), -math.inf)

    def generate(
        self,
        tokens: Tokens,
        n: int,
        *,
        steps: int | None = None,
        stop: int | None = None,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> Int[Tensor, "n all"]:
        """The prompts ``tokens`` (batch, t), each with ``n`` more; ``options`` as in ``sample``.

        Rows are drawn whole and then cut. After a ``stop`` they are filled with it.
        """
        tokens = self._checked(tokens, self.mask, least=0)
        begun = tokens.shape[1]
        rest = self.context - begun
        if not 0 <= n <= rest:
            raise ValueError(
                f"got {begun} tokens and n={n} more, but the rows of this model have "
                f"{self.context}: ask for 0 to {rest} more"
            )
        rows = F.pad(tokens, (0, rest), value=self.mask)
        how: dict[str, Any] = {"steps": steps, "tokens": rows, **options}
        x = self.sample(len(rows), generator=generator, **how)[:, : begun + n]
        if stop is None:
            return x
        ended = (x[:, begun:] == stop).cumsum(1) > 0
        return torch.cat([x[:, :begun], torch.where(ended, stop, x[:, begun:])], dim=1)

    def check(self, tokens: Tensor) -> None:
        """Raise ValueError unless these are rows of tokens that fit this model."""
        self._checked(tokens)

    def _checked(self, tokens: Tensor, most: int | None = None, *, least: int = 1) -> Tokens:
        """The same tokens as int64, which are at most ``most``, by default no masks."""
        known = self.vocab_size if most is None else most + 1
        return check_tokens(tokens, known, least=least, most=self.context, rows=1)

    def _masked_rows(self, n: int, tokens: Tensor | None) -> Tensor:
        """What ``sample`` begins with."""
        if n < 1 or (tokens is not None and len(tokens) not in (1, n)):
            given = "none" if tokens is None else f"{len(tokens)} rows"
            raise ValueError(f"got n={n} and {given} of tokens; give n >= 1, and n rows or one")
        if tokens is None:
            return torch.full((n, self.context), self.mask, device=self.bias.device)
        return self._checked(tokens, self.mask).expand(n, -1).clone()

    def _check_forbidden(self, forbid: Sequence[int]) -> None:
        if not all(0 <= token < self.vocab_size for token in forbid):
            raise ValueError(
                f"got forbid={list(forbid)}; these must be tokens from 0 to {self.vocab_size - 1}"
            )
        if len(set(forbid)) == self.vocab_size:
            raise ValueError("forbid names all tokens of the vocabulary: leave one at least")


keep_contract(globals())
