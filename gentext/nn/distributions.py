"""Distributions of codes and images, as modules that turn a network's output into one.

Notation: ``mean`` μ, ``std`` σ, ``scale`` s, ``levels`` K (grey levels), ``logits`` log-odds.
Every distribution returned here has the shape of one example as its event, so that ``log_prob``
gives one number an example, in nats.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    Normal,
    constraints,
)

from gentext.core import (
    Precise,
    at_hand,
    at_least_single,
    check_count,
    check_examples,
    check_number,
    check_shape,
    chosen,
    drawing_from,
    normal_like,
)
from gentext.core.shapes import Batch, Codes, PerExample, Scalar
from gentext.core.signatures import keep_contract
from gentext.nn.continuous_bernoulli import ContinuousBernoulli


def normal_draws(
    q: Independent, k: int, generator: torch.Generator | None
) -> Float[Tensor, "k n z"]:
    """``k`` draws μ + σε of each normal distribution, as its ``rsample``, also under ``vmap``."""
    normal: Any = q.base_dist
    with drawing_from(generator):
        eps = normal_like(normal.loc.expand(k, -1, -1))
    return normal.loc + eps * normal.scale


def kl_normal(mean: Codes, std: Codes) -> PerExample:
    """KL(N(μ, diag σ²) ‖ N(0, I)) in nats, for ``mean`` and ``std`` of shape (n, z).

    Equation: :eq:`eq-vae-kl`
    """
    if at_hand(std) and (std < 0).any():
        raise ValueError("got a standard deviation std below 0; give the root of the variance")
    return 0.5 * (mean.square() + std.square() - 1 - 2 * std.log()).sum(-1)


def kl_multivariate_normal(
    mean_1: Float[Tensor, "d"],
    cov_1: Float[Tensor, "d d"],
    mean_2: Float[Tensor, "d"],
    cov_2: Float[Tensor, "d d"],
) -> Scalar:
    """KL(N(μ₁, Σ₁) ‖ N(μ₂, Σ₂)) in nats, for means of shape (d,) and covariances (d, d).

    Equation: :eq:`eq-vae-klfull`
    """
    for name, cov in (("cov_1", cov_1), ("cov_2", cov_2)):
        if at_hand(cov) and torch.linalg.cholesky_ex(cov).info:
            raise ValueError(f"got a {name} that is no covariance; it must be positive definite")
    delta = mean_2 - mean_1
    trace = torch.linalg.solve(cov_2, cov_1).diagonal().sum()
    distance = delta @ torch.linalg.solve(cov_2, delta)
    return 0.5 * (trace + distance - len(delta) + cov_2.logdet() - cov_1.logdet())


class StandardNormal(Precise):
    """The prior N(0, I) over codes of size ``features``."""

    zero: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(features), persistent=False)

    def forward(self) -> Independent:
        """The distribution, with event shape (features,)."""
        one = torch.ones_like(self.zero)
        return Independent(Normal(self.zero, one, validate_args=False), 1, validate_args=False)


class DiagonalNormal(nn.Module):
    """Turns (n, 2z) numbers, a mean and a log-variance, into N(μ, diag σ²) over codes."""

    def forward(self, parameters: Float[Tensor, "n z2"]) -> Independent:
        """The distribution, with batch shape (n,) and event shape (z,).

        The log-variance is kept within ±30, where its exponential and its logarithm are finite.
        """
        mean, log_var = at_least_single(parameters).chunk(2, dim=-1)
        log_var = log_var.clamp(-30, 30)
        normal = Normal(mean, (log_var / 2).exp(), validate_args=False)
        return Independent(normal, 1, validate_args=False)


class DiscretizedLogistic(Distribution):
    """A logistic density integrated over the bin of each of K grey levels; values k/(K−1).

    ``loc`` μ and ``log_scale`` log s are in units of levels. The two outermost bins reach to
    infinity, so that the K probabilities sum to one.

    Equation: :eq:`eq-data-dlogistic`

    Source: Salimans et al., PixelCNN++, ICLR 2017.
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "log_scale": constraints.real}
    support = constraints.unit_interval

    def __init__(self, loc: Tensor, log_scale: Tensor, levels: int) -> None:
        self.loc, self.log_scale, self.levels = loc, log_scale, levels
        super().__init__(loc.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(k) of grey levels ``value`` = k/(K−1), in nats.

        σ(a) − σ(b) = σ(a) σ(−b) (1 − e^{b−a}), whose logarithm loses no digits in the tails.
        """
        k = value * (self.levels - 1)
        inverse = (-self.log_scale).exp()
        below_upper = F.logsigmoid((k + 0.5 - self.loc) * inverse)
        above_lower = F.logsigmoid(-(k - 0.5 - self.loc) * inverse)
        inside = below_upper + above_lower + (-torch.expm1(-inverse)).log()
        outer = torch.where(k < 0.5, below_upper, above_lower)
        return torch.where((k < 0.5) | (k > self.levels - 1.5), outer, inside)

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Grey levels k/(K−1): a logistic draw, rounded to its bin."""
        with torch.no_grad():
            loc = self.loc.expand(self._extended_shape(torch.Size(sample_shape)))
            u = torch.rand_like(loc).clamp(1e-7, 1 - 1e-7)
            k = (loc + self.log_scale.exp() * u.logit()).round().clamp(0, self.levels - 1)
            return k / (self.levels - 1)

    @property
    def mean(self) -> Tensor:
        """E[k]/(K−1), from E[k] = Σ_{j≥1} P(k ≥ j)."""
        total = torch.zeros_like(self.loc)
        for j in range(1, self.levels):
            total = total + torch.sigmoid((self.loc - j + 0.5) / self.log_scale.exp())
        return total / (self.levels - 1)


class Likelihood(nn.Module):
    """p(x | z), made of a decoder's output: ``per_value`` numbers for each value of an example."""

    per_value = 1
    low, high = -math.inf, math.inf  # what values of x the distribution admits

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = check_shape(shape)

    def check(self, x: Tensor) -> None:
        """Raise ValueError where the values of ``x`` (n, *shape) are none of this likelihood's."""
        check_examples(x, self.shape, self.low, self.high)

    def take(self, parameters: Tensor) -> Tensor:
        """``parameters`` in single precision at least; ValueError unless (n, per_value, *shape)."""
        if tuple(parameters.shape[1:]) != (self.per_value, *self.shape):
            wanted = ", ".join(map(str, (self.per_value, *self.shape)))
            raise ValueError(
                f"{type(self).__name__} needs a decoder's output of shape (n, {wanted}), but got "
                f"{tuple(parameters.shape)}: give {self.per_value} numbers for each value of x"
            )
        return at_least_single(parameters)

    def event(self, distribution: Distribution) -> Independent:
        """``distribution`` with the dimensions of one example declared as its event."""
        return Independent(distribution, len(self.shape), validate_args=False)


class NormalImage(Likelihood, Precise):
    """N(x; x̂, s²I) with one standard deviation s, fixed (``scale=``) or learned (None).

    A learned s starts at 0.1: with a large one, codes that carry nothing in the first steps of
    training rarely carry anything later.

    Equation: :eq:`eq-vae-mse`
    """

    def __init__(self, shape: tuple[int, ...], scale: float | None = None) -> None:
        super().__init__(shape)
        if scale is not None:
            check_number("scale", scale, above=0)
        start = torch.tensor(math.log(0.1 if scale is None else scale))
        if scale is None:
            self.log_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start)

    def forward(self, parameters: Batch) -> Independent:
        """The distribution of images whose means are ``parameters`` (n, 1, *shape)."""
        mean = self.take(parameters)[:, 0]
        return self.event(
            Normal(mean, at_least_single(self.log_scale).exp().to(mean), validate_args=False)
        )


