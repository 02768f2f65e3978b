"""A GAN whose critic sorts: K classes of data, and one more for samples, from few labels.

The critic has a logit for each class; that of the class "sample" is 0, for only differences count.
So the same numbers say of which class an example is, and whether it is one of the data at all: what
is learnt from examples without labels serves the classes.

Notation: l_k(x) the logits of the K ``classes``, Z(x) = Σ_k exp l_k(x), D(x) = Z/(Z + 1) the
probability of data, a(x) = log Z(x) the critic's value, so that D = σ(a); ``y`` labels, −1 where
there is none; f(x) the features that the critic's last layer sees.

Source: Salimans et al., NeurIPS 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from gentext.adversarial.gan import ImageGAN
from gentext.adversarial.gan_nets import Critic
from gentext.adversarial.objectives import minus_value
from gentext.core import (
    as_weights,
    at_least_single,
    check_count,
    check_labels,
    chosen,
    in_evaluation,
    whole_numbers,
)
from gentext.core.shapes import Batch, Flat, Labels, PerExample, Scalar
from gentext.core.signatures import keep_contract

ClassLogits = Float[Tensor, "n classes"]
GENERATOR_LOSSES = ("feature-matching", "non-saturating")


class SemiSupervisedGAN(ImageGAN):
    """A GAN of examples in [0, 1] and a classifier p(y | x) in one, which needs few labels.

    Arguments:
        shape: of one example; classes: K, at least 2; latent: size of the codes.
        generator, critic: "mlp", "dcgan" or "residual", and ``options`` of these, as in ``GAN``.
        generator_loss: "feature-matching", which makes the mean features of samples those of data,
            or "non-saturating". The first gives the better classifier, the second the better
            samples.

    A label of −1 means that there is none. Samples are of no class in particular.

    Source: Salimans et al., NeurIPS 2016.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        classes: int,
        latent: int = 64,
        generator: str = "mlp",
        critic: str = "mlp",
        generator_loss: str = "feature-matching",
        **options: Any,
    ) -> None:
        check_count("classes", classes, 2)
        sizes: dict[str, Any] = {"shape": shape, "latent": latent, "penalties": {}}
        super().__init__(
            **sizes, generator=generator, critic=critic, objective="non-saturating", **options
        )
        self.classes = classes
        self.matches = chosen("loss", generator_loss, GENERATOR_LOSSES) == GENERATOR_LOSSES[0]
        self.critic = ClassCritic(self.critic, classes)

    def check(self, x: Tensor, y: Tensor) -> None:
        """Raise ValueError for data that do not fit; a label of −1 means none."""
        self._check_values(x)
        check_labels(y, len(x), self.classes, -1)

    def loss(self, x: Batch, y: Labels) -> Scalar:
        """The critic's loss, which training minimises first."""
        return self.critic_loss(x, y)

    def critic_loss(self, x: Batch, y: Labels) -> Scalar:
        """What ``semi_supervised_loss`` is, for data and as many samples, in nats."""
        x = as_weights(self._inner(x), self.critic)
        with torch.no_grad():
            fake = self._generated(self._codes(len(x), x)).to(x.dtype)
        real, made = self.critic.logits(torch.cat([x, fake])).chunk(2)
        return semi_supervised_loss(real, made, y)

    def generator_loss(self, x: Batch, *labels: Tensor) -> Scalar:
        """``feature_matching`` of data and as many samples, or −log D(G(z)), the mean."""
        if not self.matches:
            return super().generator_loss(x)
        x, features = as_weights(self._inner(x), self.critic), self.critic.features
        fake = self._generated(self._codes(len(x), x))
        with torch.no_grad():
            real = features(x)
        # the critic's weights as constants: of them no gradient is asked
        fixed = {name: p.detach() for name, p in features.named_parameters()}
        return feature_matching(real, functional_call(features, fixed, (fake,)))

    def logits(self, x: Batch) -> ClassLogits:
        """l_k(x): log p(y | x) of every class but for a constant of each example."""
        self._check_values(x)
        return self.critic.logits(as_weights(self._inner(x), self.critic))

    @in_evaluation
    def predict(self, x: Batch) -> Labels:
        """The most probable class of each example."""
        return self.logits(x).argmax(1)

    def accuracy(self, x: Batch, y: Labels) -> Scalar:
        """The share of the examples whose most probable class is ``y``."""
        y = check_labels(y, len(x), self.classes)
        return (self.predict(x) == y).float().mean()

    @in_evaluation
    def score(self, x: Batch, y: Labels | None = None) -> PerExample:
        """a(x) = log Z(x), the log odds that an example is one of the data; of class y: l_y(x)."""
        logits = self.logits(x)
        if y is None:
            return log_total(logits)
        y = check_labels(y, len(x), self.classes)
        return logits.gather(1, y[:, None])[:, 0]


class ClassCritic(nn.Module):
    """The features of a critic with K logits on them; its value of an example is log Z(x)."""

    def __init__(self, critic: Critic, classes: int) -> None:
        super().__init__()
        check_count("classes", classes)
        last: Any = critic.last
        self.features, self.last = critic.features, nn.Linear(last.in_features, classes)

    def logits(self, x: Batch) -> ClassLogits:
        """l_k(x) of each class."""
        return at_least_single(self.last(self.features(x)))

    def forward(self, x: Batch) -> PerExample:
        """A number for each example, high for data."""
        return log_total(self.logits(x))


def log_total(logits: ClassLogits) -> PerExample:
    """log Z = log Σ_k exp l_k, so that D = Z/(Z + 1) = σ(log Z).

    D is what a softmax over l_1, ..., l_K and a further logit of 0 leaves to the first K.

    Equation: :eq:`eq-pre-ssgan`
    """
    return at_least_single(logits).logsumexp(1)


def semi_supervised_loss(real: ClassLogits, fake: ClassLogits, y: Labels) -> Scalar:
    """−E log p(y | x) over the examples with a label, −E log D(x), and −E log(1 − D(G(z))).

    Where all have one it is the cross-entropy with K + 1 classes, of data and of samples.

    Equation: :eq:`eq-pre-ssgan`
    """
    y = whole_numbers(y, "labels")
    known = y >= 0
    nats = cross_entropy(at_least_single(real), y.clamp_min(0), reduction="none")
    labelled = torch.where(known, nats, 0).sum() / known.sum().clamp_min(1)
    return labelled + minus_value(log_total(real), log_total(fake))


def feature_matching(real: Flat, fake: Flat) -> Scalar:
    """‖E f(x) − E f(G(z))‖² of features of data and of samples.

    Source: Salimans et al., NeurIPS 2016.
    """
    return (at_least_single(real).mean(0) - at_least_single(fake).mean(0)).square().sum()


keep_contract(globals())
