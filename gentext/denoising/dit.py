"""A Transformer for diffusion: an image is a row of patches, and the condition opens its blocks.

It sees a noisy image and the time, as the U-Net does, but has no convolutions and one resolution.
Time and label shift and scale the features before each branch of a block, and scale what the branch
adds: at first by 0, so that the whole network begins as the identity. Prompts are read by attention
to their tokens.

Notation: ``x`` (n, c, h, w) noisy images, then (n, N, width) features of N = hw/p² patches; ``p``
the side of a patch; ``t`` (n,) times, about 0 to 1000; ``y`` labels or prompts as in
``conditions``; ``c`` (n, width) features of both; ``g``, ``b`` and ``a`` scale, shift and gate.

Source: Peebles and Xie, ICCV 2023; Chen et al., ICLR 2024 (prompts by attention).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gentext.core.checks import check_counts, check_dropout, check_heads
from gentext.core.shapes import Batch
from gentext.core.signatures import keep_contract
from gentext.denoising.conditions import Conditioning, Text
from gentext.nn.nets import zeros
from gentext.sequences.attention import MultiHeadAttention
from gentext.sequences.patches import check_patches, patchify, plane_positions, unpatchify
from gentext.sequences.transformer import FeedForward


def adaln_zero(
    x: Float[Tensor, "n places width"],
    branch: Callable[[Tensor], Tensor],
    condition: Float[Tensor, "n three_width"],
) -> Float[Tensor, "n places width"]:
    """x + a ⊙ F((1 + g) ⊙ LN x + b), where F is the ``branch`` and ``condition`` are g, b and a.

    Equation: :eq:`eq-ldm-adaln`
    """
    g, b, a = condition[:, None].chunk(3, -1)
    return x + a * branch((1 + g) * F.layer_norm(x, x.shape[-1:]) + b)


class AdaLNZeroBlock(nn.Module):
    """Attention and feed-forward, each scaled, shifted and gated by the condition.

    Between them, with ``cross``, the places read a text, which adds nothing at first. At the start
    all gates are 0 and the block is the identity: of its parts only the gates and the last layer
    of the reading have gradients then.

    Equation: :eq:`eq-ldm-adaln`
    """

    def __init__(
        self, width: int, heads: int, *, cross: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(width, heads, dropout=dropout)
        self.feed_forward = FeedForward(width, 4 * width, dropout, activation="gelu-tanh")
        self.modulation = zeros(nn.Linear(width, 6 * width))  # g, b, a of one and of the other
        self.cross = cross
        if cross:
            self.norm = nn.LayerNorm(width)
            self.read = MultiHeadAttention(width, heads, dropout=dropout)
            zeros(self.read.out)

    def forward(
        self,
        x: Float[Tensor, "n places width"],
        c: Float[Tensor, "n width"],
        text: Text | None = None,
    ) -> Float[Tensor, "n places width"]:
        """Features of the same shape, given the features ``c`` of time and label."""
        first, second = self.modulation(c).chunk(2, -1)
        x = adaln_zero(x, self.attention, first)
        if self.cross:
            if text is None:
                raise ValueError("this block reads a text: give it the features of one")
            x = x + self.read(self.norm(x), text.memory, mask=text.mask)
        return adaln_zero(x, self.feed_forward, second)


class DiT(nn.Module):
    """A diffusion Transformer for images of ``shape`` (c, h, w); at first it gives 0.

    Arguments:
        patch: side of the patches; width: of their features; layers, heads: of the blocks.
        classes: number of labels, 0 for none.
        vocab_size: number of tokens of prompts, of which 0 is padding, 0 for no prompts; context:
            length of the longest.
        dropout: in the blocks.

    Source: Peebles and Xie, ICCV 2023.
    """

    positions: Tensor

    def __init__(
        self,
        *,
        shape: Sequence[int],
        patch: int = 2,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        classes: int = 0,
        vocab_size: int = 0,
        context: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_dit(shape, patch, width, layers, heads, dropout)
        self.shape, self.patch = tuple(shape), patch
        values = shape[0] * patch**2
        places = plane_positions(shape[1] // patch, shape[2] // patch, width)
        self.register_buffer("positions", places, persistent=False)
        self.stem = nn.Linear(values, width)
        self.blocks = nn.ModuleList(
            AdaLNZeroBlock(width, heads, cross=vocab_size > 0, dropout=dropout)
            for _ in range(layers)
        )
        self.modulation = zeros(nn.Linear(width, 2 * width))
        self.head = zeros(nn.Linear(width, values))
        self.condition = Conditioning(
            width, width, classes, vocab_size, context, heads=heads, dropout=dropout
        )

    def forward(self, x: Batch, t: Tensor, y: Tensor | None = None) -> Batch:
        """What the network says of x (n, c, h, w) at times t, of the labels or prompts y if any."""
        self.condition.check(x, self.shape, t, y)
        features, text = self.condition.features(t, y)
        c = F.silu(features)
        h = self.stem(patchify(x, self.patch)) + self.positions
        for block in self.blocks:
            h = block(h, c, text)
        g, b = self.modulation(c)[:, None].chunk(2, -1)
        h = self.head((1 + g) * F.layer_norm(h, h.shape[-1:]) + b)
        return unpatchify(h, self.shape, self.patch)


def check_dit(
    shape: Sequence[int], patch: int, width: int, layers: int, heads: int, dropout: float
) -> None:
    """Raise ValueError unless a diffusion Transformer can be built of these."""
    check_patches(shape, patch)
    check_counts(width=width, layers=layers, heads=heads)
    check_heads(width, heads)
    check_dropout(dropout)


keep_contract(globals())
