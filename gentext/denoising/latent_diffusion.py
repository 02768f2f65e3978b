"""Latent diffusion: an autoencoder keeps what matters of an image, a diffusion draws that.

Two models, trained one after the other, are one model of images: a code z drawn by the diffusion,
an image drawn given the code. In the bound of the VAE, the bound of log p(z) by the diffusion
takes the place of the simple prior, so bits stay comparable with those of any other model.

Notation: ``x`` images; ``z`` codes, divided by their standard deviation c (``scale``), which the
autoencoder's own codes have; q the encoder's distribution q(z | x); ``y`` labels or prompts as in
``conditions``. In papers the codes before division are z, and their ℰ(x) and 𝒟(z) are ``encode``
and ``decode`` here, up to c.

Source: Rombach et al., CVPR 2022; Vahdat et al., NeurIPS 2021.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from gentext.core import (
    Density,
    Model,
    Precise,
    at_hand,
    at_least_single,
    check_examples,
    evaluating,
    heeded,
    if_given,
)
from gentext.core.draws import drawing_from, normal_like
from gentext.core.shapes import Batch, PerExample, Scalar
from gentext.core.signatures import keep_contract
from gentext.denoising.conditions import Given, conditions_of
from gentext.denoising.diffusion import Diffusion
from gentext.denoising.schedule import Schedule
from gentext.latent.vae import VAE
from gentext.sequences.vqvae import VQVAE
from gentext.training.parts import built, described

JITTER = 0.1  # standard deviation of q(z | x) of a VQ-VAE, whose encoder gives one code only
ENCODED_AT_ONCE = 256  # examples


class Parts(NamedTuple):
    """What the bound adds up, in nats: E_q log p(x | z), H(q), and E_q of the bound of log p(z)."""

    reconstruction: PerExample
    entropy: PerExample
    prior: PerExample


class LatentDiffusion(Model, Precise):
    """A diffusion of the codes of an autoencoder that is trained already.

    Arguments:
        autoencoder: a VAE without labels, or a VQ-VAE, whose codes are taken before they are
            quantised and quantised when they are decoded; from now on it stays as it is, in
            evaluation mode and without gradients.
        diffusion: a ``Diffusion`` (with levels=None) or ``FlowMatching`` for examples of the shape
            of the codes: maps (c, h, w) where the autoencoder has them, else rows (latent,).
        scale: the standard deviation c of the autoencoder's codes; None: ``fit_scale`` measures it.

    Either model may also be given as it is kept in ``arguments``: a dict of its ``class`` and what
    this is built with.
    """

    scale: Tensor

    def __init__(
        self,
        *,
        autoencoder: Model | dict[str, Any],
        diffusion: Model | dict[str, Any],
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder: Any = built(autoencoder).requires_grad_(False).eval()
        self.diffusion: Any = built(diffusion)
        self.arguments = self.arguments | {
            "autoencoder": described(self.autoencoder),
            "diffusion": described(self.diffusion),
        }
        if scale is not None and not 0 < scale < math.inf:
            raise ValueError(f"scale must be a positive number, or None to measure it; got {scale}")
        self.register_buffer("scale", torch.tensor(math.nan if scale is None else scale))
        self.latents = latent_shape(self.autoencoder)
        _check_prior(self.diffusion, self.latents)
        shape: Any = self.autoencoder.shape
        self.shape: tuple[int, ...] = tuple(shape)
        self.conditions = conditions_of(self.diffusion)
        self.classes, self.vocab_size = self.conditions.classes, self.conditions.vocab_size

    def train(self, mode: bool = True) -> LatentDiffusion:
        """Set the diffusion to training or evaluation; the autoencoder stays in evaluation."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    @torch.no_grad()
    def fit_scale(self, x: Batch, *, generator: torch.Generator | None = None) -> float:
        """Measure the standard deviation c of the codes of ``x``, by which all are divided.

        Equation: :eq:`eq-ldm-scale`
        """
        codes = []
        for part in x.split(ENCODED_AT_ONCE):
            mean, std = self._posterior(part)
            codes.append(mean if std is None else mean + std * normal_like(mean, generator))
        self.scale.copy_(latent_scale(torch.cat(codes)))
        return float(self.scale)

    def _posterior(self, x: Batch) -> tuple[Tensor, Tensor | None]:
        """Mean and standard deviation of the autoencoder's own codes; None where there is none."""
        coder = self.autoencoder
        if not isinstance(coder, VQVAE):
            q = coder.encode(x).base_dist
            return q.loc.unflatten(1, self.latents), q.scale.unflatten(1, self.latents)
        check_examples(x, self.shape, coder.likelihood.low, coder.likelihood.high)
        return coder.features(x), None

    def encode(self, x: Batch) -> Independent:
        """q(z | x), a normal distribution of codes divided by c, whose event shape is ``latents``.

        Equation: :eq:`eq-ldm-scale`
        """
        self._check_scale()
        mean, std = self._posterior(x)
        mean = mean / self.scale
        std = torch.full_like(mean, JITTER) if std is None else std / self.scale
        normal = Normal(mean, std, validate_args=False)
        return Independent(normal, len(self.latents), validate_args=False)

    def decode(self, z: Batch) -> Independent:
        """p(x | z) of codes (n, *latents) divided by c.

        Equation: :eq:`eq-ldm-scale`
        """
        self._check_scale()
        codes = z * self.scale
        if isinstance(self.autoencoder, VQVAE):
            return self.autoencoder.decode(self.autoencoder.quantizer.nearest(codes))
        return self.autoencoder.decode(codes.flatten(1))

    def loss(self, x: Batch, y: Given | None = None) -> Scalar:
        """The loss of the diffusion, of codes drawn afresh."""
        with torch.no_grad():
            z = draw(self.encode(x))
        return self.diffusion.loss(z, *if_given(y))

    def elbo(
        self,
        x: Batch,
        y: Given | None = None,
        *,
        generator: torch.Generator | None = None,
        **how: Any,
    ) -> PerExample:
        """A lower bound of log p(x), or of log p(x | y), in nats; one draw of the code.

        ``how`` is as in the bound of the diffusion, such as ``terms``, or in its ``log_prob``.

        Equation: :eq:`eq-ldm-bound`
        """
        self.check(x, *if_given(y))
        parts = self.elbo_terms(x, y, generator=generator, **how)
        return parts.reconstruction + parts.entropy + parts.prior

    def elbo_terms(
        self,
        x: Batch,
        y: Given | None = None,
        *,
        generator: torch.Generator | None = None,
        **how: Any,
    ) -> Parts:
        """The three parts of the bound, in nats.

        The first two are what they were of the autoencoder alone, but for −log c a value of z in
        the entropy, which the third has in return.

        Equation: :eq:`eq-ldm-bound`
        """
        exact = isinstance(self.diffusion, Density)
        prior = self.diffusion.log_prob if exact else self.diffusion.elbo
        with evaluating(self):
            q = self.encode(x)
            z = draw(q, generator)
            log_p = prior(z, *if_given(y), generator=generator, **how)
            return Parts(self.decode(z).log_prob(x), q.entropy(), log_p)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        y: Given | None = None,
        *,
        mean: bool = False,
        generator: torch.Generator | None = None,
        **how: Any,
    ) -> Batch:
        """``n`` draws x ~ p(x | z); with ``mean`` the noise-free E[x | z] instead.

        ``how`` is as in ``sample`` of the diffusion, such as steps, sampler and guidance.
        """
        with evaluating(self):
            z = self.diffusion.sample(n, *if_given(y), generator=generator, **how)
            with drawing_from(generator):
                p = self.decode(z)
                return p.mean if mean else p.sample()

    @property
    def sample_options(self) -> tuple[str, ...]:
        """The names of what ``sample`` heeds: its own arguments and those of the diffusion."""
        return heeded(self, self.diffusion)

    @torch.no_grad()
    def trajectory(
        self,
        n: int,
        y: Given | None = None,
        *,
        generator: torch.Generator | None = None,
        **how: Any,
    ) -> Iterator[Batch]:
        """E[x | z] of the noisy codes after every step of the sampler; ``how`` as in ``sample``."""
        for z in self.diffusion.trajectory(n, *if_given(y), generator=generator, **how):
            yield self.decode(z).mean

    @torch.no_grad()
    def reconstruct(self, x: Batch) -> Batch:
        """E[x | z] at the mean z of q(z | x): no sample can be better than the autoencoder."""
        return self.decode(self.encode(x).mean).mean

    def check(self, x: Tensor, *labels: Tensor) -> None:
        """Raise ValueError for images, labels or prompts that do not fit, or without a scale."""
        self._check_scale()
        self.autoencoder.check(x)
        self.diffusion.check(x.new_zeros(()).expand(len(x), *self.latents), *labels)

    def _check_scale(self) -> None:
        if not at_hand(self.scale):
            return
        if not float(self.scale) > 0:
            raise ValueError(
                "the standard deviation of the codes is not known yet: call fit_scale(x) with the "
                "training images, or build the model with scale="
            )


