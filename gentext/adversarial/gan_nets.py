"""Generators and critics: perceptrons, the convolutions of DCGAN, and residual networks.

A generator maps codes to examples, a critic examples to one number each. Neither normalises its
features over the batch: the penalties on the critic's slope speak of one example at a time. With
``spectral`` the weight of every layer of a critic is divided by its largest singular value. So a
perceptron without Fourier features and labels cannot change faster than its input; where a weight
is used as a convolution, beside a shortcut or after such features, its slope is restrained but has
another bound.

Notation: ``z`` (n, latent) codes; ``x`` examples as the networks see them, images in [−1, 1];
``y`` (n,) labels of ``classes`` classes, None where there are none; W a matrix of weights, σ₁ its
largest singular value.

Source: Radford et al., ICLR 2016 (DCGAN); Miyato and Koyama, ICLR 2018 (projection); Huang et al.,
NeurIPS 2024 (residual, unnormalised).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gentext.adversarial.spectral import SpectralNorm, spectral_norm
from gentext.core import check_count, check_counts, check_shape, evaluating, plain_precision
from gentext.core.shapes import Batch, Codes, Flat, Labels, PerExample
from gentext.core.signatures import keep_contract
from gentext.nn.nets import zeros

SMALLEST = 7  # the resolution is halved until no side is longer
SLOPE = 0.2  # of the activations below 0
GROUPS = 8  # of the normalisations in the generator
FREQUENCIES = 64  # of the sines and of the cosines among the Fourier features
Layers = list[nn.Module]


def largest_slope(net: nn.Module) -> float:
    """The product of σ₁ of all layers: a perceptron with such layers is nowhere steeper.

    The Fourier features x, sin(Wx), cos(Wx) count √(1 + σ₁(W)²); estimates of spectral norms stay
    as they are. Raises ValueError for other layers with weights.

    Equation: :eq:`eq-gan-specnorm`
    """
    known = (nn.Linear, FourierFeatures, SpectralNorm, parametrize.ParametrizationList)
    for m in net.modules():
        own = [*m.parameters(recurse=False), *m.buffers(recurse=False)]
        if own and not isinstance(m, known):
            raise ValueError(
                f"got a network with a {type(m).__name__}: the bound is of perceptrons"
            )
    with evaluating(net):
        linear = [_norm(m.weight) for m in net.modules() if isinstance(m, nn.Linear)]
    fourier = [math.hypot(1, _norm(m.w)) for m in net.modules() if isinstance(m, FourierFeatures)]
    return math.prod(linear + fourier)


def _norm(weight: Tensor) -> float:
    """σ₁ of a matrix."""
    return float(torch.linalg.matrix_norm(weight.detach(), 2))


class Generator(nn.Module):
    """G(z, y): the body of a subclass, given codes beside an embedded label."""

    body: nn.Module

    def __init__(self, latent: int, classes: int) -> None:
        super().__init__()
        check_count("latent", latent)
        self.embed: Any = nn.Embedding(classes, latent) if classes else None
        self.inputs = 2 * latent if classes else latent

    def forward(self, z: Codes, y: Labels | None = None) -> Batch:
        """Examples, one for each code."""
        if self.embed is not None and y is not None:
            z = torch.cat([z, self.embed(y)], 1)
        return self.body(z)


class Critic(nn.Module):
    """a(x, y): a number from the features of a subclass, plus their product with that of a label.

    Source: Miyato and Koyama, ICLR 2018.
    """

    features: nn.Module

    def __init__(self, features: int, classes: int, spectral: bool) -> None:
        super().__init__()
        check_count("features", features)
        wrap = spectral_norm if spectral else nn.Identity()
        self.last = wrap(nn.Linear(features, 1))
        self.embed: Any = wrap(nn.Embedding(classes, features)) if classes else None

    def forward(self, x: Batch, y: Labels | None = None) -> PerExample:
        """A number for each example, high for data."""
        h = self.features(x)
        value = self.last(h)[:, 0]
        if self.embed is None or y is None:
            return value
        return value + (self.embed(y) * h).sum(1) / math.sqrt(h.shape[1])


class FourierFeatures(nn.Module):
    """x, sin(Wx) and cos(Wx) for a random W of standard deviation ``frequencies``, which stays.

    A perceptron learns slowly what changes fast with its inputs, and quickly what changes slowly
    with these waves.

    Source: Tancik et al., NeurIPS 2020.
    """

    w: Tensor

    def __init__(self, inputs: int, frequencies: float) -> None:
        super().__init__()
        self.register_buffer("w", frequencies * torch.randn(inputs, FREQUENCIES))
        self.outputs = inputs + 2 * FREQUENCIES

    def forward(self, x: Flat) -> Float[Tensor, "n features"]:
        """Numbers of shape (n, outputs)."""
        with plain_precision(x):  # a phase of many turns has no digits to lose
            x = x.to(torch.promote_types(x.dtype, self.w.dtype))
            phase = x @ self.w
            return torch.cat([x, phase.sin(), phase.cos()], 1)


class MLPGenerator(Generator):
    """A perceptron of ``layers`` hidden layers of ``hidden`` units.

    Its inputs are the codes, or their Fourier features, of ``frequencies`` with this standard
    deviation; 0 for none.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent: int,
        classes: int = 0,
        *,
        hidden: int = 128,
        layers: int = 3,
        frequencies: float = 0.0,
    ) -> None:
        super().__init__(latent, classes)
        check_shape(shape)
        features = _perceptron(self.inputs, hidden, layers, frequencies)
        last = nn.Linear(hidden, math.prod(shape))
        self.body = nn.Sequential(*features, last, nn.Unflatten(1, tuple(shape)))