class BernoulliImage(Likelihood):
    """Independent binary values with log-odds from the decoder; −log p is the cross-entropy.

    Of values in between, the cross-entropy is a common loss but no likelihood, so they are refused:
    :class:`ContinuousBernoulliImage` makes a density of it.

    Equation: :eq:`eq-vae-bernoulli`
    """

    low, high = 0.0, 1.0

    def forward(self, parameters: Batch) -> Independent:
        """The distribution of images whose log-odds are ``parameters`` (n, 1, *shape)."""
        logits = self.take(parameters)[:, 0]
        return self.event(Bernoulli(logits=logits, validate_args=False))

    def check(self, x: Tensor) -> None:
        """Raise ValueError where ``x`` holds values other than 0 and 1."""
        super().check(x)
        if at_hand(x) and bool(((x != 0) & (x != 1)).any()):
            raise ValueError(
                "got values between 0 and 1, of which likelihood='bernoulli' is no likelihood: "
                "choose 'logistic' with levels= (grey levels), 'continuous-bernoulli' or 'normal', "
                "or make the data binary, as in (x > 0.5).float()"
            )


class ContinuousBernoulliImage(Likelihood):
    """The density C(λ) λ^x (1−λ)^{1−x} on [0, 1]: the cross-entropy made into a density.

    Equation: :eq:`eq-vae-bernoulli`

    Source: Loaiza-Ganem and Cunningham, NeurIPS 2019.
    """

    low, high = 0.0, 1.0

    def forward(self, parameters: Batch) -> Independent:
        """The distribution of images with natural parameters ``parameters`` (n, 1, *shape)."""
        logits = self.take(parameters)[:, 0]
        return self.event(ContinuousBernoulli(logits))


