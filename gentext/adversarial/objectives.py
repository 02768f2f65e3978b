"""What critic and generator of a GAN minimise: the objectives, and penalties on the critic's slope.

A critic gives every example a number, high for data and low for samples. Each objective is a pair
of losses, functions of these numbers alone; with the best critic, each is a divergence between the
distribution of the data and that of the samples (see ``f_divergence``).

Notation: a(x) the critic's value of an example; ``real``, ``fake`` (n,) its values of data and of
samples, a and b; D = σ(a) the probability that an example is real; p, q the distributions
of both.

Source: Goodfellow et al., NeurIPS 2014; Mao et al., ICCV 2017; Arjovsky et al., ICML 2017; Lim and
Ye, 2017; Jolicoeur-Martineau, ICLR 2019; Huang et al., NeurIPS 2024 (relativistic, R1 and R2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from gentext.adversarial.f_divergence import DIVERGENCES, Divergence
from gentext.core import at_least_single, chosen, transformed
from gentext.core.shapes import Batch, PerExample, Scalar
from gentext.core.signatures import keep_contract

Loss = Callable[[Tensor, Tensor], Tensor]
Critic = Callable[..., Tensor]


class Objective(NamedTuple):
    """The losses of critic and generator, functions of (real, fake).

    ``paired`` says whether the generator's loss needs the values of data, and ``penalties`` which
    weights of penalties it is used with unless others are given.
    """

    critic: Loss
    generator: Loss
    paired: bool = False
    penalties: Mapping[str, float] = {}


def game_value(real: PerExample, fake: Tensor) -> Scalar:
    """V = E log D(x) + E log(1 − D(G(z))), in nats: what the critic wants to be high.

    It is −2 times the mean cross-entropy of telling data from samples.

    Equation: :eq:`eq-gan-value`
    """
    return -softplus(-real).mean() - softplus(fake).mean()


def saturating(real: PerExample, fake: Tensor) -> Scalar:
    """E log(1 − D(G(z))): the generator's part of V. Its slope in b, −σ(b), dies where b is low.

    Equation: :eq:`eq-gan-sat`
    """
    return -softplus(fake).mean()


def non_saturating(real: PerExample, fake: Tensor) -> Scalar:
    """−E log D(G(z)), whose slope in b, −(1 − σ(b)), dies where samples pass for data.

    Equation: :eq:`eq-gan-sat`, :eq:`eq-gan-ns`
    """
    return softplus(-fake).mean()


def squared_critic(real: PerExample, fake: Tensor) -> Scalar:
    """½ E (a − 1)² + ½ E b²: the critic's values should be 1 for data and 0 for samples.

    Equation: :eq:`eq-gan-ls`
    """
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def squared_generator(real: PerExample, fake: Tensor) -> Scalar:
    """½ E (b − 1)²: samples should get the value of data.

    Equation: :eq:`eq-gan-ls`
    """
    return (fake - 1).square().mean() / 2


def mean_gap(real: PerExample, fake: Tensor) -> Scalar:
    """E b − E a: minus the gap between the means, which is W₁ for the best 1-Lipschitz critic.

    Equation: :eq:`eq-gan-w1`
    """
    return fake.mean() - real.mean()


def hinge(real: PerExample, fake: Tensor) -> Scalar:
    """E max(0, 1 − a) + E max(0, 1 + b): values beyond ±1 are good enough.

    Equation: :eq:`eq-gan-hinge`
    """
    return relu(1 - real).mean() + relu(1 + fake).mean()


def mean_value(real: PerExample, fake: Tensor) -> Scalar:
    """−E b, the generator's part of ``mean_gap``."""
    return -fake.mean()


def relativistic_critic(real: PerExample, fake: Tensor) -> Scalar:
    """−E log σ(a − b) over pairs: which of two is the real one?

    Equation: :eq:`eq-gan-pairs`
    """
    _check_pairs(real, fake)
    return softplus(fake - real).mean()


def relativistic_generator(real: PerExample, fake: Tensor) -> Scalar:
    """−E log σ(b − a): the other answer."""
    _check_pairs(real, fake)
    return softplus(real - fake).mean()


def _check_pairs(real: Tensor, fake: Tensor) -> None:
    if real.shape != fake.shape:
        raise ValueError(
            f"got values of shapes {tuple(real.shape)} and {tuple(fake.shape)}; pairs need as many "
            "of data as of samples"
        )


