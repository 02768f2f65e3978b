"""Speculative decoding: a small model drafts what a large one verifies, several tokens at a pass.

Notation: ``p`` the probabilities of the model, ``q`` those of the draft, (…, v) for the next token.

Source: Leviathan et al., ICML 2023.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gentext.core import evaluating
from gentext.core.shapes import Tokens
from gentext.core.signatures import keep_contract
from gentext.sequences import decoding
from gentext.sequences.gpt import GPT, State


def acceptance(p: Tensor, q: Tensor) -> Tensor:
    """min(1, p/q): with which probability each token (…, v) that the draft drew is kept.

    Under q that is Σ min(p, q) = 1 − TV(p, q) on average.

    Equation: :eq:`eq-gpt-specdec`
    """
    return torch.where(q > 0, p / q, 1.0).clamp(max=1)


def residual(p: Tensor, q: Tensor) -> Tensor:
    """(p − q)₊ normalised: the distribution (…, v) of what replaces a rejected token.

    Where p = q nothing is rejected, and it is p.

    Equation: :eq:`eq-gpt-specdec`
    """
    above = (p - q).clamp(min=0)
    total = above.sum(-1, keepdim=True)
    return torch.where(total > 0, above / total, p)


@torch.no_grad()
def generate(
    model: GPT,
    draft: GPT,
    tokens: Tokens,
    n: int,
    *,
    ahead: int = 4,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, float]:
    """What ``model.generate(tokens, n)`` would draw, in fewer passes; and the share that was kept.

    The draft proposes ``ahead`` tokens, one pass of the model gives its probabilities at all of
    them, and they are kept up to the first that is rejected in any row; there, one is drawn from
    the residual. Whatever the draft, the distribution is the model's; a bad draft only saves
    nothing.

    Raises ValueError where prompt and ``n`` tokens exceed a context, or vocabularies differ.

    Equation: :eq:`eq-gpt-specdec`
    """
    _check_draft(model, draft, tokens, n, ahead, temperature)
    rows, length = len(tokens), tokens.shape[1] + n
    x = torch.cat([tokens.new_full((rows, 1), model.bos), tokens], dim=1)
    big, small = (m.begin(rows, length) for m in (model, draft))
    proposed = kept = 0
    with evaluating(model), evaluating(draft):
        while x.shape[1] <= length:
            start, k = x.shape[1], min(ahead, length - x.shape[1])
            x, q, small = _drafted(draft, x, k, small, temperature, generator)
            logits, big = model.extend(x[:, big[1] :], big)
            # at the k places and the next
            p = decoding.temper(logits[:, -k - 1 :], temperature).softmax(-1)
            x, good = _verified(x, start, p, q, generator)
            big, small = _rewound(big, x.shape[1] - 1), _rewound(small, x.shape[1] - 1)
            proposed, kept = proposed + k, kept + good
    return x[:, 1:], kept / max(1, proposed)


def _drafted(
    draft: GPT,
    x: Tensor,
    k: int,
    state: State,
    temperature: float,
    generator: torch.Generator | None,
) -> tuple[Tensor, list[Tensor], State]:
    """``x`` (n, t) with ``k`` tokens more, and the probabilities (n, v) by which each was drawn."""
    q: list[Tensor] = []
    for _ in range(k):
        logits, state = draft.read(x[:, state[1] :], state)
        q.append(decoding.temper(logits, temperature).softmax(-1))
        x = torch.cat([x, torch.multinomial(q[-1], 1, generator=generator)], dim=1)
    return x, q, state


def _verified(
    x: Tensor, start: int, p: Tensor, q: list[Tensor], generator: torch.Generator | None
) -> tuple[Tensor, int]:
    """``x`` with the tokens from ``start`` on kept or replaced, and how many all rows kept."""
    for i, q_i in enumerate(q):
        drafted = x[:, start + i : start + i + 1]
        u = torch.rand(drafted.shape, device=x.device, generator=generator)
        keep = u < acceptance(p[:, i], q_i).gather(1, drafted)
        if not bool(keep.all()):
            other = torch.multinomial(residual(p[:, i], q_i), 1, generator=generator)
            return torch.cat([x[:, : start + i], torch.where(keep, drafted, other)], dim=1), i
    last = torch.multinomial(p[:, -1], 1, generator=generator)
    return torch.cat([x, last], dim=1), len(q)


def _rewound(state: State, length: int) -> State:
    """The same cache, of which only the first ``length`` places count."""
    cache, position, layers = state
    return cache, min(position, length), layers


def _check_draft(
    model: GPT, draft: GPT, tokens: Tensor, n: int, ahead: int, temperature: float
) -> None:
    decoding.check_options(temperature)
    if temperature == 0 or ahead < 1 or n < 0:
        raise ValueError(
            f"got temperature={temperature}, ahead={ahead} and n={n}; the temperature must be "
            "above 0, ahead at least 1 and n at least 0"
        )
    if (model.vocab_size, model.bos) != (draft.vocab_size, draft.bos):
        raise ValueError(
            f"the model has {model.vocab_size} tokens and bos={model.bos}, the draft "
            f"{draft.vocab_size} and bos={draft.bos}; both must speak of the same tokens"
        )
    for m in (model, draft):
        m.check_tokens(tokens, room=n)


keep_contract(globals())
