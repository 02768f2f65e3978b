"""Networks that see a noisy example and the time: a U-Net for images, a perceptron for the rest.

The U-Net halves the resolution step by step and returns to it, reading on the way back what it
found on the way down. Its width grows as the image shrinks, so most of its weights work where a
convolution is cheap. The time and the label reach every block as a scale and a shift, which one
linear layer makes for all of them.

Notation: ``x`` (n, *event) noisy examples; ``t`` (n,) times, about 0 to 1000; ``y`` (n,) labels,
``classes`` for none.

Source: Ronneberger et al., MICCAI 2015; Ho et al., NeurIPS 2020; Peebles and Xie, ICCV 2023.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gentext.shapes import Batch, Flat
from gentext.transformer import MultiHeadAttention, check_dropout

GROUPS, HEADS = 8, 4  # of the normalisations and of the attention
SLOWEST = -4  # logarithm of the smallest angle per unit of time
EMBED = 2  # hidden units of the U-Net's condition for each of its channels
WIDTH = 64  # of the time embedding of a perceptron


def time_embedding(t: Tensor, width: int) -> Flat:
    """(n, width) of sin(ω_i t), then cos(ω_i t), with ω_i geometric from 1 to 10⁻⁴."""
    if width < 2 or width % 2:
        raise ValueError(f"got width={width}; half of it are sines, half cosines: choose it even")
    dtype = torch.promote_types(t.dtype, torch.float32)
    omega = torch.logspace(0, SLOWEST, width // 2, device=t.device, dtype=dtype)
    angles = t.to(dtype)[:, None] * omega
    return torch.cat([angles.sin(), angles.cos()], 1)


class Condition(nn.Module):
    """Makes of the time, and the label if there are classes, numbers for each of the layers.

    They are split into parts of ``sizes``, two numbers for each channel: scales, then shifts.
    """

    def __init__(self, width: int, hidden: int, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        if classes < 0:
            raise ValueError(f"got classes={classes}; give their number, 0 for no labels")
        self.width, self.classes, self.sizes = width, classes, [2 * c for c in channels]
        self.time = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.label = nn.Embedding(classes + 1, hidden) if classes else None
        self.layers = nn.Linear(hidden, sum(self.sizes))

    def forward(self, t: Tensor, y: Tensor | None) -> Iterator[Tensor]:
        """For one layer after the other (n, 2 channels)."""
        h = self.time(time_embedding(t, self.width).to(self.layers.weight.dtype))
        if self.label is not None:
            none = t.new_full(t.shape, self.classes, dtype=torch.long)
            h = h + self.label(none if y is None else y)
        return iter(self.layers(F.silu(h)).split(self.sizes, 1))

    def check(self, x: Tensor, shape: Sequence[int], t: Tensor, y: Tensor | None) -> None:
        """Raise ValueError unless the three fit together and to examples of ``shape``."""
        if x.shape[1:] != tuple(shape):
            expected = ", ".join(map(str, shape))
            raise ValueError(f"got x {tuple(x.shape)}; this network is built for (n, {expected})")
        if t.shape != x.shape[:1]:
            raise ValueError(f"got t {tuple(t.shape)} for {len(x)} examples; give one time each")
        if y is None:
            return
        if not self.classes:
            raise ValueError("got labels y, but this network has none: build it with classes=")
        if y.shape != x.shape[:1]:
            raise ValueError(f"got y {tuple(y.shape)} for {len(x)} examples; give one label each")


def modulate(h: Tensor, condition: Tensor) -> Tensor:
    """(1 + scale) h + shift, with one scale and shift for each example and channel."""
    scale, shift = condition.view(*condition.shape, *[1] * (h.dim() - 2)).chunk(2, 1)
    return torch.addcmul(shift, h, 1 + scale)


class ImageAttention(nn.Module):
    """Every place of an image attends to all of them, and adds what it reads to what it has."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.mix = MultiHeadAttention(channels, HEADS)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape (n, c, h, w)."""
        places = self.norm(x).flatten(2).transpose(1, 2)
        return x + self.mix(places).transpose(1, 2).unflatten(2, x.shape[2:])


