"""GPT: a Transformer decoder as a distribution over sequences, and what it costs in numbers.

Causality lets a prefix be computed once and kept; sizes, operations and the variance at the start
are formulas of the shape. Drafts stand in :mod:`gentext.sequences.speculative`, the weights of
others in :mod:`gentext.sequences.gpt2_weights`.

Notation: ``L`` layers, ``d`` width, ``V`` vocabulary, ``T`` places; in shapes n rows, t new places,
s places in all, d/heads the size of a head.

Source: Radford et al., 2018 and 2019.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.core import check_counts, check_dropout, check_heads
from gentext.core.shapes import Logits, Tokens
from gentext.core.signatures import keep_contract
from gentext.sequences.attention import causal_mask
from gentext.sequences.autoregressive import Autoregressive
from gentext.sequences.transformer import TransformerBlock

INITIAL_STD = 0.02  # standard deviation of the weights at the start

State = tuple[Tensor, int, Any]  # cache (n, L, heads, 2, capacity, d/heads), how many read, weights


class GPT(Autoregressive):
    """p(x_t | x_<t) by a Transformer decoder with norms first, learned positions and a tied head.

    Args: ``vocab_size`` tokens, ``bos`` among them; ``context`` the most tokens it can read, of
    which ``bos`` is the first; ``layers`` blocks of ``heads`` heads; ``width`` of the features;
    ``dropout``; ``pad`` the token that fills rows up and counts nothing, if there is one.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        context: int,
        layers: int,
        heads: int,
        width: int,
        dropout: float = 0.0,
        bos: int = 1,
        pad: int | None = None,
    ) -> None:
        super().__init__()
        check_counts(vocab_size=vocab_size, context=context, layers=layers)
        for name, token in {"bos": bos, "pad": pad}.items():
            if token is not None and not 0 <= token < vocab_size:
                raise ValueError(
                    f"got {name}={token}; it must be one of the {vocab_size} tokens, 0 to "
                    f"{vocab_size - 1}: enlarge vocab_size or name another"
                )
        check_heads(width, heads)
        check_dropout(dropout)
        self.vocab_size, self.context, self.bos, self.pad = vocab_size, context, bos, pad
        self.tokens, self.positions = nn.Embedding(vocab_size, width), nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, dropout=dropout, activation="gelu-tanh")
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw the weights: N(0, 0.02²), the maps that end the 2L branches by √(2L) narrower.

        So the branches together add the variance 0.02² d to the features, however deep the model.

        Equation: :eq:`eq-gpt-init`
        """
        ends = (".out.weight", ".down.weight")
        for name, parameter in self.named_parameters():
            if "norm" in name:
                nn.init.constant_(parameter, float(name.endswith("weight")))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                narrower = math.sqrt(2 * len(self.blocks)) if name.endswith(ends) else 1.0
                nn.init.normal_(parameter, std=INITIAL_STD / narrower)

    def logits(self, tokens: Tensor) -> Logits:
        """The logits of the token after each place of ``tokens``; give ``bos`` yourself."""
        tokens = self.check_tokens(tokens)
        x = self.dropout(self.tokens(tokens) + self.positions.weight[: tokens.shape[1]])
        for block in self.blocks:
            x = block(x, causal=True)
        return F.linear(self.norm(x), self.tokens.weight)

    def begin(self, n: int, capacity: int) -> State:
        """An empty cache for ``n`` sequences of at most ``capacity`` tokens, and the weights."""
        if not 1 <= capacity <= len(self.positions.weight):
            raise ValueError(
                f"got capacity={capacity}; it must be from 1 to the context, {self.context}"
            )
        layers = [_Layer(block) for block in self.blocks]
        like, heads = self.tokens.weight, layers[0].heads
        size = like.shape[1] // heads
        return like.new_zeros(n, len(layers), heads, 2, capacity, size), 0, layers

    def step(self, token: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more token (n,); gives the logits (n, v) of the next. The cache is written to.

        Equation: :eq:`eq-gpt-kv`
        """
        return self.read(token[:, None], state)

    def read(self, tokens: Tokens, state: State) -> tuple[Tensor, State]:
        """Read ``tokens`` (n, t) at once; gives the logits (n, v) after the last of them."""
        x, state = self._extend(tokens, state)
        return F.linear(self.norm(x[:, -1]), self.tokens.weight), state

    def extend(self, tokens: Tokens, state: State) -> tuple[Logits, State]:
        """Read ``tokens`` (n, t) at once; gives the logits (n, t, v) after each of them."""
        x, state = self._extend(tokens, state)
        return F.linear(self.norm(x), self.tokens.weight), state

    @torch.no_grad()
    def _extend(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The features of the next ``tokens``, by the keys and values of those before them."""
        cache, position, layers = state
        t = tokens.shape[1]
        end = position + t
        if end > cache.shape[4]:
            raise ValueError(
                f"got {t} tokens after {position}, but this cache has room for {cache.shape[4]}: "
                "begin with a larger capacity"
            )
        x = F.embedding(tokens, self.tokens.weight) + self.positions.weight[position:end]
        mask = causal_mask(end, x.device)[position:] if t > 1 else None
        new = cache.narrow(4, position, t).unbind(1)  # L × (n, heads, 2, t, d/heads)
        all_ = cache.narrow(4, 0, end).unbind(1)  # L × (n, heads, 2, s, d/heads)
        rows = x.flatten(0, 1)  # (n t, d)
        for layer, now, past in zip(layers, new, all_, strict=True):
            rows = layer(rows, now, past, mask)
        return rows.view_as(x), (cache, end, layers)  # (n, t, d)


class _Layer:
    """A block of a ``GPT`` for reading with a cache: the same maths in few calls.

    At one token a time a call costs as much as what it computes, so the weights are gathered once.
    """

    def __init__(self, block: Any) -> None:
        attention, feed_forward = block.attention, block.feed_forward
        self.heads, self.activation = attention.heads, feed_forward.activation
        self.norm1, self.norm2 = (
            (norm.normalized_shape, norm.weight, norm.bias) for norm in (block.norm1, block.norm2)
        )
        self.qkv, self.out, self.up, self.down = (
            (linear.weight, linear.bias)
            for linear in (attention.qkv, attention.out, feed_forward.up, feed_forward.down)
        )

    def __call__(self, x: Tensor, now: Tensor, past: Tensor, mask: Tensor | None) -> Tensor:
        """Features (n t, d) of new places ``x``; writes their keys and values to ``now``.

        ``past`` (n, heads, 2, s, d/heads) are the keys and values of all places, the new included.
        """
        n, heads, _, t, size = now.shape
        h = F.linear(F.layer_norm(x, *self.norm1), *self.qkv)
        qkv = h.view(n, t, 3, heads, size).transpose(1, 3)  # (n, heads, 3, t, d/heads)
        now.copy_(qkv.narrow(2, 1, 2))
        k, v = past.unbind(2)  # (n, heads, s, d/heads) each
        h = F.scaled_dot_product_attention(qkv.select(2, 0), k, v, attn_mask=mask)
        h = h.transpose(1, 2).reshape(x.shape)  # (n, t, heads, d/heads), (n t, d)
        x = F.linear(h, *self.out).add_(x)
        h = self.activation(F.linear(F.layer_norm(x, *self.norm2), *self.up))
        return F.linear(h, *self.down).add_(x)


def count_parameters(*, vocab_size: int, context: int, layers: int, width: int, **_: Any) -> int:
    """L(12d² + 13d) + (V + T)d + 2d, the parameters of a ``GPT`` with these arguments.

    Equation: :eq:`eq-gpt-params`
    """
    d = width
    return layers * (12 * d**2 + 13 * d) + (vocab_size + context) * d + 2 * d


def count_flops(
    *, vocab_size: int, layers: int, width: int, tokens: int, batch: int = 1, **_: Any
) -> int:
    """Floating-point operations of ``logits`` for (batch, tokens); a training step takes thrice.

    B T [L (24d² + 4Td) + 2dV]: two for each multiplication and addition of the matrix products,
    attention counted in full (causality leaves half of it unused).

    Equation: :eq:`eq-gpt-flops`
    """
    d = width
    return batch * tokens * (layers * (24 * d**2 + 4 * tokens * d) + 2 * d * vocab_size)


def cache_bytes(*, layers: int, width: int, tokens: int, batch: int = 1, item: int = 4) -> int:
    """2 L B T d · ``item``: bytes of the keys and values kept for (batch, tokens).

    Equation: :eq:`eq-gpt-kv`
    """
    return 2 * layers * batch * tokens * width * item


keep_contract(globals())
