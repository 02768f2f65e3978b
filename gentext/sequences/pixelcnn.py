"""PixelCNN: an image as a sequence of pixels, each predicted from those before it, row by row.

Notation: ``x`` image of values k/(K−1), k its grey levels, K = ``levels``; ``v`` and ``h`` features
of the vertical and the horizontal stack: v at (i, j) knows the rows above i, h also the pixels of
row i left of j.

Source: van den Oord et al., Pixel recurrent neural networks, ICML 2016, and Conditional image
generation with PixelCNN decoders, NeurIPS 2016.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.core import (
    Model,
    as_weights,
    at_hand,
    check_count,
    check_counts,
    check_dropout,
    check_shape,
    check_tensor,
    chosen,
    drawing_from,
    evaluating,
    in_evaluation,
    whole_numbers,
)
from gentext.core.shapes import Batch, PerExample, Scalar
from gentext.core.signatures import keep_contract
from gentext.nn.nets import one_hot
from gentext.sequences.pixel_likelihoods import PIXEL_LIKELIHOODS

MASKS = {"A": False, "B": True}  # whether a window shows the pixel in its centre


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees no pixel after its own in raster order; the size of images stays.

    Args: ``kind`` "A" hides the own pixel too (for the layer that reads the image), "B" shows it
    (for all others); ``inputs`` and ``outputs`` channels; ``kernel`` odd, its height and width.

    Equation: :eq:`eq-gpt-pixelcnn`
    """

    mask: Tensor

    def __init__(self, kind: str, inputs: int, outputs: int, kernel: int = 3) -> None:
        own = chosen("mask", kind, MASKS)
        check_counts(inputs=inputs, outputs=outputs)
        check_kernel(kernel)
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        mask, centre = torch.ones(kernel, kernel), kernel // 2
        mask[centre, centre + own :] = 0
        mask[centre + 1 :] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, outputs, h, w) of ``x`` (n, inputs, h, w)."""
        return self._conv_forward(x, self.weight * self.mask, self.bias)


def masked_stack(
    inputs: int, outputs: int, *, channels: int = 32, layers: int = 4, kernel: int = 3
) -> nn.Sequential:
    """Masked convolutions one upon another, the first of kind "A"; such a stack has a blind spot.

    Args: ``inputs`` channels of the image, ``outputs`` numbers for each pixel; ``layers`` in all,
    the last of which is 1×1.

    Equation: :eq:`eq-gpt-pixelcnn`
    """
    check_counts(2, layers=layers)
    check_counts(inputs=inputs, outputs=outputs)
    stack: list[nn.Module] = [MaskedConv2d("A", inputs, channels, kernel)]
    for _ in range(layers - 2):
        stack += [nn.SiLU(), MaskedConv2d("B", channels, channels, kernel)]
    return nn.Sequential(*stack, nn.SiLU(), nn.Conv2d(channels, outputs, 1))


class GatedBlock(nn.Module):
    """A layer of both stacks: causal convolutions, the gate tanh(a) σ(b), residual connections."""

    def __init__(self, channels: int, kernel: int, dropout: float) -> None:
        super().__init__()
        check_counts(channels=channels, kernel=kernel)
        self.reach = kernel // 2
        self.down = nn.Conv2d(channels, 2 * channels, (self.reach + 1, kernel))
        self.right = nn.Conv2d(channels, 2 * channels, (1, self.reach + 1))
        self.link = nn.Conv2d(channels, 2 * channels, 1)
        self.mix_v = nn.Conv2d(channels, channels, 1)
        self.mix_h = nn.Conv2d(channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The features of the next layer, of whole images (n, channels, h, w)."""
        v = self.vertical(F.pad(v, (0, 0, self.reach, 0)))
        return v, self.horizontal(F.pad(h, (self.reach, 0)), self.link(v))

    def vertical(self, v: Tensor) -> Tensor:
        """Rows of v, given ``reach`` rows more above them."""
        a = self.down(F.pad(v, (self.reach, self.reach)))
        return v[:, :, self.reach :] + self.mix_v(self.dropout(gate(a)))

    def horizontal(self, h: Tensor, link: Tensor) -> Tensor:
        """Pixels of h, given ``reach`` pixels more left of them and what v tells of the former."""
        a = self.right(h) + link
        return h[..., self.reach :] + self.mix_h(self.dropout(gate(a)))


def gate(features: Tensor) -> Tensor:
    """tanh(a) σ(b) of two halves a, b of the channels."""
    a, b = features.chunk(2, dim=1)
    return a.tanh() * b.sigmoid()


