"""Attention: what each place reads of all others, by its equation and fast.

The functions are the equations as one writes them down. The module computes the same by a fused
kernel; it is what the blocks of :mod:`gentext.sequences.transformer` are built of.

Notation: ``q``, ``k``, ``v`` queries (…, t, d), keys (…, s, d), values (…, s, d); ``mask`` True
where a query may attend to a key; ``x`` features (n, t, width), ``memory`` those (n, s, width) that
are read; ``p`` the place of a token.

Source: Vaswani et al., NeurIPS 2017.
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gentext.core import check_dropout, check_heads, transformed, true_or_false
from gentext.core.signatures import keep_contract

BASE = 10_000.0  # of the wavelengths of positions

Cache = dict[str, Tensor]  # keys and values (n, heads, capacity, d) of the places so far


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ/√d) v and the weights (…, t, s), each row of which sums to one.

    Without the √d the scores of random vectors would have variance d, and their softmax would
    saturate.

    Equation: :eq:`eq-attn-sdpa`
    Equation: :eq:`eq-attn-var`
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (…, t, d) @ (…, d, s): (…, t, s)
    if mask is not None:
        scores = scores.masked_fill(~true_or_false(mask), -math.inf)
    weights = scores.softmax(-1)
    return weights @ v, weights  # (…, t, s) @ (…, s, d): (…, t, d)


def softmax_jacobian(p: Tensor) -> Tensor:
    """∂p/∂z = diag(p) − p pᵀ of p = softmax(z), (…, v, v); it vanishes where p is one-hot.

    Equation: :eq:`eq-attn-softmax`
    """
    return torch.diag_embed(p) - p[..., :, None] * p[..., None, :]


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
            mask = _masked_causally(mask, q.shape[2], k.shape[2], x.device)
        return scaled_dot_product_attention(q, k, v, mask)[1]

    def project(
        self, x: Tensor, memory: Tensor | None = None, position: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q (n, heads, t, d), k and v (n, heads, s, d); the first of ``x`` is at ``position``."""
        if memory is None:
            q, k, v = self._split(self.qkv(x), 3)
        else:
            q, (k, v) = self._queries(x), self.keys_and_values(memory)
        if self.rotary:
            q = rotate(q, position + torch.arange(q.shape[2], device=x.device))
            k = rotate(k, position + torch.arange(k.shape[2], device=x.device))
        return q, k, v

    def keys_and_values(self, memory: Tensor) -> tuple[Tensor, ...]:
        """k and v (n, heads, s, d) of ``memory`` (n, s, width)."""
        width = memory.shape[-1]
        return self._split(F.linear(memory, self.qkv.weight[width:], self.qkv.bias[width:]), 2)

    def _queries(self, x: Tensor) -> Tensor:
        width = x.shape[-1]
        return self._split(F.linear(x, self.qkv.weight[:width], self.qkv.bias[:width]), 1)[0]

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Each of the ``parts`` that stand side by side in ``x``, cut into heads."""
        n, t, _ = x.shape
        chunks = x.chunk(parts, dim=-1)  # (n, t, parts · width): parts × (n, t, width)
        heads = [chunk.view(n, t, self.heads, -1) for chunk in chunks]  # (n, t, heads, d)
        return tuple(chunk.transpose(1, 2) for chunk in heads)  # (n, heads, t, d)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool = False
    ) -> Tensor:
        mask = None if mask is None else true_or_false(mask)
        if causal and (mask is not None or q.shape[2] != k.shape[2]):
            mask, causal = _masked_causally(mask, q.shape[2], k.shape[2], q.device), False
        dropout = self.dropout if self.training else 0.0
        # torch.func knows the parts of attention, but no fused kernel
        kernel = sdpa_kernel(SDPBackend.MATH) if transformed() else nullcontext()
        with kernel:  # softmax(q kᵀ/√d) v: (n, heads, t, d)
            mixed = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal
            )
        return self.out(mixed.transpose(1, 2).flatten(2))  # (n, t, heads, d), (n, t, width)

    def read(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """What ``forward`` gives for a memory whose ``keys_and_values`` are known."""
        return self._attend(self._queries(x), k, v, mask)

    def begin(self, n: int, capacity: int) -> Cache:
        """Room, zeros at first, for keys and values of ``n`` rows of up to ``capacity`` places."""
        width, like = self.out.in_features, self.out.weight
        shape = (n, self.heads, capacity, width // self.heads)
        return {"keys": like.new_zeros(shape), "values": like.new_zeros(shape)}

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
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)  # (t, width/2, 2)


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Rotary positions: each pair of ``x`` (…, t, d) turned by the angle ω_i p of its place.

    Scores of rotated queries and keys depend on their places by the difference alone.

    Equation: :eq:`eq-attn-rope`

    Source: Su et al., 2021.
    """
    place = positions.to(torch.promote_types(x.dtype, torch.float32))
    angle = place[..., None] * frequencies(x.shape[-1], place)  # (t, d/2)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., 0::2], x[..., 1::2]  # the two of each pair, (…, t, d/2)
    turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1)  # (…, t, d/2, 2)
    return turned.flatten(-2)  # (…, t, d)


def causal_mask(t: int, device: torch.device | str | None = None) -> Tensor:
    """(t, t), True where the place of the row may attend to that of the column: j ≤ i.

    Equation: :eq:`eq-attn-causal`
    """
    return torch.ones(t, t, dtype=torch.bool, device=device).tril()


def _masked_causally(mask: Tensor | None, t: int, s: int, device: torch.device) -> Tensor:
    """``mask`` where it is causal, (t, t) or (…, t, t)."""
    if t != s:
        raise ValueError(f"got {t} queries and {s} keys; causal attention is that of x to itself")
    causal = causal_mask(t, device)
    return causal if mask is None else true_or_false(mask) & causal


keep_contract(globals())