class ResidualBlock(nn.Module):
    """Adds two convolutions, the second of modulated features; where ``attends``, attention too."""

    def __init__(
        self, inputs: int, outputs: int, *, attends: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, outputs, affine=False)  # the condition scales it
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.attention = ImageAttention(outputs) if attends else nn.Identity()

    def forward(
        self, x: Float[Tensor, "n c h w"], condition: Float[Tensor, "n two_out"]
    ) -> Float[Tensor, "n out h w"]:
        """Features of ``x``, given the scales and shifts (n, 2 out)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = F.silu(modulate(self.norm2(h), condition))
        return self.attention(self.skip(x) + self.conv2(self.dropout(h)))


class UNet(nn.Module):
    """A U-Net for images of ``shape`` (c, h, w); at first it gives 0.

    Arguments:
        channels: at full resolution, of which each halving has ``multipliers`` as many.
        blocks: on each resolution, on the way down and again on the way up.
        attention: on how many of the lowest resolutions places attend to each other.
        classes: number of labels, 0 for none; dropout: in the blocks; outputs: channels, as of x.

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
    ) -> None:
        super().__init__()
        check_unet(shape, channels, multipliers, blocks, attention, outputs)
        check_dropout(dropout)
        self.shape, widths = tuple(shape), [channels * m for m in multipliers]
        attends = [k >= len(widths) - attention for k in range(len(widths))]
        self.stem = nn.Conv2d(shape[0], channels, 3, padding=1)
        self.down = nn.ModuleList()
        for k, c in enumerate(widths):
            if k:
                self.down.append(nn.Conv2d(widths[k - 1], c, 2, stride=2))
            for _ in range(blocks):
                self.down.append(ResidualBlock(c, c, attends=attends[k], dropout=dropout))
        c = widths[-1]
        self.middle = ResidualBlock(c, c, attends=attends[-1], dropout=dropout)
        self.up = nn.ModuleList()
        for k, c in reversed(list(enumerate(widths))):
            for _ in range(blocks):
                self.up.append(ResidualBlock(2 * c, c, attends=attends[k], dropout=dropout))
            if k:
                self.up.append(nn.ConvTranspose2d(c, widths[k - 1], 2, stride=2))
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.head = _zeros(nn.Conv2d(channels, outputs or shape[0], 3, padding=1))
        convolutions = [m.conv2 for m in self.modules() if isinstance(m, ResidualBlock)]
        sizes = [convolution.out_channels for convolution in convolutions]
        self.condition = Condition(channels, EMBED * channels, sizes, classes)

    def forward(self, x: Batch, t: Tensor, y: Tensor | None = None) -> Tensor:
        """What the network says of x (n, c, h, w) at the times t, of the labels y if it has any."""
        self.condition.check(x, self.shape, t, y)
        conditions, skips = self.condition(t, y), []
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        for layer in self.down:
            if isinstance(layer, ResidualBlock):
                x = layer(x, next(conditions))
                skips.append(x)
            else:  # half the resolution
                x = layer(x)
        x = self.middle(x, next(conditions))
        for layer in self.up:
            if isinstance(layer, ResidualBlock):
                x = layer(torch.cat([x, skips.pop()], 1), next(conditions))
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
        _check_counts(hidden=hidden, layers=layers)
        check_dropout(dropout)
        self.shape, values = tuple(shape), math.prod(shape)
        self.stem = nn.Linear(values, hidden)
        self.norm = nn.LayerNorm(hidden, elementwise_affine=False)  # the condition scales it
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.head = _zeros(nn.Linear(hidden, values))
        self.condition = Condition(WIDTH, WIDTH, [hidden] * layers, classes)

    def forward(self, x: Batch, t: Tensor, y: Tensor | None = None) -> Batch:
        """What the network says of x (n, *shape) at the times t, of the labels y if it has any."""
        self.condition.check(x, self.shape, t, y)
        h = self.stem(x.flatten(1))
        for layer, condition in zip(self.layers, self.condition(t, y), strict=True):
            h = h + layer(self.dropout(F.silu(modulate(self.norm(h), condition))))
        return self.head(F.silu(self.norm(h))).view_as(x)


def _zeros(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """The layer with weights and biases of 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


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
    _check_counts(blocks=blocks, outputs=1 if outputs is None else outputs)
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


def _check_counts(**counts: int) -> None:
    """Raise ValueError unless all are at least 1."""
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, but got {value}")
