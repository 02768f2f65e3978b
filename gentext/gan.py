"""Generative adversarial networks: a generator learns from a critic that learns to tell.

The generator turns noise into examples. The critic sees examples of both kinds and learns a number
for each that tells data from samples; its gradient says how a sample should change to pass. Neither
needs a density: all that is asked of the generator is that it can be differentiated.

Notation: ``z`` codes of standard normal noise, ``x`` examples, G(z) samples, D the critic, of which
σ(D) is the probability of data where the objective speaks of one; ``y`` labels, where there are
``classes``; p the law of the data, q that of the samples.

Source: Goodfellow et al., NeurIPS 2014; the objectives as in ``objectives``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gentext import gan_nets as nets
from gentext.core import Model, check_examples, check_labels
from gentext.objectives import (
    OBJECTIVES,
    PENALTIES,
    between,
    checked_penalties,
    slopes,
)
from gentext.shapes import Batch, Codes, Flat, Labels, Scalar

NETS: dict[str, tuple[type[nets.Generator], type[nets.Critic]]] = {
    "mlp": (nets.MLPGenerator, nets.MLPCritic),
    "dcgan": (nets.ConvGenerator, nets.ConvCritic),
    "residual": (nets.ResidualGenerator, nets.ResidualCritic),
}


class GAN(Model):
    """Two networks in a game, for points and tables; ``ImageGAN`` for images.

    Arguments:
        shape: of one example; latent: size of the codes.
        generator, critic: "mlp", "dcgan", "residual", or networks called as generator(z), with
            labels generator(z, y), and critic(x) or critic(x, y), which gives (n,) numbers;
            ``encode`` needs a method critic.features(x) as well.
        objective: "relativistic" (Huang et al., NeurIPS 2024), "non-saturating", "minimax",
            "least-squares", "wasserstein-gp", "hinge", "f-kl", "f-reverse-kl", "f-chi2" or "f-gan".
        penalties: weights of "gp", "r1" and "r2" in the critic's loss, such as {"r1": 0.1}; None
            for those that go with the objective.
        classes: number of labels that come with the data, 0 for none.
        critic_steps: updates of the critic for each of the generator.
        options: of both networks, "hidden", "layers" and "frequencies" (a number, or a pair of the
            generator's and the critic's) or "channels"; and "spectral", whether the critic's
            weights are normalised (they are by default for "hinge").
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        latent: int = 64,
        generator: str | nn.Module = "mlp",
        critic: str | nn.Module = "mlp",
        objective: str = "relativistic",
        penalties: Mapping[str, float] | None = None,
        classes: int = 0,
        critic_steps: int = 1,
        **options: Any,
    ) -> None:
        super().__init__()
        _check_choice("objective", objective, OBJECTIVES)
        _check_positive(latent=latent, critic_steps=critic_steps)
        self.shape, self.latent, self.classes = tuple(shape), latent, classes
        self.critic_steps, self.objective = critic_steps, OBJECTIVES[objective]
        given = self.objective.penalties if penalties is None else penalties
        self.penalties = checked_penalties(given)
        if isinstance(generator, nn.Module) and isinstance(critic, nn.Module) and options:
            raise ValueError(f"got {sorted(options)} for networks that are there already")
        spectral = options.pop("spectral", objective == "hinge")
        if not isinstance(spectral, bool):
            raise ValueError(f"got spectral={spectral!r}; it is True or False, of the critic")
        own = {"spectral": spectral}
        self.generator = _network("generator", generator, (shape, latent, classes), options)
        self.critic = _network("critic", critic, (shape, classes), options | own)

    def turns(self) -> dict[str, Iterable[nn.Parameter]]:
        """The critic's and the generator's."""
        return {
            "critic_loss": self.critic.parameters(),
            "generator_loss": self.generator.parameters(),
        }

    def due(self, turn: str, step: int) -> bool:
        """Whether ``turn`` has an update in ``step``: the generator's once in ``critic_steps``."""
        return turn != "generator_loss" or (step + 1) % self.critic_steps == 0

    def averaged(self) -> Iterable[nn.Parameter]:
        """The generator's: the average of critics of many generators is a critic of none."""
        return self.generator.parameters()

    def check(self, x: Tensor, *labels: Tensor) -> None:
        """Raise ValueError for data or labels that do not fit."""
        self._check_values(x)
        _check_given(labels, len(x), self.classes)

    def loss(self, x: Batch, *labels: Tensor) -> Scalar:
        """The critic's loss, which training minimises first."""
        return self.critic_loss(x, *labels)

    def critic_loss(self, x: Batch, *labels: Tensor) -> Scalar:
        """The objective's loss of the critic on data and as many samples, and the penalties."""
        x = self._inner(x)
        with torch.no_grad():
            fake = self.generator(self._codes(len(x), x), *labels)
        both, twice = torch.cat([x, fake.to(x.dtype)]), [torch.cat([y, y]) for y in labels]
        if self.penalties.keys() & {"r1", "r2"}:
            values, squared = slopes(lambda x: self.critic(x, *twice), both)
        else:
            values, squared = self.critic(both, *twice), None
        real, made = _full(values).chunk(2)
        loss = self.objective.critic(real, made)
        return loss + self._penalty(x, fake, squared, labels)

    def _penalty(
        self, x: Batch, fake: Batch, squared: Tensor | None, labels: tuple[Tensor, ...]
    ) -> Scalar | float:
        """The weighted penalties; ``squared`` slopes at data and samples where these are needed."""
        total: Any = 0.0
        for name, weight in self.penalties.items():
            if name == "gp":
                middle = between(x, fake.to(x.dtype))
                steep = slopes(lambda x: self.critic(x, *labels), middle)[1]
                total = total + weight * PENALTIES[name](_full(steep))
            elif squared is not None:
                part = _full(squared).chunk(2)[0 if name == "r1" else 1]
                total = total + weight * PENALTIES[name](part)
        return total

    def generator_loss(self, x: Batch, *labels: Tensor) -> Scalar:
        """The objective's loss of the generator on as many samples as there are examples."""
        x = self._inner(x)
        fake = self.generator(self._codes(len(x), x), *labels)
        # the critic's weights as constants: of them no gradient is asked
        fixed = {name: p.detach() for name, p in self.critic.named_parameters()}
        value = _full(functional_call(self.critic, fixed, (fake, *labels)))
        real = value.detach()
        if self.objective.paired:
            with torch.no_grad():
                real = _full(self.critic(x, *labels))
        return self.objective.generator(real, value)

    def encode(self, x: Batch) -> Flat:
        """What the critic's last layer sees of examples: (n, features)."""
        self._check_values(x)
        features: Any = getattr(self.critic, "features", None)
        if features is None:
            raise ValueError(
                f"a {type(self.critic).__name__} as critic has no features(x) to encode with; give "
                "it that method, or use score"
            )
        return features(self._inner(x))

    def score(self, x: Batch, y: Labels | None = None) -> Tensor:
        """The critic's value of each example, (n,)."""
        labels = () if y is None else (y,)
        self.check(x, *labels)
        return self.critic(self._inner(x), *labels)

    def decode(self, z: Codes, y: Labels | None = None) -> Batch:
        """The examples of codes, with labels where the model has them."""
        if z.dim() != 2 or z.shape[1] != self.latent:
            raise ValueError(f"got codes {tuple(z.shape)}; this model needs (n, {self.latent})")
        _check_given(() if y is None else (y,), len(z), self.classes)
        return self._outer(self.generator(z, *(() if y is None else (y,))))

    def sample(
        self,
        n: int,
        y: Labels | None = None,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Batch:
        """``n`` draws, of the classes ``y`` or else of all.

        Codes are multiplied by ``temperature``: below 1, samples are more alike, and often better.
        """
        if n < 1 or not temperature >= 0:
            raise ValueError(f"got n={n}, temperature={temperature}; n >= 1, temperature >= 0")
        like = next(self.generator.parameters())
        z = temperature * self._codes(n, like, generator)
        if y is None and self.classes:
            y = torch.randint(self.classes, (n,), device=like.device, generator=generator)
        with torch.no_grad():
            return self.decode(z, y)

    def interpolate(self, a: Codes, b: Codes, steps: int, y: Labels | None = None) -> Batch:
        """``steps`` examples from each code of ``a`` to that of ``b``: (n, steps, *shape).

        The codes go along great circles: a straight line between two draws passes through codes far
        shorter than any draw.
        """
        if a.shape != b.shape or steps < 2:
            raise ValueError(
                f"got codes {tuple(a.shape)}, {tuple(b.shape)} and {steps} steps; "
                "give two equal shapes and at least 2 steps"
            )
        share = torch.linspace(0, 1, steps, device=a.device, dtype=a.dtype)[:, None]
        path = torch.stack([_great_circle(p, q, share) for p, q in zip(a, b, strict=True)])
        labels = None if y is None else y.repeat_interleave(steps)
        return self.decode(path.flatten(0, 1), labels).unflatten(0, (len(a), steps))

    def _codes(self, n: int, like: Tensor, generator: torch.Generator | None = None) -> Codes:
        dtype = like.dtype if like.is_floating_point() else None
        return torch.randn(n, self.latent, device=like.device, dtype=dtype, generator=generator)

    def _check_values(self, x: Tensor) -> None:
        check_examples(x, self.shape)

    def _inner(self, x: Batch) -> Batch:
        """Examples as the networks see them."""
        return x

    def _outer(self, x: Batch) -> Batch:
        """Examples as the user sees them."""
        return x


class ImageGAN(GAN):
    """A GAN of images in [0, 1], which its networks see in [−1, 1]."""

    def _check_values(self, x: Tensor) -> None:
        check_examples(x, self.shape, 0.0, 1.0)

    def _inner(self, x: Batch) -> Batch:
        return 2 * x - 1

    def _outer(self, x: Batch) -> Batch:
        return (x.clamp(-1, 1) + 1) / 2


def _full(x: Tensor) -> Tensor:
    """In single precision at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _great_circle(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Points from ``a`` to ``b`` whose direction turns evenly and whose length changes evenly."""
    lengths = torch.lerp(a.norm(), b.norm(), share)
    a, b = (nn.functional.normalize(z, dim=0) for z in (a, b))
    angle = torch.acos((a @ b).clamp(-1, 1))
    if float(angle.sin()) < 1e-6:
        return lengths * torch.lerp(a, b, share)
    return lengths * (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()


def _network(role: str, net: str | nn.Module, given: tuple[Any, ...], options: Any) -> nn.Module:
    if isinstance(net, nn.Module):
        return net
    _check_choice(role, net, NETS)
    place = ("generator", "critic").index(role)
    pairs = {key: v for key, v in options.items() if isinstance(v, Sequence)}
    for key, pair in pairs.items():
        if len(pair) != 2:
            raise ValueError(f"got {key}={pair!r}; give a number, or a pair: generator and critic")
    own = {key: pair[place] for key, pair in pairs.items()}
    return NETS[net][place](*given, **options | own)


def _check_given(labels: Sequence[Tensor], n: int, classes: int) -> None:
    if len(labels) != bool(classes):
        raise ValueError(
            f"got {len(labels)} tensors of labels, but this model has "
            + (f"{classes} classes: give one" if classes else "none: data.without_labels()")
        )
    for y in labels:
        check_labels(y, n, classes)


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"got {name}={number}; give at least 1")


def _check_choice(what: str, given: str, allowed: Iterable[str]) -> None:
    if given not in allowed:
        raise ValueError(f"unknown {what} {given!r}: choose one of {', '.join(allowed)}")
