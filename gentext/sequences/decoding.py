"""Decoding: how the probabilities of the next token become text.

Each rule turns the logits of a model into those of another distribution. Temperature reshapes it,
top-k and top-p cut off its tail, beam search looks for the most probable sequence.

Notation: ``l`` logits, ``p`` their softmax, ``tau`` temperature, ``H`` entropy in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from gentext.core import at_least_single, check_counts, check_number
from gentext.core.signatures import keep_contract

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


def temper(logits: Tensor, temperature: float) -> Tensor:
    """The logits (l − max l)/τ of p_τ ∝ p^(1/τ); at 0 all mass is on the most probable token.

    They are of single precision at least, and the largest is 0: so none is too large for any τ.

    Equation: :eq:`eq-ar-temperature`
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(
            f"got temperature={temperature}; it must be 0 (always the most probable token) or above"
        )
    if temperature == 0:
        return top_k_filter(logits, 1)
    logits = at_least_single(logits)
    below = logits - logits.detach().amax(-1, keepdim=True)
    return below / max(temperature, torch.finfo(below.dtype).tiny)  # less would be 0 in this type


def entropy(logits: Tensor) -> Tensor:
    """The entropy H = −Σ p log p of softmax(logits), in nats."""
    log_p = at_least_single(logits).log_softmax(-1)
    return -(log_p.exp() * log_p.clamp(min=torch.finfo(log_p.dtype).min)).sum(-1)


def entropy_slope(logits: Tensor, temperature: float) -> Tensor:
    """dH/dτ = Var(l)/τ³ under p_τ: entropy never falls when the temperature rises.

    Equation: :eq:`eq-ar-temperature`
    """
    check_number("temperature", temperature, above=0)
    logits = temper(logits, temperature)
    p = logits.softmax(-1)
    logits = logits.masked_fill(p == 0, 0)
    mean = (p * logits).sum(-1, keepdim=True)
    variance = (p * (logits - mean) ** 2).sum(-1)  # Var(l)/τ², which is 0 in time
    return variance / max(temperature, torch.finfo(variance.dtype).tiny)


def top_k_filter(logits: Tensor, k: int) -> Tensor:
    """The logits of the ``k`` most probable tokens, −inf elsewhere; of equals, the first stay.

    Equation: :eq:`eq-ar-nucleus`
    """
    if k < 1:
        raise ValueError(f"got top_k={k}; it must be at least 1, or None to keep every token")
    kept = logits.argsort(dim=-1, descending=True, stable=True)[..., :k]
    return torch.full_like(logits, -math.inf).scatter(-1, kept, logits.gather(-1, kept))


def top_p_filter(logits: Tensor, p: float) -> Tensor:
    """The logits of the smallest set of tokens with mass at least ``p``, −inf elsewhere.

    Tokens enter in order of their probability, of equals the first: a token is kept if those before
    it have less than ``p``, and so at least one always is (Holtzman et al. 2020).

    Equation: :eq:`eq-ar-nucleus`
    """
    if not 0 < p <= 1:
        raise ValueError(f"got top_p={p}; it must be above 0 and at most 1, or None for no limit")
    if p == 1:  # whatever the sum of what is left by rounding
        return logits
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    mass = at_least_single(ordered).softmax(-1)
    before = mass.cumsum(-1) - mass
    kept = ordered.masked_fill(before >= p, -math.inf)
    return torch.empty_like(logits).scatter(-1, order, kept)


