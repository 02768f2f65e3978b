"""Attention and the Transformer: every block of it, by its equation and fast.

The functions at the top are the equations as one writes them down. The modules below compute the
same by fused kernels; they are what GPT, BERT and the translation models are built of.

Notation: ``q``, ``k``, ``v`` queries (…, t, d), keys (…, s, d), values (…, s, d); ``mask`` True
where a query may attend to a key; ``x`` features (n, t, width), ``memory`` those (n, s, width) that
a decoder reads.

Source: Vaswani et al., NeurIPS 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.core.checks import check_dropout, check_heads

BASE = 10_000.0  # of the wavelengths of positions
EPS = 1e-5  # of layer normalisation
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu-tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}

Cache = dict[str, Tensor]


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ/√d) v and the weights (…, t, s), each row of which sums to one.

    Without the √d the scores of random vectors would have variance d, and their softmax would
    saturate.

    Equation: :eq:`eq-attn-sdpa`
    Equation: :eq:`eq-attn-var`
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(-1)
    return weights @ v, weights


def softmax_jacobian(p: Tensor) -> Tensor:
    """∂p/∂z = diag(p) − p pᵀ of p = softmax(z), (…, v, v); it vanishes where p is one-hot.

    Equation: :eq:`eq-attn-softmax`
    """
    return torch.diag_embed(p) - p[..., :, None] * p[..., None, :]


def causal_mask(t: int, device: torch.device | str | None = None) -> Tensor:
    """(t, t), True where the place of the row may attend to that of the column: j ≤ i.

    Equation: :eq:`eq-attn-causal`
    """
    return torch.ones(t, t, dtype=torch.bool, device=device).tril()


def frequencies(width: int, like: Tensor) -> Tensor:
    """The angles per place ω_i = 10000^(−2i/width), i < width/2, of positional codes."""
    if width % 2:
        raise ValueError(f"got width={width}; positions by sines and cosines need an even one")
    i = torch.arange(0, width, 2, device=like.device, dtype=like.dtype)
    return BASE ** (-i / width)


def sinusoidal_positions(t: int, width: int, device: torch.device | str | None = None) -> Tensor:
    """(t, width) of sin(ω_i p), cos(ω_i p) by turns; a shift of p rotates each pair.

    Equation: :eq:`eq-attn-sinpos`
    """
    place = torch.arange(t, device=device, dtype=torch.get_default_dtype())
    angle = place[:, None] * frequencies(width, place)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Rotary positions: each pair of ``x`` (…, t, d) turned by the angle ω_i p of its place.

    Scores of rotated queries and keys depend on their places by the difference alone.

    Equation: :eq:`eq-attn-rope`

    Source: Su et al., 2021.
    """
    place = positions.to(torch.promote_types(x.dtype, torch.float32))
    angle = place[..., None] * frequencies(x.shape[-1], place)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float = EPS) -> Tensor:
    """γ x̂ + β, where x̂ is ``x`` (…, d) with mean 0 and variance 1 over its last dimension.

    Equation: :eq:`eq-attn-layernorm`

    Source: Ba et al., 2016.
    """
    centred = x - x.mean(-1, keepdim=True)
    return gain * centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() + bias


