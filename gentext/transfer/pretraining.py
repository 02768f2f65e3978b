"""Contrastive pre-training: features that tell from which image a view was made.

Of each image two random views are made. The model is asked, for one of them, which of many others
is its partner; it can only answer by what both views show and other images do not. What the views
change at random is what the features learn to leave out: their invariances are chosen, not found.

Notation: I(X; V) the mutual information of a pair in nats; s(x, v) the score, or critic, of a pair;
N candidates, of which one is the partner; L the mean of −log of the probability of the partner;
``z`` (n, d) projected features of length 1, τ the ``temperature``.

Source: van den Oord et al., 2018 (InfoNCE); Poole et al., ICML 2019 (the bound); Chen et al., ICML
2020 (SimCLR).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gentext.core import (
    Model,
    as_weights,
    at_least_single,
    check_count,
    check_counts,
    check_examples,
    check_number,
    chosen,
    drawn_by,
    in_evaluation,
)
from gentext.core.shapes import Batch, Flat, Scalar
from gentext.core.signatures import keep_contract
from gentext.nn.nets import Features, mlp

VIEWS = {"shift": 0.1, "scale": 0.15, "turn": 0.2, "brightness": 0.3, "noise": 0.05, "erase": 0.25}
LEAST = 1e-3  # temperature; cosines are divided by it
MOST = {"shift": 1.0, "scale": 0.9, "turn": math.pi, "brightness": 1.0, "noise": 10.0, "erase": 1.0}


def info_nce(scores: Float[Tensor, "*batches n candidates"]) -> Scalar:
    """L = −mean log (exp s_ii / Σ_j exp s_ij) of the scores s_ij of x_i and v_j, in nats.

    The pairs are on the diagonal; each x_i has n candidates, those of its own batch.

    Equation: :eq:`eq-pre-infonce`
    """
    if scores.dim() < 2 or scores.shape[-1] != scores.shape[-2] or not scores.numel():
        raise ValueError(
            f"got scores of shape {tuple(scores.shape)}; give (n, n), those of pairs on the "
            "diagonal"
        )
    scores = at_least_single(scores)
    return (scores.logsumexp(-1) - scores.diagonal(dim1=-2, dim2=-1)).mean()


def info_nce_bound(scores: Float[Tensor, "*batches n candidates"]) -> Scalar:
    """log N − L in nats, whose mean over batches is at most I(X; V), and which is at most log N.

    For N → ∞ it reaches I(X; V) for the score log p(v | x)/p(v), or one that differs from it by a
    function of x alone.

    Equation: :eq:`eq-pre-infonce`
    """
    return math.log(scores.shape[-1]) - info_nce(scores)


def nt_xent(first: Flat, second: Flat, temperature: float) -> Scalar:
    """InfoNCE from each of 2n views to its partner among the 2n − 1 others, in nats.

    Row i of ``first`` and of ``second`` are the features of two views of the same image; the score
    is their cosine divided by the temperature τ.

    Equation: :eq:`eq-pre-infonce`

    Source: Chen et al., ICML 2020.
    """
    check_number("temperature", temperature, least=LEAST)
    if first.shape != second.shape:
        raise ValueError(
            f"got features {tuple(first.shape)} and {tuple(second.shape)}; give two of each image"
        )
    a, b = (F.normalize(at_least_single(z), dim=1) for z in (first, second))
    scores = torch.cat([a, b]) @ torch.cat([b, a]).T / temperature
    itself = torch.eye(len(scores), dtype=torch.bool, device=scores.device).roll(len(a), 1)
    return info_nce(scores.masked_fill(itself, -math.inf))


class Contrastive(Model):
    """An encoder of images in [0, 1], trained to find the other view of an image among many.

    Arguments:
        shape: of an image (c, h, w), longer than 7 on a side.
        features: size of the codes; channels: of the first convolution, a multiple of 8.
        projection: size of what the views are compared by, a perceptron of the codes.
        temperature: τ; a small one asks for more of the partners that are hard to tell apart.
        views: what two views differ in, such as {"shift": 0.1, "noise": 0.05}, as in ``views``;
            what is not named stays as it is, and None takes ``VIEWS``.

    Source: Chen et al., ICML 2020.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        features: int = 64,
        channels: int = 32,
        projection: int = 32,
        temperature: float = 0.2,
        dropout: float = 0.0,
        views: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        check_counts(features=features, projection=projection)
        check_number("temperature", temperature, least=LEAST)
        self.shape, self.temperature = tuple(shape), temperature
        self.views: dict[str, Any] = checked_views(VIEWS if views is None else views)
        self.features = Features(shape, channels, features, dropout)
        self.head = mlp(features, projection, (features,))

    def check(self, x: Tensor) -> None:
        """Raise ValueError for images that do not fit."""
        check_examples(x, self.shape, 0.0, 1.0)

    @in_evaluation
    def encode(self, x: Batch) -> Flat:
        """The features before the projection, (n, features): what other tasks build on."""
        return self.represent(x)

    def represent(self, x: Batch) -> Flat:
        """The same in the mode that the model is in."""
        self.check(x)
        return self.features(as_weights(x, self.features))

    def backbone(self) -> list[nn.Module]:
        """All layers but those of the projection."""
        return [self.features]

    def guessing(self, n: int) -> float:
        """log(2n − 1) nats, the loss of guessing the partner among the views of n images."""
        check_count("n", n)
        return math.log(2 * n - 1)

    def loss(self, x: Batch) -> Scalar:
        """InfoNCE of two random views of each image, in nats.

        Equation: :eq:`eq-pre-infonce`
        """
        self.check(x)
        first, second = (self.head(self.represent(views(x, None, **self.views))) for _ in range(2))
        return nt_xent(first, second, self.temperature)


