"""Networks that see a noisy example and the time: a U-Net for images, a perceptron for the rest.

The U-Net halves the resolution step by step and returns to it, reading on the way back what it
found on the way down. Its width grows as the image shrinks, so most of its weights work where a
convolution is cheap. The time and the label reach every block as a scale and a shift, which one
linear layer makes for all of them.

Notation: ``x`` (n, *event) noisy examples; ``t`` (n,) times, about 0 to 1000; ``y`` labels or
prompts as in ``conditions``.

Source: Ronneberger et al., MICCAI 2015; Ho et al., NeurIPS 2020; Peebles and Xie, ICCV 2023;
Rombach et al., CVPR 2022 (prompts).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gentext.core.checks import check_counts, check_dropout, check_shape
from gentext.core.shapes import Batch
from gentext.core.signatures import keep_contract
from gentext.denoising.conditions import Condition, Text
from gentext.nn.nets import zeros
from gentext.sequences.attention import MultiHeadAttention

GROUPS, HEADS = 8, 4  # of the normalisations and of the attention
HIDDEN_PER_CHANNEL = 2  # hidden units of the U-Net's condition for each of its channels
MLP_TIME_WIDTH = 64  # of the time embedding of a perceptron


def modulate(h: Tensor, condition: Tensor) -> Tensor:
    """(1 + scale) h + shift, with one scale and shift for each example and channel."""
    scale, shift = condition.view(*condition.shape, *[1] * (h.dim() - 2)).chunk(2, 1)
    return torch.addcmul(shift, h, 1 + scale)


class ImageAttention(nn.Module):
    """Every place of an image attends to all of them, and adds what it reads to what it has.

    Where prompts of ``text`` features are given, it then reads these in the same way.
    """

    def __init__(self, channels: int, text: int = 0) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.mix = MultiHeadAttention(channels, HEADS)
        if text:
            self.words = nn.Linear(text, channels)
            self.norm_read = nn.GroupNorm(GROUPS, channels)
            self.read = MultiHeadAttention(channels, HEADS)

    def forward(self, x: Tensor, text: Text | None = None) -> Tensor:
        """The same shape (n, c, h, w)."""
        x = x + self._image(self.mix(self._places(self.norm(x))), x)
        if text is None:
            return x
        read = self.read(self._places(self.norm_read(x)), self.words(text.memory), mask=text.mask)
        return x + self._image(read, x)

    def _places(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)

    def _image(self, places: Tensor, like: Tensor) -> Tensor:
        return places.transpose(1, 2).unflatten(2, like.shape[2:])


class ResidualBlock(nn.Module):
    """Adds two convolutions, the second of modulated features; where ``attends``, attention too.

    ``text`` is the number of features of the prompts that the attention reads, 0 for none.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        attends: bool = False,
        dropout: float = 0.0,
        text: int = 0,
    ) -> None:
        super().__init__()
        check_counts(inputs=inputs, outputs=outputs)
        self.norm1 = nn.GroupNorm(GROUPS, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, outputs, affine=False)  # the condition scales it
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.attends = attends
        self.attention = ImageAttention(outputs, text) if attends else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        condition: Float[Tensor, "n two_out"],
        text: Text | None = None,
    ) -> Float[Tensor, "n out h w"]:
        """Features of ``x``, given the scales and shifts (n, 2 out)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = F.silu(modulate(self.norm2(h), condition))
        h = self.skip(x) + self.conv2(self.dropout(h))
        return self.attention(h, text) if self.attends else h


class UNet(nn.Module):
    """A U-Net for images of ``shape`` (c, h, w); at first it gives 0.

    Arguments:
        channels: at full resolution, of which each halving has ``multipliers`` as many.
        blocks: on each resolution, on the way down and again on the way up.
        attention: on how many of the lowest resolutions places attend to each other.
        classes: number of labels, 0 for none; dropout: in the blocks; outputs: channels, as of x.
        vocab_size: number of tokens of prompts, of which 0 is padding, 0 for no prompts; context:
            length of the longest. They are read where places attend to each other.

    Source: Ho et al., NeurIPS 2020; Nichol and Dhariwal, ICML 2021.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        channels: int = 32,
        multipliers: Sequence[int] = (1, 2, 3),
        blocks: int = 1,
        attention: int = 1,
        classes: int = 0,
        dropout: float = 0.0,
        outputs: int | None = None,
        vocab_size: int = 0,
        context: int = 0,
    ) -> None:
        super().__init__()
        check_unet(shape, channels, multipliers, blocks, attention, outputs)
        check_dropout(dropout)
        hidden = HIDDEN_PER_CHANNEL * channels
        options: dict[str, Any] = {"dropout": dropout, "text": hidden if vocab_size else 0}
        self.shape, widths = tuple(shape), [channels * m for m in multipliers]
        attends = [k >= len(widths) - attention for k in range(len(widths))]
        self.stem = nn.Conv2d(shape[0], channels, 3, padding=1)
        self.down = nn.ModuleList()
        for k, c in enumerate(widths):
            if k:
                self.down.append(nn.Conv2d(widths[k - 1], c, 2, stride=2))
            for _ in range(blocks):
                self.down.append(ResidualBlock(c, c, attends=attends[k], **options))
        c = widths[-1]
        self.middle = ResidualBlock(c, c, attends=attends[-1], **options)
        self.up = nn.ModuleList()
        for k, c in reversed(list(enumerate(widths))):
            for _ in range(blocks):
                self.up.append(ResidualBlock(2 * c, c, attends=attends[k], **options))
            if k:
                self.up.append(nn.ConvTranspose2d(c, widths[k - 1], 2, stride=2))
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.head = zeros(nn.Conv2d(channels, outputs or shape[0], 3, padding=1))
        convolutions = [m.conv2 for m in self.modules() if isinstance(m, ResidualBlock)]
        sizes = [convolution.out_channels for convolution in convolutions]
        self.condition = Condition(channels, hidden, sizes, classes, vocab_size, context)

    def forward(self, x: Batch, t: Tensor, y: Tensor | None = None) -> Tensor:
        """What the network says of x (n, c, h, w) at times t, of the labels or prompts y if any."""
        self.condition.check(x, self.shape, t, y)
        features, text = self.condition.features(t, y)
        conditions, skips = self.condition.parts(features), []
        x = self.stem(x.movedim(1, -1).contiguous().movedim(-1, 1))  # channels last, in vmap too
        for layer in self.down:
            if isinstance(layer, ResidualBlock):
                x = layer(x, next(conditions), text)
                skips.append(x)
            else:  # half the resolution
                x = layer(x)
        x = self.middle(x, next(conditions), text)
        for layer in self.up:
            if isinstance(layer, ResidualBlock):
                x = layer(torch.cat([x, skips.pop()], 1), next(conditions), text)
            else:  # twice the resolution
                x = layer(x)
        return self.head(F.silu(self.norm(x)))


