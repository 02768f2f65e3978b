"""MADE: one network that gives all conditionals of a binary vector at once, by masks.

Notation: ``m`` the number of a unit; a unit sees only inputs of smaller or equal number, and the
output d only units of number below d.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from gentext.core import Model, at_least_single, check_counts, check_examples
from gentext.core.shapes import Flat, PerExample, Scalar
from gentext.core.signatures import keep_contract
from gentext.nn.masked import MaskedMLP


class MADE(Model):
    """The masked autoencoder of Germain et al. (2015): p(x) = Π_d p(x_d | x_<d) in one pass.

    Arguments:
        features: length of the vectors of zeros and ones; hidden: units of each of two layers.
    """

    def __init__(self, *, features: int, hidden: int = 256) -> None:
        super().__init__()
        check_counts(features=features, hidden=hidden)
        self.features = features
        self.net = MaskedMLP(features, (hidden, hidden), outputs=1)

    def logits(self, x: Flat) -> Float[Tensor, "n d"]:
        """The logit of p(x_d = 1 | x_<d) for every d.

        Equation: :eq:`eq-ar-made`
        """
        return at_least_single(self.net(x)).squeeze(-1)

    def log_prob(self, x: Flat) -> PerExample:
        """log p(x) in nats, exact."""
        check_examples(x, (self.features,), low=0.0, high=1.0)
        return -binary_cross_entropy_with_logits(self.logits(x), x, reduction="none").sum(1)

    def loss(self, x: Flat) -> Scalar:
        """The mean of −log p(x), in nats."""
        return -self.log_prob(x).mean()

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Flat:
        """``n`` vectors, one value after the other: as many passes as there are values."""
        x = torch.zeros(n, self.features, device=next(self.parameters()).device)
        for d in range(self.features):
            p = torch.sigmoid(self.logits(x)[:, d])
            x[:, d] = torch.bernoulli(p, generator=generator)
        return x


keep_contract(globals())
