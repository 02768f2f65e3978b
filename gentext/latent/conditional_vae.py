"""VAEs with labels: the conditional VAE, and M2, which learns from few of them.

Notation: as in ``vae``; ``y`` class, q(y | x) the classifier, L(x, y) the bound of log p(x, y),
U(x) the bound of log p(x) with the class summed out.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Categorical

from gentext.core import (
    as_weights,
    at_least_single,
    check_count,
    check_number,
    drawing_from,
    in_evaluation,
    whole_numbers,
)
from gentext.core.shapes import Batch, Labels, PerExample, Scalar
from gentext.core.signatures import keep_contract
from gentext.latent.vae import VAE, Networks
from gentext.nn.nets import Encoder


class ConditionalVAE(VAE):
    """p(x | y): a VAE that must be given ``classes``, at least 2.

    Source: Sohn et al., NeurIPS 2015.
    """

    def __init__(self, *, classes: int, **arguments) -> None:
        check_count("classes", classes, 2)
        super().__init__(classes=classes, **arguments)


class SemiSupervisedVAE(ConditionalVAE):
    """M2: a conditional VAE with a classifier q(y | x), trained on few labels; y = −1 means none.

    Args: ``alpha`` weighs the classifier's log-likelihood on the labelled examples; the others are
    those of a VAE.

    Source: Kingma et al., NeurIPS 2014.
    """

    least_label = -1

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        latent: int,
        classes: int,
        hidden: int = 256,
        net: Networks = "mlp",
        alpha: float = 1.0,
        **arguments,
    ) -> None:
        if arguments.get("beta", 1.0) != 1.0:
            raise ValueError("the loss of M2 has no beta: leave it out")
        check_number("alpha", alpha, least=0)
        networks: dict[str, Any] = {"hidden": hidden, "net": net}
        super().__init__(shape=shape, latent=latent, classes=classes, **networks, **arguments)
        self.alpha = alpha
        self.classifier = Encoder(self.shape, classes, **networks)

    @in_evaluation
    def classify(self, x: Batch) -> Categorical:
        """q(y | x)."""
        return self._classify(x)

    def _classify(self, x: Batch) -> Categorical:
        logits = at_least_single(self.classifier(as_weights(x, self.classifier)))
        return Categorical(logits=logits, validate_args=False)

    def accuracy(self, x: Batch, y: Labels) -> Scalar:
        """The share of the examples whose most probable class under q(y | x) is ``y``."""
        self.check(x, y)
        return (self.classify(x).logits.argmax(1) == y).float().mean()

    @in_evaluation
    def joint_elbo(self, x: Batch, y: Labels) -> PerExample:
        """L(x, y), a lower bound of log p(x, y) in nats, with p(y) uniform."""
        self.check(x, y)
        return self._joint_elbo(x, y)

    def _joint_elbo(self, x: Batch, y: Labels) -> PerExample:
        reconstruction, kl = self._elbo_terms(x, y)
        return reconstruction - kl - math.log(self.classes)

    @in_evaluation
    def bounds(self, x: Batch) -> Float[Tensor, "n classes"]:
        """L(x, y) for every class y."""
        self.check(x)
        return self._bounds(x)

    def _bounds(self, x: Batch) -> Float[Tensor, "n classes"]:
        n = len(x)
        y = torch.arange(self.classes, device=x.device).repeat_interleave(n)
        repeated = x.repeat(self.classes, *[1] * len(self.shape))
        return self._joint_elbo(repeated, y).unflatten(0, (self.classes, n)).T

    def elbo(
        self, x: Batch, y: Labels | None = None, *, generator: torch.Generator | None = None
    ) -> PerExample:
        """U(x) = Σ_y q(y | x) L(x, y) + H(q(y | x)), a lower bound of log p(x) in nats.

        Labels ``y`` may come with the data; the bound does not look at them.

        Equation: :eq:`eq-vae-m2`
        """
        self.check(x)
        with drawing_from(generator):
            return marginal_bound(self.classify(x), self.bounds(x))

    def importance_log_prob(
        self,
        x: Batch,
        k: int,
        y: Labels | None = None,
        *,
        generator: torch.Generator | None = None,
        chunk: int = 4096,
    ) -> PerExample:
        """A bound of log p(x) = log Σ_y p(y) p(x | y) in nats, from ``k`` samples for every class.

        Labels ``y`` may come with the data; the bound does not look at them.
        """
        bounds = [
            super(SemiSupervisedVAE, self).importance_log_prob(
                x,
                k,
                torch.full((len(x),), label, device=x.device),
                generator=generator,
                chunk=chunk,
            )
            for label in range(self.classes)
        ]
        return torch.stack(bounds).logsumexp(0) - math.log(self.classes)

    def loss(self, x: Batch, y: Labels) -> Scalar:
        """−U(x) where y = −1, else −L(x, y) − α log q(y | x); the mean over the batch, in nats.

        Equation: :eq:`eq-vae-m2`
        """
        q, bounds = self._classify(x), self._bounds(x)
        y = whole_numbers(y, "labels")
        known = y.clamp_min(0)
        labelled = bounds.gather(1, known[:, None])[:, 0] + self.alpha * q.log_prob(known)
        return -torch.where(y >= 0, labelled, marginal_bound(q, bounds)).mean()


def marginal_bound(q: Categorical, bounds: Float[Tensor, "n classes"]) -> PerExample:
    """Σ_y q(y | x) L(x, y) + H(q(y | x)) from L(x, y) for every y.

    Equation: :eq:`eq-vae-m2`
    """
    return (q.probs * bounds).sum(1) + q.entropy()


keep_contract(globals())
