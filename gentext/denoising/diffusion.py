"""Diffusion: data lose themselves in noise step by step, and a network learns the way back.

The distribution of x_t given x_0 is known at every level, so training needs no simulation: draw a
level, add noise, predict. The bound of the likelihood is a sum over levels of squared errors,
weighed by what each level's signal-to-noise ratio has more than the next. The model below follows
the chapter: data and prediction, the bound and its parts, the loss, samples, guidance, filling in;
the equations of single levels are in ``schedule``, those of steps in ``samplers``.

Notation, with the symbols of the chapter (the same in Ho et al., but for α: see ``schedule``)::

    x              images in [0, 1] or other data as they come
    x_0            x_0, the same in [−1, 1]
    x_t, eps       x_t = α_t x_0 + σ_t ε
    t              (n,) numbers of levels, 0 to T − 1 (in the chapter 1 to T)
    net            ε_θ, or what ``predict`` says: x̂_θ, v_θ
    denoise        x̂_θ(x_t, t), the x_0 that any of these amounts to
    prior, levels, reconstruction    the three parts of the bound
    y, guidance    labels or prompts as in ``conditions``; w
    eta            η, the share of noise in a step

Source: Sohl-Dickstein et al., ICML 2015; Ho et al., NeurIPS 2020; Kingma et al., NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn

from gentext.core import (
    Model,
    as_weights,
    at_least_single,
    check_count,
    check_counts,
    check_examples,
    check_shape,
    chosen,
    grey_levels,
    if_given,
    in_evaluation,
)
from gentext.core.draws import normal_like, stratified_levels
from gentext.core.shapes import Batch, Labels, PerExample, Scalar
from gentext.core.signatures import keep_contract
from gentext.denoising import bound
from gentext.denoising.bound import Terms
from gentext.denoising.conditions import Conditions, Given
from gentext.denoising.dit import DiT
from gentext.denoising.guidance import Classify, inpaint, steered
from gentext.denoising.samplers import Denoiser, sample_path, time_steps
from gentext.denoising.schedule import (
    PREDICTIONS,
    SCHEDULES,
    Schedule,
    loss_weight,
    q_sample,
    to_x0,
)
from gentext.denoising.unet import TimeMLP, UNet

NETS: dict[str, type[nn.Module]] = {"unet": UNet, "mlp": TimeMLP, "dit": DiT}
WEIGHTINGS = ("simple", "bound", "min-snr")
MAX_SNR_WEIGHT, DRAWN_LEVELS = 5.0, 32  # where "min-snr" is cut; of the bound, unless told
EXAMPLES_PER_PASS = 256  # of the network, when nothing is trained


class Diffusion(Model):
    """A denoising diffusion model.

    Arguments:
        net: "unet", "mlp", "dit" or a network called as net(x_t, t), with labels or prompts as
            net(x_t, t, y); ``options`` are those of the first three.
        schedule: "linear", "cosine", "line", "learned" or a ``Schedule``; ``steps`` its levels T,
            of which the cleanest ``skip`` are left out.
        shape: of one example; levels: grey levels of images in [0, 1], None for any other data.
        predict: what the network gives, "eps", "x0" or "v".
        weighting: "simple", the plain error of that; "bound"; "min-snr" (Hang et al., ICCV 2023).
        classes: number of classes whose labels come with the data, 0 for none; vocab_size: number
            of tokens of the prompts that come with them, of which 0 is padding, 0 for none.
    """

    def __init__(
        self,
        net: str | nn.Module = "unet",
        schedule: str | Schedule = "cosine",
        *,
        shape: Sequence[int],
        levels: int | None = 256,
        steps: int = 1000,
        skip: int = 0,
        predict: str = "eps",
        weighting: str = "simple",
        classes: int = 0,
        vocab_size: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.arguments = {"net": net, "schedule": schedule} | self.arguments
        check_counts(2, steps=steps, levels=2 if levels is None else levels)
        self.shape, self.grey = check_shape(shape), levels
        self.predict = chosen("prediction", predict, PREDICTIONS)
        self.weighting = chosen("weighting", weighting, WEIGHTINGS)
        self.conditions = Conditions(classes, vocab_size)
        self.classes, self.vocab_size = classes, vocab_size
        given = isinstance(schedule, Schedule)
        made: Any = schedule if given else chosen("schedule", schedule, SCHEDULES)(steps)
        self.schedule: Schedule = made.after(skip) if skip else made
        self.net = self._network(net, options) if isinstance(net, str) else net

    def _network(self, name: str, options: dict[str, Any]) -> nn.Module:
        kind = chosen("net", name, NETS)
        if self.conditions.vocab_size and kind is TimeMLP:
            raise ValueError(f"net {name!r} reads no text: choose unet or dit, or give one")
        return kind(shape=self.shape, **self.conditions.arguments(), **options)

    def check(self, x: Tensor, *labels: Tensor) -> None:
        """Raise ValueError for data, labels or prompts that do not fit."""
        if self.grey is None:
            check_examples(x, self.shape)
        else:
            check_examples(x, self.shape, low=0.0, high=1.0)
            grey_levels(x, self.grey)
        for y in labels:
            self.conditions.check(y, len(x))

    def from_data(self, x: Batch) -> Batch:
        """x_0: images in [0, 1] as [−1, 1], other data as they are."""
        x = at_least_single(x)
        return x if self.grey is None else 2 * x - 1

    def to_data(self, x_0: Batch) -> Batch:
        """Images in [0, 1], in grey levels, from x_0; other data as they are."""
        if self.grey is None:
            return x_0
        k = ((x_0 + 1) / 2 * (self.grey - 1)).round().clamp(0, self.grey - 1)
        return k / (self.grey - 1)

    @in_evaluation
    def denoise(self, x_t: Batch, t: Labels, y: Given | None = None) -> Batch:
        """The x_0 that the network predicts from x_t at the levels t."""
        return self._denoise(x_t, t, y)

    def _denoise(self, x_t: Batch, t: Labels, y: Given | None = None) -> Batch:
        if len(x_t) > EXAMPLES_PER_PASS and not torch.is_grad_enabled():
            batch = (x_t, t, *if_given(y))
            parts = zip(*(rows.split(EXAMPLES_PER_PASS) for rows in batch), strict=True)
            return torch.cat([self._denoise(*part) for part in parts])
        level = self.schedule.at(t, len(self.shape))
        return to_x0(self.predict, self._predicted(x_t, t, y), x_t, level)

    def _predicted(self, x_t: Batch, t: Labels, y: Given | None) -> Batch:
        """What the network says of x_t; in training some labels or prompts are hidden from it."""
        shown = self.conditions.shown(y, len(x_t), x_t.device, hide=self.training)
        return self.net(as_weights(x_t, self.net), t, *shown)

    def elbo(
        self,
        x: Batch,
        y: Given | None = None,
        *,
        terms: int | None = DRAWN_LEVELS,
        first: int = 0,
        generator: Generator | None = None,
    ) -> PerExample:
        """A lower bound of log p(x), or of log p(x | y), in nats; one draw of the noise.

        ``terms`` of the T levels are drawn, one from each of as many equal ranges, None for all;
        the bound is right on average. ``first`` is the level where the chain begins.

        Equation: :eq:`eq-diff-vlb`
        """
        return self.elbo_terms(x, y, terms=terms, first=first, generator=generator).bound

    @in_evaluation
    def elbo_terms(
        self,
        x: Batch,
        y: Given | None = None,
        *,
        terms: int | None = DRAWN_LEVELS,
        first: int = 0,
        generator: Generator | None = None,
    ) -> Terms:
        """The three parts of the bound, in nats: at the last level, between levels, at the first.

        Equation: :eq:`eq-diff-vlb`
        """
        self.check(x, *if_given(y))
        return self._terms(x, y, terms, first, generator)

    def _terms(
        self, x: Batch, y: Given | None, terms: int | None, first: int = 0, generator: Any = None
    ) -> Terms:
        """The same in the mode that the network is in, as are all that begin so."""
        x_0, levels = self.from_data(x), []
        for low, high in pairwise(bound.ranges(first, len(self.schedule), terms)):
            t = low + stratified_levels(x, high - low, generator)
            levels.append((high - low) * self._level_kl(x, t, y, generator))
        return Terms(
            bound.prior_kl(x_0, self.schedule.at(len(self.schedule) - 1)),
            torch.stack(levels).sum(0),
            self._reconstruction(x_0, first, generator),
        )

    @in_evaluation
    def level_kl(
        self, x: Batch, t: Labels, y: Given | None = None, *, generator: Generator | None = None
    ) -> PerExample:
        """KL(q(x_{t−1} | x_t, x_0) ‖ p(x_{t−1} | x_t)) in nats, of one draw of x_t at levels t.

        Equation: :eq:`eq-diff-snr`
        """
        return self._level_kl(x, t, y, generator)

    def _level_kl(self, x: Batch, t: Labels, y: Given | None, g: Any) -> PerExample:
        x_0, level = self.from_data(x), self.schedule.at(t, len(self.shape))
        predicted = self._denoise(q_sample(x_0, normal_like(x_0, g), level), t, y)
        if self.grey is not None and not self.training:
            predicted = predicted.clamp(-1, 1)  # never farther from x_0, which is in there
        return bound.step_kl(x_0, predicted, self.schedule.at(t), self.schedule.at(t - 1))

    def _reconstruction(self, x_0: Batch, first: int, generator: Generator | None) -> PerExample:
        """−log p(x_0 | x_1), for data that are not grey its mean."""
        level = self.schedule.at(first)
        width = level.sigma / level.alpha
        if self.grey is None:
            return bound.continuous_nll(x_0, width)
        seen = x_0 + width * normal_like(x_0, generator)
        return bound.grey_nll(x_0, seen, width, self.grey)

    def loss(self, x: Batch, y: Given | None = None) -> Scalar:
        """The mean squared error of the prediction, at levels and with noise drawn afresh.

        With ``weighting="bound"``, the negative bound in nats; with "min-snr" the error of x_0
        times min(SNR, 5).

        Equation: :eq:`eq-diff-simple`
        """
        if self.weighting == "bound":
            return -self._terms(x, y, terms=1).bound.mean()
        x_0 = self.from_data(x)
        t = stratified_levels(x_0, len(self.schedule))
        level, eps = self.schedule.at(t, len(self.shape)), torch.randn_like(x_0)
        x_t = q_sample(x_0, eps, level)
        target = {"eps": eps, "x0": x_0, "v": level.alpha * eps - level.sigma * x_0}[self.predict]
        error = (self._predicted(x_t, t, y) - target).square()
        if self.weighting == "min-snr":
            error = error * level.snr.clamp(max=MAX_SNR_WEIGHT) / loss_weight(self.predict, level)
        return error.mean()

    def sample(
        self,
        n: int,
        y: Given | None = None,
        *,
        sampler: str = "dpm++",
        steps: int = 20,
        guidance: float = 0.0,
        generator: Generator | None = None,
        **options: Any,
    ) -> Batch:
        """``n`` draws, of the classes ``y`` or else of all, by "ddpm", "ddim", "dpm++" or "heun".

        The ``options`` are those of ``trajectory``.
        """
        *_, x_0 = self.trajectory(
            n, y, sampler=sampler, steps=steps, guidance=guidance, generator=generator, **options
        )
        return self.to_data(x_0)

    @torch.no_grad()
    def trajectory(
        self,
        n: int,
        y: Given | None = None,
        *,
        sampler: str = "dpm++",
        steps: int = 20,
        eta: float = 0.0,
        spacing: str = "log-snr",
        generator: Generator | None = None,
        **options: Any,
    ) -> Iterator[Batch]:
        """x after every step of a sampler, as the network sees it.

        ``eta`` is the share of noise of "ddim" and "dpm++", ``spacing`` that of ``time_steps``, the
        ``options`` those of ``denoiser``.
        """
        check_count("n", n)
        for given in if_given(y):
            self.conditions.check(given, n)
        like = at_least_single(next(self.parameters()).new_empty((n, *self.shape)))
        yield from sample_path(
            self.denoiser(y, **options),
            self.schedule,
            normal_like(like, generator),
            sampler=sampler,
            levels=time_steps(self.schedule, steps, spacing),
            draw=lambda x: normal_like(x, generator),
            eta=eta,
        )

    def denoiser(
        self,
        y: Given | None = None,
        *,
        guidance: float = 0.0,
        classifier: Classify | None = None,
        clip: str = "static",
    ) -> Denoiser:
        """x_0 from x_t and t, in evaluation, steered by y and ``guidance`` w or by a classifier.

        ``classifier`` gives log p(y | x_t) for x_t and a level number.
        """
        self.conditions.check_steering(y, guidance, classifier is not None)
        clip = clip if self.grey is not None else "none"
        return steered(self.denoise, self.schedule, y, guidance, classifier, clip)

    @torch.no_grad()
    def inpaint(
        self,
        x: Batch,
        mask: Tensor,
        y: Given | None = None,
        *,
        steps: int = 50,
        repeats: int = 5,
        generator: Generator | None = None,
        **options: Any,
    ) -> Batch:
        """Examples that are ``x`` where ``mask`` is true, and drawn to go with it elsewhere."""
        self.check(x, *if_given(y))
        drawn = inpaint(
            self.denoiser(y, **options),
            self.schedule,
            self.from_data(x),
            mask,
            levels=time_steps(self.schedule, steps),
            draw=lambda x: normal_like(x, generator),
            repeats=repeats,
        )
        return self.to_data(drawn)


keep_contract(globals())