class DiscretizedLogisticMixture(Likelihood):
    """A mixture of ``components`` discretised logistics over ``levels`` grey levels a value.

    Equation: :eq:`eq-data-dlogistic`

    Source: Salimans et al., PixelCNN++, ICLR 2017.
    """

    low, high = 0.0, 1.0

    def __init__(self, shape: tuple[int, ...], levels: int = 256, components: int = 1) -> None:
        super().__init__(shape)
        check_count("components", components)
        check_count("levels", levels, 2)
        self.levels, self.components = levels, components
        self.per_value = 2 if components == 1 else 3 * components

    def forward(self, parameters: Batch) -> Independent:
        """The distribution of images from ``parameters`` (n, per_value, *shape).

        They are scaled so that zeros mean a logistic about mid-grey, an eighth of the range wide.
        """
        parts = self.take(parameters).unflatten(1, (-1, self.components)).movedim(2, -1)
        loc = (self.levels - 1) * (parts[:, 0] + 0.5)
        log_scale = (parts[:, 1] + math.log(self.levels / 8)).clamp(-7, 12)
        if self.components == 1:
            logistic = DiscretizedLogistic(loc[..., 0], log_scale[..., 0], self.levels)
            return self.event(logistic)
        weights = Categorical(logits=parts[:, 2], validate_args=False)
        logistics = DiscretizedLogistic(loc, log_scale, self.levels)
        return self.event(MixtureSameFamily(weights, logistics, validate_args=False))

    def check(self, x: Tensor) -> None:
        """Raise ValueError where ``x`` holds values other than k/(levels − 1)."""
        super().check(x)
        k = x * (self.levels - 1)
        if at_hand(x) and (k - k.round()).abs().max() > 1e-3:
            raise ValueError(
                f"got values between the {self.levels} grey levels k/{self.levels - 1}: set "
                "levels= to what the data has, or use a continuous likelihood ('normal')"
            )


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "normal": NormalImage,
    "bernoulli": BernoulliImage,
    "continuous-bernoulli": ContinuousBernoulliImage,
    "logistic": DiscretizedLogisticMixture,
}


def make_likelihood(
    name: str, shape: tuple[int, ...], *, levels: int = 256, scale: float | None = None
) -> Likelihood:
    """The likelihood called ``name`` for examples of ``shape``; ValueError for an unknown name.

    ``levels`` are for "logistic", ``scale`` is for "normal".
    """
    kind: Any = chosen("likelihood", name, LIKELIHOODS)
    options: dict[str, dict[str, Any]] = {
        "logistic": {"levels": levels},
        "normal": {"scale": scale},
    }
    return kind(shape, **options.get(name, {}))


keep_contract(globals())