def layer_norm_gradient(x: Tensor, gain: Tensor, slope: Tensor, eps: float = EPS) -> Tensor:
    """The gradient with respect to ``x``, given ``slope``, that with respect to the output.

    It is (g − mean g − x̂ mean(g x̂))/s with g = γ · slope: blind to shifts and scalings of x.

    Equation: :eq:`eq-attn-layernorm`
    """
    centred = x - x.mean(-1, keepdim=True)
    s = (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    hat, g = centred / s, gain * slope
    return (g - g.mean(-1, keepdim=True) - hat * (g * hat).mean(-1, keepdim=True)) / s


class MultiHeadAttention(nn.Module):
    """Attention by ``heads`` heads of size width/heads, summed: Σ_h A_h X W^V_h W^O_h + b.

    Args: ``width`` of the features; ``heads``; ``dropout`` of the weights; ``rotary`` positions.

    Equation: :eq:`eq-attn-mha`
    Equation: :eq:`eq-attn-perm`
    """

    def __init__(
        self, width: int, heads: int, *, dropout: float = 0.0, rotary: bool = False
    ) -> None:
        super().__init__()
        check_heads(width, heads, rotary)
        check_dropout(dropout)
        self.heads, self.dropout, self.rotary = heads, dropout, rotary
        self.qkv = nn.Linear(width, 3 * width)  # rows: queries, keys, values
        self.out = nn.Linear(width, width)
        for linear in (self.qkv, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """``x`` (n, t, width) attends to itself or to ``memory`` (n, s, width).

        Arguments:
            mask: True where it may attend, broadcastable to (n, heads, t, s).
            causal: whether place i is to see places j ≤ i only.
        """
        return self._attend(*self.project(x, memory), mask, causal)

    def weights(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """The weights (n, heads, t, s) that ``forward`` uses, to look at."""
        q, k, v = self.project(x, memory)
        if causal:
            mask = _both(mask, q.shape[2], k.shape[2], x.device)
        return scaled_dot_product_attention(q, k, v, mask)[1]

    def project(
        self, x: Tensor, memory: Tensor | None = None, position: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q (n, heads, t, d), k and v (n, heads, s, d); the first of ``x`` is at ``position``."""
        if memory is None:
            q, k, v = self._split(self.qkv(x), 3)
        else:
            width = x.shape[-1]
            weight, bias = self.qkv.weight, self.qkv.bias
            (q,) = self._split(F.linear(x, weight[:width], bias[:width]), 1)
            k, v = self.keys_and_values(memory)
        if self.rotary:
            q = rotate(q, position + torch.arange(q.shape[2], device=x.device))
            k = rotate(k, position + torch.arange(k.shape[2], device=x.device))
        return q, k, v

    def keys_and_values(self, memory: Tensor) -> tuple[Tensor, ...]:
        """k and v (n, heads, s, d) of ``memory`` (n, s, width)."""
        width = memory.shape[-1]
        return self._split(F.linear(memory, self.qkv.weight[width:], self.qkv.bias[width:]), 2)

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        n, t, _ = x.shape
        return tuple(p.view(n, t, self.heads, -1).transpose(1, 2) for p in x.chunk(parts, dim=-1))

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool = False
    ) -> Tensor:
        if causal and (mask is not None or q.shape[2] != k.shape[2]):
            mask, causal = _both(mask, q.shape[2], k.shape[2], q.device), False
        mixed = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        return self.out(mixed.transpose(1, 2).flatten(2))

    def read(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """What ``forward`` gives for a memory whose ``keys_and_values`` are known."""
        width = x.shape[-1]
        (q,) = self._split(F.linear(x, self.qkv.weight[:width], self.qkv.bias[:width]), 1)
        return self._attend(q, k, v, mask)

    def begin(self, n: int, capacity: int) -> Cache:
        """Room for the keys and values of ``n`` rows of at most ``capacity`` places."""
        width, like = self.out.in_features, self.out.weight
        shape = (n, self.heads, capacity, width // self.heads)
        return {"keys": like.new_empty(shape), "values": like.new_empty(shape)}

    def step(self, x: Tensor, cache: Cache, position: int) -> Tensor:
        """What ``forward`` gives (causal) for the places ``position`` to ``position`` + t − 1.

        Their keys and values are added to ``cache``, which holds those of the places before.
        """
        q, k, v = self.project(x, position=position)
        t = q.shape[2]
        end = position + t
        cache["keys"][:, :, position:end] = k
        cache["values"][:, :, position:end] = v
        keys, values = cache["keys"][:, :, :end], cache["values"][:, :, :end]
        if t == 1 or position == 0:
            return self._attend(q, keys, values, None, causal=t > 1)
        return self._attend(q, keys, values, causal_mask(end, x.device)[position:])


class FeedForward(nn.Module):
    """Two linear maps with a nonlinearity between them, the same at every place.

    Args: ``width``; ``hidden`` units; ``dropout`` of them; ``activation`` "gelu", "gelu-tanh" (its
    approximation in GPT-2) or "relu".
    """

    def __init__(
        self, width: int, hidden: int, dropout: float = 0.0, *, activation: str = "gelu"
    ) -> None:
        super().__init__()
        check_dropout(dropout)
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"unknown activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}"
            )
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.activation = ACTIVATIONS[activation]
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


def _both(mask: Tensor | None, t: int, s: int, device: torch.device) -> Tensor:
    """``mask`` and causality."""
    if t != s:
        raise ValueError(f"got {t} queries and {s} keys; causal attention is that of x to itself")
    causal = causal_mask(t, device)
    return causal if mask is None else mask & causal
