"""Score models: a network learns ∇ log p_t of data with noise, and dynamics carry noise to data.

The network is scaled so that at every level its input and what it is asked for have variance 1.
One score serves all samplers, and by the equation without noise it also gives the likelihood.

Notation: ``x`` data, ``x_t`` noisy data at a time t from 0 to 1; ``eps`` the noise ε; y = x_t/α and
``varsigma`` ς = σ/α, its noise; F the network; λ = log α/σ; ``end`` the time at which the model is
read, for the data; processes as in ``langevin``.

Source: Hyvärinen, JMLR 2005; Vincent, Neural Computation 2011; Song et al., ICLR 2021; Karras et
al., NeurIPS 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from gentext.core import (
    Model,
    as_weights,
    at_hand,
    at_least_single,
    check_count,
    check_examples,
    check_number,
    check_shape,
    chosen,
    in_evaluation,
    normal_like,
)
from gentext.core.shapes import Batch, PerExample, Scalar
from gentext.core.signatures import keep_contract
from gentext.denoising.langevin import (
    VE,
    VP,
    LinearSDE,
    Score,
    annealed_langevin,
    finite_score,
    in_log_snr,
    pf_velocity,
    reverse_sde,
    time_grid,
)
from gentext.denoising.samplers import ddim_step, dpmpp_step
from gentext.denoising.schedule import Level, q_sample
from gentext.denoising.unet import TimeMLP, UNet
from gentext.flows.continuous import exact_divergence, ode_log_prob
from gentext.flows.dequantization import Dequantized
from gentext.flows.ode import solve

PROCESSES: dict[str, Callable[..., LinearSDE]] = {"vp": VP, "ve": VE}
NETS = {"unet": UNet, "mlp": TimeMLP}
SAMPLERS = ("ddim", "dpm++", "ode", "sde", "langevin")
TIMES = 1000  # the range of the times that a network is shown


def dsm_loss(
    score: Callable[[Tensor], Tensor], x_t: Batch, eps: Batch, sigma: Tensor
) -> PerExample:
    """‖score(x_t) + ε/σ‖² of each example: on average the error of the score, and a constant.

    Equation: :eq:`eq-sde-dsm`

    Source: Vincent, Neural Computation 2011.
    """
    if at_hand(sigma) and (sigma <= 0).any():
        raise ValueError("got a noise sigma that is not above 0")
    return (score(x_t) + eps / sigma).square().flatten(1).sum(1)


def ism_loss(score: Callable[[Tensor], Tensor], x: Batch) -> PerExample:
    """½ ‖score(x)‖² + ∇·score(x) of each example, half the error and a constant without noise.

    Equation: :eq:`eq-sde-ism`

    Source: Hyvärinen, JMLR 2005.
    """
    s, divergence = exact_divergence(score, x)
    return s.square().flatten(1).sum(1) / 2 + divergence


def precondition(varsigma: Tensor, data_std: float) -> tuple[Tensor, Tensor, Tensor]:
    """c_skip, c_out and c_in of x_0 = c_skip y + c_out F(c_in y), for data of ``data_std``.

    Input and target of F have variance 1, and c_out, by which its errors grow, is the least.

    Equation: :eq:`eq-sde-edm`

    Source: Karras et al., NeurIPS 2022.
    """
    check_number("data_std", data_std, above=0)
    total = varsigma.square() + data_std**2
    return data_std**2 / total, varsigma * data_std / total.sqrt(), 1 / total.sqrt()


def dpm1_step(x_t: Tensor, eps: Tensor, t: Level, s: Level) -> Tensor:
    """x_s, exact where ε is the same all the way; as ``ddim_step``, but s may not be the data.

    Equation: :eq:`eq-sde-dpm1`

    Source: Lu et al., NeurIPS 2022.
    """
    h = (s.log_snr - t.log_snr) / 2
    return s.alpha / t.alpha * x_t - s.sigma * torch.expm1(h) * eps


def dpm_solver(
    score: Score, process: LinearSDE, x: Batch, steps: int, *, end: float = 1e-3, order: int = 2
) -> Batch:
    """x at ``end``, from x at t = 1, by "ddim" (order 1) or "dpm++" (2), in steps even in λ.

    Source: Song et al., ICLR 2021; Lu et al., 2022 (dpm++).
    """
    before = None
    for time, following in pairwise(time_grid(process, steps, end)):
        t, s = process.at(time), process.at(following)
        x_0 = (x + t.sigma.square() * finite_score(score(x, time), time)) / t.alpha
        x = ddim_step(x, x_0, t, s) if order == 1 else dpmpp_step(x, x_0, t, s, before)
        before = x_0, t
    return x


class ScoreSDE(Model):
    """A score model of data that are not discrete, with its likelihood.

    Arguments:
        net: "mlp", "unet" or a network called as net(x_t, t), t from 0 to 1000; ``options`` are
            those of the first two.
        process: "vp", "ve" or a ``LinearSDE``; noise: the two numbers that "vp" or "ve" is given,
            None for their own.
        shape: of one example; data_std: the deviation of its values.
        end: time at which the model is read, for the data.

    Source: Song et al., ICLR 2021; Karras et al., NeurIPS 2022.
    """

    def __init__(
        self,
        *,
        net: str | nn.Module = "mlp",
        process: str | LinearSDE = "vp",
        noise: tuple[float, float] | None = None,
        shape: Sequence[int],
        data_std: float = 1.0,
        end: float = 1e-5,
        **options: Any,
    ) -> None:
        super().__init__()
        check_number("data_std", data_std, above=0)
        check_number("end", end, above=0, below=1)
        self.shape, self.data_std, self.end = check_shape(shape), data_std, end
        self.process: LinearSDE = _made(process, PROCESSES, "process", *(noise or ()))
        self.net: nn.Module = _made(net, NETS, "net", shape=self.shape, **options)
        last = self.process.at(1.0)
        self.most, self.least = self.process.log_snr(end), float(last.log_snr)
        self.prior_std = math.hypot(float(last.alpha) * data_std, float(last.sigma))

    def check(self, x: Tensor) -> None:
        """Raise ValueError for examples that do not fit."""
        check_examples(x, self.shape)

    @in_evaluation
    def denoise(self, x_t: Batch, t: Tensor | float) -> Batch:
        """x_0 as the network predicts it from x_t at t, a number or (n,) of them.

        Where α² + σ² = 1 and ``data_std`` is 1, −F is the velocity αε − σx_0.
        """
        return self._denoise(x_t, t)

    def _denoise(self, x_t: Batch, t: Tensor | float) -> Batch:
        """The same in the mode that the network is in."""
        level = self.process.at(t, len(self.shape))
        y, varsigma = x_t / level.alpha, level.sigma / level.alpha
        c_skip, c_out, c_in = precondition(varsigma, self.data_std)
        done = (self.most - level.log_snr) / (self.most - self.least)
        times = (TIMES * done).clamp(min=0).to(y).reshape(-1).expand(len(y))
        return c_skip * y + c_out * self.net(as_weights(c_in * y, self.net), times)

    @in_evaluation
    def score(self, x_t: Batch, t: Tensor | float) -> Batch:
        """∇ log p_t(x_t) = (α x_0 − x_t)/σ², of x_0 as predicted; t a number or (n,) of them."""
        if at_hand(times := torch.as_tensor(t)) and not bool((times > 0).all()):
            raise ValueError("got a time t that is not above 0, where there is no noise: give more")
        return self._score(x_t, t)

    def _score(self, x_t: Batch, t: Tensor | float) -> Batch:
        level = self.process.at(t, len(self.shape))
        return (level.alpha * self._denoise(x_t, t) - x_t) / level.sigma.square()

    def loss(self, x: Batch) -> Scalar:
        """The mean of (x_0 − its prediction)²/c_out², at times and with noise drawn afresh.

        Equation: :eq:`eq-sde-dsm`
        """
        x = at_least_single(x)
        places = torch.arange(len(x), device=x.device) / len(x)
        t = (places + torch.rand((), device=x.device)).to(x) % 1  # each as likely, evenly spread
        t = self.end + (1 - self.end) * t
        level, eps = self.process.at(t, len(self.shape)), torch.randn_like(x)
        error = dsm_loss(lambda v: self._score(v, t), q_sample(x, eps, level), eps, level.sigma)
        _, c_out, _ = precondition(level.sigma / level.alpha, self.data_std)
        weight = (level.sigma.square() / (level.alpha * c_out)).square()
        return (weight.flatten() * error).mean() / math.prod(self.shape)

    def velocity(self, x: Batch, log_snr: float) -> Batch:
        """dx/d(log SNR) along the paths without noise."""
        return in_log_snr(pf_velocity(self.score, self.process), self.process)(x, log_snr)

    def encode(self, x: Batch, *, steps: int = 50, method: str = "rk4") -> Batch:
        """The noise at t = 1 where the path of each example ends."""
        self.check(x)
        return solve(self.velocity, at_least_single(x), self.most, self.least, steps, method)

    def decode(self, z: Batch, *, steps: int = 50, method: str = "rk4") -> Batch:
        """The example from which the path to the noise z comes."""
        return solve(self.velocity, at_least_single(z), self.least, self.most, steps, method)

    def prior_log_prob(self, z: Batch) -> PerExample:
        """log N(z; 0, α²σ_d² + σ²) with the level at t = 1 and σ_d = ``data_std``."""
        normal = Normal(0.0, self.prior_std, validate_args=False)
        return normal.log_prob(z).flatten(1).sum(1)

    def log_prob(
        self, x: Batch, *, steps: int = 100, method: str = "rk4", **options: Any
    ) -> PerExample:
        """log p(x) in nats, of the distribution of ``decode``.

        The ``options`` of ``ode_log_prob`` are ``divergence`` and ``generator``.
        """
        self.check(x)
        options |= {"start": self.most, "end": self.least, "prior_log_prob": self.prior_log_prob}
        x = at_least_single(x)
        return ode_log_prob(self.velocity, x, steps=steps, method=method, **options)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        sampler: str = "dpm++",
        steps: int = 50,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> Batch:
        """``n`` draws by "ddim", "dpm++", "ode", "sde" or "langevin", at last without noise.

        The ``options`` are those of the function that does it, such as ``reverse_sde``.
        """
        chosen("sampler", sampler, SAMPLERS)
        check_count("n", n)
        like = at_least_single(next(self.parameters()).new_empty((n, *self.shape)))
        x = self.prior_std * normal_like(like, generator)
        if sampler == "ode":
            x = self.decode(x, steps=steps, **options)
        elif sampler in ("ddim", "dpm++"):
            options = {"end": self.end, "order": SAMPLERS.index(sampler) + 1} | options
            x = dpm_solver(self.score, self.process, x, steps, **options)
        else:
            options = {"end": self.end, "generator": generator} | options
            by: Any = reverse_sde if sampler == "sde" else annealed_langevin
            x = by(self.score, self.process, x, steps, **options)
        return self.denoise(x, self.end)


class ImageScoreSDE(Dequantized):
    """A score model of images of ``levels`` grey levels, by uniform dequantization.

    It knows no probability of an image exactly, but a lower bound of its logarithm. The other
    arguments are those of ``ScoreSDE``, which here sees values in [−1, 1] by net "unet".

    Source: Theis et al., ICLR 2016; Song et al., ICLR 2021.
    """

    def __init__(self, *, shape: Sequence[int], levels: int = 256, **options: Any) -> None:
        super().__init__(shape, levels)
        self.sde = ScoreSDE(shape=shape, **{"net": "unet"} | options)

    @property
    def density(self) -> ScoreSDE:
        """The score model, of values in [−1, 1]."""
        return self.sde

    def elbo(self, x: Batch, *, steps: int = 25, **how: Any) -> PerExample:
        """log p(k + u) in nats for one draw of u, whose mean bounds log P(k).

        ``how`` as in ``Dequantized.elbo`` and ``ScoreSDE.log_prob``.

        Equation: :eq:`eq-flow-dequant`
        """
        return super().elbo(x, steps=steps, **how)


def _made(what: Any, table: dict[str, Any], kind: str, *args: Any, **options: Any) -> Any:
    """What ``table`` makes by the name ``what``; anything but a name is taken as it is."""
    if not isinstance(what, str):
        if args or options.keys() > {"shape"}:
            raise ValueError(f"got options for a {kind} that is made already; leave them out")
        return what
    return chosen(kind, what, table)(*args, **options)


keep_contract(globals())
