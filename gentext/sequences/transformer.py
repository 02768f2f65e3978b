"""The Transformer: blocks of attention and feed-forward, each normalised and added to its input.

What a block attends with stands in :mod:`gentext.sequences.attention`. GPT, BERT and the
translation models are built of these blocks.

Notation: ``x`` features (n, t, width) of a sequence; ``memory`` those (n, s, width) that a decoder
reads; ``mask`` True where a place may attend; ``gain`` γ and ``bias`` β of a normalisation.

Source: Vaswani et al., NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from gentext.core import check_counts, check_dropout, check_number, chosen
from gentext.core.signatures import keep_contract
from gentext.sequences.attention import Cache, MultiHeadAttention

EPS = 1e-5  # of layer normalisation
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu-tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float = EPS) -> Tensor:
    """γ x̂ + β, where x̂ is ``x`` (…, d) with mean 0 and variance 1 over its last dimension.

    Equation: :eq:`eq-attn-layernorm`

    Source: Ba et al., 2016.
    """
    check_number("eps", eps, least=0)
    centred = x - x.mean(-1, keepdim=True)
    return gain * centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() + bias


def layer_norm_gradient(x: Tensor, gain: Tensor, slope: Tensor, eps: float = EPS) -> Tensor:
    """The gradient with respect to ``x``, given ``slope``, that with respect to the output.

    It is (g − mean g − x̂ mean(g x̂))/s with g = γ · slope: blind to shifts and scalings of x.

    Equation: :eq:`eq-attn-layernorm`
    """
    check_number("eps", eps, least=0)
    centred = x - x.mean(-1, keepdim=True)
    s = (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    hat, g = centred / s, gain * slope
    return (g - g.mean(-1, keepdim=True) - hat * (g * hat).mean(-1, keepdim=True)) / s


class FeedForward(nn.Module):
    """Two linear maps with a nonlinearity between them, the same at every place.

    Args: ``width``; ``hidden`` units; ``dropout`` of them; ``activation`` "gelu", "gelu-tanh" (its
    approximation in GPT-2) or "relu".
    """

    def __init__(
        self, width: int, hidden: int, dropout: float = 0.0, *, activation: str = "gelu"
    ) -> None:
        super().__init__()
        check_counts(width=width, hidden=hidden)
        check_dropout(dropout)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.activation = chosen("activation", activation, ACTIVATIONS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) to (…, width)."""
        return self.down(self.dropout(self.activation(self.up(x))))


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each added to its input and normalised before it (or after).

    With norms first: h = x + MHA(LN x), then (``cross``) h + MHA(LN h, memory), then h + FFN(LN h);
    with ``norm_first=False``, LN(x + MHA x) and so on. Each branch ends with ``dropout``.

    Equation: :eq:`eq-attn-preln`
    Equation: :eq:`eq-attn-xattn`

    Source: Vaswani et al., NeurIPS 2017; Xiong et al., ICML 2020 (norms first).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
        norm_first: bool = True,
        cross: bool = False,
        activation: str = "gelu",
        rotary: bool = False,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, dropout=dropout, rotary=rotary)
        self.feed_forward = FeedForward(width, hidden or 4 * width, dropout, activation=activation)
        self.cross = MultiHeadAttention(width, heads, dropout=dropout) if cross else None
        self.norm_cross = nn.LayerNorm(width) if cross else None
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """(n, t, width) to (n, t, width); masks are True where a place may attend."""
        x = self._add(x, self.norm1, lambda h: self.attention(h, mask=mask, causal=causal))
        if self.cross is not None:
            if memory is None:
                raise ValueError("this block has cross-attention: give the memory it is to read")
            cross = self.cross
            x = self._add(x, self.norm_cross, lambda h: cross(h, memory, mask=memory_mask))
        return self._add(x, self.norm2, self.feed_forward)

    def _add(self, x: Tensor, norm: Any, branch: Callable[[Tensor], Tensor]) -> Tensor:
        if self.norm_first:
            return x + self.dropout(branch(norm(x)))
        return norm(x + self.dropout(branch(x)))

    def begin(self, n: int, capacity: int, memory: Tensor | None = None) -> Cache:
        """The cache of a causal block before the first place; keys and values of the memory."""
        cache = self.attention.begin(n, capacity)
        if self.cross is not None and memory is not None:
            cache["memory_keys"], cache["memory_values"] = self.cross.keys_and_values(memory)
        return cache

    def step(
        self, x: Tensor, cache: Cache, position: int, *, memory_mask: Tensor | None = None
    ) -> Tensor:
        """The next places ``x`` (n, t, width), of which the first is number ``position``.

        Equal to the causal ``forward`` over all places so far; ``cache`` is written to.
        """
        x = self._add(x, self.norm1, lambda h: self.attention.step(h, cache, position))
        if self.cross is not None:
            cross, k, v = self.cross, cache["memory_keys"], cache["memory_values"]
            x = self._add(x, self.norm_cross, lambda h: cross.read(h, k, v, memory_mask))
        return self._add(x, self.norm2, self.feed_forward)


class Transformer(nn.Module):
    """Encoder and decoder on embedded sequences, ``layers`` blocks each.

    A norm stands at the end of either, as in ``torch.nn.Transformer``. Embeddings, positions and
    the map to logits are the caller's.

    Source: Vaswani et al., NeurIPS 2017.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        layers: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
        norm_first: bool = True,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        check_counts(layers=layers)
        options: dict[str, Any] = {
            "hidden": hidden,
            "dropout": dropout,
            "norm_first": norm_first,
            "activation": activation,
        }
        self.encoder = nn.ModuleList(
            TransformerBlock(width, heads, **options) for _ in range(layers)
        )
        self.decoder = nn.ModuleList(
            TransformerBlock(width, heads, cross=True, **options) for _ in range(layers)
        )
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def encode(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The memory (n, s, width) of a source ``x``."""
        for block in self.encoder:
            x = block(x, mask=mask)
        return self.encoder_norm(x)

    def decode(
        self,
        y: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Features (n, t, width) of the target ``y``: each place sees those up to itself."""
        for block in self.decoder:
            y = block(y, memory, mask=mask, memory_mask=memory_mask, causal=True)
        return self.decoder_norm(y)

    def begin(self, memory: Tensor, capacity: int) -> list[Cache]:
        """The caches of the decoder before the first of at most ``capacity`` places."""
        return [block.begin(len(memory), capacity, memory) for block in self.decoder]  # type: ignore[operator]

    def step(
        self, y: Tensor, caches: list[Cache], position: int, memory_mask: Tensor | None = None
    ) -> Tensor:
        """What ``decode`` gives for the places ``y`` from ``position`` on, by what was kept."""
        for block, cache in zip(self.decoder, caches, strict=True):
            y = block.step(y, cache, position, memory_mask=memory_mask)  # type: ignore[operator]
        return self.decoder_norm(y)


keep_contract(globals())
