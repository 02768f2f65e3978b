"""Glow: a flow on images, of steps that normalise, mix channels and couple, at several scales.

A step is an actnorm, an invertible 1 × 1 convolution and a coupling of one half of the channels to
the other by a small convolutional network. Squeezing trades resolution for channels; after each
scale half of the channels is done and goes to the base density as it is.

Notation: images (n, c, h, w); ``log_det`` in nats, one number an image; ``W`` the channels' matrix.

Source: Kingma and Dhariwal, NeurIPS 2018; Dinh et al., ICLR 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from gentext.core import as_weights, at_least_single, check_counts, check_shape, plain_precision
from gentext.core.signatures import keep_contract
from gentext.flows.bases import NormalBase
from gentext.flows.flow import Flow
from gentext.flows.transforms import Compose, InvertibleLinear, Transform, start_at
from gentext.flows.univariate import Mapped, ShiftAndScale, Spline, Univariate


class ActNorm(Transform):
    """z = s x + b with one s and b for each channel, which the first training batch standardises.

    Equation: :eq:`eq-flow-actnorm`
    """

    ready: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_s = nn.Parameter(torch.zeros(channels))
        self.b = nn.Parameter(torch.zeros(channels))
        self.register_buffer("ready", torch.tensor(False))
        self.waiting = True  # what ``ready`` says, where no device need be asked
        self.register_load_state_dict_post_hook(ActNorm._loaded)

    @staticmethod
    def _loaded(module: ActNorm, _: Any) -> None:
        module.waiting = not bool(module.ready)

    def forward_and_log_det(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """z and h w Σ log s."""
        if self.training and self.waiting:
            self.standardise(x.detach())
        log_s = at_least_single(self.log_s)
        z = x * _channels(log_s.exp(), x) + _channels(self.b, x)
        return z, log_s.sum().mul(_places(x)).expand(len(x))

    def inverse_and_log_det(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        """x = (z − b)/s."""
        log_s = at_least_single(self.log_s)
        x = (z - _channels(self.b, z)) * _channels((-log_s).exp(), z)
        return x, log_s.sum().mul(-_places(z)).expand(len(z))

    @torch.no_grad()
    def standardise(self, x: Tensor) -> None:
        """Choose s and b so that the channels of f(x) have mean 0 and variance 1."""
        if not x.numel():
            raise ValueError(f"got a batch of shape {tuple(x.shape)}; give one example at least")
        axes = [0, *range(2, x.dim())]
        std, mean = torch.std_mean(x, axes, correction=0)
        std = std.clamp(min=1e-3)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for value in (std, mean):  # one batch decides, for all processes
                torch.distributed.broadcast(value, 0)
        self.log_s.copy_(-std.log())
        self.b.copy_(-mean / std)
        self.ready.fill_(True)
        self.waiting = False


class InvertibleConv1x1(InvertibleLinear):
    """Multiplies the channels at each of h w places by one matrix, kept in the factors P L U.

    Equation: :eq:`eq-flow-conv1x1`
    """

    def _multiply(self, matrix: Tensor, x: Tensor) -> Tensor:
        with plain_precision(x):
            return conv2d(x, matrix.to(x.dtype)[:, :, None, None])


class Squeeze(Transform):
    """Four neighbouring places become four times the channels: (c, h, w) to (4c, h/2, w/2)."""

    def forward_and_log_det(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """The same numbers elsewhere; log_det 0."""
        return nn.functional.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse_and_log_det(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        """Back."""
        return nn.functional.pixel_shuffle(z, 2), z.new_zeros(len(z))


class ChannelCoupling(Transform):
    """Bends the second half of the channels by a convolutional network of the first half.

    Equation: :eq:`eq-flow-coupling`
    """

    def __init__(self, channels: int, *, hidden: int, univariate: Univariate | None = None) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"got {channels} channel; a coupling needs at least 2: squeeze first")
        check_counts(hidden=hidden)
        self.kept, self.univariate = channels // 2, univariate or ShiftAndScale()
        bent = channels - self.kept
        last = nn.Conv2d(hidden, self.univariate.per_value * bent, 3, padding=1)
        start_at(last, self.univariate.start.repeat_interleave(bent))
        self.net = nn.Sequential(
            nn.Conv2d(self.kept, hidden, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.SiLU(),
            last,
        )

    def _map(self, x: Tensor, *, inverse: bool) -> Mapped:
        kept, bent = x[:, : self.kept], x[:, self.kept :]
        made = (
            self.net(as_weights(kept, self.net))
            .to(x.dtype)
            .unflatten(1, (self.univariate.per_value, -1))
        )
        bend = self.univariate.inverse if inverse else self.univariate
        changed, slopes = bend(made.transpose(0, 1), bent)
        return torch.cat([kept, changed], 1), slopes.flatten(1).sum(1)

    def forward_and_log_det(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """z, and the sum of the log slopes."""
        return self._map(x, inverse=False)

    def inverse_and_log_det(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        """x, at the same cost."""
        return self._map(z, inverse=True)


class Multiscale(Transform):
    """Flat examples of an image of ``shape``: on each scale a squeeze and steps, then half leaves.

    The values that leave at each scale and those that reach the end are z, flat.
    """

    def __init__(
        self, shape: Sequence[int], *, scales: int, steps: int, hidden: int, bins: int | None
    ) -> None:
        super().__init__()
        check_shape(shape)
        if len(shape) != 3:
            raise ValueError(f"got shape {tuple(shape)}; give (channels, height, width)")
        channels, height, width = shape
        check_counts(scales=scales, steps=steps, hidden=hidden)
        if height % 2**scales or width % 2**scales:
            raise ValueError(
                f"got images of {height} x {width} and scales={scales}; both sides must be "
                f"divisible by 2^scales = {2**scales}: choose fewer scales or pad the images"
            )
        self.shape, self.scales = tuple(shape), nn.ModuleList()
        for _ in range(scales):
            channels *= 4
            layers: list[Transform] = [Squeeze()]
            for _ in range(steps):
                univariate = None if bins is None else Spline(bins)
                layers += [
                    ActNorm(channels),
                    InvertibleConv1x1(channels),
                    ChannelCoupling(channels, hidden=hidden, univariate=univariate),
                ]
            self.scales.append(Compose(layers))
            channels //= 2

    def forward_and_log_det(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """z (n, c h w)."""
        x, total, done = x.unflatten(1, self.shape), x.new_zeros(len(x)), []
        for k, scale in enumerate(self.scales):
            x, log_det = scale(x)
            total = total + log_det
            if k < len(self.scales) - 1:
                x, leaving = x.chunk(2, 1)
                done.append(leaving.flatten(1))
        return torch.cat([*done, x.flatten(1)], 1), total

    def inverse_and_log_det(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        """x (n, c h w)."""
        total, size = z.new_zeros(len(z)), math.prod(self.shape)
        sizes = [size // 2 ** (k + 1) for k in range(len(self.scales) - 1)]
        *done, x = z.split([*sizes, size - sum(sizes)], 1)
        _, height, width = self.shape
        k = len(self.scales) - 1
        x = x.unflatten(1, (-1, height // 2 ** (k + 1), width // 2 ** (k + 1)))
        for scale, leaving in zip(reversed(self.scales), [None, *reversed(done)], strict=True):
            if leaving is not None:
                x = torch.cat([x, leaving.view_as(x)], 1)
            x, log_det = scale.inverse_and_log_det(x)  # type: ignore[operator]
            total = total + log_det
        return x.flatten(1), total


class Glow(Flow):
    """A flow on images (channels, h, w), given flat, on ``scales`` scales of ``steps`` steps each.

    Arguments:
        hidden: channels of the couplings' networks; bins: of splines instead of affine couplings.

    Source: Kingma and Dhariwal, NeurIPS 2018.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        scales: int = 2,
        steps: int = 4,
        hidden: int = 32,
        bins: int | None = None,
    ) -> None:
        multiscale = Multiscale(shape, scales=scales, steps=steps, hidden=hidden, bins=bins)
        super().__init__(base=NormalBase(math.prod(shape)), transforms=[multiscale])


def _channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.dim() - 2))


def _places(x: Tensor) -> int:
    return math.prod(x.shape[2:])


keep_contract(globals())
