"""Normalizing flows: exact densities by the change of variables.

A flow maps data x by an invertible f to z of a known density, and counts by a determinant how f
stretches space: ``log p(x) = log p(z) + log |det ∂f/∂x|``. It is trained by maximum likelihood and
draws by mapping z back.

Notation: ``x`` data, ``z`` = f(x); ``log_det`` ``= log |det ∂z/∂x|``, one number an example;
``context`` what a conditional density is given; ``u`` noise that makes discrete values continuous.

Source: Rezende and Mohamed, ICML 2015; Dinh et al., ICLR 2017; Papamakarios et al., JMLR 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gentext.core import (
    Model,
    at_least_single,
    check_count,
    check_examples,
    check_number,
    evaluating,
    in_evaluation,
    traced,
)
from gentext.core.shapes import Context, Flat, PerExample, Scalar
from gentext.core.signatures import keep_contract
from gentext.flows.bases import Base, UniformBase, make_base
from gentext.flows.transforms import Compose, Coupling, Inverse, MaskedAutoregressive, Transform
from gentext.flows.univariate import BOUND, Spline


class Flow(Model):
    """The density of x when f(x) has the density ``base``, for the composition f of ``transforms``.

    Source: Rezende and Mohamed, ICML 2015.
    """

    def __init__(self, *, base: Base, transforms: Sequence[Transform], context: int = 0) -> None:
        super().__init__()
        self.base, self.map, self.context = base, Compose(transforms), context

    def log_prob(self, x: Flat, context: Context | None = None) -> PerExample:
        """log p(x), or log p(x | context), in nats.

        Equation: :eq:`eq-flow-cov`
        """
        self._check(x, context)
        with evaluating(self):
            return self._log_prob(x, context)

    def _log_prob(self, x: Flat, context: Context | None = None) -> PerExample:
        """The same in the mode that the networks are in."""
        z, log_det = self.map(at_least_single(x), context)
        return self.base.log_prob(z) + log_det

    def loss(self, x: Flat, context: Context | None = None) -> Scalar:
        """The mean of −log p(x), in nats: up to the data's entropy, KL(data ‖ model).

        It is also the divergence of f(data) from the base.

        Equation: :eq:`eq-flow-kl`
        """
        self._check(x, context)
        return -self._log_prob(x, context).mean()

    @in_evaluation
    def encode(self, x: Flat, context: Context | None = None) -> Flat:
        """z = f(x)."""
        self._check(x, context)
        return self.map(at_least_single(x), context)[0]

    @in_evaluation
    def decode(self, z: Flat, context: Context | None = None) -> Flat:
        """x with f(x) = z."""
        self._check(z, context)
        return self.map.inverse_and_log_det(at_least_single(z), context)[0]

    def sample(
        self,
        n: int,
        context: Context | None = None,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Flat:
        """``n`` draws; below 1, the ``temperature`` brings z nearer to the modes of the base."""
        check_count("n", n)
        check_number("temperature", temperature, least=0)
        self._check_context(n, context)
        like = next(self.parameters(), torch.empty(0))
        quiet = torch.no_grad if traced() else torch.inference_mode
        with evaluating(self), quiet():
            z = self.base.sample(n, at_least_single(like), generator, temperature)
            x = self.map.inverse_and_log_det(z, context)[0]
        return x.clone()  # outside, so that gradients may be taken with them

    def check(self, x: Tensor, context: Tensor | None = None) -> None:
        """Raise ValueError for data that a flow cannot be trained on."""
        self._check(x, context)
        if isinstance(self.base, UniformBase):
            with torch.no_grad():
                outside = self.log_prob(x, context).isinf()
            if bool(outside.any()):
                raise ValueError(
                    f"{int(outside.sum())} of {len(x)} examples have density 0, as the base is "
                    "bounded: scale the data into it, or take base='normal'"
                )
        for values in (x.flatten()[:20_000], *x[:2000].t()):
            if len(values) <= 1000 or len(values.unique()) >= len(values) / 20:
                continue
            raise ValueError(
                f"these data take {len(values.unique())} values only, on which a density can grow "
                "without bound: add noise with gt.dequantization.dequantize, or use an ImageFlow"
            )

    def _check(self, x: Tensor, context: Tensor | None) -> None:
        check_examples(x, (self.base.features,))
        self._check_context(len(x), context)

    def _check_context(self, n: int, context: Tensor | None) -> None:
        shape = None if context is None else tuple(context.shape)
        expected = (n, self.context) if self.context else None
        if shape != expected:
            raise ValueError(
                f"got a context of shape {shape}, but this flow was built for {expected}: pass "
                "one row for each example, or build it with context= their length"
            )
        if context is not None:
            check_examples(context, (self.context,))


class RealNVP(Flow):
    """Affine couplings that change the even and the odd values in turn.

    Arguments:
        features: values of an example, at least 2; context: length of what it is conditioned on.
        transforms: number of layers; hidden: sizes of the hidden layers of each one's network.
        dropout: share of the hidden units that are left out in training.
        base: "normal", or the number of normals in a learned mixture.

    Source: Dinh et al., ICLR 2017.
    """

    def __init__(
        self,
        *,
        features: int,
        context: int = 0,
        transforms: int = 8,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.0,
        base: str | int = "normal",
    ) -> None:
        layers = [
            Coupling(features, odd=odd, context=context, hidden=hidden, dropout=dropout)
            for odd in _turns(transforms)
        ]
        super().__init__(base=make_base(base, features), transforms=layers, context=context)


class NSF(Flow):
    """Neural spline flow: rational-quadratic splines of ``bins`` bins instead of affine maps.

    They bend what lies within ±5 (±1 for a uniform base): scale the data to fit. With
    ``autoregressive`` each value depends on all before it, instead of one half on the other.

    Arguments: the others as of ``RealNVP``; base: also "uniform" on [-1, 1].

    Source: Durkan et al., NeurIPS 2019.
    """

    def __init__(
        self,
        *,
        features: int,
        context: int = 0,
        transforms: int = 4,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.0,
        bins: int = 8,
        autoregressive: bool = False,
        base: str | int = "normal",
    ) -> None:
        layer: Any = MaskedAutoregressive if autoregressive else Coupling
        turn, bound = "reverse" if autoregressive else "odd", 1.0 if base == "uniform" else BOUND
        options = {"context": context, "hidden": hidden, "dropout": dropout}
        layers = [
            layer(features, univariate=Spline(bins, bound), **options, **{turn: odd})
            for odd in _turns(transforms)
        ]
        start = make_base(base, features, bounded=True)
        super().__init__(base=start, transforms=layers, context=context)


class MAF(Flow):
    """Masked autoregressive flow: one pass to score, one value after the other to draw.

    A layer is an autoregressive model with Gaussian conditionals; the next one models its noise,
    in the reverse order.

    Arguments: as of ``RealNVP``.

    Equation: :eq:`eq-flow-maf`

    Source: Papamakarios et al., NeurIPS 2017.
    """

    def __init__(
        self,
        *,
        features: int,
        context: int = 0,
        transforms: int = 4,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.0,
        base: str | int = "normal",
    ) -> None:
        layers = [
            MaskedAutoregressive(
                features, reverse=odd, context=context, hidden=hidden, dropout=dropout
            )
            for odd in _turns(transforms)
        ]
        super().__init__(base=make_base(base, features), transforms=layers, context=context)


class IAF(MAF):
    """Inverse autoregressive flow: the maps of an ``MAF`` read backwards, so that drawing is fast.

    Arguments: as of ``RealNVP``.

    Equation: :eq:`eq-flow-maf`

    Source: Kingma et al., NeurIPS 2016.
    """

    def __init__(self, **options: Any) -> None:
        if options.get("dropout"):
            raise ValueError("an IAF is scored one value after the other, without dropout: use 0")
        super().__init__(**options)
        layers: Any = self.map.transforms
        self.map = Compose([Inverse(layer) for layer in layers])


def _turns(transforms: int) -> list[bool]:
    """Whether each of the layers takes the odd half, or the reverse order."""
    check_count("transforms", transforms)
    return [bool(k % 2) for k in range(transforms)]


keep_contract(globals())
