"""Densities that are known, to which the maps of flows lead.

Notation: ``z`` (n, features); ``temperature`` below 1 brings draws nearer to the modes.

Source: Papamakarios et al., JMLR 2021.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gentext.core import at_least_single, check_count, chosen, drawn_by, normal_like
from gentext.core.shapes import Flat, PerExample
from gentext.core.signatures import keep_contract


class Base(nn.Module):
    """A density of ``features`` values, which is known and can be drawn from."""

    features: int

    def log_prob(self, z: Flat) -> PerExample:
        """log p(z) in nats."""
        raise NotImplementedError

    def sample(
        self,
        n: int,
        like: Tensor,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Flat:
        """``n`` draws, of the type and on the device of ``like``."""
        raise NotImplementedError


class NormalBase(Base):
    """The standard normal density of ``features`` values."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def log_prob(self, z: Flat) -> PerExample:
        """−½ ‖z‖² − ½ d log 2π."""
        return -0.5 * (z.square().sum(1) + self.features * math.log(2 * math.pi))

    def sample(
        self,
        n: int,
        like: Tensor,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Flat:
        """``n`` draws, scaled by ``temperature``."""
        z = normal_like(like.new_empty(n, self.features), generator)
        return z if temperature == 1 else z * temperature


class UniformBase(Base):
    """The uniform density of ``features`` values between ``low`` and ``high``, 0 elsewhere."""

    def __init__(self, features: int, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"got low={low}, high={high}; give two finite numbers low < high")
        self.features, self.low, self.high = features, low, high

    def log_prob(self, z: Flat) -> PerExample:
        """−d log(high − low), −∞ outside."""
        inside = ((z >= self.low) & (z <= self.high)).all(1)
        log_p = -self.features * math.log(self.high - self.low)
        return torch.where(inside, z.new_full((len(z),), log_p), -math.inf)

    def sample(
        self,
        n: int,
        like: Tensor,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Flat:
        """``n`` draws, at a ``temperature`` below 1 nearer to the middle."""
        if temperature > 1:
            raise ValueError(f"got temperature={temperature}; of a bounded base it is at most 1")
        shape = (n, self.features)
        u = torch.rand(shape, dtype=like.dtype, device=like.device, **drawn_by(generator))
        return self.low + (self.high - self.low) * (0.5 + temperature * (u - 0.5))


class MixtureBase(Base):
    """A learned mixture of ``components`` diagonal normals: a base with as many modes."""

    def __init__(self, features: int, components: int) -> None:
        super().__init__()
        check_count("components", components)
        self.features = features
        self.weights = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, features))
        self.log_scales = nn.Parameter(torch.zeros(components, features))

    def log_prob(self, z: Flat) -> PerExample:
        """log Σ_k π_k N(z; μ_k, σ_k)."""
        weights, log_scales = at_least_single(self.weights), at_least_single(self.log_scales)
        offsets = (z[:, None] - self.means) * (-log_scales).exp()
        of_component = -0.5 * offsets.square().sum(2) - log_scales.sum(1)
        constant = 0.5 * self.features * math.log(2 * math.pi)
        return (of_component + weights.log_softmax(0)).logsumexp(1) - constant

    def sample(
        self,
        n: int,
        like: Tensor,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Flat:
        """``n`` draws, at a ``temperature`` below 1 nearer to the means."""
        p = at_least_single(self.weights).softmax(0)
        k = torch.multinomial(p, n, replacement=True, generator=generator)
        noise = normal_like(like.new_empty(n, self.features), generator)
        return self.means[k] + self.log_scales[k].exp() * noise * temperature


BASES: dict[str, type[NormalBase | UniformBase]] = {"normal": NormalBase, "uniform": UniformBase}


def make_base(base: str | int, features: int, *, bounded: bool = False) -> Base:
    """The base of a name, or a mixture of as many normals.

    With ``bounded`` the flow maps a bounded range onto itself; any other needs an unbounded base.
    """
    if isinstance(base, int):
        return MixtureBase(features, base)
    kind = chosen("base", base, BASES)
    if kind is UniformBase and not bounded:
        raise ValueError(
            "affine layers stretch without end, and push data out of a uniform base: use an NSF, "
            "or base='normal'"
        )
    return kind(features)


keep_contract(globals())
