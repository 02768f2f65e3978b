"""Classifiers of images: what they see in an image, and how sure they are of its class.

The features of a classifier are the space in which samples are compared with data, and the
gradient of its log-probability steers a diffusion towards a class.

Notation: ``y`` classes, ``log_snr`` log α²/σ² of x_t = α x_0 + σ ε with α² + σ² = 1.

Source: Heusel et al., NeurIPS 2017 (features); Dhariwal and Nichol, NeurIPS 2021 (guidance).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gentext.core import (
    Model,
    as_weights,
    at_least_single,
    check_count,
    check_dropout,
    check_examples,
    check_labels,
    in_evaluation,
    whole_numbers,
)
from gentext.core.shapes import Batch, Flat, Labels, PerExample, Scalar
from gentext.core.signatures import keep_contract
from gentext.nn.nets import Features, check_features

NOISE = 9.0  # log SNR of the training runs from −NOISE to NOISE


class ImageClassifier(Model):
    """What both classifiers have: features of images, and a last layer with a number a class."""

    extra = 0  # channels that the features see beside those of the image

    def __init__(
        self,
        *,
        shape: Sequence[int],
        classes: int,
        channels: int = 32,
        features: int = 64,
        dropout: float = 0.0,
        mirror: bool = False,
    ) -> None:
        super().__init__()
        check_features(shape, channels, features)
        check_count("classes", classes, least=2)
        check_dropout(dropout)
        self.shape, self.classes, self.mirror = tuple(shape), classes, mirror
        seen = (shape[0] + self.extra, *shape[1:])
        self.features = Features(seen, channels, features, dropout)
        self.last = nn.Linear(features, classes)

    def check(self, x: Tensor, y: Tensor) -> None:
        """Raise ValueError where images or labels do not fit this model."""
        check_examples(x, self.shape, 0.0, 1.0)
        check_labels(y, len(x), self.classes)

    def turned(self, x: Batch) -> Batch:
        """With ``mirror``, while it trains: half of the images from left to right."""
        if not (self.mirror and self.training):
            return x
        half = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
        return torch.where(half, x.flip(-1), x)


class Classifier(ImageClassifier):
    """p(y | x): a small convolutional network that sorts images in [0, 1] into ``classes``.

    Its last hidden layer of ``features`` units is the code of an image; ``dropout`` is that of the
    values it sees. With ``mirror`` training turns half of the images from left to right.
    """

    @in_evaluation
    def encode(self, x: Batch) -> Flat:
        """What the last layer sees of images: (n, features)."""
        return self.represent(x)

    def represent(self, x: Batch) -> Flat:
        """The same in the mode that the model is in."""
        check_examples(x, self.shape, 0.0, 1.0)
        return self.features(as_weights(x, self.features))

    def backbone(self) -> list[nn.Module]:
        """All layers but the last."""
        return [self.features]

    def logits(self, x: Batch) -> Float[Tensor, "n classes"]:
        """log p(y | x) of every class but for a constant of each image."""
        return at_least_single(self.last(self.represent(x)))

    def loss(self, x: Batch, y: Labels) -> Scalar:
        """−log p(y | x), the mean over the batch, in nats."""
        return cross_entropy(self.logits(self.turned(x)), whole_numbers(y, "labels"))

    @in_evaluation
    def predict(self, x: Batch) -> Labels:
        """The most probable class of each image."""
        return self.logits(x).argmax(1)

    def accuracy(self, x: Batch, y: Labels) -> Scalar:
        """The share of images whose most probable class is ``y``."""
        y = check_labels(y, len(x), self.classes)
        return (self.predict(x) == y).float().mean()


class NoisyClassifier(ImageClassifier):
    """p(y | x_t): a classifier of images in noise, which is told how much of it there is.

    x_0 are the images mapped from [0, 1] to [−1, 1]; the sizes are those of ``Classifier``.

    Source: Dhariwal and Nichol, NeurIPS 2021.
    """

    extra = 1

    def logits(self, x_t: Batch, log_snr: Tensor) -> Float[Tensor, "n classes"]:
        """log p(y | x_t) but for a constant; ``log_snr`` () or (n,) enters as one channel more."""
        check_examples(x_t, self.shape)
        level = log_snr.to(x_t).clamp(-NOISE, NOISE).expand(len(x_t)) / NOISE
        plane = level[:, None, None, None].expand(-1, 1, *self.shape[1:])
        seen = as_weights(torch.cat([x_t, plane], 1), self.features)
        return at_least_single(self.last(self.features(seen)))

    @in_evaluation
    def class_log_prob(self, x_t: Batch, y: Labels, log_snr: Tensor) -> PerExample:
        """log p(y | x_t) in nats, for x_t with α² + σ² = 1."""
        return self._class_log_prob(x_t, y, log_snr)

    def _class_log_prob(self, x_t: Batch, y: Labels, log_snr: Tensor) -> PerExample:
        """The same in the mode that the model is in."""
        y = whole_numbers(y, "labels")
        return -cross_entropy(self.logits(x_t, log_snr), y, reduction="none")

    def loss(self, x: Batch, y: Labels) -> Scalar:
        """−log p(y | x_t) in nats, at a log SNR drawn uniformly for each image; the mean."""
        check_examples(x, self.shape, 0.0, 1.0)
        log_snr = NOISE * (2 * torch.rand(len(x), device=x.device) - 1)
        alpha, sigma = (torch.sigmoid(s)[:, None, None, None].sqrt() for s in (log_snr, -log_snr))
        x_t = alpha * (2 * self.turned(x) - 1) + sigma * torch.randn_like(x)
        return -self._class_log_prob(x_t, y, log_snr).mean()


keep_contract(globals())