class MLPCritic(Critic):
    """A perceptron like ``MLPGenerator``, of examples or their Fourier features."""

    def __init__(
        self,
        shape: Sequence[int],
        classes: int = 0,
        *,
        hidden: int = 128,
        layers: int = 3,
        frequencies: float = 0.0,
        spectral: bool = False,
    ) -> None:
        super().__init__(hidden, classes, spectral)
        check_shape(shape)
        features = _perceptron(math.prod(shape), hidden, layers, frequencies, spectral)
        self.features = nn.Sequential(nn.Flatten(), *features)


class ConvGenerator(Generator):
    """Transposed convolutions that double the side, from ``channels`` times 2 a doubling."""

    def __init__(
        self, shape: Sequence[int], latent: int, classes: int = 0, *, channels: int = 32
    ) -> None:
        super().__init__(latent, classes)
        halvings, start = _resolutions(shape, channels, least=1)
        if channels % GROUPS:
            raise ValueError(f"got channels={channels}; give a multiple of {GROUPS}")
        widths = [channels * 2**k for k in range(halvings)][::-1]
        first = (widths[0], *start)
        parts: Layers = [nn.Linear(self.inputs, math.prod(first)), nn.Unflatten(1, first)]
        for width, following in zip(widths, [*widths[1:], shape[0]], strict=True):
            parts += [nn.GroupNorm(GROUPS, width), nn.LeakyReLU(SLOPE)]
            parts += [nn.ConvTranspose2d(width, following, 4, stride=2, padding=1)]
        self.body = nn.Sequential(*parts, nn.Tanh())


class ConvCritic(Critic):
    """Convolutions of stride 2, with ``channels`` times 2 a halving."""

    def __init__(
        self, shape: Sequence[int], classes: int = 0, *, channels: int = 32, spectral: bool = False
    ) -> None:
        halvings, end = _resolutions(shape, channels, least=1)
        widths = [shape[0], *(channels * 2**k for k in range(halvings))]
        super().__init__(widths[-1] * math.prod(end), classes, spectral)
        wrap = spectral_norm if spectral else nn.Identity()
        parts: Layers = []
        for width, following in pairwise(widths):
            layer = wrap(nn.Conv2d(width, following, 4, stride=2, padding=1))
            parts += [layer, nn.LeakyReLU(SLOPE)]
        self.features = nn.Sequential(*parts, nn.Flatten())