def views(
    x: Batch,
    generator: torch.Generator | None = None,
    *,
    shift: float = 0.0,
    scale: float = 0.0,
    turn: float = 0.0,
    brightness: float = 0.0,
    noise: float = 0.0,
    erase: float = 0.0,
) -> Batch:
    """One random view of each image (n, c, h, w) in [0, 1], of the same shape and range.

    Arguments:
        shift: along both sides by up to this share of them; scale: larger or smaller by up to this
            share; turn: by up to so many radians. What comes in from outside is 0.
        brightness: all values times 1 ± this at most; noise: standard deviation of normal noise.
        erase: a rectangle of this share of both sides, somewhere, becomes 0.

    A model that is to give two views the same features learns to ignore where exactly, how large,
    how upright and how bright something is, fine noise, and any one part of it.
    """
    given = {"shift": shift, "scale": scale, "turn": turn}
    checked_views({**given, "brightness": brightness, "noise": noise, "erase": erase})
    check_examples(x, tuple(x.shape[1:]), 0.0, 1.0)
    if x.dim() != 4:
        raise ValueError(f"got x of shape {tuple(x.shape)}; give images (n, c, h, w)")
    seen = at_least_single(x)
    seen = _moved(seen, shift, scale, turn, generator)
    seen = seen * (1 + brightness * _signed(seen, 1, generator)[0][:, None, None, None])
    seen = seen + noise * torch.randn(
        x.shape, dtype=seen.dtype, device=x.device, **drawn_by(generator)
    )
    return _erased(seen.clamp(0, 1), erase, generator).to(x.dtype)


def _moved(
    x: Batch, shift: float, scale: float, turn: float, generator: torch.Generator | None
) -> Batch:
    """The images scaled, turned and shifted, with bilinear interpolation."""
    u, v, zoom, angle = _signed(x, 4, generator)[..., None, None]
    cos, sin = (f(turn * angle) / (1 + scale * zoom) for f in (torch.cos, torch.sin))
    rows, columns = (2 * _places(side, x) - 1 for side in x.shape[-2:])
    # where in the image, whose sides run from −1 to 1, each value of the view is taken from
    across = cos * columns - sin * rows[:, None] + 2 * shift * u
    down = sin * columns + cos * rows[:, None] + 2 * shift * v
    return F.grid_sample(x, torch.stack([across, down], -1), align_corners=False)


def _places(side: int, like: Tensor) -> Float[Tensor, "side"]:
    """The middles of the values along a side, which runs from 0 to 1."""
    return (torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) / side


def _erased(x: Batch, erase: float, generator: torch.Generator | None) -> Batch:
    """The images with a rectangle of 0, ``erase`` of both sides, at a random place."""
    starts = (_signed(x, 2, generator) + 1) / 2 * (1 - erase)
    inside = []
    for start, side in zip(starts, x.shape[-2:], strict=True):
        place = _places(side, x)
        inside.append((place >= start[:, None]) & (place < start[:, None] + erase))
    rows, columns = inside
    return torch.where(rows[:, None, :, None] & columns[:, None, None, :], 0, x)


def _signed(x: Batch, count: int, generator: torch.Generator | None) -> Float[Tensor, "k n"]:
    """``count`` numbers from −1 to 1 for each example."""
    u = torch.rand(count, len(x), dtype=x.dtype, device=x.device, **drawn_by(generator))
    return 2 * u - 1


def checked_views(given: Mapping[str, Any]) -> dict[str, float]:
    """The options of ``views``; ValueError for an unknown one, or one out of its range."""
    if not isinstance(given, Mapping):
        raise ValueError(f"got views={given!r}; give a number for each, such as {{'shift': 0.1}}")
    for name, value in given.items():
        check_number(name, value, least=0, most=chosen("option of views", name, MOST))
    return {name: float(value) for name, value in given.items()}


keep_contract(globals())
