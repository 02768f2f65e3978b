"""Distributions of pixels: free probabilities of the grey levels, or a mixture of logistics.

Notation: k = 0 to K − 1 a grey level, K = ``levels``; values are k/(K−1).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints

from gentext.core.shapes import Batch
from gentext.core.signatures import keep_contract
from gentext.nn.distributions import DiscretizedLogisticMixture


class GreyLevels(Distribution):
    """Values k/(K−1) with free probabilities; ``logits`` have K in their last dimension."""

    arg_constraints: ClassVar = {"logits": constraints.real_vector}
    support = constraints.unit_interval

    def __init__(self, logits: Tensor) -> None:
        self.logits, self.levels = logits.log_softmax(-1), logits.shape[-1]
        super().__init__(logits.shape[:-1], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(k) of ``value`` = k/(K−1), in nats; other values are rounded."""
        k = (value * (self.levels - 1)).round().long()
        return self.logits.gather(-1, k[..., None])[..., 0]

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Values k/(K−1)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        p = self.logits.detach().exp().expand(*shape, self.levels)
        k = torch.multinomial(p.reshape(-1, self.levels), 1)
        return k.reshape(shape).to(p) / (self.levels - 1)

    @property
    def mean(self) -> Tensor:
        """E[k]/(K−1)."""
        k = torch.linspace(0, 1, self.levels, device=self.logits.device, dtype=self.logits.dtype)
        return (self.logits.exp() * k).sum(-1)


class CategoricalImage(DiscretizedLogisticMixture):
    """Free probabilities of the ``levels`` grey levels of each value."""

    def __init__(self, shape: tuple[int, ...], levels: int) -> None:
        super().__init__(shape, levels)
        self.per_value = levels

    def forward(self, parameters: Batch) -> Independent:
        """The distribution of images from logits ``parameters`` (n, levels, *shape)."""
        return self.event(GreyLevels(self.take(parameters).movedim(1, -1)))


PIXEL_LIKELIHOODS: dict[str, Callable[..., DiscretizedLogisticMixture]] = {
    "categorical": CategoricalImage,
    "logistic": partial(DiscretizedLogisticMixture, components=5),
}


keep_contract(globals())