class TimeMLP(nn.Module):
    """A residual perceptron for examples of any ``shape``, read as flat; at first it gives 0.

    Arguments:
        hidden: width of its ``layers`` residual layers.
        classes: number of labels, 0 for none; dropout: in the layers.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        hidden: int = 256,
        layers: int = 2,
        classes: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_counts(hidden=hidden, layers=layers)
        check_dropout(dropout)
        self.shape = check_shape(shape)
        values = math.prod(shape)
        self.stem = nn.Linear(values, hidden)
        self.norm = nn.LayerNorm(hidden, elementwise_affine=False)  # the condition scales it
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.head = zeros(nn.Linear(hidden, values))
        self.condition = Condition(MLP_TIME_WIDTH, MLP_TIME_WIDTH, [hidden] * layers, classes)

    def forward(self, x: Batch, t: Tensor, y: Tensor | None = None) -> Batch:
        """What the network says of x (n, *shape) at the times t, of the labels y if it has any."""
        self.condition.check(x, self.shape, t, y)
        h = self.stem(x.flatten(1))
        for layer, condition in zip(self.layers, self.condition(t, y), strict=True):
            h = h + layer(self.dropout(F.silu(modulate(self.norm(h), condition))))
        return self.head(F.silu(self.norm(h))).view_as(x)


def check_unet(
    shape: Sequence[int],
    channels: int,
    multipliers: Sequence[int],
    blocks: int,
    attention: int,
    outputs: int | None,
) -> None:
    """Raise ValueError unless a U-Net can be built of these."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape must be (channels, height, width), but got {tuple(shape)}")
    if channels < 1 or channels % GROUPS:
        raise ValueError(
            f"got channels={channels}; they are normalised in {GROUPS} groups: choose a multiple "
            f"of {GROUPS}"
        )
    if not multipliers or min(multipliers) < 1:
        raise ValueError(f"got multipliers={multipliers}; give a number from 1 per resolution")
    check_counts(blocks=blocks, outputs=1 if outputs is None else outputs)
    if not 0 <= attention <= len(multipliers):
        raise ValueError(
            f"got attention={attention}; it is the number of resolutions with attention, 0 to "
            f"{len(multipliers)}"
        )
    least = 2 ** (len(multipliers) - 1)
    if shape[1] % least or shape[2] % least:
        raise ValueError(
            f"got images of {shape[1]} x {shape[2]} and {len(multipliers)} resolutions; both sides "
            f"must be divisible by {least}: choose fewer multipliers or pad the images"
        )


keep_contract(globals())
