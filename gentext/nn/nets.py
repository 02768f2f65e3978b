"""Networks that the families share: perceptrons, encoders and decoders, residual convolutions.

Each takes tensors and gives tensors; what the numbers mean is said by the model that uses it.

Notation: ``x`` examples of ``shape``, images (c, h, w); ``z`` codes; ``hidden`` units of a layer,
or channels of a convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gentext.core import (
    check_count,
    check_counts,
    check_dropout,
    check_shape,
    chosen,
    transformed,
)
from gentext.core.shapes import Batch, Flat
from gentext.core.signatures import keep_contract

NETWORKS = ("linear", "mlp", "conv")
GROUPS = 8  # of the normalisations of ``Features``
SMALLEST = 7  # its resolution is halved until no side is longer


def mlp(
    inputs: int, outputs: int, hidden: Sequence[int] = (256, 256), *, dropout: float = 0.0
) -> nn.Sequential:
    """A perceptron ``inputs`` -> ``hidden`` ... -> ``outputs`` with SiLU between its layers."""
    check_counts(inputs=inputs, outputs=outputs)
    for size in hidden:
        check_count("hidden", size)
    sizes = (inputs, *hidden, outputs)
    return stacked([nn.Linear(a, b) for a, b in pairwise(sizes)], dropout)


def stacked(linear: Sequence[nn.Module], dropout: float) -> nn.Sequential:
    """The layers with SiLU between them, and ``dropout`` after each SiLU if there is any."""
    check_dropout(dropout)
    between: list[nn.Module] = [nn.SiLU(), nn.Dropout(dropout)] if dropout else [nn.SiLU()]
    first, *others = linear
    return nn.Sequential(first, *(part for layer in others for part in (*between, layer)))


class Encoder(nn.Module):
    """Maps examples of ``shape``, beside an optional vector ``context``, to ``outputs`` numbers.

    ``net`` is "linear", "mlp" (two layers of ``hidden`` units) or "conv" (two strided
    convolutions of ``hidden``/8 and ``hidden``/4 channels; needs shape (c, h, w), h and w
    divisible by 4).
    """

    def __init__(
        self, shape: Sequence[int], outputs: int, *, hidden: int, net: str, context: int = 0
    ) -> None:
        super().__init__()
        check_network(net, shape, hidden)
        values = math.prod(shape)
        if net == "linear":
            self.features: nn.Module = nn.Flatten()
            self.head: nn.Module = nn.Linear(values + context, outputs)
        elif net == "mlp":
            self.features = nn.Sequential(nn.Flatten(), nn.Linear(values, hidden), nn.SiLU())
            self.head = mlp(hidden + context, outputs, (hidden,))
        else:
            self.features = convolutions(shape[0], hidden)
            size = hidden // 4 * (shape[1] // 4) * (shape[2] // 4)
            self.head = nn.Linear(size + context, outputs)

    def forward(self, x: Batch, context: Flat | None = None) -> Float[Tensor, "n out"]:
        """Numbers of shape (n, outputs)."""
        h = self.features(x)
        return self.head(h if context is None else torch.cat([h, context], dim=1))


class Decoder(nn.Module):
    """Maps ``inputs`` numbers to ``per_value`` numbers for each value of an example of ``shape``.

    The mirror image of :class:`Encoder`, with the same choices of ``net``.
    """

    def __init__(
        self, inputs: int, shape: Sequence[int], *, hidden: int, net: str, per_value: int = 1
    ) -> None:
        super().__init__()
        check_network(net, shape, hidden)
        self.shape = (per_value, *shape)
        values = math.prod(self.shape)
        if net == "linear":
            self.network: nn.Module = nn.Linear(inputs, values)
        elif net == "mlp":
            self.network = mlp(inputs, values, (hidden, hidden))
        else:
            self.network = transposed_convolutions(inputs, shape, hidden, per_value)

    def forward(self, z: Flat) -> Float[Tensor, "n per_value *event"]:
        """Numbers of shape (n, per_value, *shape)."""
        return self.network(z).reshape(-1, *self.shape)


def convolutions(channels: int, hidden: int) -> nn.Sequential:
    """Two convolutions of stride 2 with SiLU; gives flat features."""
    check_count("channels", channels)
    check_count("hidden", hidden, 8)
    few, many = hidden // 8, hidden // 4
    return nn.Sequential(
        nn.Conv2d(channels, few, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(few, many, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
    )


def transposed_convolutions(
    inputs: int, shape: Sequence[int], hidden: int, per_value: int
) -> nn.Sequential:
    """A linear layer to a quarter of the resolution and two transposed convolutions."""
    check_counts(inputs=inputs, per_value=per_value)
    check_count("hidden", hidden, 8)
    check_shape(shape)
    few, many = hidden // 8, hidden // 4
    height, width = shape[1] // 4, shape[2] // 4
    return nn.Sequential(
        nn.Linear(inputs, many * height * width),
        nn.SiLU(),
        nn.Unflatten(1, (many, height, width)),
        nn.ConvTranspose2d(many, few, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.ConvTranspose2d(few, per_value * shape[0], 4, stride=2, padding=1),
    )


class Features(nn.Sequential):
    """Maps images of ``shape`` to ``features`` numbers; the channels double as the image halves.

    Images are longer than 7 on a side, and ``channels``, those of the first layer, a multiple of 8;
    ``dropout`` is that of the values which the last layer sees.
    """

    def __init__(self, shape: Sequence[int], channels: int, features: int, dropout: float) -> None:
        check_features(shape, channels, features)
        check_dropout(dropout)
        inputs, *sides = shape
        layers: list[nn.Module] = []
        while max(sides) > SMALLEST:
            layers += [*_block(inputs, channels, 2), *_block(channels, channels, 1)]
            inputs, channels, sides = channels, 2 * channels, [(side + 1) // 2 for side in sides]
        values = inputs * sides[0] * sides[1]
        head = (nn.Dropout(dropout), nn.Linear(values, features), nn.SiLU())
        super().__init__(*layers, nn.Flatten(), *head)


def check_features(shape: Sequence[int], channels: int, features: int) -> None:
    """Raise ValueError unless there are images, groups of channels and ``features``."""
    check_shape(shape)
    if len(shape) != 3 or max(shape[1:]) <= SMALLEST:
        raise ValueError(
            f"got shape {tuple(shape)}; give images (c, h, w), longer than {SMALLEST} on a side"
        )
    check_count("features", features)
    if channels < GROUPS or channels % GROUPS:
        raise ValueError(f"got channels={channels}; give a multiple of {GROUPS}")


def _block(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    """A convolution, a normalisation and SiLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
    return convolution, nn.GroupNorm(GROUPS, outputs), nn.SiLU()