class Residual(nn.Module):
    """x + f(x), where f has two convolutions and begins at 0 unless its weights are normalised."""

    def __init__(self, width: int, following: int, spectral: bool = False) -> None:
        super().__init__()
        check_counts(width=width, following=following)
        wrap, start = (spectral_norm, nn.Identity()) if spectral else (nn.Identity(), zeros)
        self.skip = nn.Identity() if width == following else wrap(nn.Conv2d(width, following, 1))
        self.branch = nn.Sequential(
            nn.LeakyReLU(SLOPE),
            wrap(nn.Conv2d(width, following, 3, padding=1)),
            nn.LeakyReLU(SLOPE),
            wrap(start(nn.Conv2d(following, following, 3, padding=1))),
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h w"]:
        """Features of ``following`` channels."""
        return self.skip(x) + self.branch(x)


class ResidualGenerator(Generator):
    """Residual blocks, one on each resolution, the side doubled after each but the last."""

    def __init__(
        self, shape: Sequence[int], latent: int, classes: int = 0, *, channels: int = 32
    ) -> None:
        super().__init__(latent, classes)
        halvings, start = _resolutions(shape, channels)
        widths = [channels * 2**k for k in range(halvings + 1)][::-1]
        first = (widths[0], *start)
        parts: Layers = [nn.Linear(self.inputs, math.prod(first)), nn.Unflatten(1, first)]
        for width, following in pairwise(widths):
            parts += [Residual(width, following), nn.Upsample(scale_factor=2)]
        parts += [Residual(widths[-1], widths[-1]), nn.LeakyReLU(SLOPE)]
        self.body = nn.Sequential(*parts, nn.Conv2d(widths[-1], shape[0], 3, padding=1), nn.Tanh())


class ResidualCritic(Critic):
    """Residual blocks, one on each resolution, neighbours averaged between them."""

    def __init__(
        self, shape: Sequence[int], classes: int = 0, *, channels: int = 32, spectral: bool = False
    ) -> None:
        halvings, end = _resolutions(shape, channels)
        widths = [channels * 2**k for k in range(halvings + 1)]
        super().__init__(widths[-1] * math.prod(end), classes, spectral)
        first = nn.Conv2d(shape[0], channels, 3, padding=1)
        parts: Layers = [spectral_norm(first) if spectral else first]
        for width, following in pairwise(widths):
            parts += [Residual(width, following, spectral), nn.AvgPool2d(2)]
        parts += [Residual(widths[-1], widths[-1], spectral), nn.LeakyReLU(SLOPE)]
        self.features = nn.Sequential(*parts, nn.Flatten())


def _perceptron(
    inputs: int, hidden: int, layers: int, frequencies: float, spectral: bool = False
) -> Layers:
    """Linear layers with an activation after each, of Fourier features where there are any."""
    check_counts(hidden=hidden, layers=layers)
    if not 0 <= frequencies < math.inf:
        raise ValueError(f"got frequencies={frequencies}; give a finite number, 0 for none")
    wrap = spectral_norm if spectral else nn.Identity()
    fourier = [FourierFeatures(inputs, frequencies)] if frequencies else []
    sizes = [fourier[0].outputs if fourier else inputs, *[hidden] * layers]
    pairs = [(wrap(nn.Linear(a, b)), nn.LeakyReLU(SLOPE)) for a, b in pairwise(sizes)]
    return [*fourier, *(part for pair in pairs for part in pair)]


def _resolutions(
    shape: Sequence[int], channels: int, least: int = 0
) -> tuple[int, tuple[int, int]]:
    """How often sides are halved, at least ``least`` times, and the height and width left."""
    check_count("channels", channels)
    check_shape(shape)
    if len(shape) != 3:
        raise ValueError(
            f"convolutions need images (c, h, w), but got shape {tuple(shape)}: use 'mlp'"
        )
    height, width = shape[1:]
    halvings = 0
    while max(height, width) > SMALLEST:
        if height % 2 or width % 2:
            raise ValueError(
                f"got images of {shape[1]} x {shape[2]}, but sides are halved until they are at "
                f"most {SMALLEST}: pad the images, or use 'mlp'"
            )
        height, width, halvings = height // 2, width // 2, halvings + 1
    if halvings < least:
        raise ValueError(
            f"got images of {height} x {width}, where there is nothing to halve: sides above "
            f"{SMALLEST} are; use 'residual' or 'mlp'"
        )
    return halvings, (height, width)


keep_contract(globals())
