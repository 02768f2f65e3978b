"""BERT: an encoder that predicts masked tokens from both sides, and what its predictions define.

A masked language model learns conditionals p(x_i | x_{∖M}), one for each set of masked places. They
are trained apart, and nothing makes them the conditionals of one joint distribution: so there is no
``log_prob`` and no exact ``sample``, but a pseudo-likelihood and a Gibbs sampler whose distribution
may depend on the order in which places are visited.

Notation: ``x`` tokens, ``M`` the chosen places, V = ``vocab_size``; ``a`` and ``b`` two variables
of which p(a | b) and p(b | a) are given.

Its blocks are normalised first, as GPT's; the one of the paper stands in
:mod:`gentext.sequences.original_bert`.

Source: Devlin et al., NAACL 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gentext.core import (
    Model,
    at_hand,
    at_least_single,
    check_counts,
    check_dropout,
    check_heads,
    check_number,
    check_tokens,
    chosen,
    drawn_by,
    evaluating,
    in_evaluation,
    true_or_false,
)
from gentext.core.shapes import Logits, PerExample, Scalar, Tokens
from gentext.core.signatures import keep_contract
from gentext.sequences.transformer import TransformerBlock

RATE = 0.15  # share of the places that are predicted
MASKED, REPLACED = 0.8, 0.1  # of these; the rest keep their token
INITIAL_STD = 0.02  # standard deviation of the weights at the start


class BERT(Model):
    """A bidirectional Transformer encoder, trained to restore tokens that were masked.

    Args: ``vocab_size`` tokens; ``context`` the longest row; ``layers``, ``heads``, ``width``,
    ``dropout`` of the blocks; ``mask`` the token that stands for a hidden one, by default one of
    its own, numbered ``vocab_size``, that is never predicted; ``pad`` fills rows and is not read.
    """

    norm_first = True  # in each block
    ends: tuple[int, ...] = ()  # tokens that frame a text and are never predicted

    def __init__(
        self,
        *,
        vocab_size: int,
        context: int,
        layers: int = 2,
        heads: int = 4,
        width: int = 128,
        dropout: float = 0.0,
        mask: int | None = None,
        pad: int | None = None,
    ) -> None:
        super().__init__()
        check_counts(vocab_size=vocab_size, context=context, layers=layers)
        check_heads(width, heads)
        check_dropout(dropout)
        self.vocab_size, self.context, self.pad = vocab_size, context, pad
        self.mask = vocab_size if mask is None else mask
        for name, token, most in (("mask", self.mask, vocab_size), ("pad", pad, vocab_size - 1)):
            if token is not None and not 0 <= token <= most:
                raise ValueError(f"{name} must be a token from 0 to {most}, but got {token}")
        self.tokens = nn.Embedding(vocab_size + (self.mask == vocab_size), width)
        self.positions = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, dropout=dropout, norm_first=self.norm_first)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.apply(initialise)

    def encode(self, tokens: Tokens) -> Float[Tensor, "n t width"]:
        """The features of every place, which know the whole row; what fine-tuning builds on.

        As fine-tuning needs them, they are those of the mode that the model is in.
        """
        tokens = self._checked(tokens)
        x = self.dropout(self.tokens(tokens) + self.positions.weight[: tokens.shape[1]])
        return self.norm(self._through_blocks(x, tokens))

    def _through_blocks(self, x: Tensor, tokens: Tokens) -> Tensor:
        mask = None if self.pad is None else (tokens != self.pad)[:, None, None]  # (n, 1, 1, t)
        for block in self.blocks:
            x = block(x, mask=mask)
        return x

    def represent(self, tokens: Tokens) -> Float[Tensor, "n t width"]:
        """The features of every place, in the mode that the model is in."""
        return self.encode(tokens)

    def backbone(self) -> list[nn.Module]:
        """Embeddings, blocks and the last norm."""
        return [nn.ModuleList([self.tokens, self.positions]), *self.blocks, self.norm]

    def logits(self, tokens: Tokens) -> Logits:
        """Logits of the token at every place; where it is shown, they say little."""
        return F.linear(self.encode(tokens), self.tokens.weight[: self.vocab_size], self.bias)

    def loss(self, tokens: Tokens) -> Scalar:
        """−mean over M of log p(x_i | x_{∖M}) in nats, at places M drawn afresh (15 %).

        Equation: :eq:`eq-pre-mlm`
        """
        tokens = self._checked(tokens)
        corrupted, M = mlm_mask(tokens, vocab_size=self.vocab_size, mask=self.mask, pad=self.pad)
        return mlm_loss(self.logits(corrupted), tokens, M)

    @in_evaluation
    def pseudo_log_prob(self, tokens: Tokens) -> PerExample:
        """Σ_i log p(x_i | x_{∖i}) in nats: each token given all others, in one pass a place.

        It is no log-density: over all x its exponential does not sum to one, and it is log p(x)
        only where the tokens are independent. It ranks texts, and bounds nothing.

        Equation: :eq:`eq-bert-pll`

        Source: Besag, 1975; Salazar et al., ACL 2020.
        """
        tokens = self._checked(tokens)
        total = torch.zeros_like(tokens[:, 0], dtype=at_least_single(self.bias).dtype)
        for i in range(tokens.shape[1]):
            logits = self.logits(_hidden(tokens, [i], self.mask))[:, i]
            log_p = at_least_single(logits).log_softmax(-1)
            shown = _are_none_of(tokens[:, i], self.pad, *self.ends)
            x_i = torch.where(shown, tokens[:, i], 0)
            total = total + torch.where(shown, log_p.gather(1, x_i[:, None])[:, 0], 0)
        return total

    @torch.no_grad()
    def fill(self, tokens: Tokens, positions: Sequence[int]) -> Float[Tensor, "n k v"]:
        """p(x_i | the other places) for each of the k ``positions``, which are masked together.

        Each is the distribution of one token; their product is not the joint one of them all. They
        are computed in evaluation mode, without dropout.
        """
        tokens, places = self._checked(tokens), list(positions)
        if not places or not all(0 <= i < tokens.shape[1] for i in places):
            raise ValueError(
                f"got positions {places}: give at least one, from 0 to {tokens.shape[1] - 1}"
            )
        with evaluating(self):
            logits = self.logits(_hidden(tokens, places, self.mask))[:, places]
            return at_least_single(logits).softmax(-1)

    @torch.no_grad()
    def gibbs_sample(
        self,
        n: int,
        *,
        length: int,
        sweeps: int = 10,
        order: str = "random",
        tokens: Tokens | None = None,
        generator: torch.Generator | None = None,
    ) -> Tokens:
        """``n`` rows after ``sweeps`` rounds of drawing every token given all others.

        Unless the conditionals happen to be compatible, no joint distribution is sampled: what the
        rows converge to depends on ``order``, "forward", "backward" or "random" (anew in each
        round). They start from ``tokens`` (n, length), or else with all places masked.

        Source: Wang and Cho, NeuralGen workshop 2019.
        """
        visits = chosen("order", order, ORDERS)
        self._check_gibbs(n, length, sweeps)
        device = self.bias.device
        x = torch.full((n, length), self.mask, device=device)
        x = x if tokens is None else self._checked(tokens).clone()
        if x.shape != (n, length):
            raise ValueError(f"got tokens of shape {tuple(x.shape)}, but rows of ({n}, {length})")
        with evaluating(self):
            for _ in range(sweeps):
                for i in visits(length, generator):
                    logits = self.logits(_hidden(x, [i], self.mask))[:, i]
                    p = at_least_single(logits).softmax(-1)
                    x[:, i] = torch.multinomial(p, 1, generator=generator)[:, 0]
        return x

    def check(self, tokens: Tensor) -> None:
        """Raise ValueError where tokens do not fit this model."""
        self._checked(tokens)

    def _checked(self, tokens: Tensor) -> Tokens:
        """The same tokens as int64."""
        known = len(self.tokens.weight)  # the mask among them
        return check_tokens(tokens, known, least=1, most=self.context, rows=1)

    def _check_gibbs(self, n: int, length: int, sweeps: int) -> None:
        if n < 1 or sweeps < 1 or not 1 <= length <= self.context:
            raise ValueError(
                f"n and sweeps must be at least 1 and length 1 to {self.context}, but got "
                f"{n}, {sweeps} and {length}"
            )


def mlm_mask(
    tokens: Tokens,
    *,
    vocab_size: int,
    mask: int,
    rate: float = RATE,
    pad: int | None = None,
    ends: Sequence[int] = (),
    generator: torch.Generator | None = None,
) -> tuple[Tokens, Bool[Tensor, "n t"]]:
    """The tokens as the model reads them, and the places M where it is asked for the true ones.

    Places of ``pad`` and ``ends`` are never in M, others with probability ``rate``; of these 80 %
    become ``mask``, 10 % a uniformly drawn token, which may be the same, and 10 % stay. So of all
    places rate (0.8 + 0.1 (V − 1)/V) look different.

    Equation: :eq:`eq-pre-mlm`
    """
    check_number("rate", rate, above=0, most=1)
    u = torch.rand(tokens.shape, device=tokens.device, **drawn_by(generator)) / rate
    other = torch.randint(vocab_size, tokens.shape, device=tokens.device, **drawn_by(generator))
    M = (u < 1) & _are_none_of(tokens, pad, *ends)
    masked, replaced = M & (u < MASKED), M & (u >= MASKED) & (u < MASKED + REPLACED)
    corrupted = torch.where(replaced, other.to(tokens), tokens).masked_fill(masked, mask)
    return corrupted, M


def mlm_loss(logits: Logits, tokens: Tokens, M: Bool[Tensor, "n t"]) -> Scalar:
    """The mean of −log p(x_i | x_{∖M}), in nats, over the places ``M`` of all rows.

    Equation: :eq:`eq-pre-mlm`
    """
    targets = tokens.long().masked_fill(~true_or_false(M, "choice of places"), -1).flatten()
    logits = at_least_single(logits)
    total = F.cross_entropy(logits.flatten(0, 1), targets, ignore_index=-1, reduction="sum")
    return total / M.sum().clamp(min=1)


def log_odds_ratios(p: Float[Tensor, "a b"]) -> Float[Tensor, "a-1 b-1"]:
    """log p_00 p_ab / (p_0b p_a0) of a positive table: what p(a, b) and both conditionals share.

    Equation: :eq:`eq-pre-compat`
    """
    if at_hand(p) and (p <= 0).any():
        raise ValueError("got a table p with numbers that are not above 0; it must be positive")
    log_p = p.log()
    return log_p[1:, 1:] - log_p[:1, 1:] - log_p[1:, :1] + log_p[0, 0]


def incompatibility(a_given_b: Tensor, b_given_a: Tensor) -> Scalar:
    """How far two positive conditionals (a, b), both indexed [a, b], are from having a p(a, b).

    The largest difference of their log odds ratios; it is zero exactly when there is a joint
    distribution of which they are the conditionals.

    Equation: :eq:`eq-pre-compat`

    Source: Arnold and Press, Journal of the American Statistical Association, 1989.
    """
    _check_conditionals(a_given_b, b_given_a)
    return (log_odds_ratios(a_given_b) - log_odds_ratios(b_given_a)).abs().max()


def gibbs_stationary(
    a_given_b: Tensor, b_given_a: Tensor
) -> tuple[Float[Tensor, "a b"], Float[Tensor, "a b"]]:
    """What Gibbs sampling of (a, b) converges to: in rounds (a, b), and in rounds (b, a).

    Both tables (a, b) are indexed [a, b], so columns of the first and rows of the second sum to
    one. Rounds that end with b leave p(b | a) exact, the others p(a | b); where the
    conditionals are compatible, both distributions are the joint.

    Equation: :eq:`eq-pre-compat`
    """
    _check_conditionals(a_given_b, b_given_a)
    of_a = _stationary(b_given_a @ a_given_b.T)  # from a to the next a, by way of b
    of_b = _stationary(a_given_b.T @ b_given_a)
    return of_a[:, None] * b_given_a, of_b * a_given_b


def _check_conditionals(a_given_b: Tensor, b_given_a: Tensor) -> None:
    if a_given_b.shape != b_given_a.shape:
        raise ValueError(
            f"got tables of shapes {tuple(a_given_b.shape)} and {tuple(b_given_a.shape)}: "
            "index both by [a, b]"
        )
    sums = torch.cat([a_given_b.sum(0), b_given_a.sum(1)])
    if not ((sums - 1).abs() < 1e-4).all() or torch.cat([a_given_b, b_given_a]).min() <= 0:
        raise ValueError(
            "the columns of p(a | b) and the rows of p(b | a) must be positive and sum to one: "
            "index both by [a, b]"
        )


def _stationary(transition: Float[Tensor, "s s"]) -> Float[Tensor, "s"]:
    """π with π K = π and Σ π = 1: the two conditions as one regular linear system."""
    ones = torch.ones_like(transition)
    return torch.linalg.solve(torch.eye(len(ones)).to(ones) - transition.T + ones, ones[0])


def _are_none_of(tokens: Tensor, *special: int | None) -> Tensor:
    found = torch.ones_like(tokens, dtype=torch.bool)
    for token in special:
        found = found if token is None else found & (tokens != token)
    return found


def _hidden(tokens: Tokens, places: list[int], mask: int) -> Tokens:
    hidden = tokens.clone()
    hidden[:, places] = mask
    return hidden


def _shuffled(length: int, generator: torch.Generator | None) -> list[int]:
    device = "cpu" if generator is None else generator.device
    return torch.randperm(length, generator=generator, device=device).tolist()


ORDERS: dict[str, Callable[[int, torch.Generator | None], Sequence[int]]] = {
    "forward": lambda length, _: range(length),
    "backward": lambda length, _: range(length)[::-1],
    "random": _shuffled,
}


def initialise(module: nn.Module) -> None:
    """Small normal weights and no biases, as in Devlin et al.; norms keep their own."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


keep_contract(globals())