def one_hot(k: Tensor, size: int) -> Tensor:
    """Numbers k from 0 to ``size`` − 1 as rows of zeros and a one, also under ``torch.func``."""
    if transformed():  # where torch's own asks for values
        return (k[..., None] == torch.arange(size, device=k.device)).long()
    return nn.functional.one_hot(k, size)


def check_network(net: str, shape: Sequence[int], hidden: int) -> None:
    """Raise ValueError unless ``net`` is known and fits examples of ``shape``."""
    chosen("net", net, NETWORKS)
    check_shape(shape)
    check_count("hidden", hidden)
    if net == "conv" and (len(shape) != 3 or shape[1] % 4 or shape[2] % 4):
        raise ValueError(
            f"net='conv' needs images (c, h, w) with h and w divisible by 4, but got shape "
            f"{tuple(shape)}: use net='mlp'"
        )
    if net == "conv" and hidden < 8:
        raise ValueError(f"net='conv' needs hidden >= 8, of which it takes eighths; got {hidden}")


def zeros(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """The layer with weights and biases of 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Residual(nn.Module):
    """x + f(x), where f has two convolutions that keep the shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_count("channels", channels)
        self.f = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        return x + self.f(x)


def residual_encoder(channels: int, code_size: int, hidden: int) -> nn.Sequential:
    """Images (n, channels, h, w) to vectors (n, code_size, h/4, w/4)."""
    check_counts(channels=channels, code_size=code_size)
    check_count("hidden", hidden, 2)
    return nn.Sequential(
        nn.Conv2d(channels, hidden // 2, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(hidden // 2, hidden, 4, stride=2, padding=1),
        Residual(hidden),
        nn.SiLU(),
        nn.Conv2d(hidden, code_size, 1),
    )


def residual_decoder(code_size: int, outputs: int, hidden: int) -> nn.Sequential:
    """Vectors (n, code_size, h/4, w/4) to ``outputs`` numbers a pixel (n, outputs, h, w)."""
    check_counts(code_size=code_size, outputs=outputs)
    check_count("hidden", hidden, 2)
    return nn.Sequential(
        nn.Conv2d(code_size, hidden, 3, padding=1),
        Residual(hidden),
        nn.SiLU(),
        nn.ConvTranspose2d(hidden, hidden // 2, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.ConvTranspose2d(hidden // 2, outputs, 4, stride=2, padding=1),
    )


keep_contract(globals())
