"""Generative adversarial networks: a generator learns from a critic that learns to tell.

The generator turns noise into examples. The critic sees examples of both kinds and learns a number
for each that tells data from samples; its gradient says how a sample should change to pass. Neither
needs a density: all that is asked of the generator is that it can be differentiated.

Notation: ``z`` codes of standard normal noise, ``x`` examples, G(z) samples, a(x) the critic's
value, of which σ(a) is the probability of data where the objective speaks of one; ``y`` labels,
where there are ``classes``; p the distribution of the data, q that of the samples.

Source: Goodfellow et al., NeurIPS 2014; the objectives as in ``objectives``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gentext.adversarial.objectives import OBJECTIVES, PENALTIES, between, checked_penalties, slopes
from gentext.adversarial.players import players
from gentext.core import (
    Model,
    as_weights,
    at_least_single,
    check_count,
    check_counts,
    check_examples,
    check_labels,
    check_number,
    check_shape,
    chosen,
    drawn_by,
    evaluating,
    if_given,
    in_evaluation,
    whole_numbers,
)
from gentext.core.shapes import Batch, Codes, Flat, Labels, PerExample, Scalar
from gentext.core.signatures import keep_contract


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
        options: of networks given by name, "hidden", "layers" and "frequencies" (a number, or a
            pair of the generator's and the critic's) or "channels"; and "spectral", whether the
            critic's weights are normalised (they are by default for "hinge").
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
        self.objective = chosen("objective", objective, OBJECTIVES)
        check_counts(latent=latent, critic_steps=critic_steps)
        check_count("classes", classes, 0)
        self.shape, self.latent, self.classes = check_shape(shape), latent, classes
        self.told, self.critic_steps = classes, critic_steps  # how many classes both players know
        given = self.objective.penalties if penalties is None else penalties
        self.penalties = checked_penalties(given)
        if isinstance(critic, str):
            options = {"spectral": objective == "hinge"} | options
        sizes: dict[str, Any] = {"shape": self.shape, "latent": latent, "classes": classes}
        self.generator, self.critic = players(generator, critic, **sizes, options=options)

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
        x, labels = as_weights(self._inner(x), self.critic), _whole(labels)
        with torch.no_grad():
            fake = self._generated(self._codes(len(x), x), *labels).to(x.dtype)
        both, twice = torch.cat([x, fake]), [torch.cat([y, y]) for y in labels]
        squared = None
        if self.penalties.keys() & {"r1", "r2"}:
            values, squared = slopes(self.critic, both, *twice)
        else:
            values = self.critic(both, *twice)
        loss = self.objective.critic(*_judged(values, both).chunk(2))
        return loss + self._penalty(x, fake, squared, labels)

    def _penalty(
        self, x: Batch, fake: Batch, squared: Tensor | None, labels: tuple[Tensor, ...]
    ) -> Scalar | float:
        """The weighted penalties; ``squared`` slopes at data and samples where these are needed."""
        total: Any = 0.0
        for name, weight in self.penalties.items():
            if name == "gp":
                steep = slopes(self.critic, between(x, fake), *labels)[1]
                total = total + weight * PENALTIES[name](steep)
            elif squared is not None:
                total = total + weight * PENALTIES[name](squared.chunk(2)[name == "r2"])
        return total

    def generator_loss(self, x: Batch, *labels: Tensor) -> Scalar:
        """The objective's loss of the generator on as many samples as there are examples."""
        x, labels = as_weights(self._inner(x), self.critic), _whole(labels)
        fake = self._generated(self._codes(len(x), x), *labels)
        # the critic's weights as constants: of them no gradient is asked
        fixed = {name: p.detach() for name, p in self.critic.named_parameters()}
        value = _judged(functional_call(self.critic, fixed, (fake, *labels)), fake)
        real = value.detach()
        if self.objective.paired:
            with torch.no_grad():
                real = _judged(self.critic(x, *labels), x)
        return self.objective.generator(real, value)

    def encode(self, x: Batch) -> Flat:
        """The features of examples that the critic's last layer sees: (n, features)."""
        with evaluating(self.critic):  # so that the estimates of spectral norms stay as they are
            return self.represent(x)

    def represent(self, x: Batch) -> Flat:
        """The same in the mode that the model is in."""
        self._check_values(x)
        return self._features()(as_weights(self._inner(x), self.critic))

    def backbone(self) -> list[nn.Module]:
        """The critic without its last layer."""
        features = self._features()
        return [features if isinstance(features, nn.Module) else self.critic]

    def _features(self) -> Any:
        features = getattr(self.critic, "features", None)
        if features is None:
            raise ValueError(
                f"a {type(self.critic).__name__} as critic has no features(x) to encode with; give "
                "it that method, or use score"
            )
        return features

    def score(self, x: Batch, y: Labels | None = None) -> PerExample:
        """The critic's value of each example, (n,)."""
        labels = _whole(if_given(y))
        self.check(x, *labels)
        with evaluating(self.critic):
            return _judged(self.critic(as_weights(self._inner(x), self.critic), *labels), x)

    @in_evaluation
    def decode(self, z: Codes, y: Labels | None = None) -> Batch:
        """The examples of codes, with labels where the model has them."""
        if z.dim() != 2 or z.shape[1] != self.latent:
            raise ValueError(f"got codes {tuple(z.shape)}; this model needs (n, {self.latent})")
        labels = _whole(if_given(y))
        _check_given(labels, len(z), self.told)
        return self._outer(at_least_single(self._generated(z, *labels)))

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
        check_count("n", n)
        check_number("temperature", temperature, least=0)
        like = next(self.generator.parameters())
        z = temperature * self._codes(n, like, generator)
        if y is None and self.told:
            y = torch.randint(self.told, (n,), device=like.device, **drawn_by(generator))
        with torch.no_grad():
            return self.decode(z, y)

    def interpolate(self, a: Codes, b: Codes, steps: int, y: Labels | None = None) -> Batch:
        """``steps`` examples from each code of ``a`` to that of ``b``: (n, steps, *shape).

        The codes go along great circles: a straight line between two draws passes through codes far
        shorter than any draw. (Codes of one number have no other way.)
        """
        check_count("steps", steps, 2)
        if a.shape != b.shape or a.shape[1:] != (self.latent,):
            raise ValueError(
                f"got codes {tuple(a.shape)} and {tuple(b.shape)}; give (n, {self.latent}) twice"
            )
        share = torch.linspace(0, 1, steps, device=a.device, dtype=a.dtype)[:, None]
        path = torch.lerp(a[:, None], b[:, None], share)
        if self.latent > 1:
            path = _great_circles(a[:, None], b[:, None], share)
        labels = None if y is None else y.repeat_interleave(steps)
        return self.decode(path.flatten(0, 1), labels).unflatten(0, (len(a), steps))

    def _generated(self, z: Codes, *labels: Tensor) -> Batch:
        """G(z) as the critic sees it."""
        return self.generator(as_weights(z, self.generator), *labels)

    def _codes(self, n: int, like: Tensor, generator: torch.Generator | None = None) -> Codes:
        real = like.is_floating_point()
        dtype = torch.promote_types(like.dtype, torch.float32) if real else None
        return torch.randn(n, self.latent, device=like.device, dtype=dtype, **drawn_by(generator))

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


