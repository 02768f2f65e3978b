"""Autoregressive models: log p(x) = Σ_t log p(x_t | x_<t), by any network that sees only the past.

The chain rule makes a distribution over sequences out of one over the next token: it is normalised
without any constant to compute, its likelihood is exact, and drawing goes token by token. What the
networks of the following modules share is here.

Notation: ``x`` tokens (n, t); ``v`` the size of the vocabulary; ``log_p`` in nats.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gentext.core import (
    Model,
    at_least_single,
    check_count,
    check_tokens,
    evaluating,
    in_evaluation,
)
from gentext.core.shapes import Logits, PerExample, Scalar, Tokens
from gentext.core.signatures import keep_contract
from gentext.sequences import decoding


class Autoregressive(Model):
    """A distribution over sequences of tokens by a causal network, the same for every place.

    Every sequence is read after the token ``bos``. Subclasses set the four attributes and define
    ``logits``; for generation in linear time they also define ``begin`` and ``step``.

    Attributes:
        vocab_size: how many tokens there are, 0 to vocab_size − 1; bos: the one before the first.
        pad: the one that fills rows up and counts nothing, or None.
        context: how many tokens the network can read, ``bos`` among them; None for any number.

    Equation: :eq:`eq-ar-chain`
    """

    vocab_size: int
    bos: int
    pad: int | None = None
    context: int | None = None

    def logits(self, tokens: Tokens) -> Logits:
        """The unnormalised log-probabilities of the token after each place of ``tokens``.

        Place t sees tokens 0 to t only. Nothing is put before them: give ``bos`` yourself.
        """
        raise NotImplementedError

    def begin(self, n: int, capacity: int) -> Any:
        """An empty memory for ``n`` sequences of at most ``capacity`` tokens."""
        raise NotImplementedError

    def step(self, token: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read one more token (n,); gives the logits (n, v) of the next, and the memory with it."""
        raise NotImplementedError

    def read(self, tokens: Tokens, state: Any) -> tuple[Tensor, Any]:
        """Read the tokens (n, t) one after the other; gives what the last ``step`` does."""
        logits = torch.empty(0)
        for token in tokens.unbind(1):
            logits, state = self.step(token, state)
        return logits, state

    def check(self, *batch: Tensor) -> None:
        """Raise ValueError unless the rows are tokens of this vocabulary that fit the context."""
        for tokens in batch:
            self.check_tokens(tokens, least=1)

    def check_tokens(self, tokens: Tensor, room: int = 0, *, least: int = 0) -> Tensor:
        """``tokens`` as int64; ValueError unless they are in the vocabulary, ``least`` a row.

        They must leave ``room`` for more. Values are looked at where that costs nothing.
        """
        tokens = check_tokens(tokens, self.vocab_size, least=least, rows=min(least, 1))
        if self.context is not None and tokens.shape[1] + room > self.context:
            raise ValueError(
                f"got {tokens.shape[1]} tokens, but this model reads at most "
                f"{self.context - room}: cut them, as in tokens[:, -{self.context - room}:]"
            )
        return tokens

    @in_evaluation
    def log_probs(self, tokens: Tokens) -> Tensor:
        """log p(x_t | x_<t) of each token, (n, t) in nats; 0 where it is ``pad``.

        One pass gives all of them, since each place of the network sees the true past: this
        (teacher forcing) is the likelihood itself.
        """
        return self._log_probs(self.check_tokens(tokens, least=1))

    def _log_probs(self, tokens: Tokens) -> Tensor:
        """The same in the mode that the model is in."""
        before = torch.cat([tokens.new_full((len(tokens), 1), self.bos), tokens[:, :-1]], dim=1)
        loss = torch.nn.functional.cross_entropy(
            at_least_single(self.logits(before)).flatten(0, 1),
            tokens.flatten(),
            ignore_index=-100 if self.pad is None else self.pad,
            reduction="none",
        )
        return -loss.view(tokens.shape)

    def log_prob(self, tokens: Tokens) -> PerExample:
        """log p(x) = Σ_t log p(x_t | x_<t), exact, in nats.

        Equation: :eq:`eq-ar-chain`
        """
        return self.log_probs(tokens).sum(1)

    def loss(self, tokens: Tokens) -> Scalar:
        """The mean of −log p(x_t | x_<t) over all tokens but ``pad``, in nats."""
        tokens = self.check_tokens(tokens, least=1)
        total = -self._log_probs(tokens).sum()
        count = tokens.numel() if self.pad is None else (tokens != self.pad).sum().clamp(min=1)
        return total / count

    def sample(
        self, n: int, *, length: int | None = None, generator: torch.Generator | None = None
    ) -> Tokens:
        """``n`` sequences drawn from the model, of ``length`` tokens (by default the context's)."""
        length = (self.context or 256) if length is None else length
        check_count("n", n)
        check_count("length", length)
        empty = torch.empty(n, 0, dtype=torch.long, device=next(self.parameters()).device)
        return self.generate(empty, length, generator=generator)

    def generate(
        self,
        tokens: Tensor,
        n: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        cache: bool = True,
        stop: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tokens:
        """The prompts ``tokens`` (batch, t), t ≥ 0, each continued by up to ``n`` tokens.

        When the context is full, the model goes on with ``bos`` and the newer half of what it had
        read. Once a row has drawn ``stop`` it is filled up with it, and when all have, nothing more
        is drawn.

        Arguments:
            temperature: 0 for always the most probable token; top_k, top_p: see ``decoding``.
            cache: whether to keep what was computed for earlier tokens. Both ways give the same
                tokens; without, every new token costs a pass over all before it.

        Raises ValueError for options that make no distribution and prompts that do not fit.
        """
        decoding.check_options(temperature, top_k, top_p)
        tokens = self.check_tokens(tokens, room=1)
        check_count("n", n, 0)
        options: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        with evaluating(self), torch.inference_mode():
            written = self._generate(tokens, n, cache, stop, generator, options)
        return written.clone()  # outside, so that gradients may be taken with them

    def _generate(
        self,
        tokens: Tensor,
        n: int,
        cache: bool,
        stop: int | None,
        generator: torch.Generator | None,
        options: dict[str, Any],
    ) -> Tensor:
        reader = _Cached(self, tokens, n) if cache else _Uncached(self, tokens)
        rows, done = [tokens], None
        for place in range(n):
            token = decoding.choose(reader.logits, generator=generator, **options)
            if stop is not None:
                token = token if done is None else torch.where(done, stop, token)
                done = token == stop
            rows.append(token[:, None])
            if place == n - 1 or (done is not None and bool(done.all())):
                break
            reader.read(token)
        return torch.cat(rows, dim=1)


class _Uncached:
    """Reads the whole window anew for each token."""

    def __init__(self, model: Autoregressive, prompt: Tensor) -> None:
        self.model = model
        self.window = _after_bos(model, prompt)
        self.logits = model.logits(self.window)[:, -1]

    def read(self, token: Tensor) -> None:
        if self.window.shape[1] == self.model.context:
            self.window = _newer_half(self.model, self.window)
        self.window = torch.cat([self.window, token[:, None]], dim=1)
        self.logits = self.model.logits(self.window)[:, -1]


class _Cached:
    """Reads each token once, but for those that are read again when the context was full."""

    def __init__(self, model: Autoregressive, prompt: Tensor, n: int) -> None:
        self.model, self.capacity = model, prompt.shape[1] + n
        if model.context is not None:
            self.capacity = min(self.capacity, model.context)
        self._fill(_after_bos(model, prompt))

    def _fill(self, window: Tensor) -> None:
        self.window = [*window.unbind(1)]
        empty = self.model.begin(len(window), self.capacity)
        self.logits, self.state = self.model.read(window, empty)

    def read(self, token: Tensor) -> None:
        if len(self.window) == self.model.context:
            kept = _newer_half(self.model, torch.stack(self.window, dim=1))
            self._fill(torch.cat([kept, token[:, None]], dim=1))
        else:
            self.window.append(token)
            self.logits, self.state = self.model.step(token, self.state)


def _after_bos(model: Autoregressive, tokens: Tensor) -> Tensor:
    return torch.cat([tokens.new_full((len(tokens), 1), model.bos), tokens], dim=1)


def _newer_half(model: Autoregressive, window: Tensor) -> Tensor:
    """``bos`` and the newer half of the other tokens of a full window."""
    return _after_bos(model, window[:, 1 + window.shape[1] // 2 :])


def perplexity(log_p: Tensor, tokens: int) -> Tensor:
    """e^(−log p/N): of how many equally probable tokens one was to be guessed, on average.

    ``log_p`` is the log-probability in nats of ``tokens`` tokens in all.

    Equation: :eq:`eq-ar-ppl`
    """
    check_count("tokens", tokens)
    return torch.exp(-log_p / tokens)


def bits_per_char(log_p: Tensor, characters: int) -> Tensor:
    """−log p/(N ln 2): bits for each character, whatever the tokens were.

    Equation: :eq:`eq-ar-ppl`
    """
    check_count("characters", characters)
    return -log_p / (characters * math.log(2))


@torch.no_grad()
def stream_log_prob(
    model: Autoregressive, stream: Tensor, *, window: int | None = None, stride: int | None = None
) -> Tensor:
    """log p of one long text (t,), each token given at least window − stride tokens before it.

    The windows, of ``window`` tokens after ``bos``, begin every ``stride`` tokens; each adds the
    log-probabilities of the tokens that the one before did not reach. In nats, for each token (t,).
    """
    window = (model.context or 1024) if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if stream.ndim != 1 or not len(stream):
        raise ValueError(
            f"got a stream of shape {tuple(stream.shape)}; give the tokens (t,) of one text, at "
            "least one"
        )
    if not 1 <= stride <= window:
        raise ValueError(f"got stride={stride}; it must be from 1 to the window, {window}")
    parts, reached = [], 0
    with evaluating(model):
        for start in range(0, len(stream), stride):
            log_p = model.log_probs(stream[None, start : start + window])[0]
            parts.append(log_p[reached - start :])
            reached = min(start + window, len(stream))
            if reached == len(stream):
                break
    return torch.cat(parts)


keep_contract(globals())