def _minus_bound(divergence: Divergence) -> Objective:
    """Minus the variational bound of an f-divergence for the critic; the generator's part of it.

    Equation: :eq:`eq-gan-fgan`
    """

    def critic(real: Tensor, fake: Tensor) -> Tensor:
        return divergence.conjugate_of_output(fake).mean() - divergence.output(real).mean()

    def generator(real: Tensor, fake: Tensor) -> Tensor:
        return -divergence.conjugate_of_output(fake).mean()

    return Objective(critic, generator)


def minus_value(real: PerExample, fake: Tensor) -> Scalar:
    """−V, which the critic minimises."""
    return -game_value(real, fake)


OBJECTIVES: dict[str, Objective] = {
    "minimax": Objective(minus_value, saturating),
    "non-saturating": Objective(minus_value, non_saturating),
    "least-squares": Objective(squared_critic, squared_generator),
    "wasserstein-gp": Objective(mean_gap, mean_value, penalties={"gp": 10.0}),
    "hinge": Objective(hinge, mean_value),
    "relativistic": Objective(
        relativistic_critic, relativistic_generator, True, {"r1": 1.0, "r2": 1.0}
    ),
    **{f"f-{name}": _minus_bound(divergence) for name, divergence in DIVERGENCES.items()},
}


@torch.compiler.disable  # which cannot differentiate twice through what it has compiled
def slopes(critic: Critic, x: Batch, *labels: Tensor) -> tuple[Tensor, PerExample]:
    """The critic's values of ``x``, and ‖∇a(x)‖² of each example, through which gradients flow."""
    if transformed():
        return _transformed_slopes(critic, x, *labels)
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        values = critic(x, *(y.clone() for y in labels))
        (gradient,) = torch.autograd.grad(values.sum(), x, create_graph=True)
    return values, at_least_single(gradient).reshape(len(x), -1).square().sum(1)


def _transformed_slopes(critic: Critic, x: Batch, *labels: Tensor) -> tuple[Tensor, PerExample]:
    """The same within a function of ``torch.func``, which knows no gradients but its own."""

    def total(x: Tensor) -> tuple[Tensor, Tensor]:
        values = critic(x, *labels)
        return values.sum(), values

    gradient, values = torch.func.grad(total, has_aux=True)(x.detach())
    return values, at_least_single(gradient).reshape(len(x), -1).square().sum(1)


def gradient_penalty(squared: PerExample) -> Scalar:
    """E (‖∇a‖ − 1)² from ‖∇a‖² of each example: slopes of size 1 cost nothing.

    Equation: :eq:`eq-gan-gp`

    Source: Gulrajani et al., NeurIPS 2017.
    """
    least = torch.finfo(squared.dtype).tiny  # the root has no slope at 0
    return (squared.clamp_min(least).sqrt() - 1).square().mean()


def zero_centred_penalty(squared: PerExample) -> Scalar:
    """½ E ‖∇a‖² from ‖∇a‖² of each example: R1 of data, R2 of samples.

    Equation: :eq:`eq-gan-r1`

    Source: Mescheder et al., ICML 2018.
    """
    return squared.mean() / 2


def between(real: Batch, fake: Tensor) -> Batch:
    """Points drawn evenly from the lines between data and samples, where slopes are penalised."""
    share = torch.rand(len(real), *(1 for _ in real.shape[1:]), device=real.device)
    return torch.lerp(real, fake, share.to(real.dtype))


PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "gp": gradient_penalty,
    "r1": zero_centred_penalty,
    "r2": zero_centred_penalty,
}


def checked_penalties(given: Mapping[str, float]) -> dict[str, float]:
    """The penalties with a weight; ValueError for an unknown one, or a weight that is none."""
    if not isinstance(given, Mapping):
        raise ValueError(f"got penalties={given!r}; give weights by name, such as {{'r1': 0.1}}")
    for name, weight in given.items():
        chosen("penalty", name, PENALTIES)
        if not 0 <= weight < math.inf:
            raise ValueError(f"got a weight of {weight} for penalty {name!r}; give 0 or more")
    return {name: float(weight) for name, weight in given.items() if weight}


keep_contract(globals())