def _judged(values: Tensor, x: Tensor) -> PerExample:
    """A critic's values in single precision at least; ValueError unless one for each example."""
    if values.shape != x.shape[:1]:
        raise ValueError(
            f"the critic gave values {tuple(values.shape)} for {len(x)} examples; it must give "
            f"({len(x)},): values[:, 0] or values.flatten()"
        )
    return at_least_single(values)


def _great_circles(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Points whose direction turns evenly from a to b, and whose length changes evenly."""
    lengths = torch.lerp(a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True), share)
    a, b = (nn.functional.normalize(z, dim=-1) for z in (a, b))
    cosine = (a * b).sum(-1, keepdim=True)
    across = b - cosine * a
    sine = across.norm(dim=-1, keepdim=True)
    # of two opposite codes any way round will do, such as that by an axis far from both
    axis = nn.functional.one_hot(a.abs().argmin(-1), a.shape[-1]).to(a)
    other = axis - (axis * a).sum(-1, keepdim=True) * a
    across = nn.functional.normalize(torch.where(sine > 1e-6, across, other), dim=-1)
    angle = share * torch.atan2(sine, cosine)
    return lengths * (angle.cos() * a + angle.sin() * across)


def _whole(labels: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Labels as int64, from any integers."""
    return tuple(whole_numbers(y, "labels") for y in labels)


def _check_given(labels: Sequence[Tensor], n: int, classes: int) -> None:
    if len(labels) != bool(classes):
        raise ValueError(
            f"got {len(labels)} tensors of labels, but this model has "
            + (f"{classes} classes: give one" if classes else "none: data.without_labels()")
        )
    for y in labels:
        check_labels(y, n, classes)


keep_contract(globals())
