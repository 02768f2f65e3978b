"""Flow matching: a velocity that carries noise to data, learned from straight lines between them.

Data and noise are paired and joined by the line x_t = (1 − t) x_0 + t ε, which moves by ε − x_0. A
network predicts this velocity from x_t alone; the best it can do, the mean over all lines through
x_t, moves the whole distribution of the data to that of the noise and back. Training needs no
simulation, sampling solves one differential equation, and its divergence gives the likelihood. It
is diffusion with the levels α = 1 − t and σ = t.

Notation: ``x_0`` data, ``eps`` noise, ``x_t`` between them; ``t`` 0 at the data and 1 at the noise,
as everywhere in this book (papers on flow matching count from the noise); ``u`` the velocity
dx_t/dt, not the v of ``schedule``; ``y`` labels or prompts as in ``conditions``.

Source: Lipman et al., ICLR 2023; Liu et al., ICLR 2023; Albergo and Vanden-Eijnden, ICLR 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from gentext.core import (
    Model,
    as_weights,
    at_least_single,
    check_count,
    check_examples,
    check_finite,
    check_shape,
    chosen,
    heeded,
    in_evaluation,
    normal_like,
    stratified,
)
from gentext.core.shapes import Batch, PerExample, Scalar
from gentext.core.signatures import keep_contract
from gentext.denoising.conditions import Conditions, Given
from gentext.denoising.dit import DiT
from gentext.denoising.guidance import cfg
from gentext.denoising.transport import optimal_order
from gentext.denoising.unet import TimeMLP, UNet
from gentext.denoising.velocity import matching_error
from gentext.flows.bases import NormalBase
from gentext.flows.continuous import ode_log_prob
from gentext.flows.dequantization import Dequantized
from gentext.flows.ode import path, solve

NETS: dict[str, type[nn.Module]] = {"unet": UNet, "mlp": TimeMLP, "dit": DiT}
UNSTABLE = "take more steps or less guidance, or train the network again with a smaller lr"
COUPLINGS = ("independent", "ot")
TIMES: dict[str, Callable[[Tensor], Tensor]] = {  # from places evenly spread over [0, 1]
    "uniform": lambda place: place,
    "logit-normal": lambda place: torch.sigmoid(torch.special.ndtri(place)),
    "near-data": torch.square,
}


class FlowMatching(Model):
    """A flow of continuous data, by a velocity learned from lines between data and noise.

    Arguments:
        shape: of one example; net: "mlp", "unet", "dit" or a network called as net(x_t, 1000 t),
            with labels or prompts as net(x_t, 1000 t, y); ``options`` are those of the first three.
        coupling: how data and noise are paired in training, "independent" or "ot": within a batch,
            so that the lines are as short as possible (Pooladian et al., ICML 2023; Tong et al.,
            TMLR 2024).
        times: at which the lines are looked at, "uniform", "logit-normal", more often in the
            middle (Esser et al., ICML 2024), or "near-data", where likelihoods need it most.
        classes: number of classes whose labels come with the data, 0 for none; vocab_size: number
            of tokens of the prompts that come with them, of which 0 is padding, 0 for none.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        net: str | nn.Module = "mlp",
        coupling: str = "independent",
        times: str = "uniform",
        classes: int = 0,
        vocab_size: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.shape, self.conditions = check_shape(shape), Conditions(classes, vocab_size)
        self.classes, self.vocab_size = classes, vocab_size
        self.coupling = chosen("coupling", coupling, COUPLINGS)
        chosen("times", times, TIMES)
        self.times = times
        self.net = self._network(net, options)

    def _network(self, net: str | nn.Module, options: dict[str, Any]) -> nn.Module:
        if isinstance(net, nn.Module):
            if options:
                raise ValueError(f"got {sorted(options)} for a network that is there already")
            return net
        kind = chosen("net", net, NETS)
        if self.vocab_size:
            if kind is TimeMLP:
                raise ValueError(f"net {net!r} reads no text: choose unet or dit, or give one")
            options = options | {"vocab_size": self.vocab_size}
        return kind(shape=self.shape, classes=self.classes, **options)

    def check(self, x: Tensor, *labels: Tensor) -> None:
        """Raise ValueError for data, labels or prompts that do not fit."""
        check_examples(x, self.shape)
        for y in labels:
            self.conditions.check(y, len(x))

    def _check(self, x: Tensor, y: Given | None, guidance: float = 0.0) -> None:
        self.check(x, *([] if y is None else [y]))
        self.conditions.check_steering(y, guidance, False)

    def loss(self, x: Batch, y: Given | None = None, *, eps: Batch | None = None) -> Scalar:
        """The mean squared error of the velocity, at times drawn afresh.

        The noise is drawn, and paired with the data as ``coupling`` says, unless ``eps`` is given.

        Equation: :eq:`eq-sde-cfm`
        """
        x = at_least_single(x)
        eps = self._paired(x, y) if eps is None else eps
        shown = self.conditions.shown(y, len(x), x.device, hide=self.training)

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            return self.net(as_weights(x_t, self.net), 1000 * t, *shown)

        times = TIMES[self.times](stratified(x))
        return matching_error(velocity, x, eps, times, "mean")

    def _paired(self, x: Batch, y: Given | None) -> Batch:
        """Fresh noise, in the order of the data that it belongs to."""
        eps = torch.randn_like(x)
        return eps[optimal_order(x, eps, y)] if self.coupling == "ot" else eps

    @in_evaluation
    def velocity(
        self, x_t: Batch, t: Tensor | float, y: Given | None = None, *, guidance: float = 0.0
    ) -> Batch:
        """dx_t/dt at time t, one for all or (n,) of them; given y, with ``guidance`` w."""
        if not isinstance(t, Tensor):
            dtype = torch.promote_types(x_t.dtype, torch.float32)
            t = torch.full((len(x_t),), float(t), device=x_t.device, dtype=dtype)
        shown = self.conditions.shown(y, len(x_t), x_t.device, hide=False)
        u = self.net(as_weights(x_t, self.net), 1000 * t, *shown)
        return cfg(u, self.velocity(x_t, t), guidance) if guidance else u

    def _field(self, y: Given | None, guidance: float = 0.0) -> Callable[[Tensor, float], Tensor]:
        """The velocity, which is seen to be finite."""

        def u(x_t: Tensor, t: float) -> Tensor:
            slope = self.velocity(x_t, t, y, guidance=guidance)
            check_finite(slope, f"velocities at t = {t:.3g}", UNSTABLE)
            return slope

        return u

    def sample(
        self,
        n: int,
        y: Given | None = None,
        *,
        generator: torch.Generator | None = None,
        **how: Any,
    ) -> Batch:
        """``n`` draws, of the classes ``y`` or else of all; ``how`` as in ``decode``."""
        return self.decode(self._noise(n, generator), y, **how)

    @property
    def sample_options(self) -> tuple[str, ...]:
        """The names of what ``sample`` heeds: its own arguments and those of ``decode``."""
        _, _, *options = signature(self.decode).parameters  # after eps and y
        return (*heeded(self), *options)

    @torch.no_grad()
    def trajectory(
        self,
        n: int,
        y: Given | None = None,
        *,
        steps: int = 20,
        method: str = "heun",
        guidance: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Iterator[Batch]:
        """x_t of ``n`` draws from the noise at t = 1 on, after every step to the data."""
        eps = self._noise(n, generator)
        self._check(eps, y, guidance)
        yield from path(self._field(y, guidance), eps, 1.0, 0.0, steps, method)

    def _noise(self, n: int, generator: torch.Generator | None) -> Batch:
        check_count("n", n)
        like = next(self.parameters(), torch.empty(0))
        return normal_like(at_least_single(like.new_empty((n, *self.shape))), generator)

    @torch.no_grad()
    def decode(
        self,
        eps: Batch,
        y: Given | None = None,
        *,
        steps: int = 20,
        method: str = "heun",
        guidance: float = 0.0,
    ) -> Batch:
        """The data that the noise ``eps`` flows to, in ``steps`` of "euler", "heun" or another.

        The methods are those of ``ode``; ``guidance`` w > 0 pushes towards ``y``.
        """
        self._check(eps, y, guidance)
        field = self._field(y, guidance)
        return solve(field, at_least_single(eps), 1.0, 0.0, steps, method)

    @torch.no_grad()
    def encode(
        self, x: Batch, y: Given | None = None, *, steps: int = 50, method: str = "heun"
    ) -> Batch:
        """The noise that the data flow to; ``decode`` leads back."""
        self._check(x, y)
        return solve(self._field(y), at_least_single(x), 0.0, 1.0, steps, method)

    @torch.no_grad()
    def log_prob(
        self,
        x: Batch,
        y: Given | None = None,
        *,
        steps: int = 20,
        method: str = "rk4",
        divergence: str = "exact",
        generator: torch.Generator | None = None,
    ) -> PerExample:
        """log p(x), or log p(x | y), in nats, without gradients; as exact as its steps are many.

        They are even in √t, so finest near the data. ``divergence`` is as in ``ode_log_prob``.

        Equation: :eq:`eq-sde-loglik`
        """
        self._check(x, y)
        u, noise = self._field(y), NormalBase(math.prod(self.shape))

        def by_root(x_t: Tensor, root: float) -> Tensor:
            return 2 * root * u(x_t, root**2)

        return ode_log_prob(
            by_root,
            at_least_single(x),
            prior_log_prob=lambda eps: noise.log_prob(eps.flatten(1)),
            steps=steps,
            method=method,
            divergence=divergence,
            generator=generator,
        )


class ImageFlowMatching(Dequantized):
    """Flow matching on images of ``levels`` grey levels, made continuous by uniform noise.

    ``flow`` is a ``FlowMatching`` of (k + u)/levels mapped to [−1, 1], with its ``options``. It
    knows no probability of an image exactly, but a lower bound of its logarithm.

    Source: Theis et al., ICLR 2016.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        levels: int = 256,
        net: str | nn.Module = "unet",
        **options: Any,
    ) -> None:
        super().__init__(shape, levels)
        self.flow = FlowMatching(shape=shape, net=net, **options)
        self.conditions = self.flow.conditions
        self.classes, self.vocab_size = self.flow.classes, self.flow.vocab_size

    @property
    def density(self) -> FlowMatching:
        """The flow, of values in [−1, 1]."""
        return self.flow

    def check(self, x: Tensor, *labels: Tensor) -> None:
        """Raise ValueError for images of another shape or number of levels, or other labels."""
        super().check(x)
        self.flow.check(x, *labels)


keep_contract(globals())