def latent_scale(z: Tensor) -> Scalar:
    """The standard deviation c of all values of codes, by which they are to be divided.

    Codes of standard deviation c meet a schedule as those of 1 meet one whose signal-to-noise
    ratio is c² times that: see ``shifted``.

    Equation: :eq:`eq-ldm-scale`
    """
    values = at_least_single(z).flatten()
    c = values.std() if len(values) > 1 else values.new_zeros(())
    number = float(c.detach())
    if not 0 < number < math.inf:
        raise ValueError(
            f"got {len(values)} values with standard deviation {number:g}; codes to scale vary "
            "and are finite: is the autoencoder trained?"
        )
    return c


def shifted(schedule: Schedule, c: float) -> Schedule:
    """What ``schedule`` is to data of standard deviation ``c``: SNR → c² SNR, log SNR + 2 log c.

    Equation: :eq:`eq-ldm-scale`
    """
    if not 0 < c < math.inf:
        raise ValueError(f"got a standard deviation c={c}; it must be positive")
    log_snr = torch.tensor(schedule.values(), dtype=torch.float64)
    return Schedule(log_snr + 2 * math.log(c))


def draw(q: Independent, generator: torch.Generator | None = None) -> Tensor:
    """μ + σε, a draw of a normal distribution."""
    normal: Any = q.base_dist
    return normal.loc + normal.scale * normal_like(normal.loc, generator)


def latent_shape(autoencoder: Model) -> tuple[int, ...]:
    """The shape of one code: a map where there is one, else a row."""
    if isinstance(autoencoder, VQVAE):
        return (autoencoder.quantizer.codebook.shape[1], *autoencoder.map)
    if isinstance(autoencoder, VAE) and not autoencoder.classes:
        return getattr(autoencoder, "map", (autoencoder.latent,))
    raise ValueError(
        f"got a {type(autoencoder).__name__} as autoencoder: give a VAE without labels, an "
        "ImageVAE or a VQVAE"
    )


def _check_prior(diffusion: Any, latents: tuple[int, ...]) -> None:
    shape = getattr(diffusion, "shape", None)
    if shape != latents:
        raise ValueError(
            f"got a {type(diffusion).__name__} of shape {shape}, but the codes of this autoencoder "
            f"have {latents}: build it with shape={latents}"
        )
    if isinstance(diffusion, Diffusion) and diffusion.grey is not None:
        raise ValueError("codes have no grey levels: build the Diffusion with levels=None")


keep_contract(globals())
