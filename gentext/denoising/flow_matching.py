"""Flow matching: a velocity that carries noise to data, learned from straight lines between them.

Data and noise are paired and joined by the line x_t = (1 − t) x_0 + t ε, which moves by ε − x_0. A
network predicts this velocity from x_t alone; the best it can do, the mean over all lines through
x_t, moves the whole law of the data to that of the noise and back. Training needs no simulation,
sampling solves one differential equation, and its divergence gives the likelihood. It is diffusion
with the levels α = 1 − t and σ = t.

Notation: ``x_0`` data, ``eps`` noise, ``x_t`` between them; ``t`` 0 at the data and 1 at the noise,
as everywhere in this book (papers on flow matching count from the noise); ``u`` the velocity
dx_t/dt, not the v of ``schedule``; ``y`` labels, ``classes`` for none.

Source: Lipman et al., ICLR 2023; Liu et al., ICLR 2023; Albergo and Vanden-Eijnden, ICLR 2023.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gentext.core import Model, check_examples, check_grey_levels, check_labels, grey_levels
from gentext.core.shapes import Batch, Labels, PerExample, Scalar
from gentext.denoising.dit import DiT
from gentext.denoising.guidance import cfg
from gentext.denoising.transport import optimal_order
from gentext.denoising.unet import TimeMLP, UNet
from gentext.denoising.velocity import matching_error
from gentext.flows.continuous import ode_log_prob
from gentext.flows.dequantization import dequantize, quantize
from gentext.flows.ode import path, solve

NETS = {"unet": UNet, "mlp": TimeMLP, "dit": DiT}
COUPLINGS = ("independent", "ot")
TIMES: dict[str, Callable[[Tensor], Tensor]] = {  # from places evenly spread over [0, 1]
    "uniform": lambda place: place,
    "logit-normal": lambda place: torch.sigmoid(torch.special.ndtri(place)),
    "near-data": torch.square,
}
DROPPED = 0.1  # share of labels hidden in training, so that the network also learns to do without


class FlowMatching(Model):
    """A flow of continuous data, by a velocity learned from lines between data and noise.

    Arguments:
        shape: of one example; net: "mlp", "unet" or a network called as net(x_t, 1000 t), with
            labels as net(x_t, 1000 t, y); ``options`` are those of the first two.
        coupling: how data and noise are paired in training, "independent" or "ot": within a batch,
            so that the lines are as short as possible (Pooladian et al., ICML 2023; Tong et al.,
            TMLR 2024).
        times: at which the lines are looked at, "uniform", "logit-normal", more often in the
            middle (Esser et al., ICML 2024), or "near-data", where likelihoods need it most.
        classes: number of classes whose labels come with the data, 0 for none.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        net: str | nn.Module = "mlp",
        coupling: str = "independent",
        times: str = "uniform",
        classes: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        _check_choice("coupling", coupling, COUPLINGS)
        _check_choice("times", times, TIMES)
        self.shape, self.classes = tuple(shape), classes
        self.coupling, self.times = coupling, times
        self.net = self._network(net, options)

    def _network(self, net: str | nn.Module, options: dict[str, Any]) -> nn.Module:
        if isinstance(net, nn.Module):
            if options:
                raise ValueError(f"got {sorted(options)} for a network that is there already")
            return net
        _check_choice("net", net, NETS)
        if options.get("vocab_size"):
            raise ValueError(
                f"got vocab_size={options['vocab_size']}, but flow matching takes labels only: "
                "leave it out, or train a Diffusion, which reads prompts"
            )
        return NETS[net](shape=self.shape, classes=self.classes, **options)

    def check(self, x: Tensor, *given: Tensor) -> None:
        """Raise ValueError for data, noise or labels that do not fit."""
        eps, y = _sorted(given)
        self._check(x, y)
        if len(given) != sum(other is not None for other in (eps, y)):
            raise ValueError(
                f"got {len(given)} tensors beside the data: give one of noise at most "
                "and one of labels"
            )
        if eps is not None and eps.shape != x.shape:
            raise ValueError(
                f"got {tuple(eps.shape)} beside data of {tuple(x.shape)}: give noise of the same "
                "shape to pair with them, or labels as integers"
            )

    def _check(self, x: Tensor, y: Tensor | None, guidance: float = 0.0) -> None:
        check_examples(x, self.shape)
        if y is not None and not self.classes:
            raise ValueError("got labels, but this model has no classes: data.without_labels()")
        if y is not None:
            check_labels(y, len(x), self.classes)
        elif guidance:
            raise ValueError(
                f"got guidance={guidance:g}, but guidance needs labels y of a model trained with "
                "classes: give them, or leave guidance out"
            )

    def loss(self, x: Batch, *given: Tensor) -> Scalar:
        """The mean squared error of the velocity, at times drawn afresh.

        ``given`` may be labels, and noise of the shape of x that belongs to it, such as that of
        ``reflow_pairs``; else the noise is drawn and paired as ``coupling`` says.

        Equation: :eq:`eq-sde-cfm`
        """
        eps, y = _sorted(given)
        if eps is None:
            eps = torch.randn_like(x)
            if self.coupling == "ot":
                eps = eps[optimal_order(x, eps, y)]
        if y is not None and self.training:
            y = y.masked_fill(torch.rand(y.shape, device=y.device) < DROPPED, self.classes)

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            return self.velocity(x_t, t, y)

        return matching_error(velocity, x, eps, self._times(x), "mean")

    def _times(self, x: Batch) -> PerExample:
        """A time for each example, evenly spread over its law in the batch."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        start = torch.rand((), device=x.device, dtype=dtype)
        place = torch.arange(len(x), device=x.device, dtype=dtype).div_(len(x)).add_(start)
        return TIMES[self.times](place.remainder_(1))

    def velocity(
        self, x_t: Batch, t: Tensor | float, y: Labels | None = None, *, guidance: float = 0.0
    ) -> Batch:
        """dx_t/dt at time t, one for all or (n,) of them; given labels, with ``guidance`` w."""
        if not isinstance(t, Tensor):
            dtype = torch.promote_types(x_t.dtype, torch.float32)
            t = torch.full((len(x_t),), float(t), device=x_t.device, dtype=dtype)
        labels: tuple[Tensor, ...] = ()
        if self.classes:
            none = torch.full((len(x_t),), self.classes, device=x_t.device)
            labels = (none if y is None else y,)
        u = self.net(x_t, 1000 * t, *labels)
        return cfg(u, self.velocity(x_t, t), guidance) if guidance else u

    def _field(self, y: Labels | None, guidance: float = 0.0) -> Callable[[Tensor, float], Tensor]:
        """The velocity without dropout, which is seen to be finite."""

        def u(x_t: Tensor, t: float) -> Tensor:
            with _evaluating(self):
                slope = self.velocity(x_t, t, y, guidance=guidance)
            _check_finite(slope, t)
            return slope

        return u

    def sample(
        self,
        n: int,
        y: Labels | None = None,
        *,
        generator: torch.Generator | None = None,
        **how: Any,
    ) -> Batch:
        """``n`` draws, of the classes ``y`` or else of all; ``how`` as in ``decode``."""
        return self.decode(self._noise(n, generator), y, **how)

    @torch.no_grad()
    def trajectory(
        self,
        n: int,
        y: Labels | None = None,
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
        if n < 1:
            raise ValueError(f"got n={n}; ask for at least 1 draw")
        like = next(self.parameters(), torch.empty(0))
        shape = (n, *self.shape)
        return torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)

    @torch.no_grad()
    def decode(
        self,
        eps: Batch,
        y: Labels | None = None,
        *,
        steps: int = 20,
        method: str = "heun",
        guidance: float = 0.0,
    ) -> Batch:
        """The data that the noise ``eps`` flows to, in ``steps`` of "euler", "heun" or another.

        The methods are those of ``ode``; ``guidance`` w > 0 pushes towards the classes ``y``.
        """
        self._check(eps, y, guidance)
        return solve(self._field(y, guidance), eps, 1.0, 0.0, steps, method)

    @torch.no_grad()
    def encode(
        self, x: Batch, y: Labels | None = None, *, steps: int = 50, method: str = "heun"
    ) -> Batch:
        """The noise that the data flow to; ``decode`` leads back."""
        self._check(x, y)
        return solve(self._field(y), x, 0.0, 1.0, steps, method)

    @torch.no_grad()
    def log_prob(
        self,
        x: Batch,
        y: Labels | None = None,
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
        u = self._field(y)

        def by_root(x_t: Tensor, root: float) -> Tensor:
            return 2 * root * u(x_t, root**2)

        return ode_log_prob(
            by_root,
            x,
            prior_log_prob=_normal_log_prob,
            steps=steps,
            method=method,
            divergence=divergence,
            generator=generator,
        )


class ImageFlowMatching(Model):
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
        super().__init__()
        check_grey_levels(levels)
        self.levels = levels
        self.flow = FlowMatching(shape=shape, net=net, **options)
        self.shape, self.classes = self.flow.shape, self.flow.classes

    def check(self, x: Tensor, *labels: Tensor) -> None:
        """Raise ValueError for images of another shape or number of levels, or other labels."""
        check_examples(x, self.shape, low=0.0, high=1.0)
        grey_levels(x, self.levels)
        self.flow.check(x, *labels)

    def loss(self, x: Batch, y: Labels | None = None) -> Scalar:
        """The loss of the flow on the images with noise drawn afresh."""
        return self.flow.loss(self.from_data(x), *([] if y is None else [y]))

    def from_data(self, x: Batch, generator: torch.Generator | None = None) -> Batch:
        """Images with uniform noise within each level, in [−1, 1]."""
        return 2 * dequantize(x, self.levels, generator=generator) - 1

    def to_data(self, x_0: Batch) -> Batch:
        """Images in grey levels, from what the flow draws."""
        return quantize((x_0 + 1) / 2, self.levels)

    @torch.no_grad()
    def elbo(
        self,
        x: Batch,
        y: Labels | None = None,
        *,
        divergence: str = "hutchinson",
        generator: torch.Generator | None = None,
        **how: Any,
    ) -> PerExample:
        """log p(k + u) in nats for one draw of the noise u: its mean bounds log P(k) from below.

        ``how`` as in ``FlowMatching.log_prob``; by "hutchinson" it is right on average.

        Equation: :eq:`eq-flow-dequant`
        """
        self.check(x, *([] if y is None else [y]))
        x_0 = self.from_data(x, generator)
        log_p = self.flow.log_prob(x_0, y, divergence=divergence, generator=generator, **how)
        return log_p - math.prod(self.shape) * math.log(self.levels / 2)

    def sample(
        self,
        n: int,
        y: Labels | None = None,
        *,
        generator: torch.Generator | None = None,
        **how: Any,
    ) -> Batch:
        """``n`` images, of the classes ``y`` or else of all; ``how`` as in ``decode``."""
        return self.to_data(self.flow.sample(n, y, generator=generator, **how))

    def encode(self, x: Batch, y: Labels | None = None, **how: Any) -> Batch:
        """The noise that the middle of each grey level flows to."""
        self.check(x, *([] if y is None else [y]))
        middle = 2 * (grey_levels(x, self.levels) + 0.5) / self.levels - 1
        return self.flow.encode(middle, y, **how)

    def decode(self, eps: Batch, y: Labels | None = None, **how: Any) -> Batch:
        """The images that the noise ``eps`` flows to; ``how`` as in ``FlowMatching.decode``."""
        return self.to_data(self.flow.decode(eps, y, **how))


def reflow_pairs(
    model: FlowMatching,
    n: int,
    y: Labels | None = None,
    *,
    steps: int = 50,
    method: str = "heun",
    generator: torch.Generator | None = None,
) -> tuple[Batch, Batch]:
    """``n`` pairs (x_0, ε) of noise and what the model makes of it, to train another flow on.

    Both have the laws they had, and no convex cost of carrying one to the other is higher than by
    the pairs that ``model`` was trained on. They are not the best pairs in general.

    Equation: :eq:`eq-sde-reflow`

    Source: Liu et al., ICLR 2023.
    """
    eps, *_, x_0 = model.trajectory(n, y, steps=steps, method=method, generator=generator)
    return x_0, eps


@torch.no_grad()
def straightness(
    model: FlowMatching,
    n: int,
    y: Labels | None = None,
    *,
    steps: int = 50,
    generator: torch.Generator | None = None,
) -> Scalar:
    """∫ E‖(x_1 − x_0) − u(x_t, t)‖² dt over ``n`` paths: 0 where all are straight.

    Then a single step of Euler's method draws what many do.

    Source: Liu et al., ICLR 2023.
    """
    points = torch.stack(list(model.trajectory(n, y, steps=steps, generator=generator)))
    pieces = (points[1:] - points[:-1]) * steps  # the mean of −u over each step
    whole = points[-1] - points[0]
    return (pieces - whole).square().flatten(2).sum(2).mean()


def _normal_log_prob(eps: Batch) -> PerExample:
    flat = eps.flatten(1)
    return -0.5 * (flat.square().sum(1) + flat.shape[1] * math.log(2 * math.pi))


def _sorted(given: Sequence[Tensor]) -> tuple[Tensor | None, Tensor | None]:
    """Noise and labels among what comes with the data, told apart by their type."""
    eps = next((other for other in given if other.is_floating_point()), None)
    return eps, next((other for other in given if not other.is_floating_point()), None)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode for a while."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def _check_finite(u: Tensor, t: float) -> None:
    """Raise FloatingPointError where a velocity is not finite."""
    if u.device.type != "cpu" or torch.compiler.is_compiling() or bool(u.isfinite().all()):
        return
    raise FloatingPointError(
        f"the network predicted NaN or infinite velocities at t={t:.3g}: take more steps or less "
        "guidance, or train it again with a smaller lr"
    )


def _check_choice(name: str, value: str, allowed: Sequence[str] | dict[str, Any]) -> None:
    if value not in allowed:
        raise ValueError(f"unknown {name} {value!r}: choose one of {', '.join(allowed)}")