def filtered(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """The logits after temperature, then top-k, then top-p."""
    if temperature != 1:
        logits = temper(logits, temperature)
    if top_k is not None:
        logits = top_k_filter(logits, top_k)
    return logits if top_p is None else top_p_filter(logits, top_p)


def check_options(
    temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> None:
    """Raise ValueError for options that no distribution has."""
    filtered(torch.zeros(2), temperature=temperature, top_k=top_k, top_p=top_p)


def choose(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One token for each row of ``logits`` (n, v), drawn from what the options leave of them.

    At temperature 0 it is the most probable one and nothing is drawn.
    """
    if temperature == 0:
        return logits.argmax(-1)
    kept = filtered(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    probabilities = at_least_single(kept).softmax(-1)
    # What torch.multinomial does after its checks: the least of the times E/p with E ~ Exp(1).
    waits = torch.empty_like(probabilities).exponential_(generator=generator)
    return (probabilities / waits).argmax(-1)


def beam_search(
    step: Step,
    state: Any,
    first: Tensor,
    *,
    width: int,
    length: int,
    eos: int | None = None,
    length_penalty: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The most probable continuations that a search of ``width`` beams finds.

    At each step every beam is continued by every token, and the ``width`` best sums of
    log-probabilities stay; with ``width`` at least V^(length−1) nothing is lost and the result is
    the exact maximum. Finished sequences (those with ``eos``) are compared by log p divided by
    ((5 + length)/6)^``length_penalty`` (Wu et al. 2016).

    Arguments:
        step: (tokens (m,), state) -> (logits (m, v), state); m is n, then n · width.
        state: what the first step gets; the tensors in it have one row for each sequence.
        first: the token (n,) to begin after, as a rule that of the beginning of a sequence.

    Returns the best sequences (n, ≤ length), filled with ``eos`` after their end, and their
    scores (n,) in nats.

    Equation: :eq:`eq-attn-beam`
    """
    check_counts(width=width, length=length)
    n = len(first)
    logits, state = step(first, state)
    score = at_least_single(logits).new_zeros(n, 1)  # of each beam, in nats
    tokens = first.new_zeros(n, 1, 0)
    size = first.new_zeros(n, 1)  # tokens up to and with eos
    done = torch.zeros_like(size, dtype=torch.bool)
    for place in range(length):
        log_p = at_least_single(logits).log_softmax(-1).unflatten(0, (n, -1))  # (n, beams, v)
        total = score[..., None] + _once_ended(log_p, done, eos)
        grown = (size + ~done)[..., None].expand_as(total)
        ranked = (total / _penalty(grown, length_penalty)).flatten(1)
        best = ranked.topk(min(width, ranked.shape[1]), sorted=True).indices  # (n, width)
        beam, token = best // log_p.shape[-1], best % log_p.shape[-1]
        score, size = total.flatten(1).gather(1, best), grown.flatten(1).gather(1, best)
        tokens = torch.cat([_pick(tokens, beam), token[..., None]], dim=-1)
        done = done.gather(1, beam) | (token == eos if eos is not None else False)
        if place == length - 1 or bool(done.all()):
            break
        logits, state = step(token.flatten(), _reordered(state, beam, log_p.shape[1]))
    final = score / _penalty(size, length_penalty)
    winner = final.argmax(1, keepdim=True)
    return _pick(tokens, winner)[:, 0], final.gather(1, winner)[:, 0]


def _once_ended(log_p: Tensor, done: Tensor, eos: int | None) -> Tensor:
    """``log_p`` (n, beams, v), where beams that are ``done`` go on by ``eos`` alone, at no cost."""
    if eos is None:
        return log_p
    waiting = torch.full_like(log_p, -math.inf)
    waiting[..., eos] = 0.0
    return torch.where(done[..., None], waiting, log_p)


def _reordered(state: Any, beam: Tensor, beams: int) -> Any:
    """The state of the beams (n, width) that stay, of ``beams`` for each sequence."""
    rows = (beam + beams * torch.arange(len(beam), device=beam.device)[:, None]).flatten()
    return tree_map(lambda s: s.index_select(0, rows) if isinstance(s, Tensor) else s, state)


def _penalty(size: Tensor, alpha: float) -> Tensor:
    return ((5 + size) / 6) ** alpha


def _pick(tokens: Tensor, beam: Tensor) -> Tensor:
    """The rows ``beam`` (n, k) of ``tokens`` (n, b, t)."""
    return tokens.gather(1, beam[..., None].expand(-1, -1, tokens.shape[-1]))


keep_contract(globals())