class PixelCNN(Model):
    """The chain rule over the pixels of an image, in raster order and without a blind spot.

    Args: ``shape`` (c, h, w) of images in [0, 1] with ``levels`` grey levels k/(levels − 1);
    ``channels`` of each of ``layers`` gated layers with windows of odd size ``kernel``; ``dropout``
    its rate; ``likelihood`` "categorical" or "logistic" (a mixture of 5 discretised logistics);
    ``ordered`` False for levels that are symbols without an order, such as codes. The channels of
    a pixel are predicted one after another. Integers, of shape (n, *shape) or in rows (n, c h w),
    are read as levels k wherever images are expected.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        levels: int = 256,
        channels: int = 32,
        layers: int = 4,
        kernel: int = 3,
        dropout: float = 0.0,
        likelihood: str = "categorical",
        ordered: bool = True,
    ) -> None:
        super().__init__()
        check_arguments(shape, levels, channels, layers, dropout)
        check_kernel(kernel)
        self.shape, self.levels, self.ordered = tuple(shape), levels, ordered
        likelihood_of = chosen("likelihood", likelihood, PIXEL_LIKELIHOODS)
        self.likelihood = likelihood_of(self.shape, levels)
        self.value_likelihood = likelihood_of((1, 1, 1), levels)
        if not ordered and likelihood != "categorical":
            raise ValueError("levels without an order need likelihood='categorical'")
        c, height, width = self.shape
        self.read = nn.Conv2d(c if ordered else c * levels, channels, 1)
        self.place = nn.Parameter(torch.zeros(2, channels, height, width))
        self.blocks = nn.ModuleList(GatedBlock(channels, kernel, dropout) for _ in range(layers))
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels + earlier, channels, 1),
                nn.SiLU(),
                nn.Dropout(dropout),
                nn.Conv2d(channels, self.likelihood.per_value, 1),
            )
            for earlier in range(c)
        )

    @in_evaluation
    def log_prob(self, x: Batch) -> PerExample:
        """log p(x) of images (n, *shape), exact, in nats."""
        return self._log_prob(x)

    def _log_prob(self, x: Batch) -> PerExample:
        """The same in the mode that the model is in."""
        x = self.images(x)
        h = self.features(x)
        parameters = [self._output(h, x, k) for k in range(len(self.heads))]
        return self.likelihood(torch.stack(parameters, dim=2)).log_prob(x)

    def loss(self, x: Batch) -> Scalar:
        """−log p(x) a value, the mean over the batch, in nats."""
        return -self._log_prob(x).mean() / math.prod(self.shape)

    def sample(
        self, n: int, *, cache: bool = True, generator: torch.Generator | None = None
    ) -> Batch:
        """``n`` images; see ``complete`` for ``cache``."""
        check_count("n", n)
        return self.complete(
            self.place.new_zeros(n, *self.shape, dtype=self._dtype),
            0,
            cache=cache,
            generator=generator,
        )

    @torch.no_grad()
    def complete(
        self, x: Batch, rows: int, *, cache: bool = True, generator: torch.Generator | None = None
    ) -> Batch:
        """The upper ``rows`` rows of ``x`` (n, *shape), and draws of the rows below given them.

        With ``cache`` the features of former pixels are kept and each pixel costs the same work;
        without, all of the image is computed for each. Both give the same images.
        """
        x = self.images(x).clone()
        if not 0 <= rows <= self.shape[1]:
            raise ValueError(f"rows must be from 0 to the height {self.shape[1]}, but got {rows}")
        with evaluating(self), drawing_from(generator):
            self._fill(x, rows, Memory(self, x) if cache else None)
        return x

    def features(self, x: Batch) -> Tensor:
        """What the horizontal stack knows at each pixel: (n, channels, h, w) of (n, c, h, w)."""
        e = self.embed(x)
        v = F.pad(e, (0, 0, 1, 0))[:, :, :-1] + self.place[0]
        h = F.pad(e, (1, 0))[..., :-1] + self.place[1]
        for block in self.blocks:
            v, h = block(v, h)
        return h

    def embed(self, x: Tensor) -> Tensor:
        """Pixels (n, c, h, w) as features (n, channels, h, w)."""
        if self.ordered:
            return self.read(as_weights(2 * x - 1, self))
        levels = one_hot((x * (self.levels - 1)).round().long(), self.levels)
        return self.read(levels.movedim(-1, 2).flatten(1, 2).to(self.place))

    def images(self, x: Tensor) -> Tensor:
        """``x``, if integers as images k/(K−1); ValueError where they do not fit this model.

        Values are looked at where that costs nothing.
        """
        check_tensor(x, "images")
        if x.is_floating_point():
            self.likelihood.check(x)
            return x
        x = whole_numbers(x, "levels")
        if x.shape[1:].numel() != math.prod(self.shape) or len(x) == 0:
            raise ValueError(
                f"got levels of shape {tuple(x.shape)}, but this model was built for images of "
                f"shape {self.shape}: give (n, *shape), or rows of {math.prod(self.shape)} levels"
            )
        if at_hand(x) and not 0 <= int(x.min()) <= int(x.max()) < self.levels:
            raise ValueError(
                f"got levels from {int(x.min())} to {int(x.max())}, but this model has 0 to "
                f"{self.levels - 1}: rebuild it with more levels="
            )
        return x.reshape(-1, *self.shape).to(self.place.device, self._dtype) / (self.levels - 1)

    @property
    def _dtype(self) -> torch.dtype:
        """That of images, of which half precision would not tell all levels."""
        return torch.promote_types(self.place.dtype, torch.float32)

    def check(self, x: Tensor) -> None:
        """Raise ValueError where the data do not fit this model."""
        self.images(x)

    def _output(self, h: Tensor, x: Tensor, k: int) -> Tensor:
        """What the likelihood needs for channel k at each pixel, from what comes before it."""
        read = torch.cat([F.silu(h), 2 * x[:, :k] - 1], dim=1)
        return self.heads[k](as_weights(read, self))

    def _fill(self, x: Tensor, rows: int, memory: Memory | None) -> None:
        """Draw the pixels of ``x`` below the first ``rows`` rows, one after another."""
        for i in range(x.shape[2]):
            if memory is not None:
                memory.start_row(i)
            for j in range(x.shape[3] if i >= rows else 0):
                at = (..., slice(i, i + 1), slice(j, j + 1))
                h = self.features(x)[at] if memory is None else memory.features(i, j)
                for k in range(len(self.heads)):
                    p = self.value_likelihood(self._output(h, x[at], k)[:, :, None])
                    x[at][:, k : k + 1] = p.sample()


class Memory:
    """What each layer keeps of the pixels so far, so that a new pixel costs one window a layer."""

    def __init__(self, model: PixelCNN, x: Tensor) -> None:
        """``x`` (n, c, h, w) is filled in from outside, pixel by pixel."""
        self.model, self.x = model, x
        self.blocks = cast("list[GatedBlock]", model.blocks)
        self.above = [self._zeros(block.reach, x.shape[3]) for block in self.blocks]

    def start_row(self, i: int) -> None:
        """Take row i − 1 in: the vertical stack of the whole row i."""
        v = self.model.place[0, :, i : i + 1].expand(len(self.x), -1, -1, -1)
        if i > 0:
            v = v + self.model.embed(self.x[:, :, i - 1 : i])
        self.links = []
        for number, block in enumerate(self.blocks):
            window = torch.cat([self.above[number], v], dim=2)
            self.above[number] = window[:, :, 1:]
            v = block.vertical(window)
            self.links.append(block.link(v))
        self.left = [self._zeros(1, block.reach) for block in self.blocks]

    def features(self, i: int, j: int) -> Tensor:
        """Take the pixel left of (i, j) in: the horizontal stack at (i, j)."""
        h = self.model.place[1, :, i : i + 1, j : j + 1].expand(len(self.x), -1, -1, -1)
        if j > 0:
            h = h + self.model.embed(self.x[:, :, i : i + 1, j - 1 : j])
        for number, block in enumerate(self.blocks):
            window = torch.cat([self.left[number], h], dim=3)
            self.left[number] = window[..., 1:]
            h = block.horizontal(window, self.links[number][..., j : j + 1])
        return h

    def _zeros(self, height: int, width: int) -> Tensor:
        place = self.model.place
        return place.new_zeros(len(self.x), place.shape[1], height, width)


def check_arguments(
    shape: tuple[int, ...], levels: int, channels: int, layers: int, dropout: float
) -> None:
    """Raise ValueError unless a PixelCNN can be built of these."""
    if len(check_shape(shape)) != 3:
        raise ValueError(f"shape must be (channels, height, width), but got {tuple(shape)}")
    check_counts(channels=channels, layers=layers)
    check_counts(2, levels=levels)
    check_dropout(dropout)


def check_kernel(kernel: int) -> None:
    """Raise ValueError unless ``kernel`` is an odd number from 3."""
    if kernel < 3 or kernel % 2 == 0:
        raise ValueError(f"kernel must be odd and at least 3, but got {kernel}")


keep_contract(globals())
